/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The lanes of a function: who reads the stream, who executes, and who answers. */
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>

#include "histogram.h"
#include "vm/vpci/clock.h"
#include "vm/vpci/function.h"
#include "vm/vpci/thread.h"

/* A request that takes longer gets a stand-in, and at last the supervisor's answer: a client gives up after 5 s (QEMU's x-msg-timeout). */
#define STAND_IN_NSEC 1000000000ULL
#define ANSWER_NSEC 3500000000ULL
#define SEND_PATIENCE_NSEC 20000000ULL
/* How long a request may wait for anything of ours; what comes behind one that has has this the less, or a row of them would be late. */
#define PATIENCE_NSEC 3000000000ULL
/* From here on a request is one that others wait for. */
#define SLOW_NSEC 250000000ULL
#define REPLY_MIN 4096UL

int lane_room(struct lane *l, size_t size) {
        uint8_t *t;

        if (size <= l->reply_room)
                return 0;
        size = size < REPLY_MIN ? REPLY_MIN : size;
        t = realloc(l->reply, size);
        if (!t)
                return -ENOMEM;
        l->reply = t;
        l->reply_room = size;
        return 0;
}

/* ---- answers ---- */

static struct vu_header header_of(const struct vu_header *request, int r, size_t size) {
        return (struct vu_header){
                .id = request->id,
                .command = request->command,
                .size = (uint32_t) (sizeof(struct vu_header) + (r < 0 ? 0 : size)),
                .flags = VU_TYPE_REPLY | (r < 0 ? VU_FLAGS_ERROR : 0),
                .error = r < 0 ? (uint32_t) -r : 0,
        };
}

static int answer(struct function *f, const struct vu_header *request, int r, const void *body, size_t size) {
        struct vu_header h = header_of(request, r, size);
        int k;

        if (request->flags & VU_FLAGS_NO_REPLY)
                return 0;
        pthread_mutex_lock(&f->send_lock);
        k = stream_send(f->stream.socket, &h, body, r < 0 ? 0 : size, 0);
        pthread_mutex_unlock(&f->send_lock);
        return k;
}

#define PHASE_BITS 4

static enum phase phase_in(unsigned word) {
        return (enum phase) (word & ((1U << PHASE_BITS) - 1));
}

static unsigned word(const struct lane *l, enum phase phase) {
        return l->number << PHASE_BITS | phase;
}

/* The lane's own moves. */
static bool move(struct lane *l, enum phase from, enum phase to) {
        unsigned expected = word(l, from);

        return atomic_compare_exchange_strong(&l->phase, &expected, word(l, to));
}

static void begin(struct lane *l) {
        uint64_t now = now_nsec();

        atomic_store_explicit(&l->since, now, memory_order_relaxed);
        atomic_store_explicit(&l->arrived, l->function->waited ? l->function->waited : now, memory_order_relaxed);
        l->number++;
        atomic_store(&l->phase, word(l, PHASE_BUSY));
        vpci_wake(l->function->vpci);
}

unsigned lane_patience(const struct lane *l) {
        uint64_t age = now_nsec() - atomic_load_explicit(&l->arrived, memory_order_relaxed);

        return age < PATIENCE_NSEC ? (unsigned) ((PATIENCE_NSEC - age) / 1000000) : 0;
}

/* When a message came nobody can tell; that there was none can be seen. Of the lane that reads. */
static void look_for_waiting(struct function *f) {
        struct pollfd p = { .fd = f->stream.socket, .events = POLLIN };

        if (f->waited && !stream_has_more(&f->stream) && poll(&p, 1, 0) == 0)
                f->waited = 0;
}

static void count(struct lane *l) {
        uint64_t spent = now_nsec() - atomic_load_explicit(&l->since, memory_order_relaxed);
        struct function *f = l->function;

        /* Only the lane writes its own; the sums are for people. */
        atomic_fetch_add_explicit(&l->requests, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&f->nanoseconds, spent, memory_order_relaxed);
        atomic_fetch_add_explicit(&f->took[histogram_slot(function_bounds, FUNCTION_BOUNDS, spent)], 1, memory_order_relaxed);
        if (spent > atomic_load_explicit(&f->slowest, memory_order_relaxed))
                atomic_store_explicit(&f->slowest, spent, memory_order_relaxed);
}

/* After a request, with the stream in hand: what has come meanwhile may have waited as long as it took. */
static void note_waiting(struct lane *l) {
        uint64_t since = atomic_load_explicit(&l->since, memory_order_relaxed);

        if (!l->function->waited && now_nsec() - since > SLOW_NSEC)
                l->function->waited = since;
}

/* ---- the stand-in ---- */

