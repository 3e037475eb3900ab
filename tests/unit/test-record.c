/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A VM's record: what one tdid writes the next one takes, what it refuses, and that the largest VM that the configuration
 * allows still fits into the holder and its packets. And the members of Describe().
 */
#include <sys/eventfd.h>
#include <sys/resource.h>

#include "custody-engine.h"
#include "export.h"
#include "test.h"
#include "vpci.h"
#include "vm/serve.h"

static Manager *manager;

static bool has_exactly(struct json_object *o, const char *const *keys, size_t n) {
        size_t found = 0;

        json_object_object_foreach(o, key, value) {
                bool known = false;

                (void) value;
                for (size_t i = 0; i < n; i++)
                        known |= streq(keys[i], key);
                if (!known)
                        test_fail(__FILE__, __LINE__, "\"%s\" is not expected", key);
                found += known;
        }
        return check_int(found, n);
}

static VM *new_vm(void) {
        VM *vm = vm_new(manager, "web");

        vm->owner = 1000;
        vm->vmm_uid = 1001;
        vm->vmm_gid = 1002;
        vm->hotplug = vm->peer_to_peer = true;
        vm->bind = BIND_EARLY;
        vm->await = 600;
        vm->await_deadline = UINT64_C(1) << 60;
        vm->arrived = true;
        vm->max_functions = 3;
        vm->max_pinned_mib = 1U << 30;
        vm->max_maps = 5;
        vm->folder = vm->kvm_of_peer = true;
        vm->next_keeper = 12;
        vm->platform = platform_find("sev-snp");
        require(free_and_strdup(&vm->seclabel, "a:b:c \"\xc3\xa9\"") == 0);
        vm->spaces = calloc(2, sizeof(*vm->spaces));
        require(vm->spaces);
        vm->spaces[0] = (struct vm_space){ 0, 1, "", 0, 0 };
        vm->spaces[1] = (struct vm_space){ INT32_MAX, UINT32_MAX, "smmu3.0x000000000b4a0000", UINT32_MAX - 1, UINT32_MAX - 2 };
        vm->n_spaces = 2;
        return vm;
}

static void add_peer(VM *vm) {
        _cleanup_json_ struct json_object *o = json_new();

        json_set_u64(o, "serial", UINT64_C(1) << 60);
        json_set_i64(o, "pid", INT32_MAX);
        json_set_str(o, "memory", "charged to nobody");
        json_set_str(o, "kvm", "");
        peer_take_record(vm, o);
}

static void add_keeper(VM *vm, const char *kind, uint64_t number, const char *label) {
        _cleanup_json_ struct json_object *o = json_new();
        int fd = eventfd(0, EFD_CLOEXEC);

        require(fd >= 0);
        json_set_str(o, "kind", kind);
        json_set_u64(o, "number", number);
        json_set_str(o, "label", label);
        json_set_u64(o, "uid", UINT32_MAX - 1);
        json_set_u64(o, "given", UINT64_C(1763000000000000));
        require(keeper_adopt(vm, o, fd) == 0);
}

static void add_function(VM *vm, uint32_t number) {
        Custody *c = custody_new(manager, (struct tdi_bdf){ (uint16_t) (number >> 16), (uint8_t) (number >> 8), (uint8_t) number }, 7);
        TDI *t;

        custody_set_vm(c, vm);
        c->done = (1u << ACTION_MAX) - 1;
        json_set_str(c->values, "uuid", vm->uuid);
        json_set_u64(c->values, "ioas", 5);
        t = tdi_new(vm, c);
        t->guest_rid = 0xffff;
        t->committed = true;
}

