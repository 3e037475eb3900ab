/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The log of calls: the last ones in a ring, all of them as JSON lines in a file when asked for. */
#include "sim/server.h"

#include <stdio.h>

#include "model/json.h"

#define COMM_US 100000 /* a process changes its name at exec(), before it makes calls */

const char *trace_comm(struct call *k) {
        struct sim *sim = k->c.sim;
        __typeof__(&sim->comms[0]) entry = &sim->comms[(unsigned) k->c.pid % COMM_BUCKETS];
        uint64_t now;
        char path[64];
        FILE *f;

        if (k->comm[0] || k->c.pid <= 0)
                return k->comm;
        now = sim_now_us();
        if (entry->pid != k->c.pid || entry->until < now) {
                entry->pid = k->c.pid;
                entry->until = now + COMM_US;
                entry->comm[0] = '\0';
                snprintf(path, sizeof(path), "/proc/%d/comm", k->c.pid);
                f = fopen(path, "re");
                if (f) {
                        if (!fgets(entry->comm, sizeof(entry->comm), f))
                                entry->comm[0] = '\0';
                        (void) fclose(f);
                }
                entry->comm[strcspn(entry->comm, "\n")] = '\0';
        }
        memcpy(k->comm, entry->comm, sizeof(k->comm));
        return k->comm;
}

bool trace_on(struct sim *sim) {
        return sim->trace >= 0;
}

/* Each line is one write(2): whoever reads the file after its own call finds it there. */
static void write_line(struct sim *sim, struct json_object *o) {
        const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
        _cleanup_free_ char *line = NULL;
        int n = asprintf(&line, "%s\n", text);

        if (n < 0) {
                line = NULL;
                return;
        }
        if (write(sim->trace, line, (size_t) n) != n) {
                sim_log(sim, "the trace ends here: %s", strerror(errno));
                sim->trace = close_fd(sim->trace);
        }
}

static void record(struct sim *sim, uint64_t sequence, pid_t pid, const char *op, const char *name, const char *device, int64_t r) {
        struct trace_entry *e = &sim->ring[sim->ring_n++ % RING_ENTRIES];
        size_t len = strlen(name);

        e->sequence = sequence;
        e->pid = pid;
        e->r = r;
        snprintf(e->op, sizeof(e->op), "%s", op);
        /* The end of a path says more than its beginning. */
        snprintf(e->name, sizeof(e->name), "%s", len < sizeof(e->name) ? name : name + len - sizeof(e->name) + 1);
        snprintf(e->device, sizeof(e->device), "%s", device);
}

static struct json_object *describe(uint64_t sequence, pid_t pid, const char *comm, const char *op, const char *name, const char *device,
                                    int64_t r) {
        struct json_object *o = json_new();

        json_set_u64(o, "seq", sequence);
        json_set_i64(o, "pid", pid);
        if (comm)
                json_set_str(o, "comm", comm);
        json_set_str(o, "op", op);
        json_set_str(o, "name", name);
        json_set_str(o, "device", device);
        json_set_i64(o, "r", r);
        return o;
}

void trace_call(struct call *k, int64_t r) {
        _cleanup_json_ struct json_object *o = NULL;

        if (k->op == SIM_CONTROL)
                return;
        record(k->c.sim, k->sequence, k->c.pid, op_name(k->op), k->name, k->device, r);
        if (!trace_on(k->c.sim))
                return;
        o = describe(k->sequence, k->c.pid, trace_comm(k), op_name(k->op), k->name, k->device, r);
        json_set_u64(o, "us", sim_now_us() - k->started);
        write_line(k->c.sim, o);
}

void trace_release(struct sim_call *c, struct sim_file *f) {
        _cleanup_json_ struct json_object *o = NULL;
        uint64_t sequence = ++c->sim->sequence;

        record(c->sim, sequence, c->pid, "release", f->name, f->device, 0);
        if (!trace_on(c->sim))
                return;
        o = describe(sequence, c->pid, NULL, "release", f->name, f->device, 0);
        write_line(c->sim, o);
}

void sim_trace(struct sim_call *c, const char *what, const char *device, int r) {
        _cleanup_json_ struct json_object *o = NULL;
        uint64_t sequence;

        if (!trace_on(c->sim))
                return;
        sequence = ++c->sim->sequence;
        o = describe(sequence, c->pid, NULL, what, "", device, r);
        write_line(c->sim, o);
}

int trace_start(struct sim *sim, const char *path) {
        sim->trace = close_fd(sim->trace);
        if (!path)
                return 0;
        sim->trace = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, 0600);
        return sim->trace < 0 ? -errno : 0;
}

int trace_mark(struct sim *sim, const char *text) {
        _cleanup_json_ struct json_object *o = json_new();

        record(sim, ++sim->sequence, 0, "mark", text, "", 0);
        if (!trace_on(sim))
                return 0;
        json_set_u64(o, "seq", sim->sequence);
        json_set_str(o, "mark", text);
        write_line(sim, o);
        return 0;
}

struct json_object *trace_ring(struct sim *sim) {
        struct json_object *a = json_new_array();
        uint64_t first = sim->ring_n > RING_ENTRIES ? sim->ring_n - RING_ENTRIES : 0;

        for (uint64_t i = first; i < sim->ring_n; i++) {
                const struct trace_entry *e = &sim->ring[i % RING_ENTRIES];

                json_push_take(a, describe(e->sequence, e->pid, NULL, e->op, e->name, e->device, e->r));
        }
        return a;
}
