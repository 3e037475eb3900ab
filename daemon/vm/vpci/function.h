/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One vPCI function and its threads.
 *
 * A lane is a thread that executes requests. The first serves the connection. While it is in the kernel for long, the second
 * stands in for it: it reads the same socket, and leaves the device alone (away.c). Each request of a lane is answered once, by the lane
 * or, when its time is up, by the supervisor: whoever moves the phase out of BUSY.
 */
#ifndef TDID_VPCI_FUNCTION_H
#define TDID_VPCI_FUNCTION_H

#include <pthread.h>
#include <stdatomic.h>
#include <tdi/enums.h>

#include "host/abi/vfio.h"
#include "vm/vpci/dma.h"
#include "vm/vpci/requests.h"
#include "vm/vpci/stream.h"
#include "vm/vpci/tdisp.h"
#include "vm/vpci/vconfig.h"
#include "vm/vpci/vpci.h"

#define FUNCTION_REGIONS 9
#define FUNCTION_IRQS 5
#define FUNCTION_BOUNDS 10

/* Of the histogram of how long requests took, in ns. */
extern const uint64_t function_bounds[FUNCTION_BOUNDS];

enum phase {
        PHASE_IDLE,
        PHASE_BUSY,
        PHASE_SENDING,
        PHASE_EARLY,    /* the same, and the kernel comes after it */
        PHASE_LATE,     /* the supervisor is answering in its place */
        PHASE_ANSWERED, /* and still in the kernel */
};

struct lane {
        struct function *function;
        pthread_t thread;
        bool stands_in;
        bool running;              /* has to be joined; the supervisor's, for the second lane under the function's lock */
        atomic_uint phase;         /* enum phase, and above it the number of the request: who looks at one does not act on the next */
        unsigned number;           /* the lane's own */
        atomic_uint_fast64_t since; /* CLOCK_MONOTONIC in ns: of the request under way */
        atomic_uint_fast64_t arrived; /* and when it may have come at the earliest */
        atomic_uint_fast64_t requests;
        struct message message;    /* the request under way; nobody else's while it is not BUSY */
        uint8_t *reply;            /* room for the largest; made when first needed */
        size_t reply_room;
};

struct irq {
        uint32_t count, flags;
        bool used; /* a client has switched it on */
};

struct function {
        struct vpci *vpci;
        TdiHost *host;
        char bdf[16];
        int device, listener;  /* both its own */
        uint32_t ioas;
        bool peer_to_peer;     /* allowed, and possible */
        enum vconfig_illegal illegal;
        uint32_t flags, n_regions, n_irqs;
        struct tdi_vfio_region_info regions[FUNCTION_REGIONS];
        struct irq irqs[FUNCTION_IRQS];
        struct vconfig *config;   /* this and the next are the first lane's from birth to end; others look under the lock */
        struct dma_client *dma;
        uint64_t waiting;         /* the supervisor's: since when the next client waits for the one before to be gone; 0: none does */
        int request, error;       /* the client's eventfds for these interrupts, or -EBADF */
        int device_error;         /* ours for the second, which the kernel has; the supervisor's to read */
        uint64_t memory_told_since; /* CLOCK_MONOTONIC in ns: the first lane has told of memory so often since then */
        unsigned memory_told;

        pthread_t settler;        /* switches bus mastering, which may sleep: who brings the news may not */
        bool settles;             /* the thread is there */
        pthread_mutex_t master_lock; /* held while it is switched */
        atomic_int master;           /* enum dma_master, as it was switched last */
        pthread_mutex_t settle_lock; /* of the next two; nothing is called with it held */
        pthread_cond_t settle_changed;
        bool to_settle, settled_for_good;

        struct lane lanes[2];
        struct stream stream;     /* of the lane that reads */
        uint64_t waited;          /* its, too: since when what is in the stream may be there; 0: not for long */
        bool greeted;             /* VERSION has been agreed on */
        pthread_mutex_t send_lock;

        pthread_mutex_t lock;     /* of what follows */
        pthread_cond_t changed;
        int connection;           /* -EBADF: none; only closed by the first lane, or when there is none any more */
        unsigned changing;        /* requests under way that may change what a TSM locks */
        struct requests *requests; /* of the guest; NULL before the first lane is there, and after it */
        bool bound;               /* tdid has bound it, or is about to */
        enum tdi_tdisp tdisp;     /* tdisp.c alone sets these two */
        bool tdisp_under_way;     /* a request that may lock it is */
        uint8_t *report;          /* the interface report of what is locked; NULL: none yet */
        size_t report_size;
        struct tee_range {
                uint32_t bar;
                uint64_t at, size;
        } tee[TDISP_TEE_MAX];     /* what of its BARs is trusted memory, by that */
        size_t n_tee;
        bool in_dma;              /* a lane is in a dma_ call: those of one client must not overlap */
        bool standing_in;         /* the second lane has the stream */
        bool handed;              /* and has left it, with a message that the first one shall execute */
        bool hung_up;             /* the client has gone, the first lane has not seen it yet */
        bool told;                /* and tdid has been told so */
        bool stopping;
        bool ended;               /* the first lane's thread has done its last */
        int leave;                /* eventfd: the second lane shall give the stream back */

        atomic_bool guards_tee;   /* it runs, and some of it is */
        atomic_bool failed;       /* a reset has not come to its end in time, or failed */
        atomic_uint_fast64_t reads, writes, refused, timeouts, nanoseconds, slowest;
        atomic_uint_fast64_t took[FUNCTION_BOUNDS + 1];
};

