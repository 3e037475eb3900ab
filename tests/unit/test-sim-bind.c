/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The simulated bind provider, /dev/tdid-bind: who may bind what, what ends a binding and in which order files close then, and requests
 * of guests.
 */
#include "../kmod/tdid_test_tsm.h"
#include "host/abi/kvm.h"
#include "host/tdid_bind.h"
#include "sim-kernel.h"
#include "sim/tsm-abi.h"

/* The module of a real kernel takes the same requests. */
#define SAME(name) _Static_assert(TDI_TEST_TSM_##name == TDID_TEST_TSM_##name, #name)
SAME(REQ_MAX);
SAME(OP_ECHO);
SAME(OP_STATE);
SAME(OP_START);
SAME(OP_STOP);
SAME(OP_LOCK);
SAME(OP_REPORT);
SAME(REPORT_SHIFT);
SAME(REPORT_ATS);
SAME(REPORT_BEYOND);
SAME(REPORT_SHORT);
SAME(CODE_OK);
SAME(CODE_INVALID);
SAME(CODE_WRONG_STATE);
SAME(CODE_WRONG_SCOPE);
SAME(CODE_INJECTED);

#define EDU "0000:01:00.0"
#define OTHER "0000:02:00.0"
#define POOR "0000:03:00.0"
#define EDU_ID 0x100u
#define OTHER_ID 0x200u
#define POOR_ID 0x300u
#define VALUE(n) ((void *) (uintptr_t) (n))
#define BIND_CALL(fd, name, arg) host_ioctl(host, (fd), TDID_BIND_IOC_##name, (arg))

#define FUNCTION(n) "{\"bdf\": \"0000:0" #n ":00.0\", \"model\": \"edu\", \"flr\": true, \"tee_io\": true, \"driver\": \"vfio-pci\"}"
#define TOPOLOGY(keys)                                                                                                       \
        "{\"schema\": \"tdi-sim/1\", \"platform\": \"tdx\", " keys "\"buses\": [{\"bus\": \"0000:00\"}],"                    \
        " \"tsms\": [{\"name\": \"tsm0\", \"accepts\": [\"" EDU "\", \"" OTHER "\"]},"                                       \
        "            {\"name\": \"tsm1\", \"accepts\": [\"" POOR "\"], \"bind\": false}],"                                   \
        " \"ports\": [{\"bdf\": \"0000:00:01.0\", \"bus\": \"01\", \"count\": 3}],"                                          \
        " \"functions\": [" FUNCTION(1) ", " FUNCTION(2) ", " FUNCTION(3) "]}"

struct device {
        int iommufd, fd;
};
static struct device edu, other, poor;
static int kvm, vm;

/* ---- helpers ---- */

static void add_fault(const char *text) {
        struct json_object *rule = json_tokener_parse(text);
        char why[256] = "";

        require(rule);
        sim_lock(kernel);
        if (fault_add(kernel, rule, NULL, why, sizeof(why)) < 0)
                test_fail(__FILE__, __LINE__, "%s", why);
        sim_unlock(kernel);
        json_object_put(rule);
}

static void clear_faults(void) {
        sim_lock(kernel);
        (void) fault_clear(kernel, 0);
        sim_unlock(kernel);
}

static struct device open_device(const char *bdf) {
        struct device d = { host_open(host, "/dev/iommu", O_RDWR), open_vfio(bdf) };

        require(d.iommufd >= 0 && d.fd >= 0);
        check_int(bind_vfio(d.fd, d.iommufd, NULL), 0);
        return d;
}

static void close_device(struct device *d) {
        check_int(host_close(host, d->fd), 0);
        check_int(host_close(host, d->iommufd), 0);
}

static int open_bind(void) {
        int fd = host_open(host, TDID_BIND_DEV, O_RDWR);

        require(fd >= 0);
        return fd;
}

static int bind_to(int fd, uint32_t function, uint32_t tdi_id, int device, int to) {
        struct tdid_bind_bind q = { .argsz = sizeof(q), .function = function, .tdi_id = tdi_id, .device_fd = device, .vm_fd = to };

        return BIND_CALL(fd, BIND, &q);
}

static int bind_edu(int fd) {
        return bind_to(fd, EDU_ID, 8, edu.fd, vm);
}

