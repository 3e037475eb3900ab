/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reads a TSM's objects. */
#include "evidence/tsm-objects.h"

#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>

#include "evidence/chain-der.h"
#include "evidence/chain.h"
#include "evidence/report.h"
#include "evidence/spdm.h"
#include "host/iommufd_tsm.h"

#define REQUEST_SIZE 1u
#define REQUEST_READ 2u
#define CHAIN_HEADER 4u

/* In the order in which they are asked for: the VCA says what the others must be. */
static const struct object {
        enum evidence_type type;
        uint32_t number; /* RHI's */
        const char *name;
} objects[] = {
        { EVIDENCE_VCA, 4, "vca" },
        { EVIDENCE_SLOT0, 1, "certificates" }, /* the host driver asks for slot 0 */
        { EVIDENCE_MEASUREMENTS, 2, "measurements" },
        { EVIDENCE_REPORT, 3, "report" },
};

struct reading {
        enum tsm_form form;
        size_t room;
        tsm_ask ask;
        void *userdata;
        struct evidence *e;
        char *text;
        size_t text_size, used;
};

enum tsm_form tsm_form_of(bool operations, unsigned tvm_arch) {
        return tvm_arch != TDI_IOMMU_TVM_ARCH_CCA ? TSM_FORM_NONE : operations ? TSM_FORM_OPERATION : TSM_FORM_SCOPE;
}

static void say(struct reading *x, const char *format, ...) _printf_(2, 3);
static void say(struct reading *x, const char *format, ...) {
        va_list ap;
        int n;

        if (x->used > 0 && x->used < x->text_size)
                x->used += (size_t) snprintf(x->text + x->used, x->text_size - x->used, "; ");
        if (x->used >= x->text_size)
                return;
        va_start(ap, format);
        n = vsnprintf(x->text + x->used, x->text_size - x->used, format, ap);
        va_end(ap);
        x->used += n > 0 ? (size_t) n : 0;
}

static bool is_broken(int r) {
        return r == -ECONNRESET || r == -ETIMEDOUT || r == -ENOTCONN || r == -EBADMSG || r == -ENOMEM;
}

static void put(uint8_t *p, uint64_t v, size_t size) {
        for (size_t i = 0; i < size; i++)
                p[i] = (uint8_t) (v >> 8 * i);
}

static int ask_size(struct reading *x, const struct object *o, uint32_t *ret) {
        uint8_t request[8] = {}, answer[sizeof(uint32_t)] = {};
        bool scope = x->form == TSM_FORM_SCOPE;
        size_t used = 0;
        int r;

        put(request, REQUEST_SIZE, 4);
        put(request + (scope ? 4 : 0), o->number, 4);
        r = x->ask(x->userdata, scope ? 0 : TDI_IOMMU_TSM_REQ_OBJECT_INFO, request, scope ? 8 : 4, answer, sizeof(answer), &used);
        if (r < 0)
                return r;
        if (used != sizeof(answer))
                return -EPROTO;
        *ret = answer[0] | (uint32_t) answer[1] << 8 | (uint32_t) answer[2] << 16 | (uint32_t) answer[3] << 24;
        return 0;
}

/* From the offset 0: the posted drivers give the whole of it or nothing. */
static int ask_object(struct reading *x, const struct object *o, uint8_t *data, size_t size) {
        bool scope = x->form == TSM_FORM_SCOPE;
        uint8_t request[16] = {};
        size_t used = 0;
        int r;

        if (scope)
                put(request, REQUEST_READ, 4);
        put(request + (scope ? 4 : 0), o->number, 4);
        r = x->ask(x->userdata, scope ? 0 : TDI_IOMMU_TSM_REQ_READ_OBJECT, request, sizeof(request), data, size, &used);
        return r < 0 ? r : used != size ? -EPROTO : 0;
}

/* ---- what an object must be ---- */

static bool is_der(const uint8_t *data, size_t size) {
        struct der d = der_of(data, size), content;

        while (d.p < d.end)
                if (der_take(&d, DER_SEQUENCE, &content) < 0)
                        return false;
        return size > 0;
}

