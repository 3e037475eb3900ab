/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The life of a function: its thread from one client to the next, bus mastering, birth and end. Requests are lane.c's. */
#include "vm/vpci/function.h"

#include <limits.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>

#include "histogram.h"
#include "log.h"
#include "model/json.h"
#include "vm/vpci/clock.h"
#include "vm/vpci/thread.h"

/* 10 µs is what a read of config space takes that reaches nobody, 4 s the limit; above it QEMU gives up. */
const uint64_t function_bounds[FUNCTION_BOUNDS] = { 10000, 50000, 100000, 500000, 1000000, 10000000, 100000000, 1000000000, 2000000000, 4000000000 };

void function_hang_up_locked(struct function *f) {
        if (f->connection >= 0)
                (void) shutdown(f->connection, SHUT_RDWR);
}

void function_hang_up(struct function *f) {
        pthread_mutex_lock(&f->lock);
        function_hang_up_locked(f);
        pthread_mutex_unlock(&f->lock);
}

/* ---- memory ---- */

struct timespec function_in_msec(unsigned msec) {
        struct timespec t;

        (void) clock_gettime(CLOCK_MONOTONIC, &t);
        t.tv_sec += msec / 1000;
        t.tv_nsec += (long) (msec % 1000) * 1000000;
        if (t.tv_nsec >= 1000000000) {
                t.tv_sec++;
                t.tv_nsec -= 1000000000;
        }
        return t;
}