/* Shared memory has the longest. */
static void add_export(VM *vm, uint64_t id) {
        Export *x = export_append(vm);

        x->id = id;
        x->stage = EXPORT_KEPT;
        x->class = TDI_DMABUF_REVOCABLE;
        x->state = TDI_DMABUF_EXPORTED;
        x->is_memory = true;
        x->importer = TDI_IMPORTER_IOMMUFD;
        x->size = INT64_MAX;
        x->uid = UINT32_MAX - 1;
        x->given = UINT64_C(1763000000000000);
        x->runs_total = UINT32_MAX;
        x->n_runs = EXPORT_RUNS_MAX;
        for (size_t i = 0; i < x->n_runs; i++)
                x->run[i] = (struct tdi_run) { TDI_PFN_MAX - TDI_RUN_PAGES_MAX - i, TDI_RUN_PAGES_MAX, 0, TDI_RUN_CPU | TDI_RUN_CACHEABLE | TDI_RUN_SNOOP };
        x->heap = malloc(EXPORT_HEAP_MAX + 1);
        require(x->heap);
        memset(x->heap, 'h', EXPORT_HEAP_MAX);
        x->heap[EXPORT_HEAP_MAX] = '\0';
        vm->exports->next_id = id + 1;
}

static void release_functions(VM *vm) {
        while (vm->n_tdis > 0) {
                Custody *c = vm->tdis[0]->custody;

                tdi_free(vm->tdis[0]);
                manager_remove((void **) manager->custodies, &manager->n_custodies, c);
                custody_free(c);
        }
}

/* Through text, as it comes back from the holder. */
static struct json_object *through_text(struct json_object *o) {
        const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
        struct json_object *back = NULL;

        check_int(json_parse_strict(text, strlen(text), &back, NULL, NULL), 0);
        json_object_put(o);
        require(back);
        return back;
}

static void test_round_trip(void) {
        for (int phase = 0; phase < TDI_VM_PHASE_MAX; phase++) {
                _cleanup_json_ struct json_object *a = NULL, *b = NULL;
                VM *vm = new_vm(), *back;

                test_about("phase %s", tdi_vm_phase_to_string(phase));
                vm->phase = phase;
                if (phase != TDI_VM_PREPARING)
                        add_peer(vm);
                a = through_text(vm_record(vm, false));
                back = vm_new(manager, "?");
                check_int(vm_take_record(back, a), 0);
                require(free_and_strdup(&back->id, vm->id) == 0);
                b = vm_record(back, false);
                check(json_object_equal(a, b));
                check_str(json_object_to_json_string(b), json_object_to_json_string(a));
                vm_free(vm);
                vm_free(back);
        }
}

