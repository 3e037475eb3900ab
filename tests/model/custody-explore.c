/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Walks every state that the custody engine can reach with two functions under one DSM: custody.c, custody-do.c, custody-undo.c, custody-work.c, the
 * rules, the table and the attach job are tdid's own; what surrounds them is custody-world.c. In each state everything that can happen next is
 * tried: an answer of each worker and holder, as it should be, failed, or lost with a process that died before or after the deed; a call of a
 * client; the timer of a refused unbind; the death of a holder; the death of tdid at any moment, with what was under way done or not. How many of these there
 * are on one path is limited by the setting. What must never be so is said by custody-world.c as it happens, and by check() below of every state.
 *
 * A state is known by 64 bits of its hash: two that share them would hide one, which in a hundred thousand states has a chance of about 1 in 10^9.
 */
#include <stdarg.h>

#include "custody-rules.h"
#include "custody-world.h"
#include "test.h"

/* ---- settings ---- */

/* Calls of a client, failures, deaths of processes, the host that wants a function back: together on one path. */
static const struct setting settings[] = {
        /* name                         group  first  one_vm one_attach calls faults deaths wants */
        { "one group, one VM",           true,  false, true,  true,      3,    1,     0 },
        { "one group, deaths",           true,  false, true,  true,      2,    0,     1 },
        { "two groups, one attach",      false, false, true,  true,      3,    1,     0 },
        { "two groups, two VMs",         false, false, false, false,     4,    0,     0 },
        { "two groups, two VMs, faults", false, false, false, false,     3,    1,     0 },
        { "two groups, two VMs, deaths", false, false, false, false,     3,    0,     1 },
        { "two groups, two VMs, a death and a fault", false, false, false, false, 3, 1, 1 },
        { "one group, wanted",           true,  false, true,  true,      1,    1,     0, 1 },
        { "two groups, wanted",          false, false, true,  true,      1,    1,     0, 1 },
        { "DSM and its function, wanted", false, true, true,  true,      1,    1,     0, 1 },
        { "DSM and its function",        false, true,  true,  true,      4,    1,     0 },
        { "DSM and its function, deaths", false, true,  true,  true,      3,    0,     1 },
        { "DSM and its function in two VMs", false, true,  false, false, 4,    1,     0 },
};

/* What every variant of the build walks. */
static const struct setting smoke_settings[] = {
        { "two groups, two VMs",         false, false, false, false,     4,    0,     0 },
        { "two groups, two VMs, faults", false, false, false, false,     3,    1,     0 },
        { "DSM and its function",        false, true,  true,  true,      2,    0,     0 },
};

/* With "full" as its argument: more of everything. */
static const struct setting full_settings[] = {
        { "one group, one VM",           true,  false, true,  true,      3,    2,     1 },
        { "one group, wanted",           true,  false, true,  true,      3,    1,     1, 1 },
        { "two groups, two VMs",         false, false, false, false,     4,    1,     1 },
        { "DSM and its function",        false, true,  true,  true,      4,    1,     1 },
        { "DSM and its function, wanted", false, true, true,  true,      3,    1,     1, 1 },
        { "DSM and its function in two VMs", false, true,  false, false, 4,    1,     1 },
};

/* ---- states that are kept ---- */

struct kept {
        struct world world;
        struct Custody raw[FUNCTIONS];
        char values[FUNCTIONS][VALUES_MAX];
        bool quarantine[FUNCTIONS];
};

static void keep(struct kept *k) {
        k->world = world;
        for (int i = 0; i < FUNCTIONS; i++) {
                k->raw[i] = *custodies[i];
                k->quarantine[i] = custodies[i]->quarantine;
                snprintf(k->values[i], VALUES_MAX, "%s", json_object_to_json_string_ext(custodies[i]->values, JSON_C_TO_STRING_PLAIN));
        }
}

static void go_back(const struct kept *k) {
        world = k->world;
        for (int i = 0; i < FUNCTIONS; i++) {
                Custody *c = custodies[i];
                char *vm_id = c->vm_id;

                json_object_put(c->values);
                free(c->quarantine);
                free(c->error_text);
                *c = k->raw[i];
                c->vm_id = vm_id;
                c->error_text = NULL;
                c->values = json_tokener_parse(k->values[i]);
                c->quarantine = k->quarantine[i] ? strdup("it is") : NULL;
        }
}

