/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Threads of a function, and who answers. */
#include "vm/vpci/function.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>

#include "log.h"
#include "model/json.h"
#include "vm/vpci/clock.h"
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
        if (spent > atomic_load_explicit(&f->slowest, memory_order_relaxed))
                atomic_store_explicit(&f->slowest, spent, memory_order_relaxed);
}

/* After a request, with the stream in hand: what has come meanwhile may have waited as long as it took. */
static void note_waiting(struct lane *l) {
        uint64_t since = atomic_load_explicit(&l->since, memory_order_relaxed);

        if (!l->function->waited && now_nsec() - since > SLOW_NSEC)
                l->function->waited = since;
}

static int hang_up_locked(struct function *f) {
        return f->connection >= 0 ? shutdown(f->connection, SHUT_RDWR) : 0;
}

void function_hang_up(struct function *f) {
        pthread_mutex_lock(&f->lock);
        (void) hang_up_locked(f);
        pthread_mutex_unlock(&f->lock);
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

int function_enter_dma(struct function *f, unsigned msec) {
        struct timespec until;
        int r = 0;

        (void) clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += msec / 1000;
        until.tv_nsec += (long) (msec % 1000) * 1000000;
        if (until.tv_nsec >= 1000000000) {
                until.tv_sec++;
                until.tv_nsec -= 1000000000;
        }
        pthread_mutex_lock(&f->lock);
        while (f->in_dma && r == 0)
                r = msec == UINT_MAX ? pthread_cond_wait(&f->changed, &f->lock) : pthread_cond_timedwait(&f->changed, &f->lock, &until);
        r = f->in_dma ? -EBUSY : 0;
        f->in_dma = true;
        pthread_mutex_unlock(&f->lock);
        return r;
}

void function_leave_dma(struct function *f) {
        pthread_mutex_lock(&f->lock);
        f->in_dma = false;
        pthread_cond_broadcast(&f->changed);
        pthread_mutex_unlock(&f->lock);
}

static void drop_memory(struct function *f) {
        (void) function_enter_dma(f, UINT_MAX);
        dma_client_clear(f->dma);
        function_leave_dma(f);
}

/* The client has gone while the first lane is in the kernel: what need not wait for that does not. A VM may end now, and its memory with it. */
static void leave_early(struct function *f) {
        pthread_mutex_lock(&f->lock);
        f->hung_up = f->told = true;
        (void) hang_up_locked(f);
        pthread_mutex_unlock(&f->lock);
        vpci_event(f->vpci, f->bdf, "disconnected", "the client hung up");
        drop_memory(f);
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

static int start(struct lane *l, void *(*run)(void *)) {
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
        if (start(l, stand_in) < 0)
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

static const char *serve_connection(struct function *f) {
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

/* Nothing of a client outlives its connection: no interrupt, no DMA, no map. */
static void clean_up(struct function *f) {
        region_quiet(f);
        function_withdraw_bars(f);
        irq_disable_all(f);
        drop_memory(f);
        irq_take_request(f, -EBADF);
        atomic_store(&f->failed, false);
}

/* Whoever comes last has seen the last change. */
void function_settle_master(struct function *f) {
        static const enum vconfig_master of[] = {
                [DMA_MASTER_NO] = VCONFIG_MASTER_NO,
                [DMA_MASTER_YES] = VCONFIG_MASTER_YES,
                [DMA_MASTER_STAYS] = VCONFIG_MASTER_STAYS,
        };
        enum dma_master master;

        pthread_mutex_lock(&f->master_lock);
        master = dma_master(f->dma);
        vconfig_set_master(f->config, of[master]);
        atomic_store(&f->master, (int) master);
        pthread_mutex_unlock(&f->master_lock);
}

static void settle_soon(struct function *f, bool for_good);

void function_settle_soon(struct function *f) {
        settle_soon(f, false);
}

static void settle_soon(struct function *f, bool for_good) {
        pthread_mutex_lock(&f->settle_lock);
        f->to_settle = true;
        f->settled_for_good |= for_good;
        pthread_cond_signal(&f->settle_changed);
        pthread_mutex_unlock(&f->settle_lock);
}

static void *settle(void *userdata) {
        struct function *f = userdata;

        for (;;) {
                pthread_mutex_lock(&f->settle_lock);
                while (!f->to_settle)
                        (void) pthread_cond_wait(&f->settle_changed, &f->settle_lock);
                f->to_settle = false;
                if (f->settled_for_good) {
                        pthread_mutex_unlock(&f->settle_lock);
                        return NULL;
                }
                pthread_mutex_unlock(&f->settle_lock);
                function_settle_master(f);
        }
}

/* Any function's thread may bring it. */
static void on_dma(enum dma_event event, const char *text, void *userdata) {
        struct function *f = userdata;

        if (event == DMA_EVENT_MASTER)
                settle_soon(f, false);
        else
                vpci_event(f->vpci, f->bdf, event == DMA_EVENT_FAILED ? "dma" : "unbacked", text);
}

static int prepare(struct function *f) {
        const struct tdi_vfio_region_info *config = &f->regions[TDI_VFIO_PCI_CONFIG_REGION_INDEX];
        struct vconfig *c = NULL;
        struct dma_client *d = NULL;
        int r;

        r = vconfig_new(f->host, f->device, config->offset, config->size, &c);
        if (r >= 0)
                vconfig_set_name(c, f->bdf);
        if (r >= 0)
                r = dma_client_new(vpci_dma(f->vpci), f->ioas, on_dma, f, &d);
        if (r < 0) {
                char text[128];

                snprintf(text, sizeof(text), "could not read its %s: %s", c ? "IOVA windows" : "configuration space", strerror(-r));
                vpci_event(f->vpci, f->bdf, "failed", text);
                vconfig_free(c);
                return r;
        }
        if (f->peer_to_peer) {
                r = dma_client_join_peers(d);
                if (r < 0) {
                        vpci_event(f->vpci, f->bdf, "dma", "it takes no part in peer-to-peer: there is no room for it");
                        f->peer_to_peer = false;
                }
        }
        pthread_mutex_lock(&f->lock);
        f->config = c;
        f->dma = d;
        pthread_mutex_unlock(&f->lock);
        r = thread_start(&f->settler, settle, f);
        f->settles = r >= 0;
        return r;
}

static void let_go(struct function *f) {
        struct dma_client *d;
        struct vconfig *c;
        int connection;

        if (f->settles) {
                settle_soon(f, true);
                (void) pthread_join(f->settler, NULL);
        }
        pthread_mutex_lock(&f->lock);
        d = TAKE_PTR(f->dma);
        c = TAKE_PTR(f->config);
        connection = TAKE_FD(f->connection);
        pthread_mutex_unlock(&f->lock);
        close_fd(connection);
        dma_client_free(d);
        vconfig_free(c);
        (void) host_close(f->host, TAKE_FD(f->device));
        pthread_mutex_lock(&f->lock);
        f->ended = true;
        pthread_mutex_unlock(&f->lock);
        vpci_wake_now(f->vpci);
}

static void *serve_all(void *userdata) {
        struct lane *l = userdata;
        struct function *f = l->function;

        if (prepare(f) < 0) {
                let_go(f);
                return NULL;
        }
        for (;;) {
                const char *why;
                int connection;
                bool told;

                pthread_mutex_lock(&f->lock);
                while (f->connection < 0 && !f->stopping)
                        (void) pthread_cond_wait(&f->changed, &f->lock);
                if (f->stopping) {
                        pthread_mutex_unlock(&f->lock);
                        break;
                }
                f->hung_up = f->told = f->greeted = false;
                pthread_mutex_lock(&f->send_lock);
                stream_open(&f->stream, f->connection);
                f->waited = 0;
                pthread_mutex_unlock(&f->send_lock);
                pthread_mutex_unlock(&f->lock);

                why = serve_connection(f);
                message_close_fds(&l->message);
                stream_close(&f->stream);
                /* The client learns of it at once; the next one has to wait until nothing of this one is left. */
                function_hang_up(f);
                clean_up(f);
                pthread_mutex_lock(&f->lock);
                told = f->told;
                pthread_mutex_unlock(&f->lock);
                /* Before there can be another one: tdid hears of things in their order. */
                if (!told)
                        vpci_event(f->vpci, f->bdf, "disconnected", why);
                pthread_mutex_lock(&f->lock);
                pthread_mutex_lock(&f->send_lock);
                connection = TAKE_FD(f->connection);
                f->stream.socket = -EBADF;
                pthread_mutex_unlock(&f->send_lock);
                pthread_mutex_unlock(&f->lock);
                vpci_wake_now(f->vpci);
                /* With it go descriptors that the client has sent and nobody has received: nobody else waits for that. */
                close_fd(connection);
        }
        let_go(f);
        return NULL;
}

/* ---- the supervisor's side ---- */

int function_connect(struct function *f, int connection) {
        int r = 0;

        pthread_mutex_lock(&f->lock);
        if (f->connection >= 0 || f->stopping || f->ended)
                r = -EBUSY;
        else {
                f->connection = connection;
                pthread_cond_broadcast(&f->changed);
        }
        pthread_mutex_unlock(&f->lock);
        return r;
}

bool function_is_leaving(struct function *f) {
        struct pollfd p = { .events = POLLRDHUP };
        bool leaving;

        pthread_mutex_lock(&f->lock);
        p.fd = f->connection;
        leaving = f->connection >= 0 && (f->hung_up || poll(&p, 1, 0) > 0);
        pthread_mutex_unlock(&f->lock);
        return leaving;
}

bool function_is_connected(struct function *f) {
        bool connected;

        pthread_mutex_lock(&f->lock);
        connected = f->connection >= 0 && !f->hung_up;
        pthread_mutex_unlock(&f->lock);
        return connected;
}

int function_stop(struct function *f) {
        pthread_mutex_lock(&f->lock);
        f->stopping = true;
        (void) hang_up_locked(f);
        pthread_cond_broadcast(&f->changed);
        pthread_mutex_unlock(&f->lock);
        return TAKE_FD(f->listener);
}

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

/* ---- birth and end ---- */

static int take_info(struct function *f, struct json_object *info) {
        struct json_object *regions, *irqs;

        if (!info || json_get_array(info, "regions", &regions) < 0 || json_get_array(info, "irqs", &irqs) < 0)
                return -EINVAL;
        f->n_regions = (uint32_t) json_object_array_length(regions);
        f->n_irqs = (uint32_t) json_object_array_length(irqs);
        /* Regions beyond the fixed ones are a vendor driver's: with it a function is not one of ours. */
        if (f->n_regions > FUNCTION_REGIONS || f->n_regions <= TDI_VFIO_PCI_CONFIG_REGION_INDEX || f->n_irqs > FUNCTION_IRQS)
                return -EINVAL;
        f->flags = (uint32_t) json_u64_or(info, "flags", 0);
        for (uint32_t i = 0; i < f->n_regions; i++) {
                struct json_object *o = json_object_array_get_idx(regions, i);

                f->regions[i].flags = (uint32_t) json_u64_or(o, "flags", 0);
                f->regions[i].size = json_u64_or(o, "size", 0);
                f->regions[i].offset = json_u64_or(o, "offset", 0);
        }
        for (uint32_t i = 0; i < f->n_irqs; i++) {
                struct json_object *o = json_object_array_get_idx(irqs, i);

                f->irqs[i].count = (uint32_t) json_u64_or(o, "count", 0);
                f->irqs[i].flags = (uint32_t) json_u64_or(o, "flags", 0);
        }
        return 0;
}

bool function_has_ended(struct function *f) {
        bool ended;

        pthread_mutex_lock(&f->lock);
        ended = f->ended;
        pthread_mutex_unlock(&f->lock);
        return ended;
}

int function_new(struct vpci *v, TdiHost *host, const char *bdf, int device, uint32_t ioas, bool peer_to_peer, int listener,
                 struct json_object *info, struct function **ret) {
        struct function *f = calloc(1, sizeof(*f));
        pthread_condattr_t attributes;
        int r;

        if (!f)
                return -ENOMEM;
        f->vpci = v;
        f->host = host;
        f->ioas = ioas;
        f->peer_to_peer = peer_to_peer;
        f->connection = f->request = f->listener = f->stream.socket = -EBADF;
        (void) pthread_mutex_init(&f->lock, NULL);
        (void) pthread_mutex_init(&f->send_lock, NULL);
        (void) pthread_mutex_init(&f->master_lock, NULL);
        (void) pthread_mutex_init(&f->settle_lock, NULL);
        (void) pthread_cond_init(&f->settle_changed, NULL);
        (void) pthread_condattr_init(&attributes);
        (void) pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        (void) pthread_cond_init(&f->changed, &attributes);
        (void) pthread_condattr_destroy(&attributes);
        for (size_t i = 0; i < ARRAY_SIZE(f->lanes); i++) {
                f->lanes[i].function = f;
                f->lanes[i].stands_in = i > 0;
        }
        f->master = DMA_MASTER_YES;
        f->leave = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        f->device = fd_dup(device);
        r = f->leave < 0 || f->device < 0 ? -errno : snprintf(f->bdf, sizeof(f->bdf), "%s", bdf) >= (int) sizeof(f->bdf) ? -EINVAL : 0;
        if (r >= 0)
                r = take_info(f, info);
        if (r >= 0)
                r = start(&f->lanes[0], serve_all);
        if (r < 0) {
                function_free(f);
                return r;
        }
        f->listener = listener;
        *ret = f;
        return 0;
}

struct function *function_free(struct function *f) {
        if (!f)
                return NULL;
        for (size_t i = 0; i < ARRAY_SIZE(f->lanes); i++) {
                if (f->lanes[i].running)
                        (void) pthread_join(f->lanes[i].thread, NULL);
                message_free(&f->lanes[i].message);
                free(f->lanes[i].reply);
        }
        close_fd(f->device);
        close_fd(f->listener);
        close_fd(f->leave);
        close_fd(f->request);
        (void) pthread_cond_destroy(&f->changed);
        (void) pthread_cond_destroy(&f->settle_changed);
        (void) pthread_mutex_destroy(&f->settle_lock);
        (void) pthread_mutex_destroy(&f->master_lock);
        (void) pthread_mutex_destroy(&f->send_lock);
        (void) pthread_mutex_destroy(&f->lock);
        free(f);
        return NULL;
}

struct json_object *function_describe(struct function *f) {
        struct json_object *o = json_new(), *list = json_new_array();
        static const char *const irq_names[FUNCTION_IRQS] = { "intx", "msi", "msix", "err", "req" };
        uint64_t requests = 0;

        json_set_str(o, "bdf", f->bdf);
        pthread_mutex_lock(&f->lock);
        json_set_bool(o, "connected", f->connection >= 0 && !f->hung_up);
        json_set_bool(o, "away", f->standing_in);
        json_set_bool(o, "stopping", f->stopping);
        if (f->config) {
                json_set_take(o, "dma", dma_client_describe(f->dma));
                json_set_take(o, "config", vconfig_describe(f->config));
        }
        pthread_mutex_unlock(&f->lock);
        json_set_bool(o, "failed", atomic_load(&f->failed));
        for (size_t i = 0; i < ARRAY_SIZE(f->lanes); i++)
                requests += atomic_load(&f->lanes[i].requests);
        json_set_u64(o, "requests", requests);
        json_set_u64(o, "reads", atomic_load(&f->reads));
        json_set_u64(o, "writes", atomic_load(&f->writes));
        json_set_u64(o, "refused", atomic_load(&f->refused));
        json_set_u64(o, "timeouts", atomic_load(&f->timeouts));
        json_set_u64(o, "mean_ns", requests ? atomic_load(&f->nanoseconds) / requests : 0);
        json_set_u64(o, "slowest_ns", atomic_load(&f->slowest));
        for (uint32_t i = 0; i < f->n_irqs; i++)
                if (f->irqs[i].used)
                        json_push_str(list, irq_names[i]);
        json_set_take(o, "interrupts", list);
        return o;
}
