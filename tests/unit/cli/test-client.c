/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libtdi's client against fake-tdid over a private bus: what is sent, how jobs end, how errors are told, what happens when the
 * daemon goes. Jobs that nobody waits for are test-client-async.c. Run as: private_bus.py test-client FAKE-TDID.
 */
#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <json-c/json.h>

#include "test-client.h"

static const char *fake_path;
static pid_t fake;

void stop_fake(void) {
        if (fake <= 0)
                return;
        (void) kill(fake, SIGKILL);
        (void) waitpid(fake, NULL, 0);
        fake = 0;
}

void start_fake(void) {
        char text[8] = "";
        int fds[2];

        check(pipe2(fds, O_CLOEXEC) == 0);
        fake = fork();
        check(fake >= 0);
        if (fake == 0) {
                (void) dup2(fds[1], STDOUT_FILENO);
                execl(fake_path, fake_path, (char *) NULL);
                _exit(127);
        }
        (void) close(fds[1]);
        check(read(fds[0], text, sizeof(text)) > 0 && startswith(text, "ready"));
        (void) close(fds[0]);
}

unsigned open_fds(void) {
        DIR *d = opendir("/proc/self/fd");
        unsigned n = 0;

        check(d);
        while (readdir(d))
                n++;
        (void) closedir(d);
        return n;
}

struct tdi_client *new_client(void) {
        struct tdi_client *c;

        check(tdi_client_new(&c) == 0);
        check(tdi_client_connect(c, NULL) == 0);
        return c;
}

struct tdi_bdf bdf(unsigned bus) {
        return (struct tdi_bdf){ .bus = (uint8_t) bus };
}

int attach(struct tdi_client *c, const char *vm, unsigned bus) {
        const struct tdi_function f = { .size = sizeof(f), .bdf = bdf(bus) };

        return tdi_client_attach(c, vm, &f, 1);
}

/* ---- connection ---- */

static void test_connect(void) {
        struct tdi_client *c;
        char *json;

        check(tdi_client_new(NULL) == -EINVAL);
        check(tdi_client_new(&c) == 0);
        check(tdi_client_snapshot(c, &json) == -ENOTCONN);
        check_error(c, TDI_ERROR_NONE, "not connected");
        check(tdi_client_connect(c, "sytem") == -EINVAL);
        check_error(c, TDI_ERROR_INVALID_ARGUMENT, "'sytem' is not a bus");
        check(tdi_client_connect(c, "nonsense:") == -EINVAL || tdi_client_connect(c, "nonsense:") == -EHOSTUNREACH);
        check(tdi_client_connect(c, "unix:path=/nonexistent/bus") == -EHOSTUNREACH);
        check_error(c, TDI_ERROR_NONE, "/nonexistent/bus");
        check(tdi_client_get_fd(c) == -ENOTCONN);
        check(tdi_client_connect(c, getenv("DBUS_SYSTEM_BUS_ADDRESS")) == 0);
        check_error(c, TDI_ERROR_NONE, "");
        check(tdi_client_connect(c, NULL) == -EISCONN);
        check(!tdi_client_free(c));
        check(!tdi_client_free(NULL));
        check(streq(tdi_client_error(NULL, NULL), ""));
}

static void test_no_daemon(void) {
        struct tdi_client *c = new_client();
        int lease;
        char *json;

        check(tdi_client_snapshot(c, &json) == -EHOSTUNREACH);
        check_error(c, TDI_ERROR_NONE, "systemctl start tdid");
        check(tdi_client_create_vm(c, "a", NULL, NULL, &lease) == -EHOSTUNREACH);
        check(tdi_client_detach(c, bdf(1)) == -EHOSTUNREACH);
        tdi_client_free(c);
}

/* ---- VMs ---- */

static bool hung_up(int fd) {
        struct pollfd p = { .fd = fd };

        return poll(&p, 1, 10000) == 1 && (p.revents & POLLHUP);
}

