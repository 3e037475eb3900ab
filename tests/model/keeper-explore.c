/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Walks every order of what can happen to the keepers of a VM: leases, holds, processes and vPCI connections come and go, the holder confirms or refuses what it
 * is given, the time for the first VMM runs out, the VM is sealed, tdid is restarted. keeper.c is tdid's own; a state is reached by playing its events again.
 */
#include <fcntl.h>
#include <stdlib.h>

#include "audit.h"
#include "log.h"
#include "test.h"
#include "vm.h"
#include "vpci.h"

#define KEEPERS_MAX 3
#define EVENTS_MAX 9

/* ---- what surrounds keeper.c ---- */

struct sd_event_source {
        sd_event_io_handler_t io;
        void *userdata;
        bool there;
};

static struct sd_event_source sources[64], timer;
static sd_event_time_handler_t on_time;
static Manager manager;
static VM *vm;
static size_t n_sources;

/* Of the holder: the keys that it keeps, and what it has not answered yet. */
static struct {
        char keys[KEEPERS_MAX * 4][64];
        size_t n_keys;
        holder_done done;
        void *userdata;
        char key[64];
        bool asked;
} holder_has;

/* Of clients: keepers that they were told of and have not ended. */
static size_t promised;
static int told, result;
static bool closed, timed_out;

int sd_event_add_io(_unused_ sd_event *e, sd_event_source **s, _unused_ int fd, _unused_ uint32_t events, sd_event_io_handler_t callback, void *userdata) {
        if (n_sources >= ARRAY_SIZE(sources))
                abort();
        *s = &sources[n_sources++];
        **s = (struct sd_event_source){ callback, userdata, true };
        return 0;
}

int sd_event_add_time(_unused_ sd_event *e, sd_event_source **s, _unused_ clockid_t clock, _unused_ uint64_t usec, _unused_ uint64_t accuracy,
                      sd_event_time_handler_t callback, _unused_ void *userdata) {
        on_time = callback;
        timer.there = true;
        *s = &timer;
        return 0;
}

int sd_event_source_set_enabled(_unused_ sd_event_source *s, _unused_ int enabled) {
        return 0;
}

sd_event_source *sd_event_source_disable_unref(sd_event_source *s) {
        if (s)
                s->there = false;
        return NULL;
}

int holder_call(_unused_ Holder *h, struct json_object *request, _unused_ const int *fds, _unused_ size_t n_fds, holder_done done, void *userdata) {
        holder_has.asked = true;
        holder_has.done = done;
        holder_has.userdata = userdata;
        snprintf(holder_has.key, sizeof(holder_has.key), "%s", json_str_or(request, "key", ""));
        json_object_put(request);
        return 0;
}

void holder_drop(_unused_ Holder *h, const char *key, _unused_ const char *also, _unused_ holder_done done, _unused_ void *userdata) {
        for (size_t i = 0; i < holder_has.n_keys; i++)
                if (streq(holder_has.keys[i], key)) {
                        memmove(holder_has.keys[i], holder_has.keys[i + 1], (--holder_has.n_keys - i) * sizeof(holder_has.keys[0]));
                        return;
                }
}

struct json_object *vm_record(_unused_ VM *v, _unused_ bool describe) {
        return json_new();
}

void vm_touch(_unused_ VM *v) {
}

void vm_set_phase(VM *v, enum tdi_vm_phase phase) {
        check(tdi_vm_phase_may_follow(v->phase, phase));
        v->phase = phase;
}

void vm_close(VM *v, _unused_ const char *reason) {
        closed = true;
        v->close = CLOSE_DETACHING;
        vm_set_phase(v, TDI_VM_CLOSING);
}

void audit_keeper_added(_unused_ const Keeper *k) {
}
void audit_keeper_ended(_unused_ const Keeper *k) {
}
void audit_disconnected(_unused_ const Keeper *k, _unused_ const char *why) {
}
bool vpci_may_log(_unused_ VM *v) {
        return false;
}
void log_line(_unused_ int priority, _unused_ const char *format, ...) {
}
void log_oom(void) {
        abort();
}
uint64_t now_realtime(void) {
        return 1;
}
uint64_t now_monotonic(void) {
        return 1;
}

void manager_append(void ***array, size_t *n, size_t *room, void *item) {
        if (*n >= *room) {
                *room += 16;
                *array = reallocarray(*array, *room, sizeof(**array));
                if (!*array)
                        abort();
        }
        (*array)[(*n)++] = item;
}

void manager_remove(void **array, size_t *n, void *item) {
        for (size_t i = 0; i < *n; i++)
                if (array[i] == item) {
                        memmove(array + i, array + i + 1, (--*n - i) * sizeof(*array));
                        return;
                }
}

/* ---- events ---- */

