/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The inventory with as many functions as a large host has, all of them managed by a TSM, and functions that go while they are in
 * custody. The reader is this program under the name tdid-worker: the worker's code for tsm/ on a made-up sysfs, which stands
 * in for a kernel; functions themselves are made up here.
 */
#include <limits.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "custody.h"
#include "device.h"
#include "ide.h"
#include "ipc.h"
#include "worker.h"
#include "test.h"
#include "tsm.h"
#include "worker/work.h"

#define FUNCTIONS 4096
#define PER_ANSWER 64
#define BOUND "this is what tsm/bound shows of it, and longer than anything that the kernel of today shows"

static char folder[64];

/* ---- the made-up host ---- */

static struct tdi_bdf address(unsigned i) {
        return (struct tdi_bdf){ 0, (uint8_t) (1 + i / 256), (uint8_t) (i % 256) };
}

/* A file of this name in the folder takes a function off the bus. */
static bool is_gone(const char *bdf) {
        char path[128];

        snprintf(path, sizeof(path), "%s/%s", getenv("TEST_FOLDER"), bdf);
        return access(path, F_OK) == 0;
}

static bool is_dsm(const char *bdf) {
        return streq(bdf + strlen(bdf) - 4, "00.0");
}

static char **names_new(size_t n) {
        char **names = calloc(n + 1, sizeof(*names));

        if (!names)
                abort();
        return names;
}

static char *copy(const char *text) {
        char *s = strdup(text);

        if (!s)
                abort();
        return s;
}

static int fake_list(_unused_ TdiHost *host, const char *path, char ***ret) {
        size_t n = 0;

        if (streq(path, "/sys/class/tsm")) {
                *ret = names_new(1);
                (*ret)[0] = copy("tsm0");
        } else if (streq(path, "/sys/devices")) {
                *ret = names_new(2);
                (*ret)[0] = copy("pci0000:00");
                (*ret)[1] = copy("system");
        } else if (streq(path, "/sys/devices/pci0000:00")) {
                *ret = names_new(18);
                (*ret)[0] = copy("0000:00:01.0");
                for (n = 1; n < 17; n++)
                        if (asprintf(*ret + n, "stream0.0.%zu", n) < 0)
                                abort();
                (*ret)[n] = copy("available_secure_streams");
        } else if (streq(path, "/sys/bus/pci/devices")) {
                *ret = names_new(FUNCTIONS);
                for (unsigned i = 0; i < FUNCTIONS; i++) {
                        char bdf[TDI_BDF_MAX];

                        (*ret)[n++] = copy(tdi_bdf_format(address(i), bdf));
                }
        } else if (strstr(path, "/tsm")) {
                char bdf[TDI_BDF_MAX];

                snprintf(bdf, sizeof(bdf), "%.12s", path + strlen(WORK_SYSFS_PCI));
                if (is_gone(bdf))
                        return -ENOENT;
                *ret = names_new(3);
                (*ret)[n++] = copy("bound");
                if (is_dsm(bdf))
                        (*ret)[n++] = copy("connect");
                (*ret)[n++] = copy("dsm");
        } else
                return -ENOENT;
        return 0;
}

static ssize_t fake_readlink(_unused_ TdiHost *host, const char *path, char *buf, size_t size) {
        const char *stream = strstr(path, "/stream0.0.");

        if (stream)
                snprintf(buf, size, "../0000:00:01.0/0000:%02lx:00.0", strtoul(stream + strlen("/stream0.0."), NULL, 10));
        else if (startswith(path, WORK_SYSFS_PCI) && is_dsm(path))
                snprintf(buf, size, "../../../devices/pci0000:00/0000:00:01.0/%s", path + strlen(WORK_SYSFS_PCI));
        else if (streq(path, "/sys/class/tsm/tsm0/device"))
                snprintf(buf, size, "../../devices/virtual/tdx_host");
        else
                return -ENOENT;
        return (ssize_t) strlen(buf);
}

static bool endswith_config(const char *path) {
        return strlen(path) > 7 && streq(path + strlen(path) - 7, "/config");
}

static bool endswith_left(const char *path) {
        return streq(path, "/sys/devices/pci0000:00/available_secure_streams");
}