static void test_vm(void) {
        struct tdi_client *c = new_client();
        char *id = NULL, *found = NULL, *json = NULL, inode[64];
        int lease = -1, further, fd;
        struct stat st;

        check(tdi_client_create_vm(c, "a", NULL, &id, &lease) == 0);
        check(lease >= 3 && (fcntl(lease, F_GETFD) & FD_CLOEXEC));
        check(tdi_client_create_vm(c, "a", NULL, NULL, &fd) == -EEXIST);
        check_error(c, TDI_ERROR_EXISTS, "There is a VM named 'a'.");
        check(tdi_client_find_vm(c, "a", &found) == 0 && streq(found, id));
        free(found);
        check(tdi_client_find_vm(c, "b", &found) == -ENOENT);
        check_error(c, TDI_ERROR_NOT_FOUND, "There is no VM 'b'.");
        check(tdi_client_find_vm(c, "", &found) == -EINVAL);

        check(tdi_client_hold(c, id, "second", &further) == 0);
        check(further >= 3 && (fcntl(further, F_GETFD) & FD_CLOEXEC));
        close(further);

        check(tdi_client_open_association(c, id, NULL) == -EINVAL);
        check(tdi_client_open_association(c, id, &further) == 0);
        check(further >= 3 && (fcntl(further, F_GETFD) & FD_CLOEXEC));
        check(tdi_client_open_association(c, id, &fd) < 0);
        check_error(c, TDI_ERROR_IN_USE, "the channel is open");
        close(further);

        fd = eventfd(0, EFD_CLOEXEC);
        check(fd >= 0 && fstat(fd, &st) == 0);
        check(tdi_client_set_kvm(c, id, fd) == 0);
        check(tdi_client_describe(c, id, &json) == 0);
        snprintf(inode, sizeof(inode), "SetKVM inode %lu", (unsigned long) st.st_ino);
        check(strstr(json, inode));
        free(json);
        check(tdi_client_set_pidfd(c, id, fd) == 0);
        check(fcntl(fd, F_GETFD) >= 0);
        close(fd);
        check(tdi_client_set_kvm(c, id, -1) == -EINVAL || tdi_client_set_kvm(c, id, -1) == -EBADF);

        check(tdi_client_seal(c, id) == 0);
        check(tdi_client_destroy(c, id, 0) == 0);
        check(hung_up(lease));
        check(tdi_client_seal(c, id) == -ENOENT);
        check_error(c, TDI_ERROR_NOT_FOUND, "VM");
        close(lease);
        free(id);

        /* The lease's end is the VM's. */
        check(tdi_client_create_vm(c, "b", NULL, &id, &lease) == 0);
        close(lease);
        for (int i = 0; i < 1000 && tdi_client_find_vm(c, "b", &found) == 0; i++) {
                free(found);
                usleep(10000);
        }
        check(tdi_client_find_vm(c, "b", &found) == -ENOENT);
        free(id);

        check(tdi_client_seal(c, "7/../8") == -EINVAL);
        check(tdi_client_seal(c, "") == -EINVAL);
        check(tdi_client_seal(c, NULL) == -EINVAL);
        tdi_client_free(c);
}

static bool is_file(int fd, const char *expected) {
        char path[64], target[128] = "";

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        return readlink(path, target, sizeof(target) - 1) > 0 && strstr(target, expected);
}