static void test_refused(void) {
        static const struct {
                const char *key, *value;
                int expected;
        } cases[] = {
                { "version", NULL, -EBADMSG }, { "version", "\"1\"", -EBADMSG }, { "version", "1", 0 }, { "version", "3", -EPROTONOSUPPORT }, { "phase", NULL, -EBADMSG },
                { "phase", "\"ready\"", -EBADMSG }, { "phase", "0", -EBADMSG }, { "platform", NULL, -EBADMSG }, { "platform", "\"auto\"", -EBADMSG },
                { "platform", "\"\"", -EBADMSG }, { "name", NULL, -EBADMSG }, { "name", "\"\"", -EBADMSG }, { "name", "1", -EBADMSG },
                /* what may be missing */
                { "seclabel", NULL, 0 }, { "seclabel", "null", 0 }, { "groups", NULL, 0 }, { "limits", NULL, 0 }, { "keepers", NULL, 0 },
                { "groups", "[]", 0 }, { "groups", "[{}]", 0 }, { "groups", "[1,null]", 0 },
                { "peer", NULL, 0 }, { "peer", "null", 0 }, { "peer", "{}", 0 }, { "folder", NULL, 0 }, { "folder", "1", 0 },
                { "uuid", "\"6ba7b810-9dad-11d1-80b4-00c04fd430c8 and more\"", 0 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_json_ struct json_object *o = NULL;
                struct json_object *value = NULL;
                VM *vm = new_vm(), *back;

                test_about("%s: %s", cases[i].key, cases[i].value ? cases[i].value : "(absent)");
                o = vm_record(vm, false);
                json_object_object_del(o, cases[i].key);
                if (cases[i].value) {
                        require(json_parse_strict(cases[i].value, strlen(cases[i].value), &value, NULL, NULL) == 0);
                        json_set_take(o, cases[i].key, value);
                }
                back = vm_new(manager, "?");
                check_int(vm_take_record(back, o), cases[i].expected);
                vm_free(vm);
                vm_free(back);
        }
}

static struct json_object *holder_says(const char *text) {
        struct json_object *o = NULL;

        require(json_parse_strict(text, strlen(text), &o, NULL, NULL) == 0);
        return o;
}

static struct json_object *first(struct json_object *o, const char *key) {
        struct json_object *list = NULL;

        if (!check(json_get_array(o, key, &list) >= 0 && json_object_array_length(list) > 0))
                exit(1);
        return json_object_array_get_idx(list, 0);
}

/* What docs/dbus-api.md promises. */
static void test_describe(void) {
        static const char *const vm_keys[] = {
                "id", "name", "uuid", "phase", "platform", "owner_uid", "vmm_uid", "vmm_gid", "seclabel", "hotplug", "peer_to_peer", "bind", "await_vmm", "created",
                "holder", "kvm", "peer", "guard", "watch", "vIOMMU", "viommus", "pinned", "kvm_association", "keepers", "limits", "tdis",
        };
        static const char *const tdi_keys[] = {
                "bdf", "state", "custody", "guest_rid", "bind", "ioas", "iommu_group", "handoff", "quarantine", "bound", "bind_error", "admitted_by", "drift", "report", "ide", "viommu", "kvm_association", "coherent", "vpci",
        };
        static const char *const vpci_keys[] = { "socket", "connected", "stale", "read", "events" };
        static const char *const keeper_keys[] = { "kind", "label", "number", "uid", "given" };
        static const char *const await_keys[] = { "kind", "label", "seconds_left" };
        _cleanup_json_ struct json_object *o = NULL, *state = NULL;
        struct json_object *sub = NULL, *list = NULL;
        VM *vm = new_vm();

        test_about("%s", "Describe");
        snprintf(vm->uuid, sizeof(vm->uuid), "6ba7b810-9dad-11d1-80b4-00c04fd430c8");
        add_function(vm, 0x100);
        add_keeper(vm, "lease", 3, "CreateVM");
        o = through_text(vm_record(vm, true));
        has_exactly(o, vm_keys, ARRAY_SIZE(vm_keys));
        has_exactly(first(o, "tdis"), tdi_keys, ARRAY_SIZE(tdi_keys));
        has_exactly(first(o, "keepers"), keeper_keys, ARRAY_SIZE(keeper_keys));
        check_str(json_str_or(first(o, "tdis"), "bdf", ""), "0000:01:00.0");
        check_str(json_str_or(first(o, "keepers"), "label", ""), "CreateVM");
        check_int(json_get_object(o, "holder", &sub), 0);
        has_exactly(sub, (const char *const[]){ "pid", "unit" }, 2);
        check_int(json_get_object(o, "limits", &sub), 0);
        has_exactly(sub, (const char *const[]){ "functions", "pinned_mib", "maps" }, 3);
        check_int(json_get_object(first(o, "tdis"), "vpci", &sub), 0);
        has_exactly(sub, vpci_keys, ARRAY_SIZE(vpci_keys));
        check(!json_bool_or(sub, "connected", true) && json_bool_or(sub, "stale", false));
        check_int(json_get_object(o, "peer", &sub), -EBADMSG); /* null: nobody has come */
        json_putp(&o);

        /* A process at its socket, and what the holder says of it. */
        add_peer(vm);
        (void) keeper_new_vpci(vm, vm->tdis[0]->bdf, 77, 1001, 0);
        for (unsigned i = 0; i < VPCI_EVENTS_MAX + 3; i++) {
                char text[32];

                snprintf(text, sizeof(text), "number\n%u", i);
                vpci_note(vm->tdis[0], "refused", text);
        }
        state = holder_says("{\"functions\":[{\"bdf\":\"0000:01:00.0\",\"requests\":7,\"socket\":1,\"events\":2},{\"bdf\":\"no\"},3]}");
        vpci_take_state(vm, state);
        o = through_text(vm_record(vm, true));
        check_int(json_get_object(o, "peer", &sub), 0);
        has_exactly(sub, (const char *const[]){ "pid", "memory", "kvm" }, 3);
        check_int(json_get_object(first(o, "tdis"), "vpci", &sub), 0);
        check(json_bool_or(sub, "connected", false));
        check_int(json_u64_or(sub, "requests", 0), 7);
        check(json_u64_or(sub, "read", 0) > 0);
        check_int(json_get_array(sub, "events", &list), 0);
        check_int(json_object_array_length(list), VPCI_EVENTS_MAX);
        check_str(json_str_or(first(sub, "events"), "text", ""), "number?3");
        check_str(json_str_or(sub, "socket", ""), "/nonexistent/vm/6ba7b810-9dad-11d1-80b4-00c04fd430c8/0000_01_00.0.sock");
        json_putp(&o);
        keeper_end_vpci(vm, vm->tdis[0]->bdf, "it was a test");
        check(!keeper_find_vpci(vm, vm->tdis[0]->bdf));

        vm->keepers[0]->ended = true;
        vm->await_deadline = now_monotonic() + 90500000;
        o = through_text(vm_record(vm, true));
        has_exactly(first(o, "keepers"), await_keys, ARRAY_SIZE(await_keys));
        check_int(json_u64_or(first(o, "keepers"), "seconds_left", 0), 90);
        require(free_and_strdup(&vm->tdis[0]->custody->quarantine, "process 7 (nosy) holds it") == 0);
        json_putp(&o);
        o = through_text(vm_record(vm, true));
        check_str(json_str_or(first(o, "tdis"), "quarantine", ""), "process 7 (nosy) holds it");
        release_functions(vm);
        vm_free(vm);
}

static struct store store;

static void check_fits(struct json_object *o) {
        size_t n = strlen(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));

        if (n > (size_t) IPC_SIZE_MAX)
                test_fail(__FILE__, __LINE__, "a message of %zu bytes, and a packet has %lu", n, IPC_SIZE_MAX);
}

