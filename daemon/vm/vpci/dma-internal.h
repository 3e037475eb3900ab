/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the files of the DMA room share.
 *
 * One lock for all tables of a VM; it is never held across a call into the kernel. What is under way without it is marked instead:
 * a range that is being mapped by its state (QUEUED, RUNNING), one that is being unmapped or copied from by a guard. Whoever meets a mark
 * waits on dma.changed. Nothing that is marked waits for anything but the kernel, and a job that is RUNNING for no other job: so no two
 * can wait for each other.
 *
 * Events and descriptors to close gather in struct dma and are dealt with by dma_unlock(), outside the lock: a callback may call
 * dma_master(), and the last close of a memfd frees a guest's memory.
 */
#ifndef TDID_VPCI_DMA_INTERNAL_H
#define TDID_VPCI_DMA_INTERNAL_H

#include <pthread.h>
#include <sys/types.h>
#include <time.h>

#include "host/abi/iommufd.h"
#include "vm/vpci/dma-helper.h"
#include "vm/vpci/dma.h"
#include "vm/vpci/ranges.h"

/* A map of more than this is made later. */
#define DMA_LONG_PAGES (UINT64_C(256) * 1024 * 1024 / RANGE_PAGE)
#define DMA_QUEUE_MAX 4096
#define DMA_WAIT_MSEC 3000
#define DMA_PEER_WAIT_MSEC 2000
#define DMA_UNCHECKED_MSEC 120000 /* after that tdid does not come back */
#define DMA_CLIENTS_MAX 64 /* of one space: bits of range.holders */
#define DMA_FUNCTIONS_MAX 256 /* clients of a VM that take part in peer-to-peer */
#define DMA_GRANULES 16384 /* unless dma_limits says otherwise */
#define DMA_BAR_PLACES ((size_t) DMA_FUNCTIONS_MAX * DMA_BARS)
#define DMA_FILES_MAX 1024 /* of a VM; below 1 << 12, what range.file holds */
#define DMA_WHY 256        /* room for the reason of a failure */
#define DMA_FIRST 16       /* of a list that is shown */

/* range.state */
enum {
        DMA_QUEUED,   /* the kernel has not been asked yet */
        DMA_RUNNING,  /* it is being asked */
        DMA_MAPPED,   /* nobody holds it: the kernel would not let go of it */
        DMA_UNBACKED, /* memory without a descriptor: the kernel knows nothing of it */
        DMA_BAR,      /* of another space's function: no memory, which takes its place (dma-bars.c) */
};

/* Pages of a file that the peer maps shared; also IOVA windows, in bytes. Ends belong to it. */
struct dma_span {
        uint64_t first, last;
};

/* A file that some map is of; the kernel keeps it as long as there is one, so its numbers stay its own. */
struct dma_file {
        dev_t dev;
        ino_t ino;
        uint64_t entries;       /* of the tables */
        int fd;                 /* its own, while jobs need it: iommufd looks at neither mode nor owner, one serves all */
        unsigned jobs;
        uint64_t serial;        /* of the peer of which the spans are known */
        struct dma_span *spans; /* sorted */
        size_t n_spans;
};

struct dma_peer {
        unsigned refs;
        uint64_t serial;
        int maps;
        pthread_mutex_t reading; /* the file has one position, in the kernel's view: readers in turns would each begin anew */
        struct dma_helper *helper;
        struct dma_peer *next;   /* of those whose helper is to be freed */
};

/* On the stack of a call, or in a job. */
struct dma_guard {
        struct dma_guard *next;
        uint64_t first, last;
        bool unmaps; /* nothing may begin here; else: is copied from, must not go */
        bool bar;    /* and no memory is here: who unmaps around it need not wait */
        bool claims; /* memory is taking this room: no BAR may begin here; nobody else cares */
        bool leaves; /* a job is here that is unmapped when it ends: no other may begin before, but room may be taken */
};

/* One of a client's, as its peers may reach it. */
struct dma_bar {
        int fd;                /* its dma-buf, the client's own; or -EBADF */
        int error;             /* why there is none */
        bool never;            /* and there will not be one */
        uint64_t first, pages; /* where the guest has it; no pages: nowhere */
        uint64_t serial;       /* of that placement */
};

/* The same in another client's space. */
struct dma_bar_map {
        enum {
                DMA_BAR_NOT,
                DMA_BAR_MAPPED,
                DMA_BAR_FAILED,
                DMA_BAR_STAYS, /* the kernel does not let go of it: it is there until the address space goes */
        } state;
        bool busy;             /* a thread is in the kernel with it */
        int error;
        uint64_t epoch;        /* of the failure */
        uint64_t first, pages, serial; /* the placement it is of */
};