/* All or nothing, and where the functions of what came about are reached. */
static void test_prepare(void) {
        struct tdi_function f[2] = { { .size = sizeof(f[0]), .bdf = bdf(1) }, { .size = sizeof(f[0]), .bdf = bdf(2) } };
        struct tdi_client *c = new_client();
        char *id = NULL, *found, *path = NULL, *json, answer[16];
        struct tdi_request request = { .size = sizeof(request), .kind = TDI_REQUEST_INFO, .in = "\0\xff", .in_size = 2,
                                       .out = answer, .out_size = sizeof(answer), .timeout_msec = -1 };
        int lease = -1, iommufd, device;
        unsigned before = open_fds();

        check(tdi_client_prepare_vm(c, "whole", NULL, f, 2, &id, &lease) == 0);
        check(tdi_client_snapshot(c, &json) == 0 && strstr(json, "sealed"));
        free(json);
        check(tdi_client_vpci_socket(c, id, bdf(1), &path) == 0);
        check(startswith(path, "/state/vm/00000000-") && strstr(path, "/0000:01:00.0"));
        free(path);
        check(tdi_client_vpci_socket(c, id, bdf(2), &path) == -EOPNOTSUPP);
        check_error(c, TDI_ERROR_NOT_SUPPORTED, "serves no vPCI sockets");
        check(tdi_client_vpci_socket(c, id, bdf(3), &path) == -ENOENT);
        check_error(c, TDI_ERROR_NOT_FOUND, "0000:03:00.0 is not attached");
        check(tdi_client_vpci_socket(c, "99", bdf(1), &path) == -ENOENT);
        check(tdi_client_vpci_socket(c, id, bdf(1), NULL) == -EINVAL);
        check(attach(c, id, 7) == 0);
        check(tdi_client_vpci_socket(c, id, bdf(7), &path) == -tdi_error_to_errno(TDI_ERROR_INVALID_STATE));
        check_error(c, TDI_ERROR_INVALID_STATE, "handed off");

        check(tdi_client_handoff(c, bdf(1), &iommufd, &device) == 0);
        check(iommufd >= 3 && device >= 3 && (fcntl(iommufd, F_GETFD) & FD_CLOEXEC) && (fcntl(device, F_GETFD) & FD_CLOEXEC));
        check(is_file(iommufd, "eventfd") && is_file(device, "0000:01:00.0"));
        close(iommufd);
        close(device);
        check(tdi_client_handoff(c, bdf(2), &iommufd, &device) < 0);
        check_error(c, TDI_ERROR_POLICY, "/etc/tdid/tdid.conf");
        check(tdi_client_handoff(c, bdf(3), &iommufd, &device) == -ENOENT);
        check(tdi_client_handoff(c, bdf(1), NULL, &device) == -EINVAL);

        check(tdi_client_open_requests(c, bdf(1), &device) == 0);
        check(device >= 3 && (fcntl(device, F_GETFD) & FD_CLOEXEC));
        check(tdi_request(device, &request) == -ECONNRESET);
        close(device);
        check(tdi_client_open_requests(c, bdf(1), NULL) == -EINVAL);
        check(tdi_client_open_requests(c, bdf(2), &device) < 0);
        check_error(c, TDI_ERROR_LIMIT, "close one");
        check(tdi_client_guest_request(c, bdf(1), &request) == 0);
        check(request.out_used == 2 && request.tsm_code == 9 && (uint8_t) answer[0] == 0xff && answer[1] == 0);
        request.out_size = 1;
        check(tdi_client_guest_request(c, bdf(1), &request) == -EMSGSIZE);
        request.kind = TDI_REQUEST_START;
        check(tdi_client_guest_request(c, bdf(1), &request) < 0);
        check_error(c, TDI_ERROR_KERNEL, "TSM code 0x4");
        request.in_size = TDI_REQUEST_SIZE_MAX + 1;
        check(tdi_client_guest_request(c, bdf(1), &request) == -EINVAL);
        check(tdi_client_destroy(c, id, 0) == 0);
        check(hung_up(lease));
        close(lease);
        free(id);

        /* Nothing came about: no VM, no descriptor, and the error is that of what failed. */
        f[1].bdf = bdf(3);
        check(tdi_client_prepare_vm(c, "half", NULL, f, 2, &id, &lease) == -EUCLEAN);
        check_error(c, TDI_ERROR_QUARANTINED, "is withheld");
        check(tdi_client_find_vm(c, "half", &found) == -ENOENT);
        f[1].bdf = bdf(6);
        check(tdi_client_prepare_vm(c, "half", NULL, f, 2, &id, &lease) == -EUSERS);
        check_error(c, TDI_ERROR_IN_USE, "mounted on /data");
        check(tdi_client_find_vm(c, "half", &found) == -ENOENT);
        f[0].size--;
        check(tdi_client_prepare_vm(c, "half", NULL, f, 2, &id, &lease) == -E2BIG);
        check_error(c, TDI_ERROR_INVALID_ARGUMENT, "size");
        check(tdi_client_find_vm(c, "half", &found) == -ENOENT);
        check(tdi_client_prepare_vm(c, "half", NULL, NULL, 1, &id, &lease) == -EINVAL);
        check(tdi_client_prepare_vm(c, "half", NULL, NULL, 0, NULL, &lease) == -EINVAL);
        check(tdi_client_find_vm(c, "half", &found) == -ENOENT);

        check(tdi_client_prepare_vm(c, "empty", NULL, NULL, 0, &id, &lease) == 0);
        close(lease);
        free(id);
        check(open_fds() == before);
        tdi_client_free(c);
}

static char *options_of(struct tdi_client *c, const char *id, const char *member) {
        json_object *o, *vm, *v;
        char *json, *text;

        check(tdi_client_describe(c, id, &json) == 0);
        o = json_tokener_parse(json);
        check(o && json_object_object_get_ex(o, "vm", &vm) && json_object_object_get_ex(vm, member, &v));
        text = strdup(json_object_get_string(v));
        json_object_put(o);
        free(json);
        return text;
}

