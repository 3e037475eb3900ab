/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Collects what a device says of itself, and finds out what it proves. Sources are asked in their order until one has something: the kernel, which
 * has it from whoever owns the device's mailbox; the TSM with which the device is bound; then, where that is allowed and nobody owns it, the mailbox
 * itself. Everything here is a stranger's bytes, which no process parses that lives longer than its question.
 */
#include "worker/archive.h"
#include "worker/evidence.h"
#include "worker/evidence-tsm.h"

#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>

#include "evidence/doe.h"
#include "evidence/netlink.h"
#include "evidence/verify.h"
#include "fault.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

static uint64_t now(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_REALTIME, &ts);
        return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

static int read_nonce(struct work *w, uint8_t nonce[static EVIDENCE_NONCE]) {
        const char *text = json_str_or(w->args, "nonce", "");

        if (isempty(text))
                return getrandom(nonce, EVIDENCE_NONCE, 0) == (ssize_t) EVIDENCE_NONCE ? 0 : work_fail(w, -EIO, NULL, "get a random nonce");
        for (size_t i = 0; i < EVIDENCE_NONCE; i++)
                if (strlen(text) != 2 * (size_t) EVIDENCE_NONCE || sscanf(text + 2 * i, "%2hhx", &nonce[i]) != 1)
                        return work_fail(w, -EINVAL, NULL, "read the nonce");
        return 0;
}

static void hex(const uint8_t *p, size_t n, char *ret) {
        for (size_t i = 0; i < n; i++)
                snprintf(ret + 2 * i, 3, "%02x", p[i]);
}

/* ---- sources ---- */

static void tell(struct json_object *list, const char *source, const char *reason, const char *text) {
        struct json_object *o = json_new();

        json_set_str(o, "source", source);
        json_set_str(o, "reason", reason);
        json_set_str(o, "text", text);
        json_push_take(list, o);
}

static bool ask_kernel(struct work *w, const uint8_t *nonce, struct evidence *e, struct json_object *tried) {
        struct evidence_why why = {};
        int r;

        /* Its family is this machine's. */
        r = streq(w->host->ops->name, "linux") ? evidence_netlink_collect(w->bdf, nonce, EVIDENCE_NONCE, EVIDENCE_NETLINK_TYPES, e, &why) : -EOPNOTSUPP;
        if (r >= 0) {
                tell(tried, "kernel", "ok", "the device-evidence family of generic netlink");
                return true;
        }
        tell(tried, "kernel", r == -EBADMSG ? evidence_reason_to_string(why.reason) : r == -EOPNOTSUPP ? "not-supported" : r == -ENODEV ? "no-evidence" : "error",
             why.text[0] ? why.text : r == -EOPNOTSUPP ? "this kernel has no device-evidence family" : strerror(-r));
        return false;
}

/*
 * The report is of one interface, which the kernel's family may not have; what is signed belongs together, and is of one source. Returns how many objects
 * there are of it; -ENOMEM.
 */
static int ask_tsm(struct work *w, bool kernel, struct evidence *e, struct json_object *tried) {
        unsigned types = kernel ? 1u << EVIDENCE_REPORT : EVIDENCE_NETLINK_TYPES;
        char text[512];
        const char *reason;
        int r;

        if (kernel && e->objects[EVIDENCE_REPORT].data)
                return 0;
        r = evidence_tsm_collect(w, types, e, &reason, text, sizeof(text));
        if (r >= 0)
                tell(tried, "tsm", reason, text);
        return r;
}

/* Is it written down in the kernel that user space has touched what the kernel claims? Linux 7.3 does not mind; a kernel that has the mailbox as its own does. */
static uint64_t taint(struct work *w) {
        uint64_t bits;

        return host_read_u64(w->host, "/proc/sys/kernel/tainted", &bits) < 0 ? 0 : bits;
}

static bool ask_mailbox(struct work *w, const uint8_t *nonce, struct evidence *e, struct json_object *tried) {
        struct spdm_wanted wanted = { .challenge = true, .measure = SPDM_MEASURE_AT_ONCE, .sign_measurements = true, .nonce = nonce };
        _cleanup_(spdm_doe_closep) struct spdm_transport *t = NULL;
        const char *not = json_str_or(w->args, "why_not_doe", "");
        struct evidence_why why = {};
        uint64_t before;
        char path[PATH_MAX];
        int r;

        if (!isempty(not)) {
                tell(tried, "doe", "not-allowed", not);
                return false;
        }
        wanted.timeout_usec = json_u64_or(w->args, "timeout_usec", 0);
        before = taint(w);
        guard_let_write(w, true);
        r = spdm_doe_open(w->host, work_path(w, path, sizeof(path), "config"), &t, &why);
        guard_let_write(w, false);
        if (r >= 0)
                r = spdm_collect(t, &wanted, e, &why);
        if (r >= 0)
                tell(tried, "doe", "ok", taint(w) == before ? "SPDM over the mailbox in the host's config space; this kernel was not tainted by that" :
                     "SPDM over the mailbox in the host's config space, by which the kernel is tainted from now on (/proc/sys/kernel/tainted)");
        else
                tell(tried, "doe", r == -EBADMSG ? evidence_reason_to_string(why.reason) : "error", why.text[0] ? why.text : strerror(-r));
        return r >= 0;
}