struct dma_space {
        struct dma_space *next;
        struct dma *d;
        uint32_t ioas;
        unsigned refs;
        struct ranges table;
        struct dma_client *clients[DMA_CLIENTS_MAX];
        struct dma_guard *guards;
        struct dma_job *running;
        struct dma_span *windows;
        size_t n_windows;
        struct dma_bar_map *bars; /* DMA_BAR_PLACES, by the owner's number; NULL: nobody here has taken part in peer-to-peer */
        unsigned members, participants, closed; /* clients that are there and not leaving; those of them that take part; and of these, closed */
        uint64_t covered_first, covered_last; /* somewhere in there a BAR has no room; none when the first is above the last */
        struct ranges granules;   /* 2 MiB each, where any BAR has been mapped so far */
};

/* A map to be made. Its range is in the space's table as QUEUED or RUNNING. */
struct dma_job {
        struct dma_job *next;         /* in the client's queue */
        struct dma_job *next_running; /* in the space's list */
        struct dma_client *client;
        struct range r;               /* as it was inserted */
        int fd;                       /* the file's, borrowed */
        struct dma_space *source;     /* while it is copied from there */
        struct dma_guard guard;       /* of the source */
        struct timespec patience;     /* until when another space's job for the same is waited for; before, while unchecked, the peer */
        bool unchecked;               /* whether the peer maps it has not been looked at */
        bool background;              /* the client has been told that it is mapped later */
        bool left;                    /* nobody waits for it: frees itself */
        struct dma_client *leaver;    /* who has unmapped it while the kernel was at it: what it has made goes at its end */
        struct dma_guard hold;        /* then: of its range */
        bool done;
        int result;
        char *why;                    /* of a failure; NULL where there is no more to say */
};

struct dma_client {
        struct dma *d;
        struct dma_space *space;
        unsigned slot;
        unsigned number;              /* in dma.clients */
        bool peer_to_peer;
        bool bars_withheld, bars_closed;
        struct dma_bar bars[DMA_BARS];
        dma_notify notify;
        void *userdata;
        unsigned patience;            /* ms; of whoever makes calls */

        uint64_t maps, bytes;         /* that have a descriptor, with those under way */
        uint64_t unbacked, unbacked_bytes;
        uint64_t pending;             /* of the maps: those in the background */
        struct ranges failed;         /* offset: errno */
        bool failed_lost;             /* more than could be noted */
        enum dma_master master;       /* as last told */
        bool told_unbacked;
        unsigned told_failed;
        time_t told_time;
        unsigned telling;             /* events that are being told */

        struct dma_job *queue, **queue_end;
        size_t n_queue;
        uint64_t background;          /* own jobs that are not done */
        pthread_t thread;
        bool has_thread, stop;
        pthread_cond_t work;          /* for the thread, when its queue is empty */
};

struct dma_said {
        struct dma_said *next;
        struct dma_client *client;
        enum dma_event event;
        bool has_text;
        char text[];
};

struct dma_closing {
        struct dma_closing *next;
        int fd; /* its own */
};

struct dma {
        TdiHost *host;
        struct dma_limits limits;
        int iommufd; /* borrowed, dma_set_iommufd() */
        pthread_mutex_t lock;
        pthread_cond_t changed;
        unsigned waiters;
        uint64_t bytes;               /* of the maps that are counted */
        uint64_t left_bytes;          /* of the jobs that have a leaver */
        uint64_t maps;                /* entries of all tables, those of the clients' failed ones too */
        struct dma_space *spaces;
        struct dma_client *clients[DMA_FUNCTIONS_MAX];
        pthread_t bars_thread;        /* of dma-bars.c, with what follows */
        bool bars_thread_there, bars_stop;
        bool bars_dirty;              /* it has to look */
        pthread_cond_t bars_work;
        uint64_t last_bar;
        uint64_t bar_granules;        /* of all spaces */
        uint64_t bars_epoch;          /* what has failed may be tried again in the next */
        unsigned n_peers;             /* in clients[] */
        struct dma_file *files[DMA_FILES_MAX]; /* [0] is no file */
        struct dma_peer *peer;
        uint64_t last_serial;
        struct dma_peer *retired;
        struct dma_said *said, **said_end;
        struct dma_closing *closing;
};

static inline uint64_t dma_bit(const struct dma_client *c) {
        return UINT64_C(1) << c->slot;
}

static inline uint64_t range_bytes(const struct range *r) {
        return (uint64_t) r->pages << RANGE_SHIFT;
}

static inline uint64_t range_iova(const struct range *r) {
        return (uint64_t) r->first << RANGE_SHIFT;
}

