/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Exports without a bus or a holder: what a record keeps of them, what is told of them to whom, limits, and what the
 * holder's word of a function's memory does to them.
 */
#include "export.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>

#include "test.h"
#include "worker.h"

static Manager *manager;

static struct tdi_bdf address(uint8_t bus) {
        return (struct tdi_bdf) { 0, bus, 0 };
}

static VM *new_vm(uid_t owner) {
        VM *vm = vm_new(manager, "web");

        vm->owner = owner;
        vm->announced = true;
        return vm;
}

static void add_function(VM *vm, uint8_t bus) {
        Custody *c = custody_new(manager, address(bus), 7);

        custody_set_vm(c, vm);
        tdi_set_state(tdi_new(vm, c), TDI_STATE_PREPARED);
}

static void release(VM *vm) {
        while (vm->n_tdis > 0) {
                Custody *c = vm->tdis[0]->custody;

                tdi_free(vm->tdis[0]);
                manager_remove((void **) manager->custodies, &manager->n_custodies, c);
                custody_free(c);
        }
        vm_free(vm);
}

static Export *add_bar(VM *vm, uint8_t bus) {
        Export *x = export_append(vm);

        x->id = vm->exports->next_id++;
        x->stage = EXPORT_KEPT;
        x->class = TDI_DMABUF_REVOCABLE;
        x->importer = TDI_IMPORTER_KVM;
        x->bdf = address(bus);
        x->region = 2;
        x->offset = 0x2000;
        x->size = 0x4000;
        x->uid = 1234;
        x->given = UINT64_C(1763000000000000);
        x->run[0] = (struct tdi_run) { 0xfe000 + bus, 4, 1, TDI_RUN_P2P | TDI_RUN_MMIO };
        x->n_runs = x->runs_total = 1;
        x->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        x->dmabuf = eventfd(0, EFD_CLOEXEC);
        require(x->event >= 0 && x->dmabuf >= 0);
        return x;
}

static Export *add_memory(VM *vm, const char *heap) {
        Export *x = export_append(vm);

        x->id = vm->exports->next_id++;
        x->stage = EXPORT_KEPT;
        x->is_memory = true;
        x->importer = TDI_IMPORTER_ANY;
        x->size = 0x10000;
        x->run[0] = (struct tdi_run) { 0x777, 1, 0, TDI_RUN_CPU | TDI_RUN_CACHEABLE | TDI_RUN_SNOOP };
        x->run[1] = (struct tdi_run) { 0x999, 15, 0, TDI_RUN_CPU | TDI_RUN_CACHEABLE | TDI_RUN_SNOOP };
        x->n_runs = 2;
        x->runs_total = 2;
        x->dmabuf = eventfd(0, EFD_CLOEXEC);
        if (heap)
                require((x->heap = strdup(heap)));
        return x;
}

/* How often it is to be rung since the last call. */
static uint64_t rung(Export *x) {
        uint64_t n = x->rings;

        x->rings = 0;
        return n;
}

