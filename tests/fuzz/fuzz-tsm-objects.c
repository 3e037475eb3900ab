/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A TSM's answers to requests for objects. The input's first byte is the form, then come answers: a byte (0: as many bytes as it says, else an errno), their
 * number in three bytes, and the bytes; the room for them is filled as far as they go. What is taken is whole, within its limits, and counted.
 */
#include <string.h>

#include "evidence/tsm-objects.h"
#include "fuzz.h"

#define ROOM 70000u
#define TYPES (1u << EVIDENCE_VCA | 1u << EVIDENCE_SLOT0 | 1u << EVIDENCE_MEASUREMENTS | 1u << EVIDENCE_REPORT)

struct answers {
        const uint8_t *data;
        size_t size;
        unsigned asked;
};

static int ask(void *userdata, uint32_t op, const void *in, size_t in_size, void *out, size_t room, size_t *ret_used) {
        struct answers *a = userdata;
        uint8_t error;
        size_t n, take;

        must(++a->asked <= 8 && room <= ROOM && (in_size == 4 || in_size == 8 || in_size == 16) && (op == 0 || op == 5 || op == 7));
        /* All that is said to be there can be read, and written. */
        must(((const volatile uint8_t *) in)[in_size - 1] <= 0xff);
        memset(out, 0xa5, room);
        if (a->size < 4)
                return -ENOTCONN;
        error = a->data[0];
        n = a->data[1] | (size_t) a->data[2] << 8 | (size_t) a->data[3] << 16;
        a->data += 4;
        a->size -= 4;
        if (error)
                return -(int) error;
        take = n < a->size ? n : a->size;
        memcpy(out, a->data, take < room ? take : room);
        a->data += take;
        a->size -= take;
        *ret_used = n < room ? n : room;
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct answers a = { data + 1, size - 1, 0 };
        struct evidence e = {};
        char text[200];
        int r, n = 0;

        if (size < 1)
                return 0;
        r = tsm_objects_collect(data[0] % 3, TYPES, ROOM, ask, &a, &e, text, sizeof(text));
        must(memchr(text, 0, sizeof(text)) && r != 0);
        must(data[0] % 3 || (r == -EOPNOTSUPP && a.asked == 0));
        for (unsigned i = 0; i < _EVIDENCE_TYPE_MAX; i++) {
                const struct evidence_object *o = &e.objects[i];

                if (!o->data)
                        continue;
                n++;
                must(TYPES & 1u << i && o->size > 0 && o->size <= ROOM);
                must(i != EVIDENCE_SLOT0 || (o->data[0] | (size_t) o->data[1] << 8) == o->size);
                for (size_t k = 0; k < o->size; k += 512)
                        must(((volatile const uint8_t *) o->data)[k] <= 0xff);
        }
        must(r < 0 || r == n);
        evidence_done(&e);
        return 0;
}