/* ---- what it proves ---- */

/* -EBADMSG with @why, as of everything that cannot be verified; -ENOMEM. */
static int load(const char *anchor, const char *references, struct evidence_anchors **ret_anchors, struct evidence_references **ret_references,
                struct evidence_why *why) {
        _cleanup_free_ char *error = NULL;
        int r;

        r = evidence_anchors_new(ret_anchors);
        if (r >= 0 && !isempty(anchor)) {
                r = evidence_anchors_add_file(*ret_anchors, anchor, anchor, why);
                if (r < 0 && r != -ENOMEM)
                        return evidence_refuse(why, EVIDENCE_FOREIGN_ROOT, "could not read the anchor %s: %s", anchor, strerror(-r));
        }
        if (r < 0 || isempty(references))
                return r;
        r = evidence_references_load(references, ret_references, &error);
        return r < 0 && r != -ENOMEM ? evidence_refuse(why, EVIDENCE_MISSING, "could not read the reference values %s: %s", references, error ? error : strerror(-r)) : r;
}

/* One pair of anchor and reference values. 0, also where it proves nothing; *ret has the whole result. */
static int verify(struct work *w, const struct evidence *e, const uint8_t *nonce, struct json_object *pair, struct json_object **ret) {
        _cleanup_(evidence_references_freep) struct evidence_references *references = NULL;
        const char *anchor = json_str_or(pair, "anchor", ""), *values = json_str_or(pair, "references", "");
        _cleanup_evidence_anchors_ struct evidence_anchors *anchors = NULL;
        struct evidence_why why = {};
        struct json_object *o = NULL;
        int r;

        r = load(anchor, values, &anchors, &references, &why);
        if (r == -EBADMSG) {
                o = json_new();
                json_set_bool(o, "ok", false);
                json_set_str(o, "reason", evidence_reason_to_string(why.reason));
                json_set_str(o, "text", why.text);
        } else if (r >= 0) {
                const struct evidence_rules rules = {
                        .anchors = anchors, .references = references, .slot = -1, .time = (time_t) (e->time_usec / 1000000), .nonce = nonce
                };

                r = evidence_verify(e, &rules, &o);
        }
        if (r < 0 && r != -EBADMSG)
                return work_fail(w, r, NULL, "verify the evidence of %s", w->bdf);
        json_set_str(o, "anchor_file", isempty(anchor) ? NULL : anchor);
        json_set_str(o, "references_file", isempty(values) ? NULL : values);
        *ret = o;
        return 0;
}

int evidence_verify_all(struct work *w, const struct evidence *e, const uint8_t *nonce, struct json_object *evidence) {
        struct json_object *wanted, *proofs = json_new_array(), *results = json_new_array(), *none = NULL;
        int r = 0;

        json_set_take(w->values, "proofs", proofs);
        json_set_take(evidence, "verified", results);
        if (json_get_array(w->args, "verify", &wanted) < 0 || json_object_array_length(wanted) == 0) {
                /* What it is can be shown without an anchor, and that it leads to none. */
                wanted = none = json_new_array();
                json_push_take(wanted, json_new());
        }
        for (size_t i = 0; r >= 0 && i < json_object_array_length(wanted); i++) {
                struct json_object *pair = json_object_array_get_idx(wanted, i), *result = NULL, *proof, *measurements;
                bool is_signed = false;
                char text[640];

                r = verify(w, e, nonce, pair, &result);
                if (r < 0)
                        break;
                if (json_get_object(result, "measurements", &measurements) >= 0)
                        is_signed = json_bool_or(measurements, "signed", false);
                json_push_take(results, result);
                if (none)
                        break;
                proof = json_new();
                json_set_str(proof, "anchor", json_str_or(pair, "anchor", ""));
                json_set_str(proof, "references", json_str_or(pair, "references", NULL));
                json_set_bool(proof, "ok", json_bool_or(result, "ok", false));
                json_set_bool(proof, "signed", is_signed);
                snprintf(text, sizeof(text), "%s: %s", json_str_or(result, "reason", "?"), json_str_or(result, "text", ""));
                json_set_str(proof, "text", text);
                json_push_take(proofs, proof);
        }
        json_putp(&none);
        return r;
}

