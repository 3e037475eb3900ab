/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Commands over the socket: what an administrator, a test or a hand at the machine does, and what is to be known of the simulation
 * itself. A command is a JSON object whose "do" names it.
 */
#include "sim/server.h"

#include <dirent.h>
#include <stdio.h>

#include "model/json.h"
#include "sim/pci.h"

struct command {
        struct sim_call *c;
        struct call *k;          /* NULL when it runs by itself */
        struct json_object *in, *out;
        char why[256];
};

static int say(struct command *x, int r, const char *text) {
        snprintf(x->why, sizeof(x->why), "%s", text);
        return r;
}

static int get_str(struct command *x, const char *key, const char **ret) {
        if (json_get_str(x->in, key, ret) >= 0)
                return 0;
        snprintf(x->why, sizeof(x->why), "\"%s\" is missing or not a string", key);
        return -EINVAL;
}

static int get_id(struct command *x, unsigned *ret) {
        uint64_t id;

        if (json_get_u64(x->in, "id", &id) < 0 || id == 0 || id > UINT32_MAX)
                return say(x, -EINVAL, "\"id\" is missing or not a rule's");
        *ret = (unsigned) id;
        return 0;
}

static int get_machine(struct command *x, struct sim_machine **ret) {
        *ret = sim_machine(x->c->sim);
        return *ret ? 0 : say(x, -ENODEV, "there is no machine");
}

static int get_function(struct command *x, struct sim_function **ret) {
        struct sim_machine *m;
        const char *bdf;
        int r;

        r = get_machine(x, &m);
        if (r >= 0)
                r = get_str(x, "device", &bdf);
        if (r < 0)
                return r;
        *ret = sim_function_find(m, bdf);
        return *ret ? 0 : say(x, -ENODEV, "no such function");
}

/* ---- what there is ---- */

static struct json_object *file_json(const struct open_file *o) {
        struct json_object *j = json_new();

        json_set_str(j, "kind", o->f.ops ? o->f.ops->kind : "opening");
        json_set_str(j, "name", o->f.name);
        json_set_str(j, "device", o->f.device);
        json_set_i64(j, "opener", o->f.opener);
        json_set_u64(j, "refs", o->f.refs);
        return j;
}

static const char *call_op(const struct call *k) {
        if (k->run == serve_call)
                return op_name(k->op);
        return k->op == SIM_CLOSE ? "release" : "work";
}

static struct json_object *call_json(const struct call *k) {
        struct json_object *j = json_new();

        json_set_str(j, "op", call_op(k));
        json_set_str(j, "name", k->name);
        json_set_str(j, "device", k->device);
        json_set_i64(j, "pid", k->c.pid);
        json_set_u64(j, "ms", (sim_now_us() - k->started) / 1000);
        json_set_str(j, "state", k->closing ? "closing" : !k->cond ? "running" : k->interruptible ? "interruptible" : "uninterruptible");
        json_set_bool(j, "gone", k->c.gone);
        return j;
}

struct json_object *control_open(struct sim *sim) {
        struct json_object *o = json_new(), *files = json_new_array(), *calls = json_new_array();
        const struct open_file *f;
        const struct call *k;

        TAILQ_FOREACH(f, &sim->files, link)
                json_push_take(files, file_json(f));
        TAILQ_FOREACH(k, &sim->calls, link)
                if (k->op != SIM_CONTROL)
                        json_push_take(calls, call_json(k));
        json_set_take(o, "open", files);
        json_set_take(o, "calls", calls);
        return o;
}

size_t sim_print_open(struct sim *sim, FILE *to) {
        const struct open_file *f;
        const struct call *k;
        size_t n = 0;

        sim_lock(sim);
        TAILQ_FOREACH(f, &sim->files, link) {
                fprintf(to, "open: %s %s%s%s, opened by process %d, %u references\n", f->f.ops ? f->f.ops->kind : "?", f->f.name,
                        f->f.device[0] ? " of " : "", f->f.device, f->f.opener, f->f.refs);
                n++;
        }
        TAILQ_FOREACH(k, &sim->calls, link) {
                if (k->op == SIM_CONTROL)
                        continue;
                fprintf(to, "call: %s %s%s%s of process %d, for %llu ms\n", call_op(k), k->name, k->device[0] ? " of " : "", k->device,
                        k->c.pid, (unsigned long long) (sim_now_us() - k->started) / 1000);
                n++;
        }
        sim_unlock(sim);
        return n;
}

static int do_open(struct command *x) {
        json_object_put(x->out);
        x->out = control_open(x->c->sim);
        return 0;
}

static uint64_t count_fds(void) {
        DIR *d = opendir("/proc/self/fd");
        uint64_t n = 0;

        if (!d)
                return 0;
        while (readdir(d))
                n++;
        (void) closedir(d);
        return n > 3 ? n - 3 : 0; /* ".", "..", the folder itself */
}