/* Config space with one selective stream in use at both ends; the port is function 00:01.0's. */
static int open_config(const char *path) {
        static const uint32_t head[] = { 0x00010030, 0x2 | 16 << 16, 0 };
        bool at_port = strstr(path, "/0000:00:01.0/");
        uint32_t blocks[17][5] = {};
        int fd = memfd_create("config", MFD_CLOEXEC);

        /* The endpoint on bus N uses its block N, the port its first. */
        blocks[at_port ? 0 : 1][1] = 0x07000001;
        blocks[at_port ? 0 : 1][2] = 2;
        if (fd < 0 || pwrite(fd, head, sizeof(head), 0x100) < 0 ||
            pwrite(fd, blocks, sizeof(blocks), 0x10c) < 0)
                abort();
        return fd;
}

static int fake_open(_unused_ TdiHost *host, const char *path, _unused_ int flags) {
        char text[256];
        int fd;

        if (endswith_config(path))
                return strstr(path, "/0000:02:") ? -EIO : open_config(path);
        if (endswith_left(path)) {
                fd = memfd_create("attribute", MFD_CLOEXEC);
                if (fd < 0 || write(fd, "240\n", 4) < 0)
                        abort();
                return fd;
        }
        if (strstr(path, "/tsm/connect") && is_dsm((snprintf(text, sizeof(text), "%.12s", path + strlen(WORK_SYSFS_PCI)), text)))
                snprintf(text, sizeof(text), "tsm0\n");
        else if (strstr(path, "/tsm/dsm"))
                snprintf(text, sizeof(text), "%.8s00.0\n", path + strlen(WORK_SYSFS_PCI));
        else if (strstr(path, "/tsm/bound"))
                snprintf(text, sizeof(text), BOUND "\n");
        else
                return -ENOENT;
        fd = memfd_create("attribute", MFD_CLOEXEC);
        if (fd < 0 || write(fd, text, strlen(text)) < 0)
                abort();
        return fd;
}

static int fake_close(_unused_ TdiHost *host, int fd) {
        close_fd(fd);
        return 0;
}

static ssize_t fake_pread(_unused_ TdiHost *host, int fd, void *buf, size_t size, uint64_t offset) {
        return pread(fd, buf, size, (off_t) offset);
}