/* ---- which have been seen ---- */

static uint64_t *seen;
static size_t n_seen, room_seen;

static uint64_t mix(uint64_t h, const void *data, size_t size) {
        const uint8_t *p = data;

        for (size_t i = 0; i < size; i++)
                h = (h ^ p[i]) * 0x100000001b3ULL;
        return h ^ h >> 29;
}

#define MIX(value)                                                   \
        do {                                                         \
                uint64_t v_ = (uint64_t) (value);                    \
                                                                     \
                h = mix(h, &v_, sizeof(v_));                         \
        } while (0)

/* Whatever order its members came in. */
static uint64_t mix_values(struct json_object *values) {
        uint64_t sum = 0;

        json_object_object_foreach(values, key, v) {
                const char *text = json_object_to_json_string_ext(v, JSON_C_TO_STRING_PLAIN);

                sum += mix(mix(0xcbf29ce484222325ULL, key, strlen(key)), text, strlen(text));
        }
        return sum;
}

static uint64_t hash(void) {
        uint64_t h = 0xcbf29ce484222325ULL;

        for (int i = 0; i < FUNCTIONS; i++) {
                const struct kernel *k = &world.kernel[i];
                const struct pending *p = &world.pending[i];
                const struct journal_copy *j = &world.journal[i];
                const Custody *c = custodies[i];

                MIX(k->override | k->power << 1 | k->vfio << 2 | k->iommufd << 3 | k->attached << 4 | k->bound << 5 | k->socket << 6 | k->locked << 7 |
                    k->requests << 8 | k->cdev << 9 | k->binding << 12);
                MIX(p->kind);
                MIX(p->actions);
                MIX(p->undo | p->of_binding << 1 | p->in_doubt << 2 | p->used << 3);
                MIX((uintptr_t) p->worker_done ^ (uintptr_t) p->holder_done);
                MIX(j->there | j->quarantined << 1);
                MIX(j->done);
                MIX(j->begun);
                if (j->there) {
                        struct json_object *o = json_tokener_parse(j->values);

                        MIX(mix_values(o));
                        json_object_put(o);
                }
                MIX(world.there[i] | world.worker[i] << 1 | world.holder[i] << 2 | world.closing[i] << 3 | world.committed[i] << 4 | world.again[i] << 5);
                MIX(world.tdi[i]);
                MIX(c->done);
                MIX(c->begun);
                MIX(c->command);
                MIX(c->goal | c->again_goal << 4);
                MIX(c->verify);
                MIX(c->busy ? c->probing : 0);
                MIX(c->busy | c->given_to_worker << 1 | c->retried << 2 | c->group_kept << 3 | c->journalled << 4 | c->recovered << 5 | c->blocked << 6 |
                    c->trying_again << 7 | (c->quarantine != NULL) << 8 | (c->device >= 0) << 9 | (c->binding >= 0) << 10 | (c->worker != NULL) << 11 |
                    (c->asked != 0) << 12 | (c->error != TDI_ERROR_NONE) << 13 | c->wanted << 14);
                MIX(mix_values(c->values));
        }
        MIX(world.connected | world.mark[0] << 1 | world.mark[1] << 2 | world.attach_undoes << 3 | world.attach_commits << 4);
        MIX(world.attach | world.attach_of << 4);
        MIX(world.operations | world.faults << 8 | world.deaths << 16 | world.wants << 24);
        return h ? h : 1;
}

static bool insert(uint64_t h) {
        size_t at;

        if (n_seen * 2 >= room_seen) {
                size_t room = room_seen ? room_seen * 2 : 1 << 16;
                uint64_t *old = seen;

                seen = calloc(room, sizeof(*seen));
                if (!seen)
                        abort();
                for (size_t i = 0; i < room_seen; i++)
                        if (old[i]) {
                                for (at = old[i] % room; seen[at]; at = (at + 1) % room)
                                        ;
                                seen[at] = old[i];
                        }
                free(old);
                room_seen = room;
        }
        for (at = h % room_seen; seen[at]; at = (at + 1) % room_seen)
                if (seen[at] == h)
                        return false;
        seen[at] = h;
        n_seen++;
        return true;
}