static int serve_one(struct lane *l, int (*execute)(struct lane *l, const void **body, size_t *size)) {
        const void *body = NULL;
        size_t size = 0;
        int r, k = 0;

        begin(l);
        r = execute(l, &body, &size);
        if (move(l, PHASE_BUSY, PHASE_SENDING))
                k = r == -ECONNABORTED ? r : answer(l->function, &l->message.header, r, body, size);
        /* It looks at our message, and never sleeps. */
        while (phase_in(atomic_load(&l->phase)) == PHASE_LATE)
                (void) sched_yield();
        count(l);
        atomic_store(&l->phase, word(l, PHASE_IDLE));
        message_close_fds(&l->message);
        return r == -ECONNABORTED ? r : k;
}

static bool told_to_leave(struct function *f, bool wait) {
        struct pollfd p[2] = { { .fd = f->leave, .events = POLLIN }, { .fd = f->stream.socket, .events = POLLIN } };

        while (poll(p, 2, wait ? -1 : 0) < 0 && errno == EINTR)
                ;
        return p[0].revents;
}

/* The client has gone while the first lane is in the kernel: what need not wait for that does not. A VM may end now, and its memory with it. */
static void leave_early(struct function *f) {
        pthread_mutex_lock(&f->lock);
        f->hung_up = f->told = true;
        function_hang_up_locked(f);
        pthread_mutex_unlock(&f->lock);
        vpci_event(f->vpci, f->bdf, "disconnected", "the client hung up");
        function_drop_memory(f);
}

/* What takes the first lane so long is the guest's memory: the device is not in use, and fine. */
static bool is_with_memory(const struct lane *l) {
        return l->message.header.command == VU_DMA_MAP || l->message.header.command == VU_DMA_UNMAP;
}

/* It only wants the stream: who has its answer and asks on must find the device there. */
static bool is_back(const struct lane *l) {
        enum phase phase = phase_in(atomic_load(&l->phase));

        return phase == PHASE_SENDING || phase == PHASE_IDLE;
}

static void *stand_in(void *userdata) {
        struct lane *l = userdata;
        struct function *f = l->function;
        bool handed = false;
        int r = 0;

        note_waiting(&f->lanes[0]);
        while (r >= 0) {
                look_for_waiting(f);
                if (told_to_leave(f, !stream_has_more(&f->stream)))
                        break;
                r = stream_receive(&f->stream, &l->message, MSG_DONTWAIT);
                if (r == -EAGAIN) {
                        r = 0;
                        if (told_to_leave(f, true))
                                break;
                        continue;
                }
                if (r >= 0 && is_back(&f->lanes[0])) {
                        handed = true;
                        break;
                }
                if (r >= 0) {
                        r = serve_one(l, is_with_memory(&f->lanes[0]) ? dispatch : dispatch_away);
                        note_waiting(l);
                }
        }
        if (r < 0)
                leave_early(f);
        pthread_mutex_lock(&f->lock);
        f->handed = handed;
        f->standing_in = false;
        pthread_cond_broadcast(&f->changed);
        pthread_mutex_unlock(&f->lock);
        return NULL;
}

int lane_start(struct lane *l, void *(*run)(void *)) {
        int r = thread_start(&l->thread, run, l);

        l->running = r == 0;
        return r;
}

static void step_aside_locked(struct function *f) {
        struct lane *l = &f->lanes[1];

        if (f->standing_in || f->handed || f->hung_up || f->stopping || f->connection < 0)
                return;
        /* It has come back by now, and reads the stream itself: it says so before it takes this lock. */
        if (phase_in(atomic_load(&f->lanes[0].phase)) == PHASE_IDLE)
                return;
        if (l->running)
                (void) pthread_join(l->thread, NULL); /* it has ended: standing_in was its last word */
        f->standing_in = true;
        if (lane_start(l, stand_in) < 0)
                f->standing_in = false;
}

void function_step_aside(struct lane *l) {
        struct function *f = l->function;

        if (l->stands_in)
                return;
        pthread_mutex_lock(&f->lock);
        step_aside_locked(f);
        pthread_mutex_unlock(&f->lock);
}

void function_answer_early(struct lane *l) {
        const struct message *m = &l->message;
        size_t size = m->header.command == VU_REGION_WRITE ? sizeof(struct vu_region_access) : sizeof(struct vu_write_multi);

        if (!move(l, PHASE_BUSY, PHASE_EARLY))
                return;
        /* A client that has gone is seen by whoever reads next. */
        (void) answer(l->function, &m->header, 0, m->body, size);
        atomic_store(&l->phase, PHASE_ANSWERED);
        function_step_aside(l);
}

/* ---- the first lane ---- */