static void test_options(void) {
        struct tdi_client *c = new_client();
        struct {
                struct tdi_vm_options options;
                uint64_t more;
        } future = {};
        struct tdi_vm_options o = {
                .size = sizeof(o),
                .set = TDI_VM_SET_OWNER_UID | TDI_VM_SET_VMM_UID | TDI_VM_SET_VMM_GID | TDI_VM_SET_HOTPLUG | TDI_VM_SET_AWAIT_VMM | TDI_VM_SET_MAX_FUNCTIONS |
                       TDI_VM_SET_PEER_TO_PEER,
                .uuid = "u", .seclabel = "l", .platform = "tdx", .bind = "early",
                .owner_uid = 0, .vmm_uid = 4294967294U, .vmm_gid = 2, .hotplug = 1, .peer_to_peer = 1, .await_vmm = 3, .max_functions = 4,
        };
        struct tdi_function f[2] = {
                { .size = sizeof(f[0]), .flags = TDI_ATTACH_GUEST_RID | TDI_ATTACH_FORCE, .bdf = bdf(2), .guest_rid = 65535, .bind = "late" },
                { .size = sizeof(f[0]), .flags = TDI_ATTACH_NO_CONNECT, .bdf = bdf(1), .vf_token = "t" },
        };
        char *id, *text;
        int lease;

        check(tdi_client_create_vm(c, "all", &o, &id, &lease) == 0);
        text = options_of(c, id, "options");
        check(streq(text, "uuid=s:u;seclabel=s:l;platform=s:tdx;bind=s:early;owner_uid=u:0;vmm_uid=u:4294967294;vmm_gid=u:2;"
                          "hotplug=b:1;peer_to_peer=b:1;await_vmm=u:3;limits={functions=u:4;};"));
        free(text);

        check(tdi_client_attach(c, id, f, 2) == 0);
        text = options_of(c, id, "seen");
        check(streq(text, "0000:02:00.0:guest_rid=u:65535;bind=s:late;force=b:1;0000:01:00.0:connect=s:no;vf_token=s:t;"));
        free(text);
        check(tdi_client_detach(c, bdf(1)) == 0 && tdi_client_detach(c, bdf(2)) == 0);
        check(tdi_client_attach(c, id, f, 0) == -EINVAL);
        f[1].size--;
        check(tdi_client_attach(c, id, f, 2) == -E2BIG);
        check(tdi_client_destroy(c, id, TDI_DESTROY_ABANDON) == 0);
        close(lease);
        free(id);

        check(tdi_client_create_vm(c, "none", NULL, &id, &lease) == 0);
        text = options_of(c, id, "options");
        check(streq(text, ""));
        free(text);
        close(lease);
        free(id);

        /* A program built against a later header, and one built against an earlier. */
        future.options.size = sizeof(future);
        check(tdi_client_create_vm(c, "later", &future.options, NULL, &lease) == 0);
        close(lease);
        future.more = 1;
        check(tdi_client_create_vm(c, "later2", &future.options, NULL, &lease) == -E2BIG);
        o.size = offsetof(struct tdi_vm_options, seclabel);
        o.set = 0;
        check(tdi_client_create_vm(c, "earlier", &o, &id, &lease) == 0);
        text = options_of(c, id, "options");
        check(streq(text, "uuid=s:u;"));
        free(text);
        close(lease);
        free(id);
        o.size = 0;
        check(tdi_client_create_vm(c, "nothing", &o, NULL, &lease) == -EINVAL);
        check(tdi_client_create_vm(c, "bad\xff", NULL, NULL, &lease) < 0);
        tdi_client_free(c);
}

/* ---- jobs ---- */

struct watch {
        struct tdi_client *c;
        enum tdi_progress_verdict verdict;
        int wake_fd;
        unsigned calls;
        char steps[128];
        bool stuck;
};

static enum tdi_progress_verdict on_progress(const struct tdi_progress *p, void *userdata) {
        struct watch *w = userdata;
        uint64_t n;
        char *json;

        w->calls++;
        if (!strstr(w->steps, p->step)) {
                strncat(w->steps, p->step, sizeof(w->steps) - strlen(w->steps) - 2);
                strcat(w->steps, ";");
        }
        w->stuck |= streq(p->state, "stuck");
        check(streq(p->kind, "attach") && *p->id);
        check(tdi_client_snapshot(w->c, &json) == -EDEADLK);
        if (w->wake_fd >= 0) {
                /* Nothing but the descriptor may bring the verdict. */
                if (read(w->wake_fd, &n, sizeof(n)) != sizeof(n))
                        return TDI_PROGRESS_WAIT;
                w->wake_fd = -1;
                tdi_client_set_wake_fd(w->c, -1);
                return w->verdict = TDI_PROGRESS_CANCEL;
        }
        return w->verdict;
}

static void *wake(void *fd) {
        uint64_t one = 1;

        usleep(100000);
        check(write(*(int *) fd, &one, sizeof(one)) == sizeof(one));
        return NULL;
}

