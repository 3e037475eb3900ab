/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Requests of a guest to the TSM that its TDI is bound with: pci_tsm_guest_req() (drivers/pci/tsm.c), and under it the operations of
 * the test module's TSM (tests/kmod/tsm_ops.c).
 */
#include "host/iommufd_tsm.h"
#include "sim/tsm-abi.h"
#include "sim/tsm.h"

/* Fits into REPORT_ROOM. */
#define REPORT_BARS 6
#define REPORT_ROOM (16 + REPORT_BARS * 16 + 4 + 4)

static uint8_t *put_le(uint8_t *p, uint64_t v, size_t size) {
        for (size_t i = 0; i < size; i++)
                *p++ = (uint8_t) (v >> 8 * i);
        return p;
}

/* make_report() */
static ssize_t make_report(const struct sim_function *fn, uint32_t flags, uint8_t *buf) {
        uint64_t shift = flags & TDI_TEST_TSM_REPORT_SHIFT ? 0x100000 : 0;
        uint8_t *p = buf, *count;
        uint32_t n = 0;

        p = put_le(p, 2 | (flags & TDI_TEST_TSM_REPORT_ATS ? 8 : 0), 2);
        p = put_le(p, 0, 2 + 2 + 2);
        p = put_le(p, 0, 4);
        count = p;
        p = put_le(p, 0, 4);
        for (unsigned i = 0; i < REPORT_BARS; i++) {
                const struct sim_bar *b = &fn->bar[i];
                uint64_t pages = (b->size + 4095) / 4096;

                if (pages == 0 || b->io)
                        continue;
                if (n == 0 && flags & TDI_TEST_TSM_REPORT_BEYOND)
                        pages++;
                p = put_le(p, (b->address >> 12) + shift, 8);
                p = put_le(p, pages, 4);
                p = put_le(p, n ? 4 : 0, 2);
                p = put_le(p, i, 2);
                n++;
        }
        (void) put_le(count, n, 4);
        p = put_le(p, 4, 4);
        p = put_le(p, 0x74736574, 4);
        return (p - buf) - (flags & TDI_TEST_TSM_REPORT_SHORT ? 8 : 0);
}

/* ---- objects: tests/kmod/tsm_objects.c ---- */

int sim_tsm_set_object(struct sim_machine *m, uint64_t number, const void *data, size_t size) {
        struct sim_tsm_object *o;

        if (number < 1 || number > ARRAY_SIZE(m->tsm_objects))
                return -EINVAL;
        if (size > TDI_TEST_TSM_OBJECT_MAX)
                return -EFBIG;
        o = &m->tsm_objects[number - 1];
        free(o->data);
        o->data = machine_alloc(size + 1);
        memcpy(o->data, data, size);
        o->size = size;
        return 0;
}

void sim_tsm_forget_objects(struct sim_machine *m) {
        for (size_t i = 0; i < ARRAY_SIZE(m->tsm_objects); i++) {
                free(m->tsm_objects[i].data);
                m->tsm_objects[i] = (struct sim_tsm_object){};
        }
}

static uint64_t get_le(const uint8_t *p, size_t size) {
        uint64_t v = 0;

        for (size_t i = 0; i < size; i++)
                v |= (uint64_t) p[i] << 8 * i;
        return v;
}

/* Is it about an object, and about which? 0: it is not. */
static uint32_t object_of(const struct sim_machine *m, const struct sim_tsm_request *q, bool *ret_read, uint64_t *ret_offset) {
        size_t at = q->op ? 0 : 4;
        uint32_t what;
        bool any = false;

        for (size_t i = 0; i < ARRAY_SIZE(m->tsm_objects); i++)
                any |= m->tsm_objects[i].data != NULL;
        if (!any || q->scope != TDI_TEST_TSM_SCOPE_INFO || q->in_len < 4)
                return 0;
        what = q->op == TDI_IOMMU_TSM_REQ_OBJECT_INFO ? 1 : q->op == TDI_IOMMU_TSM_REQ_READ_OBJECT ? 2 : q->op ? 0 : (uint32_t) get_le(q->in, 4);
        if ((what != 1 || q->in_len != at + 4) && (what != 2 || q->in_len != 16))
                return 0;
        *ret_read = what == 2;
        *ret_offset = what == 2 ? get_le(q->in + 8, 8) : 0;
        return (uint32_t) get_le(q->in + at, 4);
}

/* -ENOTTY: the request is another one. */
static int object_request(const struct sim_tsm_context *x, struct sim_tsm_request *q) {
        const struct sim_machine *m = sim_machine(x->fn->sim);
        const struct sim_tsm_object *o = NULL;
        uint8_t report[REPORT_ROOM], size[4];
        const uint8_t *data = size;
        uint64_t offset = 0;
        uint32_t number;
        bool reads = false;
        size_t n;

        number = object_of(m, q, &reads, &offset);
        if (number == 0)
                return -ENOTTY;
        q->code = TDI_TEST_TSM_CODE_OK;
        if (number <= ARRAY_SIZE(m->tsm_objects))
                o = &m->tsm_objects[number - 1];
        if (!o || (!o->data && number != TDI_TEST_TSM_OBJECT_REPORT))
                return -EINVAL;
        n = o->data ? o->size : (size_t) make_report(x->fn, 0, report);
        if (reads) {
                if (offset > 0)
                        return -EINVAL;
                data = o->data ? o->data : report;
        } else {
                (void) put_le(size, n, sizeof(size));
                n = sizeof(size);
        }
        if (n > q->out_len)
                return -EMSGSIZE;
        if (n > 0 && !q->out)
                return -EFAULT;
        if (n > 0)
                memcpy(q->out, data, n);
        q->used = n;
        return 0;
}

