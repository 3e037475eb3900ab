/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Loading, pinning, opening and taking away of a set. */
#include "guard/set.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "guard-object.h"
#include "guard/names.h"
#include "util/util.h"

#define BPF_FS_MAGIC 0xcafe4a11
#define SECURITYFS_LSM "/sys/kernel/security/lsm"
#define KERNEL_BTF "/sys/kernel/btf/vmlinux"
/* What the kernel's own build system calls it. bpffs takes no dots in names. */
#define NEW "new"

static const struct {
        const char *program, *pin;
} links[] = {
        { "guard_mmap_file", "on_mmap" },       { "guard_file_open", "on_open" },     { "guard_inode_unlink", "on_unlink" },
        { "guard_inode_rmdir", "on_rmdir" },    { "guard_inode_rename", "on_rename" }, { "guard_sb_umount", "on_umount" },
};
static const char *const maps[] = { "objects", "functions", "events", "excused" };
static const char *const iterators[] = { "guard_mappings", "guard_writers", "guard_learn" };

int guard_fail(char why[static GUARD_WHY_MAX], int r, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        vsnprintf(why, GUARD_WHY_MAX, format, ap);
        va_end(ap);
        return r;
}

/* What libbpf has complained of last: the reason is in a line of text, and the errno says little. */
static char complaint[160];

static int keep_complaint(enum libbpf_print_level level, const char *format, va_list ap) _printf_(2, 0);

static int keep_complaint(enum libbpf_print_level level, const char *format, va_list ap) {
        char line[sizeof(complaint)];

        if (level != LIBBPF_WARN)
                return 0;
        vsnprintf(line, sizeof(line), format, ap);
        /* The first line has the cause; the program's log that may follow would bury it. */
        if (!complaint[0])
                snprintf(complaint, sizeof(complaint), "%.*s", (int) strcspn(line, "\n"), startswith(line, "libbpf: ") ? line + strlen("libbpf: ") : line);
        return 0;
}

static const char *set_name(char name[static 17]) {
        uint64_t h = UINT64_C(0xcbf29ce484222325);

        /* FNV-1a: it tells builds apart, and protects nothing. */
        for (size_t i = 0; i < sizeof(guard_object); i++)
                h = (h ^ guard_object[i]) * UINT64_C(0x100000001b3);
        snprintf(name, 17, "%016" PRIx64, h);
        return name;
}

int guard_lock(const char *state, char why[static GUARD_WHY_MAX]) {
        _cleanup_close_ int fd = -EBADF;
        char path[512];

        if (snprintf(path, sizeof(path), "%s/guard.lock", state) >= (int) sizeof(path))
                return guard_fail(why, -ENAMETOOLONG, "lock the guard: the name of tdid's state folder is too long");
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return guard_fail(why, -errno, "open %s", path);
        while (flock(fd, LOCK_EX) < 0)
                if (errno != EINTR)
                        return guard_fail(why, -errno, "lock %s", path);
        return TAKE_FD(fd);
}

/* ---- what the kernel has ---- */

static int check_lsm(char why[static GUARD_WHY_MAX]) {
        _cleanup_close_ int fd = open(SECURITYFS_LSM, O_RDONLY | O_CLOEXEC);
        char text[256], *save = NULL;
        ssize_t n;

        if (fd < 0)
                return guard_fail(why, -errno, SECURITYFS_LSM " cannot be read (%s), so nobody can tell whether the kernel heeds BPF programs: mount securityfs",
                            strerrorname_np(errno));
        n = read(fd, text, sizeof(text) - 1);
        text[n < 0 ? 0 : n] = '\0';
        for (char *s = strtok_r(text, ",\n", &save); s; s = strtok_r(NULL, ",\n", &save))
                if (streq(s, "bpf"))
                        return 0;
        /* Programs could be attached all the same, and nobody would ask them. */
        return guard_fail(why, -EOPNOTSUPP, "the kernel was not started with the security module BPF: add bpf to lsm= on its command line");
}