static int unbind(int fd) {
        return BIND_CALL(fd, UNBIND, NULL);
}

static int tsm(const char *bdf, const char *file, const char *text) {
        char path[128];

        snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/tsm/%s", bdf, file);
        return host_write_text(host, path, text);
}

static void check_bound(const char *bdf, const char *expected) {
        char path[128], text[64] = "";

        snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/tsm/bound", bdf);
        check(host_read_text(host, path, text, sizeof(text)) >= 0);
        text[strcspn(text, "\n")] = '\0';
        check_str(text, expected);
}

/* A request of a u32 and some data; the answer is in `answer`. */
static uint8_t answer[TDID_BIND_REQUEST_MAX];

static struct tdid_bind_request new_request(uint32_t scope, const void *in, size_t in_len, size_t out_len) {
        return (struct tdid_bind_request){
                .argsz = sizeof(struct tdid_bind_request),
                .scope = scope,
                .in_len = (uint32_t) in_len,
                .out_len = (uint32_t) out_len,
                .out_used = 77,
                .in = (uintptr_t) in,
                .out = (uintptr_t) answer,
                .tsm_code = 77,
        };
}

static void check_request(int fd, uint32_t scope, uint32_t op, size_t out_len, int r, uint64_t code, uint32_t used) {
        struct tdid_bind_request q = new_request(scope, &op, sizeof(op), out_len);

        check_int(BIND_CALL(fd, REQUEST, &q), r);
        check_int(q.tsm_code, code);
        check_int(q.out_used, used);
}

static void check_state(int fd, uint32_t state) {
        uint32_t got;

        check_request(fd, TDI_TEST_TSM_SCOPE_INFO, TDI_TEST_TSM_OP_STATE, sizeof(got), 0, TDI_TEST_TSM_CODE_OK, sizeof(got));
        memcpy(&got, answer, sizeof(got));
        check_int(got, state);
}

/* ---- cases ---- */

static void test_info(void) {
        struct tdid_bind_info q = { .argsz = sizeof(q), .flags = 5 };
        int fd = open_bind();

        check_int(BIND_CALL(fd, INFO, &q), 0);
        check_int(q.flags, 0);
        check_int(q.api, TDID_BIND_API);
        check_int(q.request_max, TDID_BIND_REQUEST_MAX);
        q.argsz = sizeof(q) - 4;
        check_int(BIND_CALL(fd, INFO, &q), -EINVAL);
        q.argsz = sizeof(q) + 4;
        check_int(BIND_CALL(fd, INFO, &q), -EINVAL);
        check_int(CALL(fd, KVM_CHECK_EXTENSION, VALUE(1)), -ENOTTY);
        check_int(host_close(host, fd), 0);
}