static struct json_object *ask(struct json_object *request) {
        int fds[IPC_FDS_MAX];
        struct ipc_fds none = {};
        struct json_object *answer;
        bool end = false;
        size_t n;

        /* What is larger is not even sent. */
        check_fits(request);
        answer = serve_request(&store, NULL, "1763000000123", request, &none, fds, &n, &end);
        check_int(json_i64_or(answer, "r", -1), 0);
        json_object_put(request);
        return answer;
}

static unsigned refused;

static void hold(const char *key) {
        static int next = 1 << 20;

        /* The number of a descriptor is all that matters here: nothing is open at it. */
        refused += store_put(&store, key, next++) < 0;
}

static unsigned largest_limit(const char *name) {
        for (unsigned n = 65536; n > 0; n--) {
                struct config c = manager->config;
                _cleanup_free_ char *text = NULL;
                char json[64];

                snprintf(json, sizeof(json), "{\"limits\":{\"%s\":%u}}", name, n);
                if (config_parse(json, strlen(json), "F", &c, &text) >= 0)
                        return n;
        }
        return 0;
}

/* The most keepers, functions and dma-bufs that tdid.conf may allow, the longest labels, and the most that JSON makes of them. */
static void test_largest(void) {
        char label[VM_LABEL_MAX + 1], key[64], bdf[TDI_BDF_MAX];
        struct rlimit files;
        struct json_object *q, *answer;
        VM *vm;

        manager->config.keepers = largest_limit("keepers");
        manager->config.functions = largest_limit("functions");
        manager->config.exports = largest_limit("exports");
        require(manager->config.keepers > 0 && manager->config.functions > 0 && manager->config.exports > 0);
        require(getrlimit(RLIMIT_NOFILE, &files) == 0);
        files.rlim_cur = files.rlim_max;
        (void) setrlimit(RLIMIT_NOFILE, &files);
        test_about("%u keepers and %u functions", manager->config.keepers, manager->config.functions);
        if (files.rlim_cur < manager->config.keepers + 64) {
                fprintf(stderr, "left out: only %ju descriptors here\n", (uintmax_t) files.rlim_cur);
                return;
        }
        memset(label, '"', VM_LABEL_MAX);
        label[VM_LABEL_MAX] = '\0';
        vm = new_vm();
        hold("iommufd");
        hold("kvm");
        for (unsigned i = 0; i < manager->config.keepers; i++) {
                add_keeper(vm, "lease", i, label);
                snprintf(key, sizeof(key), "lease:%u", i);
                hold(key);
        }
        for (unsigned i = 0; i < manager->config.functions; i++) {
                add_function(vm, i);
                (void) keeper_new_vpci(vm, vm->tdis[i]->bdf, INT32_MAX, UINT32_MAX - 1, 0);
                snprintf(key, sizeof(key), "cdev:%s", tdi_bdf_format(vm->tdis[i]->bdf, bdf));
                hold(key);
        }
        for (unsigned i = 0; i < manager->config.exports; i++) {
                add_export(vm, UINT32_MAX + (uint64_t) i);
                snprintf(key, sizeof(key), "dmabuf:%" PRIu64, UINT32_MAX + (uint64_t) i);
                hold(key);
                snprintf(key, sizeof(key), "event:%" PRIu64, UINT32_MAX + (uint64_t) i);
                hold(key);
        }
        check_int(refused, 0);
        q = json_new();
        json_set_str(q, "op", "state");
        json_set_take(q, "state", vm_record(vm, false));
        json_object_put(ask(q));
        q = json_new();
        json_set_str(q, "op", "hello");
        answer = ask(q);
        check_fits(answer);
        json_object_put(answer);
        store_clear(&store);
        release_functions(vm);
        vm_free(vm);
}