static int fake_uevent_open(_unused_ TdiHost *host) {
        return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static int fake_uevent_read(_unused_ TdiHost *host, _unused_ int fd, _unused_ struct tdi_uevent *ret) {
        return -EAGAIN;
}

static const struct tdi_host_ops fake_ops = {
        .name = "fake",
        .open = fake_open,
        .close = fake_close,
        .pread = fake_pread,
        .readlink = fake_readlink,
        .list = fake_list,
        .uevent_open = fake_uevent_open,
        .uevent_read = fake_uevent_read,
};
static TdiHost fake = { &fake_ops };

/* ---- the reader ---- */

int work_fail(struct work *w, int r, _unused_ const char *hint, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        vsnprintf(w->text, sizeof(w->text), format, ap);
        va_end(ap);
        return r;
}

const char *work_path(struct work *w, char *buf, size_t size, const char *attribute) {
        snprintf(buf, size, WORK_SYSFS_PCI "%s/%s", w->bdf, attribute);
        return buf;
}

static void push_function(struct json_object *functions, const char *bdf, struct json_object *args) {
        struct json_object *o = json_new();

        json_set_str(o, "bdf", bdf);
        json_set_u64(o, "vendor", 0x8086);
        json_set_u64(o, "class", 0x010802);
        json_set_i64(o, "iommu_group", 7);
        json_set_str(o, "driver", "nvme");
        json_set_bool(o, "dsm", is_dsm(bdf));
        if (json_bool_or(args, "config", true))
                json_set_take(o, "tee", json_new_array());
        if (json_bool_or(args, "names", true))
                json_set_str(o, "name", "Made-up controller");
        json_push_take(functions, o);
}

static void read_pci(struct work *w) {
        struct json_object *functions = json_new_array(), *gone = json_new_array(), *bdfs;
        const char *after = json_str_or(w->args, "after", "");
        size_t n = 0;

        json_set_take(w->values, "functions", functions);
        json_set_take(w->values, "gone", gone);
        if (json_get_array(w->args, "bdfs", &bdfs) >= 0) {
                for (size_t i = 0; i < json_object_array_length(bdfs); i++) {
                        const char *bdf = json_object_get_string(json_object_array_get_idx(bdfs, i));

                        if (is_gone(bdf))
                                json_push_str(gone, bdf);
                        else
                                push_function(functions, bdf, w->args);
                }
                return;
        }
        for (unsigned i = 0; i < FUNCTIONS; i++) {
                char bdf[TDI_BDF_MAX], last[TDI_BDF_MAX];

                if (strcmp(tdi_bdf_format(address(i), bdf), after) <= 0 || is_gone(bdf))
                        continue;
                if (n++ == PER_ANSWER) {
                        json_set_str(w->values, "more", tdi_bdf_format(address(i - 1), last));
                        return;
                }
                push_function(functions, bdf, w->args);
        }
}

static int worker(void) {
        for (;;) {
                _cleanup_json_ struct json_object *command = NULL, *answer = json_new();
                struct work w = { .host = &fake, .bdf = "" };
                struct json_object *ops;
                int r = 0;

                if (ipc_recv(3, &command, &w.fds) < 0)
                        return 0;
                w.values = json_new();
                if (json_get_object(command, "args", &w.args) < 0)
                        w.args = NULL;
                if (json_get_array(command, "ops", &ops) < 0)
                        return 1;
                if (streq(json_object_get_string(json_object_array_get_idx(ops, 0)), "read.tsm"))
                        r = read_tsm_do(&w);
                else if (streq(json_object_get_string(json_object_array_get_idx(ops, 0)), "read.ide"))
                        r = read_ide_do(&w);
                else
                        read_pci(&w);
                json_set_i64(answer, "r", r);
                json_set_take(answer, "values", w.values);
                if (ipc_send(3, answer, NULL, 0) < 0)
                        return 1;
        }
}

/* ---- the test ---- */

static Manager *manager;
static bool ready;

static void on_ready(_unused_ Manager *m) {
        ready = true;
}

static void wait_for(bool (*condition)(void), const char *what) {
        uint64_t until = now_monotonic() + 60 * 1000000ULL;

        while (!condition()) {
                if (now_monotonic() > until) {
                        test_fail(__FILE__, __LINE__, "waited in vain: %s", what);
                        exit(1);
                }
                require(sd_event_run(manager->event, 100000) >= 0);
        }
}

static uint64_t wanted;

static bool round_is_done(void) {
        return ready && inventory_tsm_round_is_done(manager, wanted) && !ide_is_reading(manager);
}

static void next_round(void) {
        wanted = inventory_refresh_tsm(manager);
        wait_for(round_is_done, "a round of reading tsm/");
}

static Device *function(unsigned i) {
        return device_find(manager, address(i));
}

static bool check_function(unsigned i) {
        unsigned failures = test_failures;

        char bdf[TDI_BDF_MAX], dsm[16], stream[32];
        struct json_object *first;
        Device *d = function(i);

        test_about("%s", tdi_bdf_format(address(i), bdf));
        if (!check(d))
                return false;
        snprintf(dsm, sizeof(dsm), "%.8s00.0", bdf);
        snprintf(stream, sizeof(stream), "stream0.0.%u", 1 + i / 256);
        check(!d->gone && d->announced);
        check_str(d->name, "Made-up controller");
        check_str(d->tsm, "tsm0");
        check_str(d->dsm, dsm);
        check_str(d->bound, BOUND);
        first = d->streams ? json_object_array_get_idx(d->streams, 0) : NULL;
        check_str(first ? json_str_or(first, "name", "") : NULL, i % 256 == 0 ? stream : NULL);
        /* Only that on bus 1 is enabled at both ends; config space of that on bus 2 cannot be read, and the others' blocks are off. */
        if (first)
                check_str(json_str_or(first, "secure", ""), i < 256 ? "yes" : i < 512 ? "unknown" : "no");
        if (first)
                check_str(json_str_or(first, "function_state", ""), i < 256 ? "secure" : i < 512 ? "unknown" : "off");
        check_int(d->tee & DEVICE_DSM, i % 256 == 0 ? DEVICE_DSM : 0);
        check(d->tsm_read > 0);
        return test_failures == failures;
}

static void test_many(void) {
        _cleanup_json_ struct json_object *ide = NULL;
        struct json_object *bridges;
        uint64_t begin = now_monotonic();

        wanted = 1;
        require(inventory_start(manager, on_ready) == 0);
        wait_for(round_is_done, "the first reading");
        next_round();
        test_about("%s", "all");
        check_int(manager->n_devices, FUNCTIONS + 1);
        check_int(manager->n_tsms, 1);
        ide = ide_describe_host(manager);
        if (check(json_get_array(ide, "bridges", &bridges) >= 0 && json_object_array_length(bridges) == 1)) {
                check_int((intmax_t) json_u64_or(json_object_array_get_idx(bridges, 0), "in_use", 0), 16);
                check_int((intmax_t) json_u64_or(json_object_array_get_idx(bridges, 0), "left", 0), 240);
        }
        for (unsigned i = 0; i < FUNCTIONS && check_function(i); i++)
                ;
        fprintf(stderr, "two rounds over %u functions: %" PRIu64 " ms\n", FUNCTIONS, (now_monotonic() - begin) / 1000);
}

static void set_gone(unsigned i, bool gone) {
        char path[128], bdf[TDI_BDF_MAX];

        snprintf(path, sizeof(path), "%s/%s", folder, tdi_bdf_format(address(i), bdf));
        if (gone)
                test_write_file(path, "", 0);
        else
                require(unlink(path) == 0);
        inventory_refresh(manager, address(i));
}

static bool first_is_dropped(void) {
        return !function(300);
}

static bool second_is_gone(void) {
        return function(301) && function(301)->gone;
}

static bool second_is_back(void) {
        return function(301) && !function(301)->gone && function(301)->fixed;
}

static bool second_is_dropped(void) {
        return !function(301);
}

/* One that nobody has goes without a trace; one in custody stays, as one that has gone. */
static void test_gone(void) {
        Custody *c = custody_new(manager, address(301), 7);
        Device *d;

        c->frozen = true; /* or it would be over: nothing is done */
        set_gone(300, true);
        set_gone(301, true);
        wait_for(first_is_dropped, "the function without custody is dropped");
        wait_for(second_is_gone, "the function in custody is shown as gone");
        next_round();
        test_about("%s", "gone");
        check_int(manager->n_devices, FUNCTIONS);
        d = function(301);
        check_int(d->vendor, 0x8086);
        check_str(d->name, "Made-up controller");
        check_int(d->group, -1);
        check_int(d->tee, 0);
        check(!d->driver && !d->tsm && !d->dsm && !d->bound && !d->streams && d->tsm_read == 0);

        test_about("%s", "back");
        set_gone(301, false);
        wait_for(second_is_back, "the function is back");
        next_round();
        check_int(function(301)->group, 7);
        (void) check_function(301);

        test_about("%s", "given back");
        manager_remove((void **) manager->custodies, &manager->n_custodies, c);
        inventory_released(manager, c->bdf);
        check(function(301) && !function(301)->gone);
        manager_append((void ***) &manager->custodies, &manager->n_custodies, &manager->room_custodies, c);
        set_gone(301, true);
        wait_for(second_is_gone, "the function has gone again");
        manager_remove((void **) manager->custodies, &manager->n_custodies, c);
        inventory_released(manager, c->bdf);
        check(second_is_dropped());
        custody_free(c);
}

/* The journal has a function that is not on this host any more. */
static void test_absent(void) {
        static const struct tdi_bdf absent = { 0xffff, 0xff, 0xff };
        Device *d = device_find(manager, absent);

        test_about("%s", "absent");
        if (!check(d && d->gone && d->announced))
                return;
        check(!device_find(manager, (struct tdi_bdf){ 0, 0, 0 }));
        check_int(d->group, -1);
        check(!device_dsm(d));
        while (manager->n_custodies > 0)
                custody_free(manager->custodies[--manager->n_custodies]);
        inventory_released(manager, absent);
        check(!device_find(manager, absent));
}

int main(int argc, char **argv) {
        char self[PATH_MAX], link[128];
        sigset_t mask;

        if (argc > 1 && startswith(argv[1], "--host="))
                return worker();
        test_make_dir(folder);
        require(setenv("TEST_FOLDER", folder, 1) == 0);
        require(realpath(argv[0], self));
        snprintf(link, sizeof(link), "%s/tdid-worker", folder);
        require(symlink(self, link) == 0);
        sigemptyset(&mask);
        sigaddset(&mask, SIGCHLD);
        require(sigprocmask(SIG_BLOCK, &mask, NULL) == 0);

        require(manager_new(&manager) == 0);
        manager->host = &fake;
        require(free_and_strdup(&manager->host_spec, "fake") == 0 && free_and_strdup(&manager->libexec_dir, folder) == 0);
        require(free_and_strdup(&manager->state_dir, folder) == 0 && worker_open_program(manager) == 0);
        (void) custody_new(manager, (struct tdi_bdf){ 0xffff, 0xff, 0xff }, 7);
        /* Nothing is done to it: only the inventory is looked at. */
        manager->custodies[0]->frozen = true;
        test_many();
        test_gone();
        test_absent();
        manager->host = NULL;
        manager_free(manager);
        test_remove_dir(folder);
        return test_end();
}