/* ---- how we got here, for people ---- */

#define DEPTH_MAX 400

static char path[DEPTH_MAX][96];
static size_t depth, deepest;
static uint64_t transitions;

void violation(const char *format, ...) {
        va_list ap;

        fprintf(stderr, "%s: ", setting->name);
        va_start(ap, format);
        vfprintf(stderr, format, ap);
        va_end(ap);
        fprintf(stderr, "; after:\n");
        for (size_t i = 0; i < depth; i++)
                fprintf(stderr, "  %s\n", path[i]);
        for (int i = 0; i < FUNCTIONS; i++)
                fprintf(stderr, "  function %d: goal %d, done %#x, begun %#x, at %s%s%s\n", i, custodies[i]->goal, custodies[i]->done, custodies[i]->begun,
                        custody_action_name(custodies[i]), custodies[i]->busy ? ", busy" : "", custodies[i]->quarantine ? ", quarantined" : "");
        exit(1);
}

/* ---- what must hold of every state ---- */

static bool waits(void) {
        for (int i = 0; i < FUNCTIONS; i++)
                if (world.pending[i].kind != PENDING_NOTHING)
                        return true;
        return false;
}

static void check_function(int i) {
        const struct kernel *k = &world.kernel[i];
        const Custody *c = custodies[i];
        bool whole = c->goal == GOAL_KEEP && !c->busy && !c->quarantine && c->begun == 0;

        /* Nothing is lost: what is not in custody is as it was. */
        if (!world.there[i] && (k->override || k->power || k->vfio || k->guarded || k->iommufd || k->attached || k->bound || k->socket || k->cdev || k->binding))
                violation("nobody has function %d, and it is not as it was", i);
        if (world.there[i] && !c->journalled && (k->override || k->power || k->vfio || k->guarded || k->cdev || k->bound))
                violation("function %d is changed, and not in the journal", i);
        if (k->bound && !custody_is_bound_in_kernel(c))
                violation("function %d is bound, and the engine does not know", i);
        /* tdid is never the last that has it open, once it is the holder's. */
        if (k->cdev == BY_TDID && custody_is_done(c, ACTION_OPEN_CDEV) && world.holder[i])
                violation("only tdid has function %d open", i);
        if (!world.there[i] || !whole || c->verify)
                return;
        if (custody_is_done(c, ACTION_CLAIM_REBIND) != k->vfio || custody_is_done(c, ACTION_GUARD_ON) != k->guarded || custody_is_done(c, ACTION_OPEN_CDEV) != (k->cdev != 0) ||
            custody_is_done(c, ACTION_PREPARE_ATTACH) != k->attached || custody_is_done(c, ACTION_BIND_TSM) != k->bound)
                violation("function %d is at rest, and the kernel is elsewhere", i);
        if (custody_is_done(c, ACTION_CONNECT_TSM) && !world.connected)
                violation("the DSM of function %d is disconnected under it", i);
}

static void check_state(void) {
        bool used = false;

        for (int i = 0; i < FUNCTIONS; i++) {
                check_function(i);
                used |= world.there[i] && (custody_touched(custodies[i], ACTION_CONNECT_TSM) || custodies[i]->quarantine);
        }
        if (world.connected && !used)
                violation("the DSM is connected, and nobody uses it");
        if (waits())
                return;
        /* Nobody waits for anything: then all is where it was to go, or in quarantine, or waits for one that is. */
        for (int i = 0; i < FUNCTIONS; i++) {
                const Custody *c = custodies[i];

                if (world.there[i] && c->goal != GOAL_KEEP && !custody_is_stalled(c) && !world.again[i])
                        violation("function %d is on its way, and nothing will move it", i);
                if (c->wanted && world.kernel[i].cdev && c->quarantine && !world.again[i] && !custody_touched(c, ACTION_BIND_TSM))
                        violation("the host waits for function %d, and nobody gives it back", i);
                if (c->blocked && !custodies[1 - i]->quarantine)
                        violation("function %d waits for nobody", i);
        }
        if (world.attach != JOB_NONE)
                violation("the attach job has not ended, and nothing is under way");
}