/* ---- the answer ---- */

static int make_memfd(struct work *w, int *ret) {
        int fd = memfd_create("tdid-evidence", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

        if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
                fd = memfd_create("tdid-evidence", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0)
                return work_fail(w, -errno, NULL, "create a memfd");
        *ret = fd;
        return 0;
}

static int fill(struct work *w, int fd, const void *data, size_t size) {
        const uint8_t *p = data;

        while (size > 0) {
                ssize_t n = write(fd, p, size);

                if (n < 0)
                        return work_fail(w, -errno, NULL, "write a memfd");
                p += n;
                size -= (size_t) n;
        }
        return 0;
}

/* A test may have one without: whoever gets it has to notice. */
static int seal(struct work *w, const char *what, int *fd) {
        if (fault_fails("evidence.seal", what, w->bdf) == 0 && fcntl(*fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
                return work_fail(w, -errno, NULL, "seal a memfd");
        w->out.fd[w->out.n++] = TAKE_FD(*fd);
        return 0;
}

static struct json_object *place(const char *type, const char *form, uint64_t *at, size_t size) {
        struct json_object *o = json_new();

        json_set_str(o, "type", type);
        json_set_str(o, "form", form);
        json_set_u64(o, "offset", *at);
        json_set_u64(o, "size", size);
        *at += size;
        return o;
}

/* Each chain as other tools read it, without SPDM's header. One that is no chain is in the raw object only. */
static int put_chains(struct work *w, const struct evidence *e, int fd, uint64_t *at, struct json_object *list) {
        int r = 0;

        for (unsigned i = 0; i < EVIDENCE_SLOTS && r >= 0; i++) {
                _cleanup_evidence_chain_ struct evidence_chain *c = NULL;
                _cleanup_free_ uint8_t *der = NULL;
                _cleanup_free_ char *pem = NULL;
                size_t der_size = 0, pem_size = 0;

                if (!e->objects[i].data)
                        continue;
                r = evidence_chain_parse(e->objects[i].data, e->objects[i].size, NULL, &c, NULL);
                if (r == -EBADMSG) {
                        r = 0;
                        continue;
                }
                if (r >= 0)
                        r = evidence_chain_to_der(c, &der, &der_size);
                if (r >= 0)
                        r = evidence_chain_to_pem(c, &pem, &pem_size);
                if (r < 0)
                        return work_fail(w, r, NULL, "write the certificates of %s", w->bdf);
                r = fill(w, fd, der, der_size);
                if (r >= 0)
                        r = fill(w, fd, pem, pem_size);
                json_push_take(list, place(evidence_type_to_string(i), "der", at, der_size));
                json_push_take(list, place(evidence_type_to_string(i), "pem", at, pem_size));
        }
        return r;
}

int evidence_put_objects(struct work *w, const struct evidence *e, struct json_object *evidence) {
        char digest[ARCHIVE_DIGEST], all[_EVIDENCE_TYPE_MAX * ARCHIVE_DIGEST] = "";
        struct json_object *list = json_new_array();
        _cleanup_close_ int fd = -EBADF;
        uint64_t at = 0;
        int r;

        json_set_take(evidence, "objects", list);
        r = make_memfd(w, &fd);
        for (int i = 0; i < _EVIDENCE_TYPE_MAX && r >= 0; i++) {
                const struct evidence_object *object = &e->objects[i];
                struct json_object *o;

                if (!object->data)
                        continue;
                r = archive_digest(object->data, object->size, digest);
                if (r < 0)
                        return work_fail(w, r, NULL, "make a digest");
                r = fill(w, fd, object->data, object->size);
                o = place(evidence_type_to_string(i), "raw", &at, object->size);
                json_set_str(o, "source", object->source);
                json_set_u64(o, "time", object->time_usec);
                json_set_str(o, "sha256", digest);
                strcat(all, digest);
                json_push_take(list, o);
        }
        if (r >= 0)
                r = put_chains(w, e, fd, &at, list);
        /* One digest for all of it: of the digests in their order. */
        if (r >= 0 && archive_digest(all, strlen(all), digest) >= 0)
                json_set_str(w->values, "digest", digest);
        return r < 0 ? r : seal(w, "raw", &fd);
}

int evidence_put_text(struct work *w, struct json_object *evidence) {
        const char *text = json_object_to_json_string_ext(evidence, JSON_C_TO_STRING_PLAIN);
        _cleanup_close_ int fd = -EBADF;
        int r;

        if (strlen(text) > EVIDENCE_TEXT_MAX)
                return work_fail(w, -EFBIG, "the device has more certificates and measurements than anybody reads", "describe the evidence of %s", w->bdf);
        r = make_memfd(w, &fd);
        if (r >= 0)
                r = fill(w, fd, text, strlen(text));
        return r < 0 ? r : seal(w, "text", &fd);
}

static void archive(struct work *w, const struct evidence *e, struct json_object *evidence) {
        const struct archive_limits limits = { json_u64_or(w->args, "archive_bytes", 0), json_u64_or(w->args, "archive_records", 1) };
        const char *folder = json_str_or(w->args, "archive", "");
        char name[64], text[160];
        int r;

        if (isempty(folder))
                return;
        r = archive_store(folder, e, w->bdf, json_object_to_json_string_ext(evidence, JSON_C_TO_STRING_PRETTY), &limits, name);
        if (r >= 0) {
                json_set_str(evidence, "archived", name);
                return;
        }
        snprintf(text, sizeof(text), "could not store it below %s: %s", folder, strerror(-r));
        json_set_str(evidence, "not_archived", text);
        json_set_str(w->values, "not_archived", text);
}

/* Its reason is that of the source that was asked last, which is the one that could have. */
static int nobody_has_any(struct work *w, struct json_object *tried) {
        struct json_object *kernel = json_object_array_get_idx(tried, 0), *tsm = json_object_array_get_idx(tried, 1);
        struct json_object *last = json_object_array_get_idx(tried, json_object_array_length(tried) - 1);

        snprintf(w->text, sizeof(w->text), "%s gives no evidence: from the kernel: %s; from a TSM: %s; from its DOE mailbox: %s: %s", w->bdf,
                 json_str_or(kernel, "text", ""), json_str_or(tsm, "text", ""), json_str_or(last, "reason", ""), json_str_or(last, "text", ""));
        json_set_str(w->values, "reason", json_str_or(last, "reason", ""));
        return -ENODATA;
}

/*
 * args: "bdf"; "nonce": in hexadecimal, else a random one; "why_not_doe": the mailbox must not be used; "timeout_usec" for it, and for a TSM; "tsm", and a
 * socket: see evidence-tsm.h; "verify": [{"anchor", "references"}], files;
 * "archive": a folder, with "archive_bytes", "archive_records". values: "source", "proofs": [{"anchor", "references", "ok", "signed", "text"}], "time", "nonce",
 * "digest", "not_archived". Out: the raw objects, and the whole result as JSON text, both sealed memfds.
 */
int read_evidence_do(struct work *w) {
        _cleanup_json_ struct json_object *evidence = json_new();
        struct json_object *tried = json_new_array();
        char nonce_text[2 * EVIDENCE_NONCE + 1];
        _cleanup_evidence_ struct evidence e = {};
        uint8_t nonce[EVIDENCE_NONCE];
        const char *source = NULL;
        int r;

        json_set_str(evidence, "schema", "tdid-evidence-record/1");
        json_set_str(evidence, "bdf", w->bdf);
        json_set_take(evidence, "tried", tried);
        r = read_nonce(w, nonce);
        if (r < 0)
                return r;
        if (ask_kernel(w, nonce, &e, tried))
                source = "kernel";
        evidence_mark(&e, "kernel", now());
        r = ask_tsm(w, source != NULL, &e, tried);
        if (r < 0)
                return work_fail(w, r, NULL, "take the evidence of %s", w->bdf);
        if (!source && r > 0)
                source = "tsm";
        if (!source && ask_mailbox(w, nonce, &e, tried))
                source = "doe";
        if (!source)
                return nobody_has_any(w, tried);
        e.time_usec = now();
        evidence_mark(&e, source, e.time_usec);
        hex(nonce, sizeof(nonce), nonce_text);
        json_set_str(evidence, "source", source);
        json_set_u64(evidence, "time", e.time_usec);
        json_set_str(evidence, "nonce", nonce_text);
        json_set_str(w->values, "source", source);
        json_set_u64(w->values, "time", e.time_usec);
        json_set_str(w->values, "nonce", nonce_text);
        r = evidence_put_objects(w, &e, evidence);
        if (r >= 0)
                r = evidence_verify_all(w, &e, nonce, evidence);
        if (r < 0)
                return r;
        archive(w, &e, evidence);
        return evidence_put_text(w, evidence);
}