/* The checks in the order in which they are made: each case has everything right that comes before it, and what comes after it wrong. */
static void test_refused(void) {
        struct tdid_bind_bind q = { .argsz = sizeof(q) + 8, .flags = 1, .function = 0x1ff00, .device_fd = -1, .vm_fd = -1 };
        int fd = open_bind(), another = open_bind(), unbound = open_vfio(POOR), device_node = host_open(host, "/dev/kvm", O_RDWR);

        test_about("argsz");
        check_int(BIND_CALL(fd, BIND, &q), -EINVAL);
        q.argsz = sizeof(q);
        test_about("flags");
        check_int(BIND_CALL(fd, BIND, &q), -EINVAL);
        q.flags = 0;
        test_about("no such function");
        check_int(BIND_CALL(fd, BIND, &q), -ENODEV);
        q.function = 0x10000 | EDU_ID;
        check_int(BIND_CALL(fd, BIND, &q), -ENODEV);
        q.function = EDU_ID;
        test_about("descriptors");
        check_int(BIND_CALL(fd, BIND, &q), -EBADF);
        q.device_fd = edu.iommufd;
        check_int(BIND_CALL(fd, BIND, &q), -EBADF);
        q.vm_fd = 100000;
        check_int(BIND_CALL(fd, BIND, &q), -EBADF);
        q.vm_fd = edu.iommufd;
        test_about("not a VFIO device");
        check_int(BIND_CALL(fd, BIND, &q), -EINVAL);
        q.vm_fd = vm;
        check_int(BIND_CALL(fd, BIND, &q), -EINVAL);
        q.device_fd = STDERR_FILENO;
        check_int(BIND_CALL(fd, BIND, &q), -EINVAL);
        test_about("that of another function");
        q.device_fd = other.fd;
        check_int(BIND_CALL(fd, BIND, &q), -EINVAL);
        test_about("not bound to an iommufd");
        q.function = POOR_ID;
        q.device_fd = unbound;
        check_int(BIND_CALL(fd, BIND, &q), -EINVAL);
        test_about("no VM");
        q.function = EDU_ID;
        q.device_fd = edu.fd;
        q.vm_fd = device_node;
        check_int(BIND_CALL(fd, BIND, &q), -EINVAL);
        q.vm_fd = edu.fd;
        check_int(BIND_CALL(fd, BIND, &q), -EINVAL);
        test_about("no TSM is connected");
        q.vm_fd = vm;
        check_int(BIND_CALL(fd, BIND, &q), -ENOTCONN);

        test_about("a TSM that cannot bind");
        check_int(tsm(POOR, "connect", "tsm1"), 0);
        check_int(bind_to(fd, POOR_ID, 8, poor.fd, vm), -EOPNOTSUPP);
        check_int(tsm(POOR, "disconnect", "tsm1"), 0);

        test_about("busy");
        check_int(tsm(EDU, "connect", "tsm0"), 0);
        check_int(bind_edu(fd), 0);
        check_bound(EDU, "tsm0");
        check_int(bind_edu(fd), -EBUSY);
        check_int(bind_to(fd, OTHER_ID, 8, other.fd, vm), -EBUSY);
        check_int(bind_edu(another), -EBUSY);
        check_int(bind_to(another, EDU_ID, 9, other.fd, vm), -EINVAL);
        test_about("one id twice in a VM");
        check_int(tsm(OTHER, "connect", "tsm0"), 0);
        check_int(bind_to(another, OTHER_ID, 8, other.fd, vm), -EEXIST);
        check_int(bind_to(another, OTHER_ID, 9, other.fd, vm), 0);
        check_bound(OTHER, "tsm0");
        check_int(unbind(another), 0);
        check_bound(OTHER, "");
        check_int(tsm(OTHER, "disconnect", "tsm0"), 0);

        test_about("what has been bound in another way");
        check_int(unbind(fd), 0);
        sim_lock(kernel);
        check_int(sim_tsm_bind(&(struct sim_call){ .sim = kernel }, sim_function_find(sim_machine(kernel), EDU), &kvm, 8), 0);
        sim_unlock(kernel);
        check_int(bind_edu(fd), -EBUSY);
        sim_lock(kernel);
        check_int(sim_tsm_unbind(&(struct sim_call){ .sim = kernel }, sim_function_find(sim_machine(kernel), EDU)), 0);
        sim_unlock(kernel);

        test_about("what the TSM says");
        add_fault("{\"call\": \"tsm.bind\", \"device\": \"" EDU "\", \"errno\": \"EIO\"}");
        check_int(bind_edu(fd), -EIO);
        clear_faults();
        check_int(bind_edu(fd), 0);
        check_int(tsm(EDU, "disconnect", "tsm0"), 0);
        test_about("%s", "");
        check_int(host_close(host, fd), 0);
        check_int(host_close(host, another), 0);
        check_int(host_close(host, unbound), 0);
        check_int(host_close(host, device_node), 0);
}

static void test_unbind(void) {
        int fd = open_bind(), copy;

        check_int(tsm(EDU, "connect", "tsm0"), 0);
        check_int(unbind(fd), -ENOTCONN);
        for (unsigned i = 0; i < 2; i++) {
                check_int(bind_edu(fd), 0);
                check_bound(EDU, "tsm0");
                check_int(unbind(fd), 0);
                check_bound(EDU, "");
                check_int(unbind(fd), -ENOTCONN);
        }

        /* The last close, and only that, unbinds. */
        check_int(bind_edu(fd), 0);
        copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        require(copy >= 0);
        check_int(host_close(host, fd), 0);
        check_bound(EDU, "tsm0");
        check_int(host_close(host, copy), 0);
        check_bound(EDU, "");
        fd = open_bind();
        check_int(bind_edu(fd), 0);
        check_int(host_close(host, fd), 0);
        check_int(tsm(EDU, "disconnect", "tsm0"), 0);
}