/* The same memory at the same address; access and holders aside. */
static inline bool range_same(const struct range *a, const struct range *b) {
        return a->first == b->first && a->pages == b->pages && a->file == b->file && (a->file == 0 || a->offset == b->offset);
}

/* ---- dma-event.c: waiting, telling, and what has failed. Lock held, unless it says otherwise ---- */

void dma_lock(struct dma *d);
/* Unlocks, closes what is to be closed, tells what is to be told. Only where a callback may be called. */
void dma_unlock(struct dma *d);
struct timespec dma_deadline(unsigned msec);
bool dma_is_over(const struct timespec *deadline);
/* Sleeps until something has changed; may return without. -ETIMEDOUT; never with a NULL @deadline. The lock is let go meanwhile. */
int dma_wait(struct dma *d, const struct timespec *deadline);
void dma_changed(struct dma *d);
void dma_say(struct dma_client *c, enum dma_event event, const char *text);
/* Takes @fd: it is closed when the lock has been let go, for a last close may sleep. */
void dma_close_later(struct dma *d, int fd);
/* A map of @c's failed: noted, told. @r: negative errno. */
void dma_fail(struct dma_client *c, uint64_t iova, uint64_t size, int r, const char *why);
/* [@first, @last] is no longer failed; whether any of it was, in pages. */
uint64_t dma_unfail(struct dma_client *c, uint64_t first, uint64_t last);
enum dma_master dma_find_master(const struct dma_client *c);
void dma_update_master(struct dma_client *c);

/* ---- dma-check.c: is it a file for this? ---- */

/* 0; 1 for memory that no IOMMU can reach (guest_memfd); or why not. No lock. @ret_dev, @ret_ino: which file. */
int dma_check_file(TdiHost *host, int fd, uint64_t offset, uint64_t size, bool readable, bool writable, dev_t *ret_dev, ino_t *ret_ino,
                   char why[static DMA_WHY]);
/* 0; -EACCES when writing to it has been forbidden. No lock. */
int dma_check_seals(int fd, char why[static DMA_WHY]);
/* What one line of /proc/PID/maps says of a mapping that is shared and of a file; -ENOENT for any other. */
int dma_maps_line(const char *line, dev_t *ret_dev, ino_t *ret_ino, uint64_t *ret_offset, uint64_t *ret_size);
/* All that /proc/PID/maps shows of the file, merged and sorted; the caller frees *ret. No lock. */
int dma_read_maps(TdiHost *host, int maps, dev_t dev, ino_t ino, struct dma_span **ret, size_t *ret_n);
bool dma_spans_cover(const struct dma_span *spans, size_t n, uint64_t first, uint64_t last);
/* Of the spans of a file, in bytes of it: 0, or -EACCES. */
int dma_is_mapped_by_peer(const struct dma_span *spans, size_t n, uint64_t offset, uint64_t size, char why[static DMA_WHY]);

/* ---- dma-space.c: tables, what is in them, and the kernel's view. Lock held, unless it says otherwise ---- */

int dma_space_get(struct dma *d, uint32_t ioas, struct dma_space **ret);
void dma_space_put(struct dma_space *s);
/* Reads the IOVA windows anew. Lock not held. */
int dma_read_windows(struct dma_space *s);
bool dma_in_windows(const struct dma_space *s, uint64_t iova, uint64_t size);
void dma_name_windows(const struct dma_space *s, uint64_t iova, uint64_t size, char why[static DMA_WHY]);

/* The number of the file in d->files; -ENOENT. */
int dma_find_file(const struct dma *d, dev_t dev, ino_t ino);
/* One more entry of it; -ENOSPC, -ENOMEM. */
int dma_get_file(struct dma *d, dev_t dev, ino_t ino);
void dma_put_file(struct dma *d, unsigned file);
/* A job needs its descriptor; @fd is taken, whatever the result. */
int dma_file_begin(struct dma *d, unsigned file, int fd);
void dma_file_end(struct dma *d, unsigned file);
/* What the peer of that number maps of it; takes *@spans if that is the peer still. */
void dma_file_learn(struct dma *d, unsigned file, struct dma_span **spans, size_t n, uint64_t serial);
/* What the peer, which there is, maps of a file: the caller's. Lock held; let go meanwhile. */
int dma_read_peer(struct dma *d, dev_t dev, ino_t ino, struct dma_span **ret, size_t *ret_n, uint64_t *ret_serial, char why[static DMA_WHY]);

/* The peer's helper, referenced; NULL where there is none. */
struct dma_peer *dma_peer_get(struct dma *d);
void dma_peer_put(struct dma *d, struct dma_peer *p);