/* A function of an earlier tdid's VM, whose holder has no vPCI server, is all that it was to be; others lack their socket. */
static void test_no_socket(void) {
        Custody *c = custody_new(manager, (struct tdi_bdf){ 0, 9, 0 }, 1);
        const uint32_t all = CUSTODY_PREPARED;

        c->done = all & ~BIT(ACTION_PREPARE_SOCKET);
        custody_needs_no_socket(c);
        check(custody_is_complete(c));
        check(!custody_has_socket(c));
        check(custody_is_local(c, ACTION_PREPARE_SOCKET, true));
        /* It was being made: its folder has been written down. */
        c->done = all & ~BIT(ACTION_PREPARE_SOCKET);
        json_set_str(c->values, "uuid", "0f9d1b6a-24f0-4c39-8b39-7c2f1f3c5d11");
        custody_needs_no_socket(c);
        check(!custody_is_complete(c));
        c->begun = BIT(ACTION_PREPARE_SOCKET);
        check(custody_has_socket(c));
        check(!custody_is_local(c, ACTION_PREPARE_SOCKET, true));
        /* Not that far when its tdid ended. */
        json_object_object_del(c->values, "uuid");
        c->done = all & ~(BIT(ACTION_PREPARE_SOCKET) | BIT(ACTION_PREPARE_ATTACH));
        c->begun = 0;
        custody_needs_no_socket(c);
        check(!custody_is_done(c, ACTION_PREPARE_SOCKET));
        c->done = 0;
        manager_remove((void **) manager->custodies, &manager->n_custodies, c);
        custody_free(c);
}

int main(void) {
        require(manager_new(&manager) == 0);
        require(free_and_strdup(&manager->state_dir, "/nonexistent") == 0);
        test_round_trip();
        test_refused();
        test_describe();
        test_largest();
        test_no_socket();
        manager_free(manager);
        return test_end();
}