static int check_kernel(char why[static GUARD_WHY_MAX]) {
        struct statfs s;
        int r;

        r = check_lsm(why);
        if (r < 0)
                return r;
        if (access(KERNEL_BTF, R_OK) < 0)
                return guard_fail(why, -errno, "the kernel does not describe its structures: " KERNEL_BTF " cannot be read (%s); it needs CONFIG_DEBUG_INFO_BTF",
                            strerrorname_np(errno));
        if (statfs(GUARD_ROOT, &s) < 0 || (unsigned) s.f_type != BPF_FS_MAGIC)
                return guard_fail(why, -ENODEV, "no bpf file system is mounted on " GUARD_ROOT ", without which a guard would end with its process");
        return 0;
}

/* ---- loading ---- */

static int load(struct bpf_object **ret, char why[static GUARD_WHY_MAX]) {
        LIBBPF_OPTS(bpf_object_open_opts, opts, .object_name = "tdid_guard");
        struct bpf_object *o = NULL;
        struct bpf_map *rodata;
        struct stat mounts;
        size_t size = 0;
        __u32 inum;
        int r;

        complaint[0] = '\0';
        (void) libbpf_set_print(keep_complaint);
        o = bpf_object__open_mem(guard_object, sizeof(guard_object), &opts);
        if (!o)
                return guard_fail(why, -errno, "the programs are damaged: %s", complaint);
        rodata = bpf_object__find_map_by_name(o, ".rodata");
        if (stat("/proc/1/ns/mnt", &mounts) < 0)
                r = -errno;
        else if (!rodata || !bpf_map__initial_value(rodata, &size) || size != sizeof(inum))
                r = -ENOEXEC;
        else {
                inum = (__u32) mounts.st_ino;
                r = bpf_map__set_initial_value(rodata, &inum, sizeof(inum));
        }
        if (r >= 0)
                r = bpf_object__load(o);
        if (r < 0) {
                bpf_object__close(o);
                return guard_fail(why, r, "the kernel did not take the programs: %s (%s)%s%s", strerror(-r), strerrorname_np(-r), complaint[0] ? ": " : "", complaint);
        }
        *ret = o;
        return 0;
}

static int pin_all(struct bpf_object *o, const char *folder, char why[static GUARD_WHY_MAX]) {
        char path[256];
        int r;

        for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
                snprintf(path, sizeof(path), "%s/%s", folder, maps[i]);
                r = bpf_map__pin(bpf_object__find_map_by_name(o, maps[i]), path);
                if (r < 0)
                        return guard_fail(why, r, "could not pin a map as %s: %s", path, strerrorname_np(-r));
        }
        for (size_t i = 0; i < ARRAY_SIZE(iterators); i++) {
                snprintf(path, sizeof(path), "%s/%s", folder, iterators[i]);
                r = bpf_program__pin(bpf_object__find_program_by_name(o, iterators[i]), path);
                if (r < 0)
                        return guard_fail(why, r, "could not pin a program as %s: %s", path, strerrorname_np(-r));
        }
        for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
                struct bpf_link *link = bpf_program__attach_lsm(bpf_object__find_program_by_name(o, links[i].program));

                if (!link)
                        return guard_fail(why, -errno, "could not attach %s: %s", links[i].program, strerrorname_np(errno));
                snprintf(path, sizeof(path), "%s/%s", folder, links[i].pin);
                r = bpf_link__pin(link, path);
                (void) bpf_link__destroy(link);
                if (r < 0)
                        return guard_fail(why, r, "could not pin a program's link as %s: %s", path, strerrorname_np(-r));
        }
        return 0;
}

/* A folder without folders in it. */
static void remove_set(const char *folder) {
        DIR *d = opendir(folder);
        struct dirent *e;
        char path[512];

        /* Its programs go first: with the maps before them they would go on for a moment without knowing anybody. */
        for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
                snprintf(path, sizeof(path), "%s/%s", folder, links[i].pin);
                (void) unlink(path);
        }
        while (d && (e = readdir(d)))
                if (e->d_name[0] != '.') {
                        snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
                        (void) unlink(path);
                }
        if (d)
                closedir(d);
        (void) rmdir(folder);
}

