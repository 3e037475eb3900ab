/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Rules by which calls, or places inside the kernel, fail, take their time or never end. Each rule counts what it matches, also
 * one that does nothing.
 */
#include "sim/server.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>

#include "model/json.h"

#define FIRED_MAX 16
#define RULES_MAX 1024

struct fault {
        unsigned id, refs;
        struct json_object *rule;   /* as it was given */
        const char *call, *device, *process; /* of it */
        uint64_t nth, times, delay_ms;
        int error;                  /* negative; 0: none */
        bool never, kills_caller, after;
        pid_t kills;
        uint64_t matched, fired;
        unsigned sleeping, released; /* released: how often its sleepers were let go */
        bool removed;
        pthread_cond_t cond;
        TAILQ_ENTRY(fault) link;
};

/* ---- rules ---- */

static void put(struct fault *f) {
        if (--f->refs > 0)
                return;
        json_object_put(f->rule);
        (void) pthread_cond_destroy(&f->cond);
        free(f);
}

static int bad(char *why, size_t size, const char *key, const char *text) {
        snprintf(why, size, "%s: %s", key, text);
        return -EINVAL;
}

static int number(struct json_object *rule, const char *key, uint64_t least, uint64_t *ret, char *why, size_t size) {
        int r = json_get_u64(rule, key, ret);

        if (r == -ENOENT)
                return 0;
        return r < 0 || *ret < least || *ret > INT64_MAX / 1000000 ? bad(why, size, key, "not a number of that kind") : 0;
}

static int string(struct json_object *rule, const char *key, const char **ret, char *why, size_t size) {
        int r = json_get_str(rule, key, ret);

        if (r == -ENOENT)
                return 0;
        return r < 0 || isempty(*ret) ? bad(why, size, key, "not a string") : 0;
}

static int error_number(const char *name) {
        for (int i = 1; i < 4096; i++) {
                const char *s = strerrorname_np(i);

                if (s && streq(s, name))
                        return i;
        }
        return -EINVAL;
}

static int read_kill(struct fault *f, char *why, size_t size) {
        struct json_object *o;
        const char *when = "before";
        int64_t pid;
        int r;

        if (!json_object_object_get_ex(f->rule, "kill", &o)) {
                return json_object_object_get_ex(f->rule, "when", NULL) ? bad(why, size, "when", "goes with \"kill\" only") : 0;
        }
        if (json_object_is_type(o, json_type_string) && streq(json_object_get_string(o), "caller"))
                f->kills_caller = true;
        else if (json_get_i64(f->rule, "kill", &pid) >= 0 && pid > 1 && pid <= INT32_MAX)
                f->kills = (pid_t) pid;
        else
                return bad(why, size, "kill", "neither \"caller\" nor a process id");
        r = string(f->rule, "when", &when, why, size);
        if (r < 0)
                return r;
        if (!streq(when, "before") && !streq(when, "after"))
                return bad(why, size, "when", "neither \"before\" nor \"after\"");
        f->after = streq(when, "after");
        return 0;
}

static int read_rule(struct fault *f, char *why, size_t size) {
        static const char *const known[] = { "call", "device", "process", "nth", "times", "errno", "delay_ms", "never", "kill", "when" };
        const char *name = NULL;
        int r;

        json_object_object_foreach(f->rule, key, value) {
                size_t i = 0;

                (void) value;
                while (i < ARRAY_SIZE(known) && !streq(known[i], key))
                        i++;
                if (i == ARRAY_SIZE(known))
                        return bad(why, size, key, "no such key in a fault");
        }
        f->device = f->process = "*";
        r = string(f->rule, "call", &f->call, why, size);
        if (r >= 0 && !f->call)
                r = bad(why, size, "call", "missing");
        if (r >= 0)
                r = string(f->rule, "device", &f->device, why, size);
        if (r >= 0)
                r = string(f->rule, "process", &f->process, why, size);
        if (r >= 0)
                r = number(f->rule, "nth", 1, &f->nth, why, size);
        if (r >= 0)
                r = number(f->rule, "times", 1, &f->times, why, size);
        if (r >= 0)
                r = number(f->rule, "delay_ms", 0, &f->delay_ms, why, size);
        if (r >= 0)
                r = string(f->rule, "errno", &name, why, size);
        if (r >= 0 && name) {
                f->error = -error_number(name);
                if (f->error > 0)
                        return bad(why, size, "errno", "no such error");
        }
        if (r >= 0) {
                r = json_get_bool(f->rule, "never", &f->never);
                r = r == -ENOENT ? 0 : r < 0 ? bad(why, size, "never", "neither true nor false") : 0;
        }
        return r < 0 ? r : read_kill(f, why, size);
}

