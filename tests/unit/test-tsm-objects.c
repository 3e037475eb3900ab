/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A TSM's objects: what exactly is asked in both forms, and what a TSM may answer that is not taken. */
#include <string.h>

#include "evidence/tsm-objects.h"
#include "host/iommufd_tsm.h"
#include "test.h"

#define ALL (1u << EVIDENCE_VCA | 1u << EVIDENCE_SLOT0 | 1u << EVIDENCE_MEASUREMENTS | 1u << EVIDENCE_REPORT)

/* A TSM that has one object, and does not do what it should. */
struct tsm {
        uint32_t number;
        const void *data;
        size_t size;
        uint32_t says;      /* as its size; 0: what it is */
        size_t size_length; /* of the answer to that; 0: 4 */
        int error, fails_at; /* with this, from this request on, from 1; 0: never */
        size_t gives;       /* bytes more than it says */
        unsigned n;
        struct {
                uint32_t op;
                uint8_t bytes[16];
                size_t size, room;
        } seen[16];
};

static int ask(void *userdata, uint32_t op, const void *in, size_t in_size, void *out, size_t room, size_t *ret_used) {
        struct tsm *t = userdata;
        bool reads = in_size == 16, scope = op == 0;
        uint32_t number, size;

        check(t->n < ARRAY_SIZE(t->seen) && in_size <= 16);
        t->seen[t->n].op = op;
        t->seen[t->n].size = in_size;
        t->seen[t->n].room = room;
        memcpy(t->seen[t->n++].bytes, in, in_size);
        if (t->fails_at && t->n >= (unsigned) t->fails_at)
                return t->error;
        memcpy(&number, (const uint8_t *) in + (scope ? 4 : 0), 4);
        if (number != t->number)
                return -EINVAL;
        size = t->says ?: (uint32_t) t->size;
        *ret_used = reads ? t->size + t->gives : t->size_length ?: 4;
        if (reads)
                memcpy(out, t->data, t->size < room ? t->size : room);
        else
                memcpy(out, &size, 4);
        return 0;
}

static int collect(struct tsm *t, enum tsm_form form, unsigned types, size_t room, struct evidence *e, char text[static 600]) {
        t->n = 0;
        return tsm_objects_collect(form, types, room, ask, t, e, text, 600);
}

static void test_forms(void) {
        check_int(tsm_form_of(true, TDI_IOMMU_TVM_ARCH_CCA), TSM_FORM_OPERATION);
        check_int(tsm_form_of(false, TDI_IOMMU_TVM_ARCH_CCA), TSM_FORM_SCOPE);
        for (unsigned arch = 0; arch < 5; arch++)
                if (arch != TDI_IOMMU_TVM_ARCH_CCA)
                        check_int(tsm_form_of(arch & 1, arch), TSM_FORM_NONE);
}

static void test_requests(void) {
        static const uint8_t scope_size[] = { 1, 0, 0, 0, 2, 0, 0, 0 }, scope_read[16] = { 2, 0, 0, 0, 2 };
        static const uint8_t op_size[] = { 2, 0, 0, 0 }, op_read[16] = { 2 };
        struct tsm t = { .number = 2, .data = "measured", .size = 8 };
        char text[600];

        for (int form = TSM_FORM_SCOPE; form <= TSM_FORM_OPERATION; form++) {
                bool scope = form == TSM_FORM_SCOPE;
                _cleanup_evidence_ struct evidence e = {};

                test_about("form %d", form);
                check_int(collect(&t, form, 1u << EVIDENCE_MEASUREMENTS, 8, &e, text), 1);
                check_int(t.n, 2);
                check_int(t.seen[0].op, scope ? 0 : 7);
                check_int(t.seen[1].op, scope ? 0 : 5);
                check_int(t.seen[0].size, scope ? 8 : 4);
                check_int(t.seen[1].size, 16);
                check_int(t.seen[0].room, 4);
                check_int(t.seen[1].room, 8);
                check(memcmp(t.seen[0].bytes, scope ? scope_size : op_size, t.seen[0].size) == 0);
                check(memcmp(t.seen[1].bytes, scope ? scope_read : op_read, 16) == 0);
                check_int(e.objects[EVIDENCE_MEASUREMENTS].size, 8);
                check(memcmp(e.objects[EVIDENCE_MEASUREMENTS].data, "measured", 8) == 0);
                check_str(text, "measurements: 8 bytes");
        }
}

/* One object that is not taken, and what is said of it. */
static void refused(struct tsm t, enum evidence_type type, size_t room, int want, const char *words) {
        _cleanup_evidence_ struct evidence e = {};
        char text[600];

        test_about("%s", words);
        check_int(collect(&t, TSM_FORM_SCOPE, 1u << type, room, &e, text), want);
        check(strstr(text, words) != NULL);
        for (int i = 0; i < _EVIDENCE_TYPE_MAX; i++)
                check(!e.objects[i].data);
}

