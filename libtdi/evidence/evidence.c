/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Owns the raw objects, and names them. */
#include "evidence/evidence.h"

static const char *const names[_EVIDENCE_TYPE_MAX] = {
        "slot0", "slot1", "slot2", "slot3", "slot4", "slot5", "slot6", "slot7",
        [EVIDENCE_VCA] = "vca", [EVIDENCE_MEASUREMENTS] = "measurements", [EVIDENCE_REPORT] = "report", [EVIDENCE_CHALLENGE] = "challenge",
};

int evidence_set(struct evidence *e, enum evidence_type type, const void *data, size_t size) {
        uint8_t *copy;

        if (size > EVIDENCE_OBJECT_MAX)
                return -EFBIG;
        copy = malloc(size + !size);
        if (!copy)
                return -ENOMEM;
        if (size)
                memcpy(copy, data, size);
        free(e->objects[type].data);
        e->objects[type] = (struct evidence_object){ .data = copy, .size = size };
        return 0;
}

void evidence_done(struct evidence *e) {
        for (size_t i = 0; i < _EVIDENCE_TYPE_MAX; i++)
                free(e->objects[i].data);
        *e = (struct evidence){};
}

const char *evidence_type_to_string(enum evidence_type type) {
        return type >= 0 && type < _EVIDENCE_TYPE_MAX ? names[type] : "?";
}

int evidence_type_from_string(const char *name) {
        for (int i = 0; name && i < _EVIDENCE_TYPE_MAX; i++)
                if (streq(names[i], name))
                        return i;
        return -EINVAL;
}