int fault_add(struct sim *sim, struct json_object *rule, unsigned *ret_id, char *ret_why, size_t size) {
        struct fault *f, *other;
        unsigned n = 0;
        int r;

        if (!json_object_is_type(rule, json_type_object))
                return bad(ret_why, size, "fault", "not an object");
        TAILQ_FOREACH(other, &sim->faults, link)
                n++;
        if (n >= RULES_MAX)
                return bad(ret_why, size, "fault", "too many rules");
        f = calloc(1, sizeof(*f));
        if (!f)
                return -ENOMEM;
        f->refs = 1;
        f->rule = json_object_get(rule);
        (void) pthread_cond_init(&f->cond, NULL);
        r = read_rule(f, ret_why, size);
        if (r < 0) {
                put(f);
                return r;
        }
        f->id = ++sim->next_fault;
        TAILQ_INSERT_TAIL(&sim->faults, f, link);
        if (ret_id)
                *ret_id = f->id;
        return 0;
}

int sim_faults_load(struct sim *sim, struct json_object *rules, char *ret_why, size_t size) {
        size_t n = json_object_array_length(rules);

        for (size_t i = 0; i < n; i++) {
                char why[200] = "";
                int r = fault_add(sim, json_object_array_get_idx(rules, i), NULL, why, sizeof(why));

                if (r < 0) {
                        (void) fault_clear(sim, 0);
                        snprintf(ret_why, size, "faults[%zu].%s", i, why);
                        return r;
                }
        }
        return 0;
}

struct json_object *fault_list(struct sim *sim) {
        struct json_object *a = json_new_array();
        struct fault *f;

        TAILQ_FOREACH(f, &sim->faults, link) {
                struct json_object *o = json_new();

                json_set_u64(o, "id", f->id);
                json_set_take(o, "rule", json_object_get(f->rule));
                json_set_u64(o, "matched", f->matched);
                json_set_u64(o, "fired", f->fired);
                json_set_u64(o, "sleeping", f->sleeping);
                json_push_take(a, o);
        }
        return a;
}

static void let_go(struct fault *f) {
        f->released++;
        (void) pthread_cond_broadcast(&f->cond);
}

int fault_release(struct sim *sim, unsigned id) {
        struct fault *f;

        TAILQ_FOREACH(f, &sim->faults, link)
                if (f->id == id) {
                        let_go(f);
                        return 0;
                }
        return -ENOENT;
}

int fault_clear(struct sim *sim, unsigned id) {
        struct fault *f, *next;
        int r = id ? -ENOENT : 0;

        for (f = TAILQ_FIRST(&sim->faults); f; f = next) {
                next = TAILQ_NEXT(f, link);
                if (id && f->id != id)
                        continue;
                TAILQ_REMOVE(&sim->faults, f, link);
                f->removed = true;
                let_go(f);
                put(f);
                r = 0;
        }
        return r;
}

bool fault_any(struct sim *sim) {
        return !TAILQ_EMPTY(&sim->faults);
}

/* ---- matching ---- */

/* "connect" is the end of "/sys/…/tsm/connect", so is "tsm/connect", and "nect" is not. */
static bool ends_with(const char *path, const char *end) {
        size_t a = strlen(path), b = strlen(end);

        return a >= b && streq(path + a - b, end) && (a == b || end[0] == '/' || path[a - b - 1] == '/');
}

static bool call_matches(const struct fault *f, const struct call *k) {
        static const struct { const char *prefix; uint32_t op; } prefixes[] = {
                { "read:", SIM_PREAD }, { "write:", SIM_PWRITE }, { "open:", SIM_OPEN }, { "close:", SIM_CLOSE },
                { "readlink:", SIM_READLINK }, { "list:", SIM_LIST },
        };

        if (streq(f->call, "*") || streq(f->call, op_name(k->op)))
                return true;
        if (k->op == SIM_IOCTL)
                return streq(f->call, k->name);
        for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
                if (prefixes[i].op == k->op && startswith(f->call, prefixes[i].prefix))
                        return ends_with(k->name, f->call + strlen(prefixes[i].prefix));
        return false;
}