int function_enter_dma(struct function *f, unsigned msec) {
        struct timespec until = function_in_msec(msec);
        int r = 0;

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

void function_begin_change(struct function *f) {
        pthread_mutex_lock(&f->lock);
        f->changing++;
        pthread_mutex_unlock(&f->lock);
}

void function_end_change(struct function *f) {
        pthread_mutex_lock(&f->lock);
        if (--f->changing == 0)
                pthread_cond_broadcast(&f->changed);
        pthread_mutex_unlock(&f->lock);
}

void function_drop_memory(struct function *f) {
        (void) function_enter_dma(f, UINT_MAX);
        dma_client_clear(f->dma);
        function_leave_dma(f);
}

/* ---- the thread ---- */

/* Nothing of a client outlives its connection: no interrupt, no DMA, no map. */
static void clean_up(struct function *f) {
        region_quiet(f);
        function_withdraw_bars(f);
        irq_disable_all(f);
        function_drop_memory(f);
        irq_drop_kept(f);
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

static void settle_soon(struct function *f, bool for_good) {
        pthread_mutex_lock(&f->settle_lock);
        f->to_settle = true;
        f->settled_for_good |= for_good;
        pthread_cond_signal(&f->settle_changed);
        pthread_mutex_unlock(&f->settle_lock);
}

void function_settle_soon(struct function *f) {
        settle_soon(f, false);
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
                function_begin_change(f);
                function_settle_master(f);
                function_end_change(f);
        }
}

/* Any function's thread may bring it. */
static void on_dma(enum dma_event event, const char *text, void *userdata) {
        struct function *f = userdata;

        if (event == DMA_EVENT_MASTER)
                function_settle_soon(f);
        else
                vpci_event(f->vpci, f->bdf, event == DMA_EVENT_FAILED ? "dma" : "unbacked", text);
}

static int prepare(struct function *f) {
        const struct tdi_vfio_region_info *config = &f->regions[TDI_VFIO_PCI_CONFIG_REGION_INDEX];
        struct vconfig *c = NULL;
        struct dma_client *d = NULL;
        int r;

        r = vconfig_new(f->host, f->device, config->offset, config->size, &c);
        if (r >= 0) {
                vconfig_set_name(c, f->bdf);
                vconfig_set_illegal(c, f->illegal);
        }
        if (r >= 0)
                r = dma_client_new(vpci_dma(f->vpci), f->ioas, f->peer_to_peer, on_dma, f, &d);
        if (r < 0) {
                char text[128];

                snprintf(text, sizeof(text), "could not read its %s: %s", c ? "IOVA windows" : "configuration space", strerror(-r));
                vpci_event(f->vpci, f->bdf, "failed", text);
                vconfig_free(c);
                return r;
        }
        if (f->peer_to_peer && !dma_client_has_peers(d)) {
                vpci_event(f->vpci, f->bdf, "peers", "it takes no part in peer-to-peer: 256 functions of the VM do already, or there is no memory for one more; detach and attach it to try again");
                f->peer_to_peer = false;
        }
        /* Who sees the function's config space knows that its errors are heard of. */
        irq_watch_errors(f);
        pthread_mutex_lock(&f->lock);
        f->config = c;
        f->dma = d;
        pthread_mutex_unlock(&f->lock);
        r = thread_start(&f->settler, settle, f);
        f->settles = r >= 0;
        return r;
}

static void let_go(struct function *f) {
        struct requests *q;
        struct dma_client *d;
        struct vconfig *c;
        int connection;

        if (f->settles) {
                settle_soon(f, true);
                (void) pthread_join(f->settler, NULL);
        }
        pthread_mutex_lock(&f->lock);
        q = TAKE_PTR(f->requests);
        pthread_mutex_unlock(&f->lock);
        requests_free(q);
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

                /* What had to stay of an earlier client, because the function was bound. */
                irq_disable_all(f);
                why = lane_serve(f);
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
        /* Its peers do not reach it any more, whatever its thread is at. */
        if (f->dma)
                dma_client_close_bars(f->dma);
        function_hang_up_locked(f);
        pthread_cond_broadcast(&f->changed);
        pthread_mutex_unlock(&f->lock);
        return TAKE_FD(f->listener);
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

int function_new(struct vpci *v, TdiHost *host, const char *bdf, int device, uint32_t ioas, bool peer_to_peer, enum vconfig_illegal illegal, int listener,
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
        f->illegal = illegal;
        f->connection = f->request = f->error = f->listener = f->stream.socket = -EBADF;
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
        f->device_error = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        f->device = fd_dup(device);
        r = f->leave < 0 || f->device_error < 0 || f->device < 0 ? -errno : snprintf(f->bdf, sizeof(f->bdf), "%s", bdf) >= (int) sizeof(f->bdf) ? -EINVAL : 0;
        if (r >= 0)
                r = take_info(f, info);
        if (r >= 0)
                r = requests_new(f, host, vpci_request_rate(v), &f->requests);
        if (r >= 0)
                r = lane_start(&f->lanes[0], serve_all);
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
        requests_free(f->requests);
        free(f->report);
        close_fd(f->device);
        close_fd(f->listener);
        close_fd(f->leave);
        close_fd(f->request);
        close_fd(f->error);
        close_fd(f->device_error);
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
        uint64_t requests = 0, took[FUNCTION_BOUNDS + 1];

        json_set_str(o, "bdf", f->bdf);
        pthread_mutex_lock(&f->lock);
        json_set_bool(o, "connected", f->connection >= 0 && !f->hung_up);
        json_set_bool(o, "away", f->standing_in);
        json_set_bool(o, "stopping", f->stopping);
        if (f->config) {
                json_set_take(o, "dma", dma_client_describe(f->dma));
                json_set_take(o, "config", vconfig_describe(f->config));
        }
        json_set_str(o, "tdisp", tdi_tdisp_to_string(f->tdisp));
        if (f->requests)
                json_set_take(o, "guest_requests", requests_describe(f->requests));
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
        for (size_t i = 0; i < ARRAY_SIZE(took); i++)
                took[i] = atomic_load(&f->took[i]);
        json_set_take(o, "took", histogram_describe(function_bounds, took, FUNCTION_BOUNDS, atomic_load(&f->nanoseconds)));
        for (uint32_t i = 0; i < f->n_irqs; i++)
                if (f->irqs[i].used)
                        json_push_str(list, irq_names[i]);
        json_set_take(o, "interrupts", list);
        return o;
}