static uint64_t count(int event) {
        uint64_t n;

        return read(event, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

/* ---- the record ---- */

static struct json_object *record_of(VM *vm) {
        struct json_object *o = json_new(), *back = NULL;
        const char *text;

        export_record(vm, o);
        text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
        require(json_parse_strict(text, strlen(text), &back, NULL, NULL) == 0);
        json_object_put(o);
        return back;
}

static void test_record(void) {
        _cleanup_json_ struct json_object *a = NULL, *b = NULL, *none = NULL;
        VM *vm = new_vm(1), *back = new_vm(1);
        struct json_object *list;
        Export *x;
        size_t n;
        int fd;

        test_about("record");
        none = record_of(vm);
        export_take_record(back, none);
        check(!back->exports);

        add_bar(vm, 1);
        add_bar(vm, 2)->state = TDI_DMABUF_REVOKED;
        add_memory(vm, NULL);
        add_memory(vm, "protected,secure-video");
        /* What is being made, or goes, is no later tdid's. */
        add_bar(vm, 3)->stage = EXPORT_MAKING;
        add_bar(vm, 3)->stage = EXPORT_WAITING;
        x = add_bar(vm, 3);
        x->abandoned = true;
        a = record_of(vm);
        check(json_get_array(a, "exports", &list) == 0 && json_object_array_length(list) == 4);
        export_take_record(back, a);
        b = record_of(back);
        check_str(json_object_to_json_string(b), json_object_to_json_string(a));
        check_int(back->exports->next_id, 8);
        x = back->exports->list[1];
        check(x->stage == EXPORT_KEPT && x->state == TDI_DMABUF_REVOKED && x->run[0].pfn == 0xfe002 && x->run[0].attributes == (TDI_RUN_P2P | TDI_RUN_MMIO));
        check(x->dmabuf < 0 && x->event < 0);
        check_str(back->exports->list[3]->heap, "protected,secure-video");
        check_str(back->exports->list[2]->heap, NULL);

        /* The holder's descriptors find theirs; what is nobody's is dropped, what is not ours is left. */
        check(export_adopt(back, "dmabuf:2", eventfd(0, EFD_CLOEXEC)) && x->dmabuf >= 0 && x->event < 0);
        check(export_adopt(back, "event:2", eventfd(0, EFD_CLOEXEC)) && x->event >= 0);
        /* tdid's own is open until the holder's is closed: closing here would make the holder's the last. */
        fd = eventfd(0, EFD_CLOEXEC);
        require(fd >= 0);
        n = back->exports->n;
        check(export_adopt(back, "dmabuf:9", fd) && export_adopt(back, "event:9", eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)));
        check(fcntl(fd, F_GETFD) >= 0 && back->exports->n == n + 1);
        x = back->exports->list[n];
        check(x->dmabuf == fd && x->event >= 0 && x->stage == EXPORT_KEPT && x->abandoned && x->rings == 1);
        check_int(back->exports->next_id, 10);
        json_object_put(b);
        b = record_of(back);
        check(json_get_array(b, "exports", &list) == 0 && json_object_array_length(list) == 4);
        check(export_settle(back));
        check(x->dmabuf < 0 && x->stage == EXPORT_PARTED);
        check(!export_adopt(back, "cdev:0000:01:00.0", 5) && !export_adopt(back, "iommufd", 5));
        release(vm);
        release(back);
}

static void test_damaged(void) {
        static const char *const damaged[] = {
                "{}", "{\"id\":1}", "{\"id\":0,\"bdf\":\"0000:01:00.0\",\"class\":\"revocable\",\"state\":\"exported\",\"importer\":\"kvm\"}",
                "{\"id\":1,\"bdf\":\"0000:01:00.0\",\"class\":\"eternal\",\"state\":\"exported\",\"importer\":\"kvm\"}",
                "{\"id\":1,\"bdf\":\"0000:01:00.0\",\"class\":\"revocable\",\"state\":\"lost\",\"importer\":\"kvm\"}",
                "{\"id\":1,\"bdf\":\"0000:01:00.0\",\"class\":\"revocable\",\"state\":\"exported\",\"importer\":\"us\"}",
                "{\"id\":1,\"bdf\":\"here\",\"class\":\"revocable\",\"state\":\"exported\",\"importer\":\"kvm\"}",
                "{\"id\":1,\"class\":\"pinned\",\"state\":\"exported\"}", "7", "null", "[]",
        };

        for (size_t i = 0; i < ARRAY_SIZE(damaged); i++) {
                _cleanup_json_ struct json_object *o = NULL;
                char text[512];
                VM *vm = new_vm(1);

                test_about("%s", damaged[i]);
                snprintf(text, sizeof(text), "{\"exports\":[%s]}", damaged[i]);
                require(json_parse_strict(text, strlen(text), &o, NULL, NULL) == 0);
                export_take_record(vm, o);
                check(!vm->exports);
                release(vm);
        }
        /* Runs that cannot be are unknown ones. */
        for (int i = 0; i < 2; i++) {
                _cleanup_json_ struct json_object *o = NULL;
                char text[512];
                VM *vm = new_vm(1);

                test_about("runs %d", i);
                snprintf(text, sizeof(text), "{\"exports\":[{\"id\":4,\"heap\":\"\",\"class\":\"pinned\",\"state\":\"exported\",\"runs\":[%s],\"runs_total\":1}]}",
                         i ? "5,0" : "\"a\",{}");
                require(json_parse_strict(text, strlen(text), &o, NULL, NULL) == 0);
                export_take_record(vm, o);
                check(vm->exports && vm->exports->n == 1 && vm->exports->list[0]->n_runs == 0 && vm->exports->list[0]->runs_total == 0);
                release(vm);
        }
}

/* ---- what is told ---- */

static void test_describe(void) {
        for (int privileged = 0; privileged < 2; privileged++) {
                _cleanup_json_ struct json_object *o = json_new();
                VM *vm = new_vm(1);
                const char *text;

                test_about("privileged %d", privileged);
                add_bar(vm, 1);
                add_memory(vm, NULL);
                export_describe(vm, o, privileged);
                text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
                check(!!strstr(text, "\"pfn\":1040385") == privileged); /* 0xfe001 */
                check(!!strstr(text, "1911") == privileged);            /* 0x777 */
                check(!!strstr(text, "pfn") == privileged);
                check(strstr(text, "\"runs\":[{\"provider\":\"0000:01:00.0\",") && strstr(text, "\"length\":16384,\"attributes\":[\"p2p\",\"mmio\"]}]"));
                check(strstr(text, "{\"provider\":\"memory\",") && strstr(text, "\"length\":61440,\"attributes\":[\"cpu-mappable\",\"cacheable\",\"snoop\"]"));
                release(vm);
        }
}

static void test_attributes(void) {
        static const char *const all[] = { "p2p", "cpu-mappable", "mmio", "cacheable", "snoop" };
        const char *names[6];

        test_about("attributes");
        for (unsigned set = 0; set <= TDI_RUN_ATTRIBUTES; set++) {
                size_t n = 0;

                export_attribute_names((uint16_t) set, names);
                for (size_t i = 0; i < ARRAY_SIZE(all); i++)
                        if (set & 1u << i)
                                check_str(names[n++], all[i]);
                check_str(names[n], NULL);
        }
}

/* ---- limits ---- */

static int try_one(VM *vm, bool bar, uint64_t size, const char *says) {
        _cleanup_free_ char *text = NULL;
        struct export_request q = { .size = size, .tdi = bar ? vm->tdis[0] : NULL };
        int r = export_new(vm, &q, &text);

        check(r < 0 ? text && says && strstr(text, says) : !text && !says);
        return r;
}

static void test_limits(void) {
        const uint64_t mib = 1 << 20;
        VM *a, *b, *other;

        test_about("limits");
        manager->config.exports = 4;
        manager->config.export_mib = 100;
        manager->config.buffer_mib = 10;
        manager->config.exports_per_user = 6;
        manager->config.export_mib_per_user = 150;
        manager->config.buffer_mib_per_user = 15;
        a = new_vm(1000);
        b = new_vm(1000);
        other = new_vm(1001);
        add_function(a, 1);
        add_function(b, 2);
        add_function(other, 3);

        check_int(try_one(a, true, 101 * mib, "(export_mib in"), -EDQUOT);
        check_int(try_one(a, true, INT64_MAX, "(export_mib in"), -EDQUOT);
        check_int(try_one(a, true, 100 * mib, NULL), 0);
        check_int(try_one(a, true, 4096, "(export_mib in"), -EDQUOT);
        check_int(try_one(a, false, 11 * mib, "(buffer_mib in"), -EDQUOT);
        check_int(try_one(a, false, 10 * mib, NULL), 0);
        check_int(try_one(a, false, 4096, "(buffer_mib in"), -EDQUOT);
        /* The other VM of the same owner, and one of somebody else. */
        check_int(try_one(b, true, 51 * mib, "(export_mib_per_user in"), -EDQUOT);
        check_int(try_one(b, true, 49 * mib, NULL), 0);
        check_int(try_one(b, false, 6 * mib, "(buffer_mib_per_user in"), -EDQUOT);
        check_int(try_one(b, false, 4 * mib, NULL), 0);
        check_int(try_one(other, true, 100 * mib, NULL), 0);
        check_int(try_one(other, false, 10 * mib, NULL), 0);
        /* Numbers. */
        check_int(try_one(b, true, 4096, NULL), 0);
        check_int(try_one(b, true, 4096, NULL), 0);
        check_int(try_one(b, true, 4096, "(exports in"), -EDQUOT);
        check_int(b->exports->n, 4);
        check_int(try_one(a, false, 0, "(exports_per_user in"), -EDQUOT);
        /* What ends makes room. */
        export_forget(a->exports->list[0]);
        check_int(try_one(a, true, 50 * mib, NULL), 0);
        release(a);
        release(b);
        release(other);
        config_default(&manager->config);
}

/* ---- states ---- */

static void test_memory(void) {
        VM *vm = new_vm(1);
        Export *x, *other, *third, *memory;

        test_about("memory");
        add_function(vm, 1);
        add_function(vm, 2);
        add_function(vm, 3);
        x = add_bar(vm, 1);
        other = add_bar(vm, 2);
        third = add_bar(vm, 3);
        memory = add_memory(vm, NULL);

        export_on_memory(vm, address(1), false, "command");
        check_int(x->state, TDI_DMABUF_REVOKED);
        check_int(other->state, TDI_DMABUF_EXPORTED);
        check_int(memory->state, TDI_DMABUF_EXPORTED);
        check_int(rung(x), 1);
        check_int(rung(other), 0);
        /* Once more is no news. */
        export_on_memory(vm, address(1), false, "reset");
        check_int(rung(x), 0);
        /* Told before it begins: nothing that is seen counts before its end is told, or has gone untold for long. */
        check(x->passing > 0);
        check_int(other->passing, 0);
        /* That it is back is for the kernel to say: it is to be looked at, and what is being looked at now is out of date. */
        x->told = false;
        export_on_memory(vm, address(1), true, "command");
        check_int(x->state, TDI_DMABUF_REVOKED);
        check(x->told);
        check_int(x->passing, 0);

        /* Whatever it was. */
        for (size_t i = 0; i < 4; i++) {
                static const char *const whys[] = { "reset", "flr", "power", "hot-reset" };

                export_on_memory(vm, address(3), false, whys[i]);
                check_int(third->state, TDI_DMABUF_REVOKED);
                check_int(rung(third), 1);
                export_set_state(third, TDI_DMABUF_EXPORTED);
                check_int(rung(third), 1);
        }
        /* Of a function that has none, and of a VM that has none. */
        export_on_memory(vm, address(9), false, "flr");
        release(vm);
        vm = new_vm(1);
        export_on_memory(vm, address(1), false, "flr");
        release(vm);
}

/* The setter takes no move that the table does not have. */
static void test_setter(void) {
        VM *vm = new_vm(1);

        add_function(vm, 1);
        for (int from = 0; from < TDI_DMABUF_STATE_MAX; from++)
                for (int to = 0; to < TDI_DMABUF_STATE_MAX; to++) {
                        Export *x = add_bar(vm, 1);
                        bool moves = tdi_dmabuf_state_may_follow(from, to);

                        test_about("%s to %s", tdi_dmabuf_state_to_string(from), tdi_dmabuf_state_to_string(to));
                        x->state = from;
                        export_set_state(x, to);
                        check_int(x->state, moves ? to : from);
                        check_int(rung(x), moves);
                        export_forget(x);
                }
        release(vm);
}

static void run_until(bool (*what)(const void *data), const void *data) {
        uint64_t until = now_monotonic() + 10000000;

        while (!what(data) && now_monotonic() < until) {
                /* Nobody keeps these VMs: settling would close them. */
                (void) sd_event_source_set_enabled(manager->settle, SD_EVENT_OFF);
                (void) sd_event_run(manager->event, 20000);
        }
        check(what(data));
}

static bool has_no_ringer(const void *data) {
        return !((const VM *) data)->exports->ringer;
}

static bool is_readable(const void *data) {
        struct pollfd p = { .fd = *(const int *) data, .events = POLLIN };

        return poll(&p, 1, 0) > 0;
}

static bool no_workers(_unused_ const void *data) {
        return worker_count(manager) == 0;
}

/* Somebody makes the eventfd block and fills it up: tdid does not wait for them, and others are told. */
static void test_full_event(void) {
        VM *vm = new_vm(1), *neighbour = new_vm(1);
        uint64_t full = UINT64_MAX - 1, start;
        Export *x, *other, *far;
        int copy, kept;

        test_about("full eventfd");
        x = add_bar(vm, 1);
        other = add_bar(vm, 2);
        far = add_bar(neighbour, 3);
        copy = fcntl(x->event, F_DUPFD_CLOEXEC, 3);
        kept = fcntl(other->event, F_DUPFD_CLOEXEC, 3);
        require(copy >= 0 && kept >= 0 && fcntl(copy, F_SETFL, 0) == 0);
        check_int(write(copy, &full, sizeof(full)), sizeof(full));
        start = now_monotonic();
        export_set_state(x, TDI_DMABUF_REVOKED);
        export_set_state(other, TDI_DMABUF_REVOKED);
        export_ring(vm);
        /* One at a time: what comes meanwhile is added up. */
        check(vm->exports->ringer);
        export_set_state(other, TDI_DMABUF_EXPORTED);
        export_set_state(other, TDI_DMABUF_REVOKED);
        export_ring(vm);
        check_int(other->rings, 3);
        check_int(other->ringing, 1);
        export_set_state(far, TDI_DMABUF_REVOKED);
        export_ring(neighbour);
        check(now_monotonic() - start < 5000000);
        run_until(is_readable, &far->event);
        run_until(has_no_ringer, vm);
        run_until(has_no_ringer, neighbour);
        check_int(count(kept), 1);
        check_int(x->rings, 0);
        export_ring(vm);
        run_until(has_no_ringer, vm);
        check_int(count(kept), 2);
        check_int(other->rings, 0);
        check_int(count(far->event), 1);

        test_about("full eventfd, and the end of the VM");
        export_set_state(x, TDI_DMABUF_EXPORTED);
        export_ring(vm);
        check(vm->exports->ringer);
        export_set_state(x, TDI_DMABUF_CLOSED);
        export_set_state(other, TDI_DMABUF_CLOSED);
        start = now_monotonic();
        export_ring_last(vm);
        check_int(count(kept), 0);
        vm->close = CLOSE_DONE;
        export_ring_last(vm);
        check(now_monotonic() - start < 5000000);
        run_until(is_readable, &kept);
        check_int(count(kept), 1);
        vm->close = CLOSE_NOT;
        release(vm);
        release(neighbour);
        close_fd(copy);
        close_fd(kept);
        run_until(no_workers, NULL);
}

/* A closed one stays for its eventfd, does not count, and there are only so many. */
static void test_parted(void) {
        struct export_request q = {};
        VM *vm = new_vm(1);
        char *text = NULL;
        Export *x;

        test_about("parted");
        manager->config.exports = 2;
        for (int i = 0; i < 4; i++) {
                x = add_bar(vm, 1);
                export_close(x, "a test");
                check_int(vm->exports->n, i < 2 ? i + 1 : 2);
        }
        check_int(vm->exports->list[1]->stage, EXPORT_PARTED);
        check(vm->exports->list[1]->dmabuf < 0 && vm->exports->list[1]->event >= 0);
        check_int(export_new(vm, &q, &text), 0);
        check_int(export_new(vm, &q, &text), 0);
        check_int(export_new(vm, &q, &text), -EDQUOT);
        free(text);
        export_ring(vm);
        run_until(has_no_ringer, vm);
        check_int(vm->exports->n, 2);
        check_int(vm->exports->list[0]->stage, EXPORT_WAITING);
        config_default(&manager->config);
        release(vm);
        run_until(no_workers, NULL);
}

/* What was not rung yet, a later tdid rings. */
static void test_rings_record(void) {
        VM *vm = new_vm(1), *back = new_vm(1);
        _cleanup_json_ struct json_object *o = NULL;

        test_about("rings in the record");
        export_set_state(add_bar(vm, 1), TDI_DMABUF_REVOKED);
        o = record_of(vm);
        export_take_record(back, o);
        check_int(back->exports->list[0]->rings, 1);
        release(vm);
        release(back);
}

int main(int argc, char **argv) {
        unsigned fds;
        sigset_t mask;

        sigemptyset(&mask);
        sigaddset(&mask, SIGCHLD);
        require(sigprocmask(SIG_BLOCK, &mask, NULL) == 0);
        require(manager_new(&manager) == 0);
        require(free_and_strdup(&manager->state_dir, "/nonexistent") == 0 && argc > 1 && free_and_strdup(&manager->libexec_dir, argv[1]) == 0 &&
                free_and_strdup(&manager->host_spec, "linux") == 0 && worker_open_program(manager) == 0);
        fds = test_count_fds();
        test_record();
        test_damaged();
        test_describe();
        test_attributes();
        test_limits();
        test_memory();
        test_setter();
        test_full_event();
        test_parted();
        test_rings_record();
        test_about("descriptors");
        check_int(test_count_fds(), fds);
        manager_free(manager);
        return test_end();
}