enum event { LEASE, PIDFD, CONNECT, STORED, NOT_STORED, FIRST_ENDS, LAST_ENDS, DISCONNECT, SEAL, TIME, RESTART, EVENT_MAX };

static const char *const names[] = { "Hold", "SetPidfd", "a VMM connects", "the holder has it", "the holder refuses it", "the first keeper ends", "the last keeper ends",
                                     "the VMM hangs up", "Seal", "the time is over", "tdid is restarted" };
static const struct tdi_bdf bdf = { .bus = 1 };
static bool connected;

static void on_ready(int r, int lease, _unused_ void *userdata) {
        told++;
        result = r;
        promised += r >= 0;
        if (lease >= 0)
                (void) close(lease);
}

static void vm_begin(bool await) {
        vm = calloc(1, sizeof(*vm));
        if (!vm)
                abort();
        *vm = (VM){ .manager = &manager, .announced = true, .await = await ? 60 : 0, .phase = TDI_VM_PREPARING, .name = vm->name };
}

static void vm_end(void) {
        while (vm->n_keepers > 0)
                keeper_free(vm->keepers[0]);
        free(vm->keepers);
        free(vm);
        vm = NULL;
}

/* The source of the first or last keeper that is there, of those that have one. */
static struct sd_event_source *source_of(bool last) {
        struct sd_event_source *found = NULL;

        for (size_t i = 0; i < n_sources; i++)
                if (sources[i].there && !((Keeper *) sources[i].userdata)->ended && !((Keeper *) sources[i].userdata)->storing) {
                        found = &sources[i];
                        if (!last)
                                break;
                }
        return found;
}

/* What waits for the holder is freed by its answer. */
static void drop_question(void) {
        if (!holder_has.asked)
                return;
        holder_has.asked = false;
        holder_has.done(-ECANCELED, NULL, NULL, holder_has.userdata);
}

/* As tdid's next one finds it: what the holder has, and who is connected. */
static void restart(void) {
        enum tdi_vm_phase phase = vm->phase;
        bool await = vm->await, arrived = vm->arrived;
        uint64_t deadline = vm->await_deadline;
        /* Those that it was about to keep were promised to nobody. */
        struct { char key[64]; } keys[ARRAY_SIZE(holder_has.keys)];
        size_t n = holder_has.n_keys;

        memcpy(keys, holder_has.keys, sizeof(keys));
        drop_question();
        vm_end();
        n_sources = 0;
        timer.there = false;
        vm_begin(await);
        vm->phase = phase;
        vm->arrived = arrived;
        vm->await_deadline = deadline;
        promised = n + connected;
        for (size_t i = 0; i < n; i++) {
                struct json_object *o = json_new();
                char *colon = strchr(keys[i].key, ':');

                *colon = '\0';
                json_set_str(o, "kind", keys[i].key);
                json_set_u64(o, "number", strtoull(colon + 1, NULL, 10));
                check(keeper_adopt(vm, o, open("/dev/null", O_RDONLY | O_CLOEXEC)) == 0);
                json_object_put(o);
        }
        if (connected)
                (void) keeper_new_vpci(vm, bdf, 1, 0, 1);
}

/* False: it cannot happen now. */
static bool happens(enum event event) {
        struct sd_event_source *s;
        holder_done done = holder_has.done;

        if (closed)
                return false;
        switch (event) {
        case LEASE:
        case PIDFD:
                if (vm->n_keepers >= KEEPERS_MAX || holder_has.asked)
                        return false;
                check((event == LEASE ? keeper_new_lease(vm, "x", 0, on_ready, NULL) : keeper_new_pidfd(vm, STDERR_FILENO, "x", 0, on_ready, NULL)) == 0);
                return true;
        case CONNECT:
                if (connected)
                        return false;
                connected = true;
                promised++;
                (void) keeper_new_vpci(vm, bdf, 1, 0, 0);
                return true;
        case STORED:
        case NOT_STORED:
                if (!holder_has.asked)
                        return false;
                holder_has.asked = false;
                if (event == STORED)
                        snprintf(holder_has.keys[holder_has.n_keys++], sizeof(holder_has.keys[0]), "%s", holder_has.key);
                told = 0;
                done(event == STORED ? 0 : -EIO, NULL, NULL, holder_has.userdata);
                check_int(told, 1);
                check_int(result, event == STORED ? 0 : -EIO);
                return true;
        case FIRST_ENDS:
        case LAST_ENDS:
                s = source_of(event == LAST_ENDS);
                if (!s)
                        return false;
                promised--;
                (void) s->io(s, -1, 0, s->userdata);
                return true;
        case DISCONNECT:
                if (!connected)
                        return false;
                connected = false;
                promised--;
                keeper_end_vpci(vm, bdf, "it hung up");
                return true;
        case SEAL:
                if (vm->phase != TDI_VM_PREPARING)
                        return false;
                vm_set_phase(vm, TDI_VM_SEALED);
                if (vm->arrived)
                        vm_set_phase(vm, TDI_VM_RUNNING);
                return true;
        case TIME:
                if (!timer.there)
                        return false;
                timed_out = true;
                (void) on_time(&timer, 0, vm);
                return true;
        case RESTART:
                restart();
                return true;
        default:
                return false;
        }
}