/* The stream is the first lane's again: whether it goes on, whether the other lane has had it, and whether that left its last message to us. */
static bool take_back(struct function *f, bool *ret_away, bool *ret_handed) {
        bool gone;

        pthread_mutex_lock(&f->lock);
        *ret_away = f->standing_in;
        if (f->standing_in) {
                (void) eventfd_write(f->leave, 1);
                while (f->standing_in)
                        (void) pthread_cond_wait(&f->changed, &f->lock);
                (void) eventfd_read(f->leave, &(eventfd_t){ 0 });
        }
        *ret_handed = f->handed;
        if (f->handed) {
                struct message m = f->lanes[0].message;

                f->lanes[0].message = f->lanes[1].message;
                f->lanes[1].message = m;
                f->handed = false;
                *ret_away = true;
        }
        gone = f->hung_up || f->stopping;
        pthread_mutex_unlock(&f->lock);
        return !gone;
}

const char *lane_serve(struct function *f) {
        struct lane *l = &f->lanes[0];
        bool away, handed = false;

        for (;;) {
                int r = 0;

                if (!handed) {
                        look_for_waiting(f);
                        r = stream_receive(&f->stream, &l->message, 0);
                }
                if (r >= 0) {
                        r = serve_one(l, dispatch);
                        /* Only one that has been away can find somebody else at the stream. */
                        if (!take_back(f, &away, &handed))
                                return "the client hung up";
                        if (!away)
                                note_waiting(l);
                }
                if (r == -EBADMSG || r == -ECONNABORTED)
                        return "the client broke the protocol";
                if (r < 0)
                        return r == -ECONNRESET || r == -EPIPE ? "the client hung up" : strerror(-r);
        }
}

/* ---- the supervisor, while a lane is in the kernel ---- */

/* A lane that is just sending takes microseconds; one that cannot, because its client does not read, is not waited for. */
static bool lock_to_send(struct function *f) {
        for (uint64_t until = now_nsec() + SEND_PATIENCE_NSEC; now_nsec() < until; (void) sched_yield())
                if (pthread_mutex_trylock(&f->send_lock) == 0)
                        return true;
        return false;
}

/* Its time is up: the supervisor answers, or ends the connection when it cannot at once. */
static void answer_late(struct function *f, struct lane *l, unsigned seen) {
        const unsigned number = seen & ~((1U << PHASE_BITS) - 1);
        const struct message *m = &l->message;
        uint8_t room[4096];
        const void *body = NULL;
        size_t size = 0;
        int r, k = -EAGAIN;

        if (!atomic_compare_exchange_strong(&l->phase, &seen, number | PHASE_LATE))
                return;
        atomic_fetch_add_explicit(&f->timeouts, 1, memory_order_relaxed);
        r = dispatch_late(m, room, sizeof(room), &body, &size);
        if (m->header.command == VU_DEVICE_RESET) {
                atomic_store(&f->failed, true);
                vpci_event(f->vpci, f->bdf, "failed", "its reset has not come to an end in 3.5 s");
        }
        if (!(m->header.flags & VU_FLAGS_NO_REPLY) && lock_to_send(f)) {
                struct vu_header h = header_of(&m->header, r, size);

                if (f->stream.socket >= 0)
                        k = stream_send(f->stream.socket, &h, body, r < 0 ? 0 : size, MSG_DONTWAIT);
                pthread_mutex_unlock(&f->send_lock);
        } else if (m->header.flags & VU_FLAGS_NO_REPLY)
                k = 0;
        atomic_store(&l->phase, number | PHASE_ANSWERED);
        if (k < 0 || l->stands_in)
                function_hang_up(f);
}

bool function_watch(struct function *f, uint64_t now) {
        bool busy = false;

        for (size_t i = 0; i < ARRAY_SIZE(f->lanes); i++) {
                struct lane *l = &f->lanes[i];
                unsigned seen = atomic_load(&l->phase);
                enum phase phase = phase_in(seen);
                uint64_t age, waited;

                if (phase == PHASE_IDLE)
                        continue;
                busy = true;
                age = now - atomic_load(&l->since);
                if ((int64_t) age < 0)
                        continue;
                /* A client that does not take its replies. */
                if ((phase == PHASE_SENDING || phase == PHASE_EARLY) && age > ANSWER_NSEC)
                        function_hang_up(f);
                waited = now - atomic_load(&l->arrived);
                if (i == 0 && (age > STAND_IN_NSEC || (age > SLOW_NSEC && waited > STAND_IN_NSEC)) && (phase == PHASE_BUSY || phase == PHASE_ANSWERED))
                        function_step_aside(l);
                if (phase == PHASE_BUSY && age > SLOW_NSEC && waited > ANSWER_NSEC)
                        answer_late(f, l, seen);
                /* A stand-in that is in a reset of its own, with nobody to stand in for it. */
                if (i > 0 && phase == PHASE_ANSWERED && age > ANSWER_NSEC)
                        function_hang_up(f);
        }
        return busy;
}