/* Puts a new entry in, counted against the limits; for r->file != 0 that file's reference is taken on success. */
int dma_add_entry(struct dma_space *s, struct range *r, char why[static DMA_WHY]);
/* An entry is about to go from the table: undoes that. */
void dma_entry_gone(struct dma_space *s, const struct range *r);
void dma_remove_entry(struct dma_space *s, uint64_t first);
struct range *dma_entry(struct dma_space *s, uint64_t first);
/* The holder's own sums. */
void dma_client_has(struct dma_client *c, const struct range *r);
void dma_client_lost(struct dma_client *c, const struct range *r);

bool dma_guarded(const struct dma_space *s, uint64_t first, uint64_t last, bool unmaps);
/* The same of memory only: what is unmapped where a BAR is, is nobody's memory. */
bool dma_guarded_memory(const struct dma_space *s, uint64_t first, uint64_t last);
/* Is memory taking room there? */
bool dma_is_claimed(const struct dma_space *s, uint64_t first, uint64_t last);
/* Is there a job that is unmapped when it ends? */
bool dma_is_left(const struct dma_space *s, uint64_t first, uint64_t last);
void dma_guard(struct dma_space *s, struct dma_guard *g);
void dma_unguard(struct dma_space *s, struct dma_guard *g);

/* IOMMU_IOAS_UNMAP. Lock not held. */
int dma_kernel_unmap(struct dma *d, uint32_t ioas, uint64_t first, uint64_t last);

/* ---- dma-bars.c: peer-to-peer. Lock held, unless it says otherwise ---- */

/* It goes: none of its BARs is mapped any more, nor, if it is its space's last, any in that. The lock is let go meanwhile. */
void dma_bars_leave(struct dma_client *c);
/* Nothing is in the range any more: BARs that had no room may have it now. */
void dma_bars_room(struct dma_space *s, uint64_t first, uint64_t last);
/* A client has come to the space. Where there is no number, memory or thread for it, it stays out, and so does the whole space. */
void dma_bars_join(struct dma_client *c, bool peer_to_peer);
/* Address spaces or their windows have changed: what has failed is tried again. */
void dma_bars_retry(struct dma *d);
/* Takes an entry of state DMA_BAR away, for memory. The lock is let go meanwhile. -EAGAIN: the kernel is at it, wait; what else it says. */
int dma_bars_yield(struct dma_space *s, const struct range *e);
/* Ends the thread. Lock not held. */
void dma_bars_stop(struct dma *d);
struct json_object *dma_bars_describe(const struct dma_client *c);
/* dma-describe.c */
void dma_set_hex(struct json_object *o, const char *key, uint64_t value);

/* ---- dma-job.c: one map, made by this process or by the helper ---- */

struct dma_job *dma_job_free(struct dma_job *j);

/* How long a map of that size may take until something is wrong, in milliseconds; and the time when it is. */
unsigned dma_job_overdue(const struct range *r);
struct timespec dma_job_patience(const struct range *r);
/* Has it to wait: the same is being mapped into another space, or unmapping goes on here? Lock held. */
bool dma_job_blocked(const struct dma_job *j);
/* Lock held: from here on nothing cancels it. */
void dma_job_begin(struct dma_job *j);
/*
 * Asks the kernel. Lock not held. When it returns, the job is done, or will be by another thread; one that was left may be gone. @waits: the caller
 * has nothing to do before it is done.
 */
void dma_job_run(struct dma_job *j, bool waits);
/* It is in no queue any more, and the kernel never sees it. Lock held. Frees it. */
void dma_job_refuse(struct dma_job *j, int r, const char *why);

/* ---- dma-queue.c: maps made later. Lock held ---- */

/* -EAGAIN when there can be no thread; nothing has happened then. */
int dma_queue_start(struct dma_client *c);
void dma_queue_add(struct dma_client *c, struct dma_job *j);
/* Drops those in the range that nobody but the client waits for. */
size_t dma_queue_cancel(struct dma_client *c, uint64_t first, uint64_t last, uint64_t *bytes);
/* Waits for the last one. Lock not held. */
void dma_queue_stop(struct dma_client *c);

/* ---- dma-unmap.c. Lock held ---- */

/*
 * Whole pages [@first, @last] of the client's. @deadline: NULL waits for ever, and what the kernel refuses to unmap is nobody's afterwards.
 * What the kernel is still mapping at the deadline is unmapped when it is done; until then the client does not become bus master. *bytes: added to.
 */
int dma_unmap_range(struct dma_client *c, uint64_t first, uint64_t last, const struct timespec *deadline, uint64_t *bytes);

#endif