/* How many calls of the model at a place: a rule that never fires for good, and counts. */
static uint64_t matched(const char *point) {
        struct json_object *list;
        uint64_t n = 0;

        sim_lock(kernel);
        list = fault_list(kernel);
        sim_unlock(kernel);
        for (size_t i = 0; i < json_object_array_length(list); i++) {
                struct json_object *o = json_object_array_get_idx(list, i), *rule = json_object_object_get(o, "rule");

                if (streq(json_object_get_string(json_object_object_get(rule, "call")), point))
                        n += json_u64_or(o, "matched", 0);
        }
        json_object_put(list);
        return n;
}

static void *close_slowly(void *data) {
        check_int(host_close(host, *(int *) data), 0);
        return NULL;
}

/* The binding keeps both files: whatever else closes, the function is reset after it is unbound, and the VM goes after it. */
static void test_order(bool by_close) {
        struct device d;
        int fd = open_bind(), own;
        pthread_t thread;

        close_device(&edu);
        d = open_device(EDU);
        own = CALL(kvm, KVM_CREATE_VM, VALUE(0));
        require(own >= 0);
        check_int(tsm(EDU, "connect", "tsm0"), 0);
        check_int(bind_to(fd, EDU_ID, 8, d.fd, own), 0);
        add_fault("{\"call\": \"reset\", \"device\": \"" EDU "\", \"delay_ms\": 0}");
        check_int(host_close(host, own), 0);
        close_device(&d);
        check_bound(EDU, "tsm0");
        check_state(fd, TDI_TEST_TSM_LOCKED);
        check_int(matched("reset"), 0);

        add_fault("{\"call\": \"tsm.unbind\", \"device\": \"" EDU "\", \"delay_ms\": 300}");
        if (by_close) {
                require(pthread_create(&thread, NULL, close_slowly, &fd) == 0);
                for (unsigned i = 0; i < 2000 && matched("tsm.unbind") == 0; i++)
                        (void) usleep(1000);
                check_int(matched("tsm.unbind"), 1);
                check_int(matched("reset"), 0);
                require(pthread_join(thread, NULL) == 0);
        } else {
                check_int(unbind(fd), 0);
                check_int(host_close(host, fd), 0);
        }
        check_int(matched("tsm.unbind"), 1);
        check_int(matched("reset"), 1);
        clear_faults();
        check_bound(EDU, "");
        check_int(tsm(EDU, "disconnect", "tsm0"), 0);
        edu = open_device(EDU);
}

/* What the PCI/TSM core unbinds by itself: the file stays as it is, and so does the function for others. */
static void test_disconnect(bool unload) {
        int fd = open_bind(), another = open_bind();

        check_int(tsm(EDU, "connect", "tsm0"), 0);
        check_int(bind_edu(fd), 0);
        check_state(fd, TDI_TEST_TSM_LOCKED);
        if (unload) {
                sim_lock(kernel);
                check_int(sim_tsm_unload(&(struct sim_call){ .sim = kernel }, "tsm0"), 0);
                sim_unlock(kernel);
        } else
                check_int(tsm(EDU, "disconnect", "tsm0"), 0);
        check_request(fd, TDI_TEST_TSM_SCOPE_INFO, TDI_TEST_TSM_OP_STATE, 4, -ENXIO, 0, 0);
        check_int(bind_edu(fd), -EBUSY);
        if (unload) {
                sim_lock(kernel);
                check_int(sim_tsm_load(&(struct sim_call){ .sim = kernel }, "tsm0"), 0);
                sim_unlock(kernel);
        }
        check_int(tsm(EDU, "connect", "tsm0"), 0);
        check_bound(EDU, "");
        check_request(fd, TDI_TEST_TSM_SCOPE_INFO, TDI_TEST_TSM_OP_STATE, 4, -ENXIO, 0, 0);
        check_int(bind_edu(another), -EBUSY);
        check_int(unbind(fd), 0);
        check_int(unbind(fd), -ENOTCONN);
        check_int(bind_edu(another), 0);
        check_bound(EDU, "tsm0");
        check_int(tsm(EDU, "disconnect", "tsm0"), 0);
        check_int(host_close(host, another), 0);
        check_int(host_close(host, fd), 0);
}