/* run_request(): the answer to where the request is; its length, or a negative errno. */
static ssize_t run_request(struct sim_tsm_context *x, uint32_t scope, uint8_t *buf, size_t len, uint64_t *code) {
        uint32_t op, flags = 0;

        *code = TDI_TEST_TSM_CODE_INVALID;
        if (len < sizeof(op))
                return -EINVAL;
        memcpy(&op, buf, sizeof(op));
        switch (op) {
        case TDI_TEST_TSM_OP_ECHO:
        case TDI_TEST_TSM_OP_STATE:
        case TDI_TEST_TSM_OP_REPORT:
                if (scope != TDI_TEST_TSM_SCOPE_INFO) {
                        *code = TDI_TEST_TSM_CODE_WRONG_SCOPE;
                        return -EPERM;
                }
                *code = TDI_TEST_TSM_CODE_OK;
                if (op == TDI_TEST_TSM_OP_STATE) {
                        memcpy(buf, &x->tdisp, sizeof(x->tdisp));
                        return sizeof(x->tdisp);
                }
                if (op == TDI_TEST_TSM_OP_REPORT) {
                        if (len >= sizeof(op) + sizeof(flags))
                                memcpy(&flags, buf + sizeof(op), sizeof(flags));
                        return make_report(x->fn, flags, buf);
                }
                for (size_t i = sizeof(op); i < len; i++)
                        buf[i - sizeof(op)] = (uint8_t) ~buf[i];
                return (ssize_t) (len - sizeof(op));
        case TDI_TEST_TSM_OP_LOCK:
        case TDI_TEST_TSM_OP_START:
        case TDI_TEST_TSM_OP_STOP:
                if (scope != TDI_TEST_TSM_SCOPE_STATE_CHANGE) {
                        *code = TDI_TEST_TSM_CODE_WRONG_SCOPE;
                        return -EPERM;
                }
                if ((op == TDI_TEST_TSM_OP_LOCK) != (x->tdisp == TDI_TEST_TSM_UNLOCKED) || (op == TDI_TEST_TSM_OP_START && x->tdisp != TDI_TEST_TSM_LOCKED)) {
                        *code = TDI_TEST_TSM_CODE_WRONG_STATE;
                        return -EINVAL;
                }
                *code = TDI_TEST_TSM_CODE_OK;
                x->tdisp = op == TDI_TEST_TSM_OP_START ? TDI_TEST_TSM_RUN : op == TDI_TEST_TSM_OP_LOCK ? TDI_TEST_TSM_LOCKED : TDI_TEST_TSM_UNLOCKED;
                return 0;
        default:
                return -EINVAL;
        }
}

/* tt_guest_req() */
static int guest_req(struct sim_call *c, struct sim_tsm_context *x, struct sim_tsm_request *q) {
        _cleanup_free_ uint8_t *buf = NULL;
        ssize_t n;
        int r;

        q->code = TDI_TEST_TSM_CODE_INJECTED;
        r = sim_fault(c, "tsm.guest_req", x->fn->bdf);
        if (r < 0)
                return r;
        q->code = TDI_TEST_TSM_CODE_INVALID;
        if (q->in_len > TDI_TEST_TSM_REQ_MAX)
                return -EMSGSIZE;
        r = q->in ? object_request(x, q) : -ENOTTY;
        if (r != -ENOTTY)
                return r;
        q->code = TDI_TEST_TSM_CODE_INVALID;
        /* Whatever there is to ask, the answer may be a report. */
        buf = machine_alloc(q->in_len + REPORT_ROOM);
        if (q->in_len > 0 && !q->in)
                return -EFAULT;
        if (q->in_len > 0)
                memcpy(buf, q->in, q->in_len);
        n = run_request(x, q->scope, buf, q->in_len, &q->code);
        if (n < 0)
                return (int) n;
        /* What the request has changed stays so, even if nobody hears of it. */
        if ((size_t) n > q->out_len)
                return -EMSGSIZE;
        if (n > 0 && !q->out)
                return -EFAULT;
        if (n > 0)
                memcpy(q->out, buf, (size_t) n);
        q->used = (size_t) n;
        return 0;
}

int sim_tsm_guest_req(struct sim_call *c, struct sim_function *fn, struct sim_tsm_request *q) {
        struct sim_machine *m = sim_machine(c->sim);
        struct sim_tsm_context *x;
        struct sim_rwsem *lock;
        int r;

        q->used = 0;
        if (q->scope > TDI_TEST_TSM_SCOPE_STATE_CHANGE)
                return -EINVAL;
        r = sim_down_read_interruptible(c, &m->tsm_lock);
        if (r < 0)
                return r;
        x = fn->tsm;
        lock = x ? tsm_dsm_lock(x) : NULL;
        r = lock ? sim_down_write_interruptible(c, lock) : -ENXIO;
        if (r >= 0) {
                /* Without the call a real kernel falls over NULL: whoever asks has to look first. */
                r = !x->bound ? -ENXIO : !x->tsm->requests ? -EOPNOTSUPP : guest_req(c, x, q);
                if (x->bound && x->tsm->requests)
                        sim_trace(c, "tsm.guest_req", fn->bdf, r);
                sim_up_write(c, lock);
        }
        sim_up_read(c, &m->tsm_lock);
        return r;
}