static void test_refused(void) {
        static const uint8_t der[] = { 0x30, 1, 0 }, header[] = { 6, 0, 0, 0, 1, 2 };

        refused((struct tsm){ .number = 9 }, EVIDENCE_MEASUREMENTS, 100, -ENODATA, "tells no size: Invalid argument");
        refused((struct tsm){ .number = 2, .data = "x", .size = 1, .size_length = 3 }, EVIDENCE_MEASUREMENTS, 100, -ENODATA, "no size");
        refused((struct tsm){ .number = 2, .data = "x", .size = 1, .size_length = 8 }, EVIDENCE_MEASUREMENTS, 100, -ENODATA, "no size");
        refused((struct tsm){ .number = 2, .data = "", .size = 0 }, EVIDENCE_MEASUREMENTS, 100, -ENODATA, "measurements: none");
        refused((struct tsm){ .number = 2, .data = "xyz", .size = 3 }, EVIDENCE_MEASUREMENTS, 2, -ENODATA, "can be answered with 2");
        refused((struct tsm){ .number = 2, .data = "x", .size = 1, .says = UINT32_MAX }, EVIDENCE_MEASUREMENTS, SIZE_MAX, -ENODATA, "can be answered with");
        refused((struct tsm){ .number = 2, .data = "xyz", .size = 3, .says = 2 }, EVIDENCE_MEASUREMENTS, 100, -ENODATA, "gives another number");
        refused((struct tsm){ .number = 2, .data = "xyz", .size = 3, .says = 4 }, EVIDENCE_MEASUREMENTS, 100, -ENODATA, "gives another number");
        refused((struct tsm){ .number = 2, .data = "xyz", .size = 3, .error = -EPERM, .fails_at = 2 }, EVIDENCE_MEASUREMENTS, 100, -ENODATA, "does not give them: Operation not permitted");
        refused((struct tsm){ .number = 4, .data = "xyz", .size = 3 }, EVIDENCE_VCA, 100, -ENODATA, "nothing of the kind");
        refused((struct tsm){ .number = 3, .data = "xyz", .size = 3 }, EVIDENCE_REPORT, 100, -ENODATA, "nothing of the kind");
        refused((struct tsm){ .number = 1, .data = "xyz", .size = 3 }, EVIDENCE_SLOT0, 100, -ENODATA, "nothing of the kind");
        refused((struct tsm){ .number = 1, .data = header, .size = 5 }, EVIDENCE_SLOT0, 100, -ENODATA, "nothing of the kind");
        /* DER alone needs the VCA, which says what its hash is made with. */
        refused((struct tsm){ .number = 1, .data = der, .size = 3 }, EVIDENCE_SLOT0, 100, -ENODATA, "nothing of the kind");
}

/* Nobody goes on asking where there is nobody to answer; a TSM that merely refuses is asked for the rest. */
static void test_broken(void) {
        static const int broken[] = { -ECONNRESET, -ETIMEDOUT, -ENOTCONN, -EBADMSG };
        char text[600];

        for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
                struct tsm t = { .number = 2, .data = "x", .size = 1, .error = broken[i], .fails_at = 3 };
                _cleanup_evidence_ struct evidence e = {};

                test_about("broken %d", broken[i]);
                check_int(collect(&t, TSM_FORM_SCOPE, ALL, 100, &e, text), broken[i]);
                check_int(t.n, 3);
        }
        for (int error = 1; error < 40; error++) {
                struct tsm t = { .error = -error, .fails_at = 1 };
                _cleanup_evidence_ struct evidence e = {};

                test_about("refused %d", error);
                check_int(collect(&t, TSM_FORM_SCOPE, ALL, 100, &e, text), error == ENOMEM ? -ENOMEM : -ENODATA);
                check_int(t.n, error == ENOMEM ? 1 : 4);
        }
        test_about("%s", "no form");
        {
                struct tsm t = { .number = 2, .data = "x", .size = 1 };
                _cleanup_evidence_ struct evidence e = {};

                check_int(collect(&t, TSM_FORM_NONE, ALL, 100, &e, text), -EOPNOTSUPP);
                check_int(t.n, 0);
                check(strstr(text, "published nowhere") != NULL);
                /* As much text as there is room for, and terminated. */
                check_int(tsm_objects_collect(TSM_FORM_SCOPE, ALL, 100, ask, &t, &e, text, 10), 1);
                check_int(strlen(text), 9);
        }
}

int main(void) {
        test_forms();
        test_requests();
        test_refused();
        test_broken();
        return test_end();
}