/* As the object of a slot has to be; its hash is no more than the first certificate's. */
static int wrap(struct reading *x, const uint8_t *der, size_t size) {
        const struct evidence_object *vca = &x->e->objects[EVIDENCE_VCA];
        struct der d = der_of(der, size), content;
        _cleanup_free_ uint8_t *chain = NULL;
        struct spdm_negotiated n;
        size_t total, used = 0;

        if (!vca->data || spdm_vca_parse(vca->data, vca->size, &n, NULL) < 0 || der_take(&d, DER_SEQUENCE, &content) < 0)
                return -EPROTO;
        total = CHAIN_HEADER + n.hash->size + size;
        if (total > EVIDENCE_CHAIN_MAX)
                return -EFBIG;
        chain = calloc(1, total);
        if (!chain)
                return -ENOMEM;
        put(chain, total, 2);
        if (!EVP_Q_digest(NULL, n.hash->name, NULL, der, (size_t) (d.p - der), chain + CHAIN_HEADER, &used) || used != n.hash->size)
                return -ENOMEM;
        memcpy(chain + CHAIN_HEADER + n.hash->size, der, size);
        return evidence_set(x->e, EVIDENCE_SLOT0, chain, total);
}

static int take(struct reading *x, const struct object *o, const uint8_t *data, size_t size) {
        struct spdm_negotiated n;
        struct tdisp_report report;

        switch (o->type) {
        case EVIDENCE_VCA:
                if (spdm_vca_parse(data, size, &n, NULL) < 0)
                        return -EPROTO;
                break;
        case EVIDENCE_SLOT0:
                if (is_der(data, size))
                        return wrap(x, data, size);
                /* With SPDM's header its first two bytes say how long it is. */
                if (size < CHAIN_HEADER || (size_t) (data[0] | data[1] << 8) != size)
                        return -EPROTO;
                break;
        case EVIDENCE_REPORT:
                if (tdisp_report_parse(data, size, &report) < 0)
                        return -EPROTO;
                break;
        default: /* that they are measurements, their signature says */
                break;
        }
        return evidence_set(x->e, o->type, data, size);
}

static int read_object(struct reading *x, const struct object *o) {
        _cleanup_free_ uint8_t *data = NULL;
        uint32_t size;
        int r;

        r = ask_size(x, o, &size);
        if (r == -EPROTO)
                say(x, "%s: what it answers is no size", o->name);
        else if (r < 0)
                say(x, "%s: it tells no size: %s", o->name, strerror(-r));
        if (r < 0)
                return r;
        if (size == 0) {
                say(x, "%s: none", o->name);
                return 0;
        }
        if (size > x->room) {
                say(x, "%s: %u bytes, and a request can be answered with %zu", o->name, size, x->room);
                return -EFBIG;
        }
        data = malloc(size);
        if (!data)
                return -ENOMEM;
        r = ask_object(x, o, data, size);
        if (r == -EPROTO)
                say(x, "%s: it said %u bytes, and gives another number", o->name, size);
        else if (r < 0)
                say(x, "%s: it has %u bytes, and does not give them: %s", o->name, size, strerror(-r));
        if (r < 0)
                return r;
        r = take(x, o, data, size);
        if (r < 0)
                say(x, "%s: %u bytes that are %s", o->name, size, r == -EFBIG ? "too many for a chain" : "nothing of the kind");
        else
                say(x, "%s: %u bytes", o->name, size);
        return r < 0 ? r : 1;
}

int tsm_objects_collect(enum tsm_form form, unsigned types, size_t room, tsm_ask ask, void *userdata, struct evidence *e, char *text, size_t text_size) {
        struct reading x = { form, room < EVIDENCE_OBJECT_MAX ? room : EVIDENCE_OBJECT_MAX, ask, userdata, e, text, text_size, 0 };
        int r, found = 0;

        text[0] = '\0';
        if (form == TSM_FORM_NONE) {
                say(&x, "how to ask a TSM of this platform for them is published nowhere");
                return -EOPNOTSUPP;
        }
        for (size_t i = 0; i < ARRAY_SIZE(objects); i++) {
                if (!(types & 1u << objects[i].type))
                        continue;
                r = read_object(&x, &objects[i]);
                if (is_broken(r))
                        return r;
                found += r > 0;
        }
        return found > 0 ? found : -ENODATA;
}