static uint64_t resident_kb(void) {
        unsigned long long size, resident = 0;
        FILE *f = fopen("/proc/self/statm", "re");

        if (!f)
                return 0;
        if (fscanf(f, "%llu %llu", &size, &resident) != 2)
                resident = 0;
        (void) fclose(f);
        return resident * (uint64_t) sysconf(_SC_PAGESIZE) / 1024;
}

static int do_stats(struct command *x) {
        struct sim *sim = x->c->sim;
        uint64_t calls = 0;
        struct call *k;

        TAILQ_FOREACH(k, &sim->calls, link)
                if (k->op != SIM_CONTROL)
                        calls++;
        json_set_u64(x->out, "files", sim->n_files);
        json_set_u64(x->out, "sockets", sim->n_endpoints);
        json_set_u64(x->out, "connections", sim->n_connections);
        json_set_u64(x->out, "nodes", sim->n_nodes);
        json_set_u64(x->out, "calls", calls);
        json_set_u64(x->out, "served", sim->served);
        json_set_u64(x->out, "threads", sim->n_threads);
        json_set_u64(x->out, "sleeping", sim->n_sleeping);
        json_set_u64(x->out, "descriptors", count_fds());
        json_set_u64(x->out, "descriptor_limit", sim->fd_limit);
        json_set_u64(x->out, "resident_kb", resident_kb());
        return 0;
}

static int do_tree(struct command *x) {
        struct json_object *entries;
        const char *path;
        int r = get_str(x, "path", &path);

        if (r >= 0)
                r = look_tree(x->c->sim, path, &entries);
        if (r >= 0)
                json_set_take(x->out, "entries", entries);
        return r;
}

static int do_read(struct command *x) {
        struct json_object *paths, *contents;
        int r;

        if (json_get_array(x->in, "paths", &paths) < 0)
                return say(x, -EINVAL, "\"paths\" is missing or not an array");
        r = look_read(x->c, paths, &contents);
        if (r >= 0)
                json_set_take(x->out, "contents", contents);
        return r;
}

/* ---- faults and the log ---- */

static int do_faults(struct command *x) {
        json_set_take(x->out, "faults", fault_list(x->c->sim));
        return 0;
}

static int do_fault(struct command *x) {
        struct json_object *rule;
        unsigned id;
        int r;

        if (json_get_object(x->in, "rule", &rule) < 0)
                return say(x, -EINVAL, "\"rule\" is missing or not an object");
        r = fault_add(x->c->sim, rule, &id, x->why, sizeof(x->why));
        if (r >= 0)
                json_set_u64(x->out, "id", id);
        return r;
}

static int do_clear(struct command *x) {
        unsigned id = 0;
        int r = 0;

        if (json_object_object_get_ex(x->in, "id", NULL))
                r = get_id(x, &id);
        return r < 0 ? r : fault_clear(x->c->sim, id) < 0 ? say(x, -ENOENT, "no such rule") : 0;
}

static int do_release(struct command *x) {
        unsigned id;
        int r = get_id(x, &id);

        return r < 0 ? r : fault_release(x->c->sim, id) < 0 ? say(x, -ENOENT, "no such rule") : 0;
}

static int do_trace(struct command *x) {
        struct json_object *path;
        int r;

        if (!json_object_object_get_ex(x->in, "path", &path)) {
                json_set_take(x->out, "calls", trace_ring(x->c->sim));
                return 0;
        }
        if (path && !json_object_is_type(path, json_type_string))
                return say(x, -EINVAL, "\"path\" is neither a string nor null");
        r = trace_start(x->c->sim, path ? json_object_get_string(path) : NULL);
        return r < 0 ? say(x, r, "the file cannot be written") : 0;
}

static int do_mark(struct command *x) {
        const char *text;
        int r = get_str(x, "text", &text);

        return r < 0 ? r : trace_mark(x->c->sim, text);
}

static int do_quit(struct command *x) {
        if (!x->k)
                return say(x, -EINVAL, "not with \"async\"");
        x->k->quits = true;
        return 0;
}

/* ---- at the machine ---- */

static int do_unplug(struct command *x) {
        struct sim_function *fn;
        int r = get_function(x, &fn);

        return r < 0 ? r : sim_unplug(x->c, fn);
}

static int do_plug(struct command *x) {
        const char *bdf;
        int r = get_str(x, "device", &bdf);

        return r < 0 ? r : sim_plug(x->c, bdf);
}

static int do_aer(struct command *x) {
        struct sim_function *fn;
        int r = get_function(x, &fn);

        return r < 0 ? r : sim_error(x->c, fn, json_bool_or(x->in, "fatal", false));
}

