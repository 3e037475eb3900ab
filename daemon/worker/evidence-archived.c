/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The newest evidence of a device that the archive has, given out again as it was, and judged anew. The device is not asked. */
#include <stdio.h>

#include "evidence/verify.h"
#include "worker/archive.h"
#include "worker/evidence.h"

static const char *const sources[] = { "kernel", "tsm", "doe" };

static const char *source_of(const char *name) {
        for (size_t i = 0; i < ARRAY_SIZE(sources); i++)
                if (streq(sources[i], name))
                        return sources[i];
        return NULL;
}

static int take_object(struct work *w, const char *folder, struct json_object *o, struct evidence *e) {
        const char *type = json_str_or(o, "type", ""), *digest = json_str_or(o, "sha256", "");
        _cleanup_free_ uint8_t *data = NULL;
        int number = evidence_type_from_string(type), r;
        size_t size = 0;

        if (!streq(json_str_or(o, "form", ""), "raw"))
                return 0;
        if (number < 0)
                return work_fail(w, -EBADMSG, NULL, "find the object %s of %s", type, w->bdf);
        r = archive_object(folder, digest, &data, &size);
        if (r < 0)
                return work_fail(w, r, r == -ENOENT ? "the archive's limit has dropped it: ask the device" : NULL, "read the object %s (%s) of the archive", type, digest);
        r = evidence_set(e, (enum evidence_type) number, data, size);
        e->objects[number].source = source_of(json_str_or(o, "source", ""));
        e->objects[number].time_usec = json_u64_or(o, "time", 0);
        return r < 0 ? work_fail(w, r, NULL, "take the object %s", type) : 0;
}

static int take_record(struct work *w, const char *folder, struct json_object *record, struct evidence *e) {
        const char *nonce = json_str_or(record, "nonce", "");
        struct json_object *objects;
        size_t size = 0;
        int r;

        if (json_get_array(record, "objects", &objects) < 0 || !streq(json_str_or(record, "bdf", ""), w->bdf))
                return work_fail(w, -EBADMSG, NULL, "understand the record of %s", w->bdf);
        for (size_t i = 0; i < json_object_array_length(objects); i++) {
                r = take_object(w, folder, json_object_array_get_idx(objects, i), e);
                if (r < 0)
                        return r;
        }
        e->time_usec = json_u64_or(record, "time", 0);
        e->has_nonce = work_decode_hex(nonce, e->nonce, sizeof(e->nonce), &size) >= 0 && size == sizeof(e->nonce);
        return 0;
}

/*
 * args: "bdf"; "archive": the folder; "verify": as of read.evidence. values and what goes out: the same. The nonce that it must be signed for is that with
 * which it was asked for; the time, for the validity of certificates, when it was.
 */
int read_archived_do(struct work *w) {
        _cleanup_json_ struct json_object *record = NULL;
        const char *folder = json_str_or(w->args, "archive", ""), *why = "";
        _cleanup_evidence_ struct evidence e = {};
        _cleanup_free_ char *text = NULL;
        char name[64];
        unsigned line;
        int r;

        r = isempty(folder) ? -ENOENT : archive_newest(folder, w->bdf, EVIDENCE_TEXT_MAX, name, &text);
        if (r == -ENOENT) {
                snprintf(w->text, sizeof(w->text), "the archive has no evidence of %s", w->bdf);
                return -ENODATA;
        }
        if (r < 0)
                return work_fail(w, r, NULL, "read the archive %s", folder);
        r = json_parse_strict(text, strlen(text), &record, &line, &why);
        if (r < 0)
                return work_fail(w, r, why, "read %s/records/%s, line %u", folder, name, line);
        r = take_record(w, folder, record, &e);
        if (r < 0)
                return r;
        json_set_str(record, "archived", name);
        json_set_bool(record, "from_archive", true);
        json_set_str(w->values, "source", json_str_or(record, "source", "?"));
        json_set_u64(w->values, "time", e.time_usec);
        json_set_str(w->values, "nonce", json_str_or(record, "nonce", NULL));
        r = evidence_put_objects(w, &e, record);
        if (r >= 0)
                r = evidence_verify_all(w, &e, e.has_nonce ? e.nonce : NULL, record);
        return r < 0 ? r : evidence_put_text(w, record);
}