static int protect(struct guard_set *s, const char *path, __u16 deny, char why[static GUARD_WHY_MAX]) {
        struct guard_object object = { .function = GUARD_NO_FUNCTION, .kind = GUARD_KIND_PINS, .deny = deny };
        struct guard_key key = { .type = GUARD_BPFFS };
        struct stat st;

        if (stat(path, &st) < 0)
                return guard_fail(why, -errno, "could not look at %s: %s", path, strerrorname_np(errno));
        key.value = st.st_ino;
        if (bpf_map_update_elem(s->objects, &key, &object, BPF_ANY) < 0)
                return guard_fail(why, -errno, "could not protect %s: %s", path, strerrorname_np(errno));
        return 0;
}

static int make(const char *name, char why[static GUARD_WHY_MAX]) {
        char folder[128], done[128];
        struct bpf_object *o = NULL;
        int r;

        r = load(&o, why);
        if (r < 0)
                return r;
        snprintf(folder, sizeof(folder), GUARD_FOLDER "/" NEW "%s", name);
        snprintf(done, sizeof(done), GUARD_FOLDER "/%s", name);
        if (mkdir(GUARD_FOLDER, 0700) < 0 && errno != EEXIST)
                r = guard_fail(why, -errno, "could not make " GUARD_FOLDER ": %s", strerrorname_np(errno));
        /* Of one that died at this. */
        guard_excuse(true);
        remove_set(folder);
        if (r >= 0 && mkdir(folder, 0700) < 0)
                r = guard_fail(why, -errno, "could not make %s: %s", folder, strerrorname_np(errno));
        if (r >= 0)
                r = pin_all(o, folder, why);
        if (r >= 0 && rename(folder, done) < 0)
                r = guard_fail(why, -errno, "could not rename %s: %s", folder, strerrorname_np(errno));
        if (r < 0) {
                remove_set(folder);
                (void) rmdir(GUARD_FOLDER);
        }
        guard_excuse(false);
        bpf_object__close(o);
        return r;
}

/* ---- sets that are there ---- */

static int open_pin(const char *name, const char *pin) {
        char path[256];
        int fd;

        snprintf(path, sizeof(path), GUARD_FOLDER "/%s/%s", name, pin);
        fd = bpf_obj_get(path);
        return fd < 0 ? -errno : fd;
}

static bool is_whole(const char *name) {
        char path[256];

        for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
                snprintf(path, sizeof(path), GUARD_FOLDER "/%s/%s", name, links[i].pin);
                if (access(path, F_OK) < 0)
                        return false;
        }
        return true;
}

void guard_set_close(struct guard_set *s) {
        close_fd(s->objects);
        close_fd(s->functions);
        close_fd(s->excused);
        close_fd(s->mappings);
        close_fd(s->writers);
        close_fd(s->learn);
        *s = GUARD_SET_NONE;
}

int guard_set_open(struct guard_set *ret, char why[static GUARD_WHY_MAX]) {
        struct guard_set s = GUARD_SET_NONE;
        int r = 0;
        const struct {
                const char *pin;
                int *fd;
        } pins[] = {
                { maps[0], &s.objects },       { maps[1], &s.functions },     { maps[3], &s.excused },
                { iterators[0], &s.mappings }, { iterators[1], &s.writers },  { iterators[2], &s.learn },
        };

        set_name(s.name);
        for (size_t i = 0; i < ARRAY_SIZE(pins) && r >= 0; i++) {
                *pins[i].fd = open_pin(s.name, pins[i].pin);
                r = *pins[i].fd;
                if (r < 0)
                        (void) guard_fail(why, r, "could not open " GUARD_FOLDER "/%s/%s: %s", s.name, pins[i].pin, strerrorname_np(-r));
        }
        if (r >= 0 && !is_whole(s.name))
                r = guard_fail(why, -ENOENT, "somebody has taken programs out of " GUARD_FOLDER "/%s", s.name);
        if (r < 0) {
                guard_set_close(&s);
                return r;
        }
        *ret = s;
        return 0;
}

static void protect_all(struct guard_set *s, int *r, char why[static GUARD_WHY_MAX]) {
        char folder[128];

        snprintf(folder, sizeof(folder), GUARD_FOLDER "/%s", s->name);
        *r = protect(s, folder, GUARD_DENY_CHANGE, why);
        if (*r >= 0)
                *r = protect(s, GUARD_FOLDER, GUARD_DENY_CHANGE, why);
        if (*r >= 0)
                *r = protect(s, GUARD_ROOT, GUARD_DENY_UMOUNT, why);
}