static int do_spdm_port(struct command *x) {
        struct sim_function *fn;
        int r = get_function(x, &fn);
        uint64_t port;

        if (r < 0)
                return r;
        if (json_get_u64(x->in, "port", &port) < 0 || port > UINT16_MAX)
                return say(x, -EINVAL, "\"port\" is missing or no port");
        r = sim_doe_set_port(fn, (uint16_t) port);
        return r == -EOPNOTSUPP ? say(x, r, "the function has no mailbox") : r;
}

static int do_iommu_event(struct command *x) {
        struct sim_function *fn;
        int r = get_function(x, &fn);
        uint64_t event, address;

        if (r < 0)
                return r;
        if (json_get_u64(x->in, "event", &event) < 0 || event > UINT8_MAX || json_get_u64(x->in, "address", &address) < 0)
                return say(x, -EINVAL, "\"event\" or \"address\" is missing or no number of one");
        r = sim_iommu_event(fn, (uint8_t) event, address);
        return r == -ENOENT ? say(x, r, "the function has no virtual device") : r == -EOPNOTSUPP ? say(x, r, "nobody has opened a queue for it") : r;
}

static int do_ide_fail(struct command *x) {
        struct sim_function *fn;
        int r = get_function(x, &fn);

        if (r >= 0)
                r = sim_tsm_ide_fail(x->c, fn);
        return r == -ENOTCONN ? say(x, r, "the function has no IDE stream") : r;
}

/* Digits, two for a byte. */
static int do_tsm_object(struct command *x) {
        _cleanup_free_ uint8_t *data = NULL;
        struct sim_machine *m;
        uint64_t number;
        const char *hex;
        size_t n;
        int r;

        r = get_machine(x, &m);
        if (r >= 0)
                r = get_str(x, "data", &hex);
        if (r < 0)
                return r;
        n = strlen(hex);
        data = malloc(n / 2 + 1);
        if (!data)
                return -ENOMEM;
        for (size_t i = 0; i + 1 < n; i += 2)
                if (sscanf(hex + i, "%2hhx", &data[i / 2]) != 1)
                        return say(x, -EINVAL, "\"data\" has other than digits");
        if (n % 2 || json_get_u64(x->in, "object", &number) < 0)
                return say(x, -EINVAL, "\"object\" is missing or no number, or \"data\" has half a byte");
        return sim_tsm_set_object(m, number, data, n / 2);
}

static int do_tsm_unload(struct command *x) {
        const char *name;
        int r = get_str(x, "name", &name);

        return r < 0 ? r : sim_tsm_unload(x->c, name);
}

static int do_tsm_load(struct command *x) {
        struct json_object *options;
        const char *name;
        int r = get_str(x, "name", &name);

        if (r < 0)
                return r;
        if (!json_object_object_get_ex(x->in, "options", NULL))
                return sim_tsm_load(x->c, name);
        if (json_get_object(x->in, "options", &options) < 0)
                return say(x, -EINVAL, "\"options\" is not an object");
        return sim_tsm_load_with(x->c, name, options);
}

static int do_tsm_bind(struct command *x) {
        struct sim_function *fn;
        uint64_t kvm, tdi;
        int r = get_function(x, &fn);

        if (r < 0)
                return r;
        /* Any number but 0: it only tells VMs apart. */
        kvm = json_u64_or(x->in, "kvm", 1);
        tdi = json_u64_or(x->in, "tdi", 0);
        return kvm == 0 || tdi > UINT32_MAX ? say(x, -EINVAL, "\"kvm\" or \"tdi\" is out of range")
                                            : sim_tsm_bind(x->c, fn, (const void *) (uintptr_t) kvm, (uint32_t) tdi);
}

static int do_tsm_unbind(struct command *x) {
        struct sim_function *fn;
        int r = get_function(x, &fn);

        return r < 0 ? r : sim_tsm_unbind(x->c, fn);
}

static int do_driver_load(struct command *x) {
        const char *name;
        int r = get_str(x, "name", &name);

        return r < 0 ? r : sim_driver_load(x->c, name);
}

static int do_driver_unload(struct command *x) {
        const char *name;
        int r = get_str(x, "name", &name);

        return r < 0 ? r : sim_driver_unload(x->c, name);
}

static int do_bind_load(struct command *x) {
        return sim_bind_load(x->c->sim);
}

static int do_bind_unload(struct command *x) {
        return sim_bind_unload(x->c);
}

static int do_importer_load(struct command *x) {
        return sim_importer_load(x->c);
}

static int do_importer_unload(struct command *x) {
        return sim_importer_unload(x->c);
}

static int do_users(struct command *x) {
        struct json_object *change;
        struct sim_machine *m;
        int r = get_machine(x, &m);

        if (r < 0)
                return r;
        if (json_get_object(x->in, "change", &change) < 0)
                return say(x, -EINVAL, "\"change\" is missing or not an object");
        return sim_users_change(x->c, change);
}