static void test_states(int fd) {
        const uint32_t info = TDI_TEST_TSM_SCOPE_INFO, change = TDI_TEST_TSM_SCOPE_STATE_CHANGE;

        check_state(fd, TDI_TEST_TSM_LOCKED);
        check_request(fd, info, TDI_TEST_TSM_OP_START, 0, -EPERM, TDI_TEST_TSM_CODE_WRONG_SCOPE, 0);
        check_request(fd, change, TDI_TEST_TSM_OP_STATE, 4, -EPERM, TDI_TEST_TSM_CODE_WRONG_SCOPE, 0);
        check_request(fd, change, TDI_TEST_TSM_OP_ECHO, 4, -EPERM, TDI_TEST_TSM_CODE_WRONG_SCOPE, 0);
        check_request(fd, change, TDI_TEST_TSM_OP_START, 0, 0, TDI_TEST_TSM_CODE_OK, 0);
        check_state(fd, TDI_TEST_TSM_RUN);
        check_request(fd, change, TDI_TEST_TSM_OP_START, 0, -EINVAL, TDI_TEST_TSM_CODE_WRONG_STATE, 0);
        check_request(fd, change, TDI_TEST_TSM_OP_STOP, 0, 0, TDI_TEST_TSM_CODE_OK, 0);
        check_state(fd, TDI_TEST_TSM_UNLOCKED);
        check_request(fd, change, TDI_TEST_TSM_OP_STOP, 0, -EINVAL, TDI_TEST_TSM_CODE_WRONG_STATE, 0);
        check_request(fd, change, TDI_TEST_TSM_OP_START, 0, -EINVAL, TDI_TEST_TSM_CODE_WRONG_STATE, 0);
        check_request(fd, change, TDI_TEST_TSM_OP_LOCK, 0, 0, TDI_TEST_TSM_CODE_OK, 0);
        check_state(fd, TDI_TEST_TSM_LOCKED);
        check_request(fd, change, TDI_TEST_TSM_OP_LOCK, 0, -EINVAL, TDI_TEST_TSM_CODE_WRONG_STATE, 0);
        check_bound(EDU, "tsm0");
        check_request(fd, info, 9, 0, -EINVAL, TDI_TEST_TSM_CODE_INVALID, 0);
        /* A new binding begins anew. */
        check_int(unbind(fd), 0);
        check_request(fd, info, TDI_TEST_TSM_OP_STATE, 4, -ENOTCONN, 0, 0);
        check_int(bind_edu(fd), 0);
        check_state(fd, TDI_TEST_TSM_LOCKED);
}