static void settle(void) {
        for (unsigned i = 0; keeper_settle(vm); i++)
                if (!check(i < 100))
                        return;
}

/* ---- what must hold ---- */

static void check_state(void) {
        size_t kept = 0, storing = 0;
        bool waits = vm->await && !vm->arrived;

        for (size_t i = 0; i < vm->n_keepers; i++) {
                const Keeper *k = vm->keepers[i];

                storing += k->storing;
                kept += k->kind != KEEPER_VPCI && !k->storing;
                for (size_t j = 0; j < i; j++)
                        check(k->number != vm->keepers[j]->number);
        }
        /* Nobody who was told that he keeps the VM sees it close; and without any it does not live on. */
        if (closed)
                check(promised == 0 || timed_out);
        else {
                check(promised == vm->n_keepers - storing);
                check(vm->n_keepers > 0 || (waits && timer.there));
                check(!(timer.there && vm->n_keepers > 0));
        }
        if (timed_out)
                check(promised == 0);
        /* What the holder keeps is what tdid knows of. */
        if (!closed)
                check_int(holder_has.n_keys, kept);
        for (size_t i = 0; i < holder_has.n_keys; i++)
                for (size_t j = 0; j < i; j++)
                        check(!streq(holder_has.keys[i], holder_has.keys[j]));
        if (vm->phase == TDI_VM_RUNNING)
                check(vm->arrived);
}

/* ---- every order ---- */

static enum event path[EVENTS_MAX];
static uint64_t *seen;
static size_t n_seen, room;
static uint64_t transitions;

static uint64_t hash(size_t left) {
        uint64_t h = 0xcbf29ce484222325ULL;
        uint64_t parts[4 + KEEPERS_MAX + 1] = { vm->phase | vm->arrived << 4 | closed << 5 | timed_out << 6 | timer.there << 7 | connected << 8 | holder_has.asked << 9,
                                                holder_has.n_keys | promised << 8, vm->await_deadline, left };

        for (size_t i = 0; i < vm->n_keepers && i <= KEEPERS_MAX; i++)
                parts[4 + i] = 1 + vm->keepers[i]->kind + 8 * vm->keepers[i]->ended + 16 * vm->keepers[i]->storing;
        for (size_t i = 0; i < sizeof(parts); i++)
                h = (h ^ ((uint8_t *) parts)[i]) * 0x100000001b3ULL;
        return h;
}

static bool is_new(uint64_t h) {
        for (size_t i = 0; i < n_seen; i++)
                if (seen[i] == h)
                        return false;
        if (n_seen >= room) {
                room += 4096;
                seen = reallocarray(seen, room, sizeof(*seen));
                if (!seen)
                        abort();
        }
        seen[n_seen++] = h;
        return true;
}

/* From the beginning: a VM with the lease of CreateVM. False when the last event cannot happen there. */
static bool play(bool await, size_t n) {
        bool did = true;

        memset(&holder_has, 0, sizeof(holder_has));
        promised = n_sources = 0;
        closed = timed_out = connected = timer.there = false;
        vm_begin(await);
        (void) happens(LEASE);
        (void) happens(STORED);
        settle();
        for (size_t i = 0; i < n && did; i++) {
                did = happens(path[i]);
                settle();
        }
        return did;
}

static void forget(void) {
        drop_question();
        vm_end();
}

static void explore(bool await, size_t depth) {
        for (enum event e = 0; e < EVENT_MAX && depth < EVENTS_MAX && test_failures == 0; e++) {
                bool went_on;

                path[depth] = e;
                went_on = play(await, depth + 1);
                if (went_on) {
                        transitions++;
                        test_about("await %d, after %s", await, names[path[depth]]);
                        check_state();
                        for (size_t i = 0; test_failures > 0 && i <= depth; i++)
                                fprintf(stderr, "  %s\n", names[path[i]]);
                        went_on = is_new(hash(EVENTS_MAX - depth)) && !closed;
                }
                forget();
                if (went_on)
                        explore(await, depth + 1);
        }
}

int main(void) {
        for (int await = 0; await < 2; await++) {
                n_seen = 0;
                transitions = 0;
                explore(await, 0);
                printf("keepers, %s: %zu states, %" PRIu64 " transitions, up to %d events\n", await ? "with a time to wait" : "without", n_seen, transitions, EVENTS_MAX);
                check(n_seen > 100 || test_failures > 0);
        }
        free(seen);
        return test_end();
}