/* ---- the whole ---- */

static const struct {
        const char *name;
        int (*func)(struct command *x);
        bool machine; /* acts on the machine: may sleep, and may be told to run by itself */
        const char *keys;
} commands[] = {
        { "open", do_open, false, "" },
        { "stats", do_stats, false, "" },
        { "tree", do_tree, false, " path " },
        { "read", do_read, false, " paths " },
        { "faults", do_faults, false, "" },
        { "fault", do_fault, false, " rule " },
        { "clear", do_clear, false, " id " },
        { "release", do_release, false, " id " },
        { "trace", do_trace, false, " path " },
        { "mark", do_mark, false, " text " },
        { "quit", do_quit, false, "" },
        { "unplug", do_unplug, true, " device " },
        { "plug", do_plug, true, " device " },
        { "aer", do_aer, true, " device fatal " },
        { "ide-fail", do_ide_fail, true, " device " },
        { "tsm-object", do_tsm_object, true, " object data " },
        { "spdm-port", do_spdm_port, true, " device port " },
        { "iommu-event", do_iommu_event, true, " device event address " },
        { "tsm-load", do_tsm_load, true, " name options " },
        { "tsm-unload", do_tsm_unload, true, " name " },
        { "tsm-bind", do_tsm_bind, true, " device kvm tdi " },
        { "tsm-unbind", do_tsm_unbind, true, " device " },
        { "driver-load", do_driver_load, true, " name " },
        { "driver-unload", do_driver_unload, true, " name " },
        { "bind-load", do_bind_load, true, "" },
        { "bind-unload", do_bind_unload, true, "" },
        { "importer-load", do_importer_load, true, "" },
        { "importer-unload", do_importer_unload, true, "" },
        { "users", do_users, true, " change " },
};

static int check_keys(struct command *x, size_t which) {
        json_object_object_foreach(x->in, key, value) {
                char padded[64];

                (void) value;
                if (streq(key, "do") || (streq(key, "async") && commands[which].machine))
                        continue;
                if (snprintf(padded, sizeof(padded), " %s ", key) >= (int) sizeof(padded) || !strstr(commands[which].keys, padded)) {
                        snprintf(x->why, sizeof(x->why), "\"%.60s\" is no key of this command", key);
                        return -EINVAL;
                }
        }
        return 0;
}

static int find_command(struct command *x, size_t *ret) {
        const char *name;
        int r = get_str(x, "do", &name);

        if (r < 0)
                return r;
        for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
                if (streq(commands[i].name, name)) {
                        *ret = i;
                        return check_keys(x, i);
                }
        return say(x, -EOPNOTSUPP, "no such command");
}

struct later {
        size_t which;
        struct json_object *in;
};

static void run_later(struct sim_call *c, void *data) {
        struct later *l = data;
        struct command x = { .c = c, .in = l->in, .out = json_new() };
        int r;

        r = commands[l->which].func(&x);
        if (r < 0)
                sim_log(c->sim, "%s: %s%s%s", commands[l->which].name, strerror(-r), x.why[0] ? ": " : "", x.why);
        json_object_put(x.out);
        json_object_put(l->in);
        free(l);
}

static int start_later(struct command *x, size_t which) {
        struct later *l = malloc(sizeof(*l));
        int r;

        if (!l)
                return -ENOMEM;
        *l = (struct later){ .which = which, .in = json_object_get(x->in) };
        r = sim_run(x->c->sim, run_later, l);
        if (r < 0) {
                json_object_put(l->in);
                free(l);
        }
        return r;
}

static int execute(struct command *x) {
        size_t which;
        int r;

        r = find_command(x, &which);
        if (r < 0)
                return r;
        if (json_bool_or(x->in, "async", false))
                return start_later(x, which);
        return commands[which].func(x);
}

int control_run(struct call *k, const char *text, size_t size, char **ret_answer, size_t *ret_size) {
        struct command x = { .c = &k->c, .k = k, .out = json_new() };
        const char *why = NULL, *s;
        size_t len;
        int r;

        r = json_parse_strict(text, size, &x.in, NULL, &why);
        if (r < 0)
                (void) say(&x, -EINVAL, why ? why : "not JSON");
        else if (!json_object_is_type(x.in, json_type_object))
                r = say(&x, -EINVAL, "not an object");
        else
                r = execute(&x);
        if (r < 0) {
                json_set_str(x.out, "error", strempty(strerrorname_np(-r)));
                json_set_str(x.out, "text", x.why[0] ? x.why : strerror(-r));
        }
        s = json_object_to_json_string_length(x.out, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);
        *ret_answer = strdup(s);
        *ret_size = *ret_answer ? len : 0;
        json_object_put(x.out);
        json_object_put(x.in);
        return r;
}