/* ---- what can happen ---- */

/* In one number: which function, and what. False when it cannot happen here. */
enum {
        ANSWER = 0,    /* + how */
        ATTACH = 4, BIND, UNBIND, DETACH, CLOSE, RESTORE, RING, HOLDER_DIES, WANT,
        RESTART,       /* + which of what is pending was done all the same */
        CHOICES = RESTART + (1 << FUNCTIONS),
};

static bool can_attach(int i) {
        int last = setting->one_attach ? FUNCTIONS - 1 : i;

        if (world.attach != JOB_NONE || (setting->one_attach && i > 0))
                return false;
        for (int o = i; o <= last; o++) {
                if (world.there[o] || world.closing[o] || !world.holder[o])
                        return false;
                /* bus/attach.c */
                if (custody_bound_under(&manager, custodies[o]->name))
                        return false;
        }
        return true;
}

static void attach(int i) {
        int last = setting->one_attach ? FUNCTIONS - 1 : i;

        world.sequence++;
        world.attach = JOB_RUNS;
        world.attach_of = 0;
        world.attach_undoes = world.attach_commits = false;
        for (int o = i; o <= last; o++) {
                Custody *c = custodies[o];

                world.there[o] = true;
                world.tdi[o] = TDI_STATE_ATTACHING;
                world.attach_of |= (uint8_t) (1u << o);
                c->sequence = world.sequence;
                json_set_u64(c->values, "guest_rid", 1);
                custody_set_goal(c, GOAL_UP);
        }
}

static void give_back(int i) {
        tdi_set_state(tdi_of(custodies[i]), TDI_STATE_DETACHING);
        custody_give_back(custodies[i]);
}

/* As bus/tdi.c, bus/device.c and vm-close.c ask of the engine. */
static bool happens(int i, int what) {
        Custody *c = custodies[i];
        char why[256];

        if (what < ATTACH) {
                bool worker = world.pending[i].kind != PENDING_NOTHING && world.pending[i].kind < PENDING_PROBE;

                if (world.pending[i].kind == PENDING_NOTHING || (what == 1 && (world.faults == 0 || world.pending[i].kind == PENDING_PROBE || world.pending[i].kind == PENDING_DROP)) ||
                    (what >= 2 && (!worker || world.deaths == 0)) || (what == 3 && world.pending[i].kind == PENDING_TAKE))
                        return false;
                world.faults = (uint8_t) (world.faults - (what == 1));
                world.deaths = (uint8_t) (world.deaths - (what >= 2));
                world_answer(i, what);
                return true;
        }
        if (what >= RESTART) {
                unsigned done = (unsigned) (what - RESTART);

                for (int o = 0; o < FUNCTIONS; o++)
                        if (done & 1u << o && world.pending[o].kind == PENDING_NOTHING)
                                return false;
                if (i > 0 || world.deaths == 0)
                        return false;
                world.deaths--;
                world_restart(done);
                return true;
        }
        if (what == RING) {
                if (!world.again[i])
                        return false;
                world_ring(i);
                return true;
        }
        if (what == HOLDER_DIES) {
                if (!world.holder[i] || world.deaths == 0 || (setting->one_vm && i > 0))
                        return false;
                world.deaths--;
                world_holder_dies(i);
                /* Its VM closes (vm_holder_died). */
                for (int o = 0; o < FUNCTIONS; o++)
                        if (world_same_vm(i, o)) {
                                world.closing[o] = true;
                                if (world.there[o])
                                        give_back(o);
                        }
                return true;
        }
        if (what == WANT) {
                if (!world.there[i] || c->request < 0 || world.wanted[i] || world.wants == 0)
                        return false;
                world.wants--;
                world_want(i);
                return true;
        }
        if (world.operations == 0)
                return false;
        switch (what) {
        case ATTACH:
                if (!can_attach(i))
                        return false;
                attach(i);
                break;
        case BIND:
                if (!tdi_of(c) || world.tdi[i] != TDI_STATE_PREPARED || !custody_is_complete(c) || custody_is_bound(c) || world.closing[i] ||
                    !custody_dsm_lets_bind(c, why, sizeof(why)))
                        return false;
                custody_set_goal(c, GOAL_BIND);
                break;
        case UNBIND:
                if (!tdi_of(c) || world.tdi[i] != TDI_STATE_BOUND || c->quarantine || !(c->goal == GOAL_KEEP || c->goal == GOAL_BIND))
                        return false;
                custody_set_goal(c, GOAL_UNBIND);
                break;
        case DETACH:
                if (!tdi_of(c) || world.tdi[i] == TDI_STATE_ATTACHING || world.tdi[i] == TDI_STATE_DETACHING)
                        return false;
                for (int o = 0; o < FUNCTIONS; o++)
                        if (o == i || (setting->one_group && world.there[o])) {
                                world.committed[o] = false;
                                give_back(o);
                        }
                break;
        case CLOSE:
                if (world.closing[i] || (setting->one_vm && i > 0) || (!world.there[i] && !setting->one_vm))
                        return false;
                for (int o = 0; o < FUNCTIONS; o++)
                        if (world_same_vm(i, o)) {
                                world.closing[o] = true;
                                if (world.there[o])
                                        give_back(o);
                        }
                break;
        case RESTORE:
                if (!world.there[i] || !c->quarantine || c->busy)
                        return false;
                world_restore(i);
                break;
        default:
                return false;
        }
        world.operations--;
        return true;
}

