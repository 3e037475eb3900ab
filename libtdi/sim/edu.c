/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Device models: what answers behind a function's BARs.
 *
 * "edu" is the device of QEMU's docs/specs/edu.rst: an identification, a liveness check, a factorial, an interrupt that can be raised,
 * and a DMA engine with 4 KiB of its own that reaches 28 bits and waits 100 ms before each copy. "memory" is plain memory.
 */
#include "sim/pci.h"

#include <linux/pci_regs.h>

#define EDU_ID_VALUE 0x010000edu
#define EDU_STATUS_COMPUTING 0x01u
#define EDU_STATUS_IRQFACT 0x80u
#define EDU_FACT_IRQ 0x01u
#define EDU_DMA_IRQ 0x100u
#define EDU_DMA_START UINT64_C(0x40000)
#define EDU_DMA_SIZE 4096u
#define EDU_DMA_MASK ((UINT64_C(1) << 28) - 1)
#define EDU_DMA_DELAY_MS 100
#define EDU_DMA_RUN 1u
#define EDU_DMA_TO_MEMORY 2u
#define EDU_DMA_INTERRUPT 4u

struct edu {
        unsigned refs;            /* the function, and what is under way */
        struct sim_function *fn;  /* NULL when it is gone */
        unsigned generation;      /* of a reset: what was under way before it comes to nothing */
        uint32_t liveness, factorial, status, irq_status;
        uint64_t source, target, count, command;
        uint8_t buffer[EDU_DMA_SIZE];
};

/* Work that a register write began. */
struct edu_job {
        struct edu *edu;
        unsigned generation;
};

static struct edu *edu_put(struct edu *e) {
        if (--e->refs == 0)
                free(e);
        return NULL;
}

static int edu_create(struct sim_function *fn) {
        struct edu *e;

        e = calloc(1, sizeof(*e));
        if (!e)
                return -ENOMEM;
        e->refs = 1;
        e->fn = fn;
        fn->model_data = e;
        return 0;
}

static void edu_destroy(struct sim_function *fn) {
        struct edu *e = TAKE_PTR(fn->model_data);

        if (!e)
                return;
        e->fn = NULL;
        edu_put(e);
}

/* ---- interrupts ---- */

/* The wire is shown in STATUS, whether it is used or not. */
static void edu_wire(struct edu *e) {
        if (e->irq_status)
                e->fn->config[PCI_STATUS] |= PCI_STATUS_INTERRUPT;
        else
                e->fn->config[PCI_STATUS] &= (uint8_t) ~PCI_STATUS_INTERRUPT;
}

static bool edu_uses_messages(const struct edu *e) {
        unsigned msi = sim_find_capability(e->fn, PCI_CAP_ID_MSI), msix = sim_find_capability(e->fn, PCI_CAP_ID_MSIX);

        return (msi && e->fn->config[msi + PCI_MSI_FLAGS] & PCI_MSI_FLAGS_ENABLE) ||
               (msix && e->fn->config[msix + PCI_MSIX_FLAGS + 1] & PCI_MSIX_FLAGS_ENABLE >> 8);
}

static void edu_raise(struct edu *e, uint32_t what) {
        e->irq_status |= what;
        if (!e->irq_status)
                return;
        if (!edu_uses_messages(e))
                edu_wire(e);
        sim_vfio_interrupt(e->fn, 0);
}

static void edu_lower(struct edu *e, uint32_t what) {
        e->irq_status &= ~what;
        edu_wire(e);
}

/* ---- work ---- */

static int edu_begin(struct edu *e, void (*func)(struct sim_call *c, void *data)) {
        struct edu_job *job;
        int r;

        job = calloc(1, sizeof(*job));
        if (!job)
                return -ENOMEM;
        job->edu = e;
        job->generation = e->generation;
        e->refs++;
        r = sim_run(e->fn->sim, func, job);
        if (r < 0) {
                edu_put(e);
                free(job);
        }
        return r;
}

/* Ends a job: the device, or NULL when there is nobody to do it for. */
static struct edu *edu_ended(struct edu_job *job) {
        struct edu *e = job->edu;
        bool stale = !e->fn || job->generation != e->generation;