static void test_limits(int fd) {
        static uint8_t large[TDID_BIND_REQUEST_MAX + 1];
        struct tdid_bind_request q;
        unsigned wrong = 0;

        for (size_t i = sizeof(uint32_t); i < sizeof(large); i++)
                large[i] = (uint8_t) (i * 7);
        test_about("as long as it may be");
        q = new_request(TDI_TEST_TSM_SCOPE_INFO, large, TDID_BIND_REQUEST_MAX, TDID_BIND_REQUEST_MAX);
        memset(answer, 0x55, sizeof(answer));
        check_int(BIND_CALL(fd, REQUEST, &q), 0);
        check_int(q.out_used, TDID_BIND_REQUEST_MAX - 4);
        for (size_t i = 4; i < TDID_BIND_REQUEST_MAX; i++)
                wrong += (answer[i - 4] ^ large[i]) != 0xff;
        check_int(wrong, 0);
        test_about("what no answer was written to");
        check_int(answer[TDID_BIND_REQUEST_MAX - 4], 0x55);

        test_about("longer");
        q = new_request(TDI_TEST_TSM_SCOPE_INFO, large, TDID_BIND_REQUEST_MAX + 1, 8);
        check_int(BIND_CALL(fd, REQUEST, &q), -EMSGSIZE);
        check_int(q.out_used, 0);
        q = new_request(TDI_TEST_TSM_SCOPE_INFO, large, 8, TDID_BIND_REQUEST_MAX + 1);
        check_int(BIND_CALL(fd, REQUEST, &q), -EMSGSIZE);
        q = new_request(TDI_TEST_TSM_SCOPE_INFO, large, UINT32_MAX, UINT32_MAX);
        check_int(BIND_CALL(fd, REQUEST, &q), -EMSGSIZE);

        test_about("no room for the answer");
        memset(answer, 0x55, sizeof(answer));
        q = new_request(TDI_TEST_TSM_SCOPE_INFO, large, 12, 7);
        check_int(BIND_CALL(fd, REQUEST, &q), -EMSGSIZE);
        check_int(q.tsm_code, TDI_TEST_TSM_CODE_OK);
        check_int(q.out_used, 0);
        check_int(answer[0], 0x55);
        q = new_request(TDI_TEST_TSM_SCOPE_INFO, large, 12, 9);
        check_int(BIND_CALL(fd, REQUEST, &q), 0);
        check_int(q.out_used, 8);
        check_int(answer[8], 0x55);

        test_about("nothing");
        q = new_request(TDI_TEST_TSM_SCOPE_INFO, large, 0, 8);
        check_int(BIND_CALL(fd, REQUEST, &q), -EINVAL);
        check_int(q.tsm_code, TDI_TEST_TSM_CODE_INVALID);
        q.in_len = 3;
        check_int(BIND_CALL(fd, REQUEST, &q), -EINVAL);
        q.in_len = 4;
        check_int(BIND_CALL(fd, REQUEST, &q), 0);
        check_int(q.out_used, 0);
        test_about("no memory");
        q.in = 0;
        check_int(BIND_CALL(fd, REQUEST, &q), -EFAULT);
        check_int(q.tsm_code, TDI_TEST_TSM_CODE_INVALID);
        q = new_request(TDI_TEST_TSM_SCOPE_INFO, large, 8, 8);
        q.out = 0;
        check_int(BIND_CALL(fd, REQUEST, &q), -EFAULT);

        test_about("fields");
        q = new_request(2, large, TDID_BIND_REQUEST_MAX + 1, 8);
        check_int(BIND_CALL(fd, REQUEST, &q), -EINVAL);
        check_int(q.tsm_code, 0);
        q.scope = 0;
        q.flags = 1;
        check_int(BIND_CALL(fd, REQUEST, &q), -EINVAL);
        q.flags = 0;
        q.argsz--;
        check_int(BIND_CALL(fd, REQUEST, &q), -EINVAL);
        test_about("%s", "");
}

/* A TSM that binds and takes no requests, as a driver may be loaded: the other one of the topology, with other values than its own. */
static void test_no_requests(void) {
        struct json_object *options = json_tokener_parse("{\"bind\": true, \"requests\": false}");
        struct sim_call call = { .sim = kernel };
        int fd = open_bind();

        require(options);
        sim_lock(kernel);
        check_int(sim_tsm_unload(&call, "tsm1"), 0);
        check_int(sim_tsm_load_with(&call, "tsm1", options), 0);
        sim_unlock(kernel);
        json_object_put(options);
        check_int(tsm(POOR, "connect", "tsm1"), 0);
        check_int(bind_to(fd, POOR_ID, 8, poor.fd, vm), 0);
        check_bound(POOR, "tsm1");
        check_request(fd, TDI_TEST_TSM_SCOPE_INFO, TDI_TEST_TSM_OP_STATE, 4, -EOPNOTSUPP, 0, 0);
        check_int(tsm(POOR, "disconnect", "tsm1"), 0);
        check_request(fd, TDI_TEST_TSM_SCOPE_INFO, TDI_TEST_TSM_OP_STATE, 4, -ENXIO, 0, 0);
        check_int(host_close(host, fd), 0);
}

/* What the log of calls has of a name: the result of the last one, 1 for none. */
static int64_t traced(const char *name, const char *device) {
        struct json_object *calls;
        int64_t r = 1;

        sim_lock(kernel);
        calls = trace_ring(kernel);
        sim_unlock(kernel);
        for (size_t i = 0; i < json_object_array_length(calls); i++) {
                struct json_object *o = json_object_array_get_idx(calls, i);

                if (streq(json_object_get_string(json_object_object_get(o, "name")), name) &&
                    streq(json_object_get_string(json_object_object_get(o, "device")), device))
                        r = json_object_get_int64(json_object_object_get(o, "r"));
        }
        json_object_put(calls);
        return r;
}