/* The rules that something makes fire, with references. */
static unsigned collect(struct sim *sim, struct call *k, const char *point, const char *device, struct fault *fired[FIRED_MAX]) {
        struct fault *f;
        unsigned n = 0;

        TAILQ_FOREACH(f, &sim->faults, link) {
                uint64_t first = f->nth ? f->nth : 1, times = f->times ? f->times : f->nth ? 1 : UINT64_MAX;

                if (point ? !streq(f->call, point) : !k || !call_matches(f, k))
                        continue;
                if (!streq(f->device, "*") && !streq(f->device, device))
                        continue;
                if (!streq(f->process, "*") && (!k || !streq(f->process, trace_comm(k))))
                        continue;
                f->matched++;
                if (f->matched < first || f->matched - first >= times || n >= FIRED_MAX)
                        continue;
                f->fired++;
                f->refs++;
                fired[n++] = f;
        }
        return n;
}

static void rest(struct sim_call *c, struct fault *f) {
        uint64_t until = f->never ? 0 : sim_now_us() + f->delay_ms * 1000;
        unsigned released = f->released;
        int r = 0;

        f->sleeping++;
        while (!f->removed && f->released == released && r != -ETIMEDOUT)
                r = call_sleep(c, &f->cond, false, until);
        f->sleeping--;
}

static void kill_now(struct sim *sim, const struct fault *f, const struct sim_call *c) {
        pid_t pid = f->kills_caller ? c->pid : f->kills;

        if (pid > 1 && pid != getpid() && kill(pid, SIGKILL) < 0)
                sim_log(sim, "fault %u could not kill process %d: %s", f->id, pid, strerror(errno));
}

/*
 * What the rules that fired ask for. *ret_killed: the caller was killed before the call did anything. One that is killed and sleeps is
 * killed in its sleep, which it cannot leave: its call is executed in the end.
 */
static int act(struct sim_call *c, struct call *k, struct fault *fired[], unsigned n, bool *ret_killed) {
        int error = 0;

        for (unsigned i = 0; i < n; i++) {
                struct fault *f = fired[i];
                bool sleeps = f->never || f->delay_ms > 0;

                if (sleeps && k)
                        stuck_sleep(k, true);
                if ((f->kills_caller || f->kills) && !f->after) {
                        kill_now(c->sim, f, c);
                        if (f->kills_caller && !sleeps)
                                *ret_killed = true;
                }
                if (sleeps)
                        rest(c, f);
                if (error == 0)
                        error = f->error;
                if ((f->kills_caller || f->kills) && f->after && k) {
                        k->kill_after = true;
                        k->kills = f->kills_caller ? c->pid : f->kills;
                }
                put(f);
        }
        return error;
}

int fault_before(struct call *k) {
        struct fault *fired[FIRED_MAX];
        bool killed = false;
        unsigned n;
        int r;

        if (!fault_any(k->c.sim) || k->op == SIM_CONTROL)
                return 0;
        n = collect(k->c.sim, k, NULL, k->device, fired);
        r = act(&k->c, k, fired, n, &killed);
        return killed ? 1 : r;
}

void fault_after(struct call *k) {
        if (!k->kill_after)
                return;
        if (k->kills > 1 && k->kills != getpid() && kill(k->kills, SIGKILL) < 0)
                sim_log(k->c.sim, "a fault could not kill process %d: %s", k->kills, strerror(errno));
        /* It dies with the answer unread. */
        if (k->kills == k->c.pid)
                k->silent = true;
}

int sim_fault(struct sim_call *c, const char *point, const char *device) {
        struct call *k = call_current();
        struct fault *fired[FIRED_MAX];
        bool killed = false;
        unsigned n;

        if (!fault_any(c->sim))
                return 0;
        /* Kernel work of its own, a release after a hang-up: nobody calls. */
        if (k && k->c.pid == 0)
                k = NULL;
        n = collect(c->sim, k, point, strempty(device), fired);
        return act(c, k, fired, n, &killed);
}