        free(job);
        if (!stale)
                return e;
        return edu_put(e);
}

static void edu_factorial(struct sim_call *c, void *data) {
        struct edu *e = edu_ended(data);
        uint32_t product = 1;

        (void) c;
        if (!e)
                return;
        /* Of 34 and more, all 32 bits are zero. */
        for (uint32_t n = e->factorial; n > 0 && product > 0; n--)
                product *= n;
        e->factorial = product;
        e->status &= ~EDU_STATUS_COMPUTING;
        if (e->status & EDU_STATUS_IRQFACT)
                edu_raise(e, EDU_FACT_IRQ);
        edu_put(e);
}

static bool in_buffer(uint64_t address, uint64_t count) {
        return address >= EDU_DMA_START && count <= EDU_DMA_SIZE && address - EDU_DMA_START <= EDU_DMA_SIZE - count;
}

/* Without bus mastering, or where nothing is mapped, a read brings ones and a write is lost, as on a bus. */
static void edu_copy(struct edu *e) {
        bool master = e->fn->config[PCI_COMMAND] & PCI_COMMAND_MASTER, out = e->command & EDU_DMA_TO_MEMORY;
        uint64_t own = out ? e->source : e->target, other = (out ? e->target : e->source) & EDU_DMA_MASK;
        uint8_t *place;

        if (!in_buffer(own, e->count) || !e->fn->present)
                return;
        place = e->buffer + (own - EDU_DMA_START);
        if ((!master || sim_dma(e->fn, other, place, (size_t) e->count, out) < 0) && !out)
                memset(place, 0xff, (size_t) e->count);
}

static void edu_dma(struct sim_call *c, void *data) {
        struct edu *e;

        sim_sleep(c, EDU_DMA_DELAY_MS);
        e = edu_ended(data);
        if (!e)
                return;
        edu_copy(e);
        e->command &= ~(uint64_t) EDU_DMA_RUN;
        if (e->command & EDU_DMA_INTERRUPT)
                edu_raise(e, EDU_DMA_IRQ);
        edu_put(e);
}

/* ---- registers ---- */

static void edu_read(struct sim_call *c, struct sim_function *fn, unsigned bar, uint64_t offset, void *buf, size_t size) {
        struct edu *e = fn->model_data;
        uint64_t value = UINT64_MAX;

        (void) c;
        /* QEMU answers 0 to what is too short to be allowed at all (unassigned_mem_read). */
        memset(buf, size < 4 ? 0 : 0xff, size);
        if (bar != 0 || !(size == 4 || (size == 8 && offset >= 0x80)))
                return;
        switch (offset) {
        case 0x00:
                value = EDU_ID_VALUE;
                break;
        case 0x04:
                value = e->liveness;
                break;
        case 0x08:
                value = e->factorial;
                break;
        case 0x20:
                value = e->status;
                break;
        case 0x24:
                value = e->irq_status;
                break;
        case 0x80:
                value = e->source;
                break;
        case 0x88:
                value = e->target;
                break;
        case 0x90:
                value = e->count;
                break;
        case 0x98:
                value = e->command;
                break;
        default:
                break;
        }
        memcpy(buf, &value, size);
}

static void edu_write(struct sim_call *c, struct sim_function *fn, unsigned bar, uint64_t offset, const void *buf, size_t size) {
        struct edu *e = fn->model_data;
        uint64_t value = 0;
        bool busy = e->command & EDU_DMA_RUN;

        (void) c;
        if (bar != 0 || !(size == 4 || (size == 8 && offset >= 0x80)))
                return;
        memcpy(&value, buf, size);
        switch (offset) {
        case 0x04:
                e->liveness = (uint32_t) ~value;
                break;
        case 0x08:
                if (e->status & EDU_STATUS_COMPUTING)
                        break;
                e->factorial = (uint32_t) value;
                e->status |= EDU_STATUS_COMPUTING;
                if (edu_begin(e, edu_factorial) < 0)
                        e->status &= ~EDU_STATUS_COMPUTING;
                break;
        case 0x20:
                e->status = (e->status & ~EDU_STATUS_IRQFACT) | ((uint32_t) value & EDU_STATUS_IRQFACT);
                break;
        case 0x60:
                edu_raise(e, (uint32_t) value);
                break;
        case 0x64:
                edu_lower(e, (uint32_t) value);
                break;
        case 0x80:
                if (!busy)
                        e->source = value;
                break;
        case 0x88:
                if (!busy)
                        e->target = value;
                break;
        case 0x90:
                if (!busy)
                        e->count = value;
                break;
        case 0x98:
                if (busy || !(value & EDU_DMA_RUN))
                        break;
                e->command = value;
                if (edu_begin(e, edu_dma) < 0)
                        e->command &= ~(uint64_t) EDU_DMA_RUN;
                break;
        default:
                break;
        }
}