/* Calls have their names, and from BIND to UNBIND the function. */
static void test_trace(void) {
        struct tdid_bind_info q = { .argsz = 0 };
        int fd = open_bind();

        check_int(tsm(EDU, "connect", "tsm0"), 0);
        check_int(BIND_CALL(fd, INFO, &q), -EINVAL);
        check_int(bind_edu(fd), 0);
        check_request(fd, TDI_TEST_TSM_SCOPE_INFO, TDI_TEST_TSM_OP_START, 0, -EPERM, TDI_TEST_TSM_CODE_WRONG_SCOPE, 0);
        check_int(unbind(fd), 0);
        check_int(traced("TDID_BIND_IOC_INFO", ""), -EINVAL);
        check_int(traced("TDID_BIND_IOC_BIND", ""), 0);
        check_int(traced("TDID_BIND_IOC_REQUEST", EDU), -EPERM);
        check_int(traced("TDID_BIND_IOC_UNBIND", EDU), 0);
        check_int(tsm(EDU, "disconnect", "tsm0"), 0);
        check_int(host_close(host, fd), 0);
}

static void test_requests(void) {
        uint32_t op = TDI_TEST_TSM_OP_STATE;
        struct tdid_bind_request q = new_request(TDI_TEST_TSM_SCOPE_INFO, &op, TDID_BIND_REQUEST_MAX + 1, 4);
        int fd = open_bind();

        /* What is wrong with the request is found first. */
        check_int(BIND_CALL(fd, REQUEST, &q), -EMSGSIZE);
        check_request(fd, TDI_TEST_TSM_SCOPE_INFO, op, 4, -ENOTCONN, 0, 0);
        check_int(tsm(EDU, "connect", "tsm0"), 0);
        check_int(bind_edu(fd), 0);
        test_states(fd);
        test_limits(fd);

        add_fault("{\"call\": \"tsm.guest_req\", \"device\": \"" EDU "\", \"errno\": \"EBUSY\", \"times\": 1}");
        check_request(fd, TDI_TEST_TSM_SCOPE_INFO, op, 4, -EBUSY, TDI_TEST_TSM_CODE_INJECTED, 0);
        check_state(fd, TDI_TEST_TSM_LOCKED);
        clear_faults();
        /* A rule can name the call, and the function that the file has. */
        add_fault("{\"call\": \"TDID_BIND_IOC_REQUEST\", \"device\": \"" EDU "\", \"errno\": \"EINTR\", \"times\": 1}");
        check_request(fd, TDI_TEST_TSM_SCOPE_INFO, op, 4, -EINTR, 77, 77);
        clear_faults();
        check_int(tsm(EDU, "disconnect", "tsm0"), 0);
        check_int(host_close(host, fd), 0);
}

int main(void) {
        kernel_start(TOPOLOGY(""));
        check_int(host_open(host, TDID_BIND_DEV, O_RDWR), -ENOENT);
        kernel_end();
        kernel_start(TOPOLOGY("\"bind_module\": false, "));
        check_int(host_open(host, TDID_BIND_DEV, O_RDWR), -ENOENT);
        kernel_end();

        kernel_start(TOPOLOGY("\"bind_module\": true, "));
        kvm = host_open(host, "/dev/kvm", O_RDWR);
        require(kvm >= 0);
        vm = CALL(kvm, KVM_CREATE_VM, VALUE(0));
        require(vm >= 0);
        edu = open_device(EDU);
        other = open_device(OTHER);
        poor = open_device(POOR);
        test_info();
        test_refused();
        test_unbind();
        test_order(true);
        test_order(false);
        test_disconnect(false);
        test_disconnect(true);
        test_requests();
        test_no_requests();
        test_trace();
        close_device(&edu);
        close_device(&other);
        close_device(&poor);
        check_int(host_close(host, vm), 0);
        check_int(host_close(host, kvm), 0);
        kernel_end();
        return test_end();
}
