/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * dma-bufs that tdid gave out: ranges of a TDI's BARs, and a VM's shared memory. One is made by a worker, kept by the VM's holder
 * and by tdid, so that it can be looked at, and given to the client. A BAR's ends with the TDI, or when nobody but us has it any
 * more; shared memory ends with the VM, as nobody can see who still has the memfd.
 *
 * The kernel tells no user space of a revoke. What is known of it comes from the holder, which sees what the guest and the VMM do to a
 * function's memory (export_on_memory()), and from looking, every two seconds and after a restart: a buffer that was revoked and
 * came back between two looks, by somebody who went past tdid, is not noticed.
 */
#ifndef TDID_EXPORT_H
#define TDID_EXPORT_H

#include <tdi/dmabuf.h>
#include <tdi/runs.h>

#include "vm.h"

/* Beyond that, only how many there are is kept of shared memory's runs. */
#define EXPORT_RUNS_MAX 4
/* The longest name of a dma-heap. */
#define EXPORT_HEAP_MAX 32

enum export_stage {
        EXPORT_WAITING, /* for a worker */
        EXPORT_MAKING,
        EXPORT_KEPT,    /* with the holder, or on its way there (busy) */
        EXPORT_DROPPED, /* the holder has been told to close it */
        EXPORT_PARTED,  /* closed; what is left is to ring its eventfd */
};

typedef struct Export {
        VM *vm;
        uint64_t id;             /* never given again in this VM */
        enum export_stage stage;
        enum tdi_dmabuf_state state;
        enum tdi_dmabuf_class class;
        uint64_t offset, size;
        uint64_t given;          /* CLOCK_REALTIME, µs */
        uid_t uid;               /* who asked for it */

        bool is_memory;          /* shared memory, else of a BAR: */
        struct tdi_bdf bdf;
        uint32_t region;
        enum tdi_importer importer;
        char *heap;              /* of shared memory; NULL: a memfd */

        struct tdi_run run[EXPORT_RUNS_MAX];
        size_t n_runs, runs_total; /* 0: nobody knows where it is */

        int dmabuf, event;       /* tdid's duplicates, or -EBADF; the eventfd is the client's too: only a worker writes to it */
        uint64_t rings, ringing; /* so often the eventfd is to be rung yet, and of these a worker is at so many */
        int memfd;               /* of shared memory, until the client has it */
        unsigned lonely;         /* in so many looks after one another nobody but us had it */
        unsigned busy;           /* the holder's answers that are awaited */
        bool told;               /* the holder has said something of it since the last look began */
        unsigned passing;        /* a reset of its function has begun, and its end has not been told: so many looks more count for nothing */
        bool abandoned;          /* nobody wants it any more: it is closed when it can be */
        sd_bus_message *call;    /* to be answered; NULL afterwards */
        uint64_t deadline;       /* CLOCK_MONOTONIC, µs: of the answer */
} Export;

/* What is wanted, checked by export_new(). */
struct export_request {
        uint64_t offset, size;
        uid_t uid;
        TDI *tdi;                 /* NULL: shared memory */
        uint32_t region;
        enum tdi_importer importer;
        enum tdi_dmabuf_class class;
        const char *heap;         /* NULL: a memfd */
        sd_bus_message *call;     /* answered by bus_reply_export() or bus_refuse_export() */
};

/* How many dma-bufs it has, of BARs and of memory. */
size_t export_count(const VM *vm);
/* How much shared memory the VM has that has not been given back. */
uint64_t export_memory_bytes(const VM *vm);

/*
 * Begins one. -EDQUOT: a limit would be passed, which *ret_text names (the caller's to free).
 */
int export_new(VM *vm, const struct export_request *q, char **ret_text);

/* ---- hooks ---- */

/* Makes the next export that waits for this function, which is at rest. True when one was begun. */
bool export_kick(Custody *c);
/* What is due: closing, and making shared memory. */
bool export_settle(VM *vm);
/* The VM goes, and everything of it. */
void export_free_all(VM *vm);
/* The members of a record: what is in the holder's hands, and what an earlier tdid wrote down. */
void export_record(const VM *vm, struct json_object *record);
void export_take_record(VM *vm, struct json_object *record);
/* Takes the holder's descriptor of this key; false: the key is not one of ours, and so is the descriptor. */
bool export_adopt(VM *vm, const char *key, int fd);
/* "dmabufs" of Describe(); physical addresses only where @addresses. */
void export_describe(const VM *vm, struct json_object *o, bool addresses);
/*
 * A function's memory was switched off or on: the holder's event "memory" (vm/vpci/vpci.h). Events of one function come in their order;
 * of a reset or a change of power, it is told before it begins (off) and when it is done (on); @why is then not "command".
 */
void export_on_memory(VM *vm, struct tdi_bdf bdf, bool enabled, const char *why);

/* ---- for the bus ---- */

/* The names of its attributes; NULL after the last. At most 5. */
void export_attribute_names(uint16_t attributes, const char *names[static 6]);
/* Whose memory a run is: a BDF, or "memory". */
const char *export_provider(const Export *x, char buf[static TDI_BDF_MAX]);

/* ---- between export.c, export-make.c, export-ring.c and export-watch.c ---- */

struct exports {
        Export **list;
        size_t n, room;
        uint64_t next_id;
        Worker *worker;          /* makes shared memory, and looks */
        bool looking;            /* it does that now, at these: */
        uint64_t looked[IPC_FDS_MAX];
        size_t n_looked;
        bool look_again;
        sd_event_source *timer;
        Worker *ringer;          /* writes to eventfds; NULL: nothing is being written */
        bool rings_again;        /* the last one was killed, and what it was to write is written once more */
};

Export *export_append(VM *vm);
/* The one setter: logs, signals, and has export_ring() ring. */
void export_set_state(Export *x, enum tdi_dmabuf_state state);
/* No more: by the holder first, so that a last close, which waits for the device, is a worker's. */
void export_close(Export *x, const char *why);
void export_forget(Export *x);
/* Frame number and number of pages of each, in turns. */
void export_take_runs(Export *x, struct json_object *list);
/* Is the worker of the VM's exports free? Starts one where there is none. */
bool export_need_worker(VM *vm);
/* The next step of shared memory that waits for the worker. */
bool export_kick_memory(VM *vm);
void export_expect_answer(Export *x);
void export_expire(Export *x);
/* Has a worker write to the eventfds that are due, unless one of this VM's is at it. */
void export_ring(VM *vm);
/* The VM goes: what is due still is written by workers that nobody waits for. */
void export_ring_last(VM *vm);
/* A closed one stays until its eventfd has been rung; false: it needs not, or there are too many. */
bool export_part(Export *x);
/* Looks go on while there is something to look at. */
void export_watch(VM *vm);
/* Those with this id and above, LOOK_AT_MAX at a time. False: there is none, or not now. */
bool export_look(VM *vm, uint64_t from);

#endif