static void test_jobs(void) {
        struct tdi_client *c = new_client();
        struct watch w = { .c = c, .wake_fd = -1 };
        char *id, *json;
        int lease, fd;
        pid_t waker;

        check(tdi_client_create_vm(c, "jobs", NULL, &id, &lease) == 0);
        check(attach(c, id, 1) == 0);
        check(attach(c, id, 7) == 0);
        check(attach(c, id, 3) == -EUCLEAN);
        check_error(c, TDI_ERROR_QUARANTINED, "0000:03:00.0 is withheld");
        check(attach(c, id, 6) == -EUSERS);
        check_error(c, TDI_ERROR_IN_USE, "mounted on /data");
        check(attach(c, id, 0x20) == -ENOENT);
        check(attach(c, id, 8) == 0);

        tdi_client_set_progress(c, on_progress, &w);
        check(attach(c, id, 2) == 0);
        check(streq(w.steps, "claim;open;") && w.calls >= 2);

        w = (struct watch){ .c = c, .wake_fd = -1 };
        check(attach(c, id, 11) == 0);
        check(w.stuck);

        w = (struct watch){ .c = c, .wake_fd = -1, .verdict = TDI_PROGRESS_CANCEL };
        check(attach(c, id, 4) == -ECANCELED);
        check_error(c, TDI_ERROR_CANCELLED, "cancelled and undone");
        check(streq(w.steps, "claim;undo;"));

        w = (struct watch){ .c = c, .wake_fd = -1, .verdict = TDI_PROGRESS_LEAVE };
        check(attach(c, id, 4) == -EINPROGRESS);
        check_error(c, TDI_ERROR_NONE, "goes on");

        fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        check(fd >= 0);
        w = (struct watch){ .c = c, .wake_fd = fd };
        tdi_client_set_wake_fd(c, fd);
        waker = fork();
        if (waker == 0) {
                wake(&fd);
                _exit(0);
        }
        check(attach(c, id, 4) == -ECANCELED);
        check(waitpid(waker, NULL, 0) == waker);
        close(fd);
        tdi_client_set_progress(c, NULL, NULL);

        check(tdi_client_bind(c, bdf(1)) == 0);
        check(tdi_client_unbind(c, bdf(1)) == -EOPNOTSUPP);
        check_error(c, TDI_ERROR_NOT_SUPPORTED, "unbind 0000:01:00.0");
        check(tdi_client_detach(c, bdf(1)) == 0);
        check(tdi_client_detach(c, bdf(1)) == -ENOENT);
        check_error(c, TDI_ERROR_NOT_FOUND, "no attached function 0000:01:00.0");

        check(tdi_client_describe_host(c, &json) == 0);
        check(startswith(json, "{\"schema\":\"tdid/1\",\"host\":{\"platform\":{\"name\":\"plain\""));
        free(json);
        check(tdi_client_connect_device(c, bdf(1), NULL) == 0);
        check(tdi_client_connect_device(c, bdf(1), "tsm9") == -ENOENT);
        check_error(c, TDI_ERROR_NOT_FOUND, "tsm9");
        check(tdi_client_connect_device(c, bdf(0x20), "") == -ENOENT);
        check_error(c, TDI_ERROR_NOT_FOUND, "no PCI function 0000:20:00.0");
        check(tdi_client_disconnect_device(c, bdf(1)) == 0);
        check(tdi_client_restore_device(c, bdf(1), false) == -EACCES);
        check_error(c, TDI_ERROR_DENIED, "restore 0000:01:00.0");

        check(tdi_client_destroy(c, id, 0) == 0);
        close(lease);
        free(id);
        tdi_client_free(c);
}

static void test_daemon_goes(void) {
        struct tdi_client *c = new_client();
        char *id, *json;
        int lease;

        check(tdi_client_create_vm(c, "goes", NULL, &id, &lease) == 0);
        check(attach(c, id, 5) == -ECONNRESET);
        check_error(c, TDI_ERROR_NONE, "the job may go on: look with 'tdictl status'");
        check(hung_up(lease));
        close(lease);
        free(id);
        check(tdi_client_snapshot(c, &json) == -EHOSTUNREACH);
        stop_fake();

        /* What was to be one piece and could not be closed again is told as well. */
        start_fake();
        check(tdi_client_prepare_vm(c, "goes", NULL, &(struct tdi_function){ .size = sizeof(struct tdi_function), .bdf = bdf(5) }, 1, &id, &lease) == -ECONNRESET);
        check_error(c, TDI_ERROR_NONE, "tdid went away");
        check_error(c, TDI_ERROR_NONE, "Besides, VM 1 was not closed: tdid is not running");
        stop_fake();

        /* The same client finds the next one. */
        start_fake();
        check(tdi_client_create_vm(c, "again", NULL, &id, &lease) == 0);
        check(attach(c, id, 10) == -ECONNRESET);
        check_error(c, TDI_ERROR_NONE, "It may have begun");
        stop_fake();
        start_fake();
        close(lease);
        free(id);
        tdi_client_free(c);

        check(setenv("SYSTEMD_BUS_TIMEOUT", "3", 1) == 0);
        c = new_client();
        check(unsetenv("SYSTEMD_BUS_TIMEOUT") == 0);
        check(tdi_client_create_vm(c, "slow", NULL, &id, &lease) == 0);
        check(attach(c, id, 9) == -ETIMEDOUT);
        check_error(c, TDI_ERROR_TIMEOUT, "did not answer in time");
        close(lease);
        free(id);
        tdi_client_free(c);
}