static const char *const names[] = { "its answer comes", "it fails", "its worker dies before", "its worker dies after", "Attach", "Bind", "Unbind", "Detach",
                                     "its VM closes", "Restore", "it is tried again", "its holder dies", "the host wants it", "tdid is restarted" };

static void describe(int i, int what) {
        const struct pending *p = &world.pending[i];

        snprintf(path[depth], sizeof(path[0]), "%d: %s%s%s%s", i, names[what > RESTART ? RESTART : what], what < ATTACH ? ": " : "",
                 what < ATTACH && p->actions ? custody_table[custody_highest(p->actions)].name : "", what < ATTACH ? p->kind >= PENDING_PUT ? " (holder)" : p->undo ? " undo" : " do" : "");
}

static void explore(void) {
        struct kept *here = malloc(sizeof(*here));

        if (!here)
                abort();
        keep(here);
        for (int i = 0; i < FUNCTIONS; i++)
                for (int what = 0; what < CHOICES; what++) {
                        if (depth >= DEPTH_MAX)
                                violation("too deep");
                        describe(i, what);
                        depth++;
                        /* Where it cannot happen nothing has changed. */
                        world_settle();
                        if (happens(i, what)) {
                                transitions++;
                                world_settle();
                                check_state();
                                deepest = depth > deepest ? depth : deepest;
                                if (insert(hash()))
                                        explore();
                                go_back(here);
                        }
                        depth--;
                }
        free(here);
}

static void run(const struct setting *s) {
        uint64_t taken = transitions;

        free(seen);
        seen = NULL;
        n_seen = room_seen = deepest = depth = 0;
        world_begin(s);
        (void) insert(hash());
        explore();
        printf("%s: %zu states, %" PRIu64 " transitions, %zu deep\n", s->name, n_seen, transitions - taken, deepest);
}

static const struct {
        const char *name;
        const struct setting *settings;
        size_t n;
} levels[] = {
        { "smoke", smoke_settings, ARRAY_SIZE(smoke_settings) },
        { "quick", settings, ARRAY_SIZE(settings) },
        { "full", full_settings, ARRAY_SIZE(full_settings) },
};

int main(int argc, char *argv[]) {
        const char *wanted = argc > 1 ? argv[1] : "quick", *only = argc > 2 ? argv[2] : NULL;

        for (size_t i = 0; i < ARRAY_SIZE(levels); i++)
                for (size_t j = 0; streq(levels[i].name, wanted) && j < levels[i].n; j++)
                        if (!only || streq(only, levels[i].settings[j].name))
                                run(&levels[i].settings[j]);
        if (transitions == 0) {
                fprintf(stderr, "usage: %s [smoke|quick|full [SETTING]]\n", argv[0]);
                return 2;
        }
        free(seen);
        return test_end();
}