static void edu_reset(struct sim_call *c, struct sim_function *fn) {
        struct edu *e = fn->model_data;

        (void) c;
        e->generation++;
        e->liveness = e->factorial = e->status = e->irq_status = 0;
        e->source = e->target = e->count = e->command = 0;
        memset(e->buffer, 0, sizeof(e->buffer));
        edu_wire(e);
}

/* ---- plain memory ---- */

#define MEMORY_PAGE 4096u
#define MEMORY_BUCKETS 64u

/* Only pages that were written exist. */
struct memory_page {
        unsigned bar;
        uint64_t number;
        struct memory_page *next;
        uint8_t data[MEMORY_PAGE];
};

struct memory {
        struct memory_page *bucket[MEMORY_BUCKETS];
};

static int memory_create(struct sim_function *fn) {
        fn->model_data = calloc(1, sizeof(struct memory));
        return fn->model_data ? 0 : -ENOMEM;
}

static void memory_clear(struct memory *m) {
        for (unsigned i = 0; i < MEMORY_BUCKETS; i++)
                for (struct memory_page *p = TAKE_PTR(m->bucket[i]), *next; p; p = next) {
                        next = p->next;
                        free(p);
                }
}

static void memory_destroy(struct sim_function *fn) {
        struct memory *m = TAKE_PTR(fn->model_data);

        if (!m)
                return;
        memory_clear(m);
        free(m);
}

static void memory_reset(struct sim_call *c, struct sim_function *fn) {
        (void) c;
        memory_clear(fn->model_data);
}

static struct memory_page *memory_find(struct memory *m, unsigned bar, uint64_t number, bool make) {
        struct memory_page **bucket = &m->bucket[(number + bar) % MEMORY_BUCKETS], *p;

        for (p = *bucket; p; p = p->next)
                if (p->bar == bar && p->number == number)
                        return p;
        p = make ? calloc(1, sizeof(*p)) : NULL;
        if (!p)
                return NULL;
        p->bar = bar;
        p->number = number;
        p->next = *bucket;
        *bucket = p;
        return p;
}

/* What is accessed at once never crosses a page: it is aligned. */
static void memory_read(struct sim_call *c, struct sim_function *fn, unsigned bar, uint64_t offset, void *buf, size_t size) {
        struct memory_page *p = memory_find(fn->model_data, bar, offset / MEMORY_PAGE, false);

        (void) c;
        if (p)
                memcpy(buf, p->data + offset % MEMORY_PAGE, size);
        else
                memset(buf, 0, size);
}

static void memory_write(struct sim_call *c, struct sim_function *fn, unsigned bar, uint64_t offset, const void *buf, size_t size) {
        struct memory_page *p = memory_find(fn->model_data, bar, offset / MEMORY_PAGE, true);

        (void) c;
        if (p)
                memcpy(p->data + offset % MEMORY_PAGE, buf, size);
}

/* ---- the models ---- */

static const struct sim_model models[] = {
        { "edu", edu_create, edu_destroy, edu_reset, edu_read, edu_write },
        { "memory", memory_create, memory_destroy, memory_reset, memory_read, memory_write },
};

const struct sim_model *sim_model_find(const char *name) {
        for (size_t i = 0; i < ARRAY_SIZE(models); i++)
                if (streq(models[i].name, name))
                        return &models[i];
        return NULL;
}