int guard_set_need(struct guard_set *ret, char why[static GUARD_WHY_MAX]) {
        char name[17], folder[128];
        int r;

        r = guard_set_open(ret, why);
        if (r == -ENOENT) {
                r = check_kernel(why);
                if (r < 0)
                        return r;
                /* What is left of a set that somebody has taken apart. */
                snprintf(folder, sizeof(folder), GUARD_FOLDER "/%s", set_name(name));
                guard_excuse(true);
                remove_set(folder);
                guard_excuse(false);
                r = make(name, why);
                if (r >= 0)
                        r = guard_set_open(ret, why);
        }
        if (r < 0)
                return r;
        /* One that died after the last line but this has left it unprotected. */
        protect_all(ret, &r, why);
        if (r < 0)
                guard_set_close(ret);
        return r;
}

/* Of what was loaded, in which boot: the next tdid need not try again. */
#define TRIED_MAX 80

int guard_set_try(const char *state, const char *boot, char why[static GUARD_WHY_MAX]) {
        _cleanup_guard_set_ struct guard_set s = GUARD_SET_NONE;
        char path[512], name[17], tried[TRIED_MAX] = "", read_back[TRIED_MAX] = "";
        _cleanup_close_ int fd = -EBADF;
        struct bpf_object *o = NULL;
        int r;

        r = check_kernel(why);
        if (r < 0)
                return r;
        if (guard_set_open(&s, why) >= 0)
                return 0;
        snprintf(tried, sizeof(tried), "%s %s\n", boot, set_name(name));
        if (snprintf(path, sizeof(path), "%s/guard.tried", state) >= (int) sizeof(path))
                return guard_fail(why, -ENAMETOOLONG, "the name of tdid's state folder is too long");
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd >= 0 && read(fd, read_back, sizeof(read_back) - 1) > 0 && streq(tried, read_back))
                return 0;
        r = load(&o, why);
        if (r < 0)
                return r;
        bpf_object__close(o);
        /* Without it the next one tries again. */
        if (fd >= 0 && (ftruncate(fd, 0) < 0 || pwrite(fd, tried, strlen(tried), 0) < 0))
                (void) unlink(path);
        return 0;
}

/* Each set but @but. Returns how many. */
static size_t each_set(const char *but, void (*f)(const char *name)) {
        DIR *d = opendir(GUARD_FOLDER);
        struct dirent *e;
        size_t n = 0;

        while (d && (e = readdir(d))) {
                if (e->d_name[0] == '.' || (but && streq(e->d_name, but)))
                        continue;
                n++;
                if (f)
                        f(e->d_name);
        }
        if (d)
                closedir(d);
        return n;
}

static void drop(const char *name) {
        char folder[512];

        snprintf(folder, sizeof(folder), GUARD_FOLDER "/%s", name);
        remove_set(folder);
}

int guard_sets_drop(const char *but, char why[static GUARD_WHY_MAX]) {
        guard_excuse(true);
        (void) each_set(but, drop);
        if (!but)
                (void) rmdir(GUARD_FOLDER);
        guard_excuse(false);
        if (each_set(but, NULL) > 0)
                return guard_fail(why, -EPERM, "could not remove all of " GUARD_FOLDER);
        return 0;
}

bool guard_sets_others(void) {
        char name[17];

        return each_set(set_name(name), NULL) > 0;
}

static int own_pidfd = -EBADF;
static __u32 excuse_value;

/* Of any build: this map's form never changes. */
static void excuse_in(const char *name) {
        int map = open_pin(name, "excused");

        if (map >= 0)
                (void) bpf_map_update_elem(map, &own_pidfd, &excuse_value, BPF_ANY);
        close_fd(map);
}

void guard_excuse(bool yes) {
        own_pidfd = pidfd_open(getpid(), 0);
        excuse_value = yes;
        if (own_pidfd >= 0)
                (void) each_set(NULL, excuse_in);
        own_pidfd = close_fd(own_pidfd);
}