/* ---- looking and watching ---- */

static const char *const snapshot_device =
        "{\"bdf\":\"0000:01:00.0\",\"present\":true,\"vendor\":\"0x8086\",\"device\":\"0x10d3\",\"subsystem_vendor\":\"0x8086\",\"subsystem_device\":\"0x0001\","
        "\"class\":\"0x010802\",\"class_name\":\"NVMe\",\"name\":\"Made-up controller\",\"driver\":\"nvme\",\"iommu_group\":1,"
        "\"tee\":[\"tee-io\",\"ide\"],\"phys_fn\":null,\"sriov\":\"none\",\"bridges\":[\"0000:00:01.0\"],\"dsm\":null,\"tsm\":null,\"bound\":null,\"tsm_read\":0,\"streams\":[],"
        "\"custody\":\"prepare\",\"vm_id\":\"1\",\"quarantine\":null,\"vm\":\"watched\"}";

static const char *const snapshot_vm =
        "{\"id\":\"1\",\"name\":\"watched\",\"uuid\":\"00000000-0000-4000-8000-000000000001\",\"phase\":\"preparing\",\"platform\":\"plain\","
        "\"owner_uid\":0,\"tdis\":[{\"bdf\":\"0000:01:00.0\",\"state\":\"prepared\",\"guest_rid\":null,\"tdisp\":\"unknown\",\"custody\":\"prepare\"}]}";

static const char *const snapshot_rest =
        "\"tsms\":[{\"name\":\"tsm0\",\"platform\":\"unknown\",\"parent\":\"0000:00:01.0\",\"devices\":[]}],"
        "\"jobs\":[{\"id\":\"1\",\"kind\":\"attach\",\"objects\":[\"0000:01:00.0\"],\"step\":\"claim\",\"state\":\"done\",\"started\":1700000000000000,\"deadline\":0}]}";

static int on_event(const struct tdi_event *e, void *userdata) {
        char *log = userdata;
        size_t used = strlen(log);
        const char *kinds = "+-=!*";

        check(used < 7000);
        snprintf(log + used, 8192 - used, "%c%s %s %s %s\n", kinds[e->kind], e->type, e->id, strempty(e->key), e->value ? e->value : "?");
        return e->kind == TDI_EVENT_NOTICE && streq(e->key, "closing") && streq(e->id, "1");
}