/* @info as in vpci.h. Takes @listener on success; duplicates @device. Starts the first lane, which reads the config space. */
int function_new(struct vpci *v, TdiHost *host, const char *bdf, int device, uint32_t ioas, bool peer_to_peer, enum vconfig_illegal illegal, int listener,
                 struct json_object *info, struct function **ret);
bool function_has_ended(struct function *f);
/* Only when it has ended; joins its threads, which takes no time then. */
struct function *function_free(struct function *f);
/* Asks the first lane to end, and wakes it. Returns the listening socket, which is the caller's: strangers may wait in it. Quick. */
int function_stop(struct function *f);
/* A client for a function that has none: takes the socket. -EBUSY. Quick. */
int function_connect(struct function *f, int connection);
/* Is a client there? Who has gone is not, though what it left may still be cleared away. */
bool function_is_connected(struct function *f);
/* Ends the connection, if there is one. Quick. */
void function_hang_up(struct function *f);
/* Its client has hung up, and not everything of it is gone yet. Quick. */
bool function_is_leaving(struct function *f);
/* The supervisor's look at both lanes. True while a request is under way. Quick. */
bool function_watch(struct function *f, uint64_t now);
struct json_object *function_describe(struct function *f);

/* The same with the function's lock held. */
void function_hang_up_locked(struct function *f);
/* All that its client has mapped. Waits for the other lane's dma_ call. */
void function_drop_memory(struct function *f);
/* So many ms from now, for the function's conditions. */
struct timespec function_in_msec(unsigned msec);
/* Around a request that may change what a TSM locks. */
void function_begin_change(struct function *f);
void function_end_change(struct function *f);
/* Before and after dma_ calls. Waits so many ms for the other lane, UINT_MAX: as long as it takes; -EBUSY. */
int function_enter_dma(struct function *f, unsigned msec);
void function_leave_dma(struct function *f);
/* lane.c: serves the connection in the first lane; why it has ended. */
const char *lane_serve(struct function *f);
int lane_start(struct lane *l, void *(*run)(void *));
/* So many ms of the time for the request are left; others' time is its own if it had to wait for it. */
unsigned lane_patience(const struct lane *l);
/* Bus mastering is on or off as memory and the guest have it. May sleep. */
void function_settle_master(struct function *f);
/* The same soon, in a thread that may. Quick. */
void function_settle_soon(struct function *f);
/* The first lane's request takes its time: the second one has the stream from here. */
void function_step_aside(struct lane *l);
/* Answers the request, a write, before it is executed, as if it were posted, and steps aside. */
void function_answer_early(struct lane *l);

/* bars.c, of the lane that executes. Tells the others' spaces where the guest has the BARs; after a reset, what they had mapped is dead. */
void function_place_bars(struct function *f, bool revoked);
/* There is no guest that has placed them any more. */
void function_withdraw_bars(struct function *f);

/* dispatch.c: executes l->message and fills in @header and *body; 0 or a negative errno for the client. -ECONNABORTED ends the connection. */
int dispatch(struct lane *l, const void **body, size_t *size);
/*
 * Has tdid unbind the function for what the lane's request is about to do, which no TDI survives, and waits for it; what is left of the request's time then is for
 * that and the answer. False: it is bound still.
 */
bool dispatch_unbind(struct lane *l, const char *event, const char *text);
/* How a device that is being reset answers; -EAGAIN: not in its absence. */
int dispatch_away(struct lane *l, const void **body, size_t *size);
/* What the supervisor says in place of a lane that is not back in time: as dispatch(); uses nothing of the lane's but its header. */
int dispatch_late(const struct message *m, uint8_t *room, size_t room_size, const void **body, size_t *size);
/* Has the reply that many bytes of room; -ENOMEM. */
int lane_room(struct lane *l, size_t size);

/* irq.c */
int irq_info(struct lane *l, const void **body, size_t *size);
int irq_set(struct lane *l);
/* All that a client has switched on is switched off. */
void irq_disable_all(struct function *f);
/* The client's eventfds for the request and the error interrupt are nobody's any more. */
void irq_drop_kept(struct function *f);
/* The kernel tells us of the device's errors from here on. */
void irq_watch_errors(struct function *f);
/* The supervisor's, when it has. Quick. */
void irq_on_error(struct function *f);
/* Tells the client that the host wants the function back. */
void irq_ring_request(struct function *f);

/* region.c */
int region_info(struct lane *l, const void **body, size_t *size);
int region_read(struct lane *l, const void **body, size_t *size);
int region_write(struct lane *l, const void **body, size_t *size);
int region_write_multi(struct lane *l, const void **body, size_t *size);
/* Tells of the function's memory, unless that has been told too often of late. */
void region_tell_memory(struct function *f, bool enabled, const char *why);
/* Bus mastering off, for a client that has gone. */
void region_quiet(struct function *f);

/* vpci.c: tells tdid something, from any thread; @text may be NULL. */
void vpci_event(struct vpci *v, const char *bdf, const char *what, const char *text);
void vpci_event_memory(struct vpci *v, const char *bdf, bool enabled, const char *why);
void vpci_event_tdisp(struct vpci *v, const char *bdf, enum tdi_tdisp was, enum tdi_tdisp state);
/* Wakes the supervisor if it sleeps for long, because a request is under way. */
void vpci_wake(struct vpci *v);
void vpci_wake_now(struct vpci *v);
struct dma *vpci_dma(struct vpci *v);
struct request_rate *vpci_request_rate(struct vpci *v);

#endif