static bool is_called(int fd, const char *name) {
        char path[64], link[64];
        ssize_t n;

        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        n = readlink(path, link, sizeof(link) - 1);
        if (n < 0)
                return false;
        link[n] = 0;
        return strstr(link, name) && fd >= 3 && (fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

static const char *const dmabufs_of_watched =
        "{\"schema\":\"tdid/1\",\"dmabufs\":[{\"vm\":\"watched\",\"vm_id\":\"1\",\"id\":7,\"kind\":\"bar\",\"bdf\":\"0000:01:00.0\",\"region\":0,\"offset\":4096,"
        "\"size\":8192,\"class\":\"revocable\",\"importer\":\"kvm\",\"state\":\"exported\"},{\"vm\":\"watched\",\"vm_id\":\"1\",\"id\":8,";

/* On the function that is attached. */
static void test_exports(struct tdi_client *c, const char *vm) {
        const unsigned accept = TDI_DMABUF_SET(TDI_DMABUF_REVOCABLE) | TDI_DMABUF_SET(TDI_DMABUF_DYNAMIC);
        struct tdi_export x = { .size = sizeof(x) };
        char *json, *id;
        int lease, memfd, dmabuf;
        struct {
                struct tdi_export x;
                char guard[64];
        } newer;

        tdi_export_done(&x);
        check(tdi_client_export_dmabuf(c, bdf(1), 0, 4096, 12288, TDI_IMPORTER_KVM, 0, &x) == 0);
        check(is_called(x.dmabuf, "dmabuf") && is_called(x.event, "eventfd"));
        check(x.size == sizeof(x) && x.id == 7 && x.length == 12288 && x.dmabuf_class == TDI_DMABUF_REVOCABLE && !x.revoked && x.has_addresses);
        check(x.n_runs == 2 && x.runs[0].pfn == 0xfe000 && x.runs[0].pages == 1 && x.runs[0].provider == 1);
        check(x.runs[1].pfn == 0xfe100 && x.runs[1].pages == 2 && x.runs[1].attributes == (TDI_RUN_P2P | TDI_RUN_MMIO));
        tdi_export_done(&x);
        check(x.dmabuf == -EBADF && x.event == -EBADF && !x.runs);

        /* Not for root; and with a struct of a program that is newer than the library. */
        memset(&newer, 0x5a, sizeof(newer));
        newer.x.size = sizeof(newer);
        check(tdi_client_export_dmabuf(c, bdf(1), 1, 0, 12288, TDI_IMPORTER_ANY, accept, &newer.x) == 0);
        check(newer.x.size == sizeof(newer) && newer.x.revoked && !newer.x.has_addresses && newer.x.n_runs == 2 && newer.x.runs[1].pfn == 0);
        for (size_t i = 0; i < sizeof(newer.guard); i++)
                check(newer.guard[i] == 0x5a);
        tdi_export_done(&newer.x);

        x = (struct tdi_export) { .size = sizeof(x), .dmabuf = 77 };
        for (uint32_t bar = 2; bar < 5; bar++) {
                check(tdi_client_export_dmabuf(c, bdf(1), bar, 0, 4096, TDI_IMPORTER_KVM, 0, &x) == -EBADMSG);
                check_error(c, TDI_ERROR_NONE, "does not have the form");
                check(x.dmabuf == 77);
        }
        check(tdi_client_export_dmabuf(c, bdf(1), 5, 1, 2, TDI_IMPORTER_RDMA, accept, &x) == -tdi_error_to_errno(TDI_ERROR_CLASS_MISMATCH));
        check_error(c, TDI_ERROR_CLASS_MISMATCH, "1 2 rdma revocable dynamic");
        check(tdi_client_export_dmabuf(c, bdf(2), 0, 0, 4096, TDI_IMPORTER_KVM, 0, &x) == -ENOENT);
        check_error(c, TDI_ERROR_NOT_FOUND, "attached function 0000:02:00.0");
        check(tdi_client_export_dmabuf(c, bdf(1), 0, 0, 4096, TDI_IMPORTER_MAX, 0, &x) == -EINVAL);
        check(tdi_client_export_dmabuf(c, bdf(1), 0, 0, 4096, TDI_IMPORTER_KVM, 8, &x) == -EINVAL);
        check(tdi_client_export_dmabuf(c, bdf(1), 0, 0, 4096, TDI_IMPORTER_KVM, 0, NULL) == -EINVAL);
        x.size = 1;
        check(tdi_client_export_dmabuf(c, bdf(1), 0, 0, 4096, TDI_IMPORTER_KVM, 0, &x) == -EINVAL);

        check(tdi_client_create_shared_buffer(c, vm, UINT64_C(1) << 40, NULL, &memfd, &dmabuf) == 0);
        check(is_called(memfd, "memfd") && is_called(dmabuf, "dmabuf"));
        close(memfd);
        close(dmabuf);
        check(tdi_client_describe(c, vm, &json) == 0);
        check(strstr(json, "\"seen\":\"size=1099511627776;\""));
        free(json);
        check(tdi_client_create_shared_buffer(c, vm, 4096, "system", &memfd, &dmabuf) == 0);
        close(memfd);
        close(dmabuf);
        check(tdi_client_describe(c, vm, &json) == 0);
        check(strstr(json, "\"seen\":\"size=4096;heap=s:system;\""));
        free(json);
        check(tdi_client_create_shared_buffer(c, vm, 1, NULL, &memfd, &dmabuf) == -tdi_error_to_errno(TDI_ERROR_LIMIT));
        check_error(c, TDI_ERROR_LIMIT, "No more.");
        check(tdi_client_create_shared_buffer(c, "none", 4096, NULL, &memfd, &dmabuf) == -ENOENT);
        check(tdi_client_create_shared_buffer(c, "../1", 4096, NULL, &memfd, &dmabuf) == -EINVAL);
        check(tdi_client_create_shared_buffer(c, vm, 4096, NULL, NULL, &dmabuf) == -EINVAL);

        /* Those of a VM that is somebody else's are left out. */
        check(tdi_client_create_vm(c, "secret", NULL, &id, &lease) == 0);
        check(tdi_client_list_dmabufs(c, &json) == 0);
        check_error(c, TDI_ERROR_NONE, "");
        check(startswith(json, dmabufs_of_watched) && !strstr(json, "secret"));
        free(json);
        free(id);
        close(lease);
}

static void test_watch(void) {
        static char log[8192];
        struct tdi_client *c = new_client(), *other = new_client();
        char *id, *json;
        int lease, fd;
        short events;
        uint64_t until;

        check(tdi_client_subscribe(c, on_event, log) == 0);
        check(tdi_client_process(c) == 0);
        check(tdi_client_get_fd(c) >= 0 && tdi_client_get_poll(c, &events, &until) == 0 && (events & POLLIN));
        check(tdi_client_create_vm(other, "watched", NULL, &id, &lease) == 0);
        check(attach(other, id, 1) == 0);
        check(tdi_client_snapshot(other, &json) == 0);
        check(strstr(json, snapshot_device) && strstr(json, snapshot_vm) && strstr(json, snapshot_rest));
        check(startswith(json, "{\"schema\":\"tdid/1\",\"tdid\":{\"version\":\"0.1.0\",\"host\":\"sim\",\"platform\":\"plain\",\"guard\":\"none: this is a test\"},"));
        free(json);
        test_exports(other, id);
        check(tdi_client_detach(other, bdf(1)) == 0);
        close(lease);

        check(tdi_client_run(c) == 0);
        check(strstr(log, "+vm 1  {\"id\":\"1\",\"name\":\"watched\""));
        check(strstr(log, "+job 1  {\"id\":\"1\",\"kind\":\"attach\""));
        check(strstr(log, "!job 1 finished {\"error\":\"\",\"text\":\"\"}"));
        check(strstr(log, "=job 1 state \"done\""));
        check(strstr(log, "+tdi 0000:01:00.0  {\"bdf\":\"0000:01:00.0\",\"vm_id\":\"1\""));
        check(strstr(log, "=device 0000:01:00.0 custody \"prepare\""));
        check(strstr(log, "=device 0000:01:00.0 vm_id \"1\""));
        check(strstr(log, "=device 0000:01:00.0 vm_id null"));
        check(strstr(log, "=vm 1 tdis ?"));
        check(strstr(log, "-tdi 0000:01:00.0  ?"));
        check(strstr(log, "!tdi 0000:01:00.0 revoked 7\n!tdi 0000:01:00.0 restored 7\n"));
        check(strstr(log, "!vm 1 closing \"no keeper is left\""));
        log[0] = 0;

        /* A wake descriptor ends run. */
        fd = eventfd(1, EFD_CLOEXEC);
        tdi_client_set_wake_fd(c, fd);
        check(tdi_client_run(c) == -EINTR);
        close(fd);
        tdi_client_set_wake_fd(c, -1);
        free(id);

        /* A stranger's signal is no event. */
        log[0] = 0;
        check(tdi_client_create_vm(c, "x", NULL, &id, &lease) == 0);
        check(attach(c, id, 8) == 0);
        check(tdi_client_process(c) == 0);
        check(strstr(log, "finished {\"error\":\"\"") && !strstr(log, "forged"));
        free(id);
        close(lease);

        log[0] = 0;
        stop_fake();
        start_fake();
        for (int i = 0; i < 1000 && !strstr(log, "true"); i++) {
                check(tdi_client_process(c) >= 0);
                usleep(10000);
        }
        check(strstr(log, "*tdid  running false\n*tdid  running true\n"));
        check(tdi_client_subscribe(c, NULL, NULL) == 0);
        log[0] = 0;
        check(tdi_client_create_vm(c, "y", NULL, &id, &lease) == 0);
        check(tdi_client_process(c) == 0 && !log[0]);
        close(lease);
        free(id);
        tdi_client_free(c);
        tdi_client_free(other);
}

int main(int argc, char *argv[]) {
        unsigned before;

        check(argc == 2);
        fake_path = argv[1];

        test_connect();
        before = open_fds();
        test_no_daemon();
        start_fake();
        test_watch();
        test_vm();
        test_options();
        test_prepare();
        test_jobs();
        stop_fake();
        start_fake();
        test_async();
        test_async_daemon_goes();
        test_daemon_goes();
        stop_fake();
        if (open_fds() != before) {
                fprintf(stderr, "%u descriptors at first, %u at the end\n", before, open_fds());
                return 1;
        }
        return 0;
}
