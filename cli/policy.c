/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* `tdictl policy …`: tdid's policy in force, and policies in files, for what is not running, not loaded, or not there. */
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "model.h"
#include "policy/report.h"
#include "print.h"

#define PATH_DEPTH_MAX 16
#define PROOFS_MAX 16

static int fail_argument(struct tdictl *t, const char *what, const char *text) {
        return fail(t, tdi_error_to_name(TDI_ERROR_INVALID_ARGUMENT), tdi_error_to_exit(TDI_ERROR_INVALID_ARGUMENT), "'%s' is not %s.", text, what);
}

int verb_policy_check(struct tdictl *t) {
        _cleanup_(json_object_putp) json_object *model = NULL;
        json_object *findings = NULL;
        int r, errors;

        errors = policy_check(t->arguments.words, t->arguments.n_words, &findings);
        if (errors < 0)
                return fail_oom(t);
        r = model_new(t, &model);
        if (r < 0) {
                json_object_put(findings);
                return r;
        }
        if (json_put(model, "findings", findings) < 0)
                return fail_oom(t);
        r = print_model(t, model, findings_view);
        return r < 0 ? r : errors > 0 ? tdi_error_to_exit(TDI_ERROR_INVALID_ARGUMENT) : json_object_array_length(findings) > 0 ? EXIT_OTHER : 0;
}

static int load(struct tdictl *t, struct policy **ret) {
        static const char *const standard[] = POLICY_DIRS;
        _cleanup_free_ const char **given = calloc(t->arguments.n_options + 1, sizeof(*given));
        struct policy_error why;
        char text[1024];
        size_t n = 0;

        if (!given)
                return fail_oom(t);
        for (const struct option_value *v; (v = arguments_option(&t->arguments, "policy", n));)
                given[n++] = v->text;
        if (policy_load(n > 0 ? given : standard, n > 0 ? n : ARRAY_SIZE(standard), ret, &why) >= 0)
                return 0;
        return fail(t, tdi_error_to_name(TDI_ERROR_INVALID_ARGUMENT), tdi_error_to_exit(TDI_ERROR_INVALID_ARGUMENT), "%s",
                    policy_error_format(&why, text, sizeof(text)));
}

int verb_policy_show(struct tdictl *t) {
        _cleanup_(json_object_putp) json_object *model = NULL, *all = NULL;
        _cleanup_policy_ struct policy *p = NULL;
        int r;

        r = load(t, &p);
        if (r >= 0)
                r = model_new(t, &model);
        if (r < 0)
                return r;
        all = policy_to_json(p);
        if (json_put(model, "files", json_object_get(json_member(all, "files"))) < 0 ||
            json_put(model, "rules", json_object_get(json_member(all, "rules"))) < 0)
                return fail_oom(t);
        return print_model(t, model, policy_view);
}

/* ---- facts ---- */

struct asked {
        struct policy_facts facts;
        uint32_t path[PATH_DEPTH_MAX];
        struct policy_proof proofs[PROOFS_MAX];
        char *texts[PROOFS_MAX]; /* of the proofs */
};

static void asked_done(struct asked *a) {
        for (size_t i = 0; i < ARRAY_SIZE(a->texts); i++)
                free(a->texts[i]);
}

static bool parse_hex(const char *text, size_t digits, uint64_t *ret) {
        char *end;

        if (startswith(text, "0x"))
                text += 2;
        if (strlen(text) != digits || strspn(text, "0123456789abcdefABCDEF") != digits)
                return false;
        *ret = strtoull(text, &end, 16);
        return true;
}

static int take_ids(struct tdictl *t, const char *option, uint16_t *vendor, uint16_t *device) {
        const char *text = arguments_text(&t->arguments, option);
        uint64_t v, d;
        char head[5];

        if (!text)
                return 0;
        snprintf(head, sizeof(head), "%s", text);
        if (strlen(text) != 9 || text[4] != ':' || !parse_hex(head, 4, &v) || !parse_hex(text + 5, 4, &d))
                return fail_argument(t, "VENDOR:DEVICE, four hex digits each", text);
        *vendor = (uint16_t) v;
        *device = (uint16_t) d;
        return 1;
}

static int take_serial(struct tdictl *t, struct policy_facts *f) {
        const char *text = arguments_text(&t->arguments, "serial");
        char digits[32];
        size_t n = 0;

        if (!text)
                return 0;
        for (const char *c = startswith(text, "0x") ? text + 2 : text; *c && n + 1 < sizeof(digits); c++)
                if (*c != '-')
                        digits[n++] = *c;
        digits[n] = 0;
        if (!parse_hex(digits, 16, &f->serial))
                return fail_argument(t, "a serial number: write eight bytes as lspci does, 00-1b-21-ff-ff-c0-ff-ee", text);
        f->has_serial = true;
        return 0;
}

static int take_path(struct tdictl *t, struct asked *a) {
        const struct option_value *v;

        if (arguments_has(&t->arguments, "path"))
                a->facts.n_path = 0;
        a->facts.path = a->path;
        for (size_t n = 0; (v = arguments_option(&t->arguments, "path", n)); n++) {
                struct tdi_bdf bdf;
                int r;

                if (n == PATH_DEPTH_MAX)
                        return fail_usage(t, "At most %d bridges are above a function.", PATH_DEPTH_MAX);
                r = tdictl_bdf(t, v->text, &bdf);
                if (r < 0)
                        return r;
                a->path[n] = tdi_bdf_number(bdf);
                a->facts.n_path = n + 1;
        }
        return 0;
}

static int take_proofs(struct tdictl *t, struct asked *a) {
        const struct option_value *v;
        struct timespec now;

        (void) clock_gettime(CLOCK_REALTIME, &now);
        a->facts.now_usec = (uint64_t) now.tv_sec * 1000000 + (uint64_t) now.tv_nsec / 1000;
        a->facts.proofs = a->proofs;
        for (size_t n = 0; (v = arguments_option(&t->arguments, "evidence", n)); n++) {
                char *comma;

                if (n == PROOFS_MAX)
                        return fail_usage(t, "--evidence is taken at most %d times.", PROOFS_MAX);
                a->texts[n] = strdup(v->text);
                if (!a->texts[n])
                        return fail_oom(t);
                comma = strchr(a->texts[n], ',');
                if (comma)
                        *comma = 0;
                a->proofs[n] = (struct policy_proof){ a->texts[n], comma ? comma + 1 : NULL, a->facts.now_usec, true, NULL };
                a->facts.n_proofs = n + 1;
        }
        return 0;
}

static uint64_t hex_member(json_object *o, const char *key) {
        return strtoull(strempty(json_string(o, key)), NULL, 16);
}

static void take_bridges(json_object *bridges, struct asked *a) {
        size_t n = json_object_is_type(bridges, json_type_array) ? json_object_array_length(bridges) : 0;

        a->facts.path = a->path;
        a->facts.n_path = 0;
        for (size_t i = 0; i < n && a->facts.n_path < PATH_DEPTH_MAX; i++) {
                struct tdi_bdf bdf;

                if (tdi_bdf_parse(strempty(json_object_get_string(json_object_array_get_idx(bridges, i))), &bdf) >= 0)
                        a->path[a->facts.n_path++] = tdi_bdf_number(bdf);
        }
}

/* Only who may see all of the function is told. */
static void take_serial_of(struct tdictl *t, struct tdi_bdf where, struct policy_facts *f) {
        _cleanup_(json_object_putp) json_object *o = NULL;
        _cleanup_free_ char *text = NULL;

        if (tdi_client_describe_device(t->client, where, &text) < 0)
                return;
        o = json_tokener_parse(text);
        f->has_serial = parse_hex(strempty(json_string(json_member(o, "device"), "serial")), 16, &f->serial);
}

/* What tdid says of the function. */
static int ask_tdid(struct tdictl *t, struct tdi_bdf where, struct asked *a) {
        _cleanup_(json_object_putp) json_object *snapshot = NULL;
        struct policy_facts *f = &a->facts;
        json_object *device, *tee;
        char bdf[TDI_BDF_MAX];
        const char *role;
        int r;

        tdi_bdf_format(where, bdf);

        r = model_snapshot(t, &snapshot);
        if (r < 0)
                return fail_prefix(t, r, "With --id and --class no tdid is needed, but without them: ");
        device = model_find(snapshot, "devices", "bdf", bdf);
        if (!device)
                return fail(t, tdi_error_to_name(TDI_ERROR_NOT_FOUND), tdi_error_to_exit(TDI_ERROR_NOT_FOUND),
                            "There is no PCI function %s. See 'tdictl device list'.", bdf);
        f->vendor = (uint16_t) hex_member(device, "vendor");
        f->device = (uint16_t) hex_member(device, "device");
        f->subsystem_vendor = (uint16_t) hex_member(device, "subsystem_vendor");
        f->subsystem_device = (uint16_t) hex_member(device, "subsystem_device");
        f->class = (uint32_t) hex_member(device, "class");
        role = strempty(json_string(device, "sriov"));
        f->sriov = streq(role, "vf") ? POLICY_SRIOV_VF : streq(role, "pf") ? POLICY_SRIOV_PF : POLICY_SRIOV_NONE;
        take_bridges(json_member(device, "bridges"), a);
        take_serial_of(t, where, f);
        tee = json_member(device, "tee");
        for (size_t i = 0; json_object_is_type(tee, json_type_array) && i < json_object_array_length(tee); i++)
                f->tee_io = f->tee_io || streq(json_object_get_string(json_object_array_get_idx(tee, i)), "tee-io");
        return 0;
}

static int take_device(struct tdictl *t, const char *word, struct asked *a) {
        const char *text = arguments_text(&t->arguments, "class");
        struct policy_facts *f = &a->facts;
        struct tdi_bdf where;
        uint64_t class;
        int r;

        r = tdictl_bdf(t, word, &where);
        if (r < 0)
                return r;
        f->has_device = true;
        f->bdf = tdi_bdf_number(where);
        r = take_ids(t, "id", &f->vendor, &f->device);
        if (r == 0)
                r = ask_tdid(t, where, a);
        if (r >= 0)
                r = take_ids(t, "subsystem", &f->subsystem_vendor, &f->subsystem_device);
        if (r < 0)
                return r;
        if (text && !parse_hex(text, 6, &class))
                return fail_argument(t, "a class, six hex digits", text);
        if (text)
                f->class = (uint32_t) class;
        f->tee_io = f->tee_io || arguments_has(&t->arguments, "tee-io");
        text = arguments_text(&t->arguments, "sriov");
        if (text)
                f->sriov = streq(text, "pf") ? POLICY_SRIOV_PF : streq(text, "vf") ? POLICY_SRIOV_VF : POLICY_SRIOV_NONE;
        r = take_serial(t, f);
        return r < 0 ? r : take_path(t, a);
}

static void take_circumstances(struct tdictl *t, struct policy_facts *f) {
        const struct option_value *owner = arguments_option(&t->arguments, "owner", 0);
        const char *mode = arguments_text(&t->arguments, "mode"), *access = arguments_text(&t->arguments, "access"),
                   *ide = arguments_text(&t->arguments, "ide");

        f->vm = arguments_text(&t->arguments, "vm");
        f->owner = owner ? owner->number : getuid();
        f->platform = arguments_text(&t->arguments, "platform");
        f->mode = !mode ? POLICY_MODE_UNKNOWN : streq(mode, "early") ? POLICY_MODE_EARLY : POLICY_MODE_LATE;
        f->access = !access ? POLICY_ACCESS_UNKNOWN : streq(access, "vpci") ? POLICY_ACCESS_VPCI : POLICY_ACCESS_HANDOFF;
        f->ide_secure = !ide ? POLICY_UNKNOWN : streq(ide, "secure") ? POLICY_YES : POLICY_NO;
        f->association = arguments_has(&t->arguments, "association");
}

/* What says what a function is, or is to have proved: a question about something that tdid may not have, nor load. */
static bool is_supposed(const struct arguments *a) {
        static const char *const options[] = { "files", "policy", "id", "class", "subsystem", "serial", "path", "tee-io", "sriov", "evidence" };

        for (size_t i = 0; i < ARRAY_SIZE(options); i++)
                if (arguments_has(a, options[i]))
                        return true;
        return false;
}

/* The policy in force, and the function as it is. -EHOSTUNREACH, without a failure told: there is no tdid. */
static int explain_by_tdid(struct tdictl *t, json_object **ret) {
        const struct option_value *owner = arguments_option(&t->arguments, "owner", 0);
        const char *device = arguments_text(&t->arguments, "device");
        struct tdi_policy_question q = {
                .size = sizeof(q), .vm = arguments_text(&t->arguments, "vm"), .platform = arguments_text(&t->arguments, "platform"),
                .mode = arguments_text(&t->arguments, "mode"), .access = arguments_text(&t->arguments, "access"), .ide = arguments_text(&t->arguments, "ide"),
        };
        _cleanup_(json_object_putp) json_object *answer = NULL;
        _cleanup_free_ char *text = NULL;
        int r;

        if (device) {
                r = tdictl_bdf(t, device, &q.bdf);
                if (r < 0)
                        return r;
        }
        q.owner_uid = owner ? owner->number : 0;
        q.flags = (device ? TDI_POLICY_DEVICE : 0) | (owner ? TDI_POLICY_OWNER : 0) | (arguments_has(&t->arguments, "association") ? TDI_POLICY_ASSOCIATION : 0) |
                  (arguments_has(&t->arguments, "verify") ? TDI_POLICY_EVIDENCE : 0);
        r = tdi_client_connect(t->client, arguments_text(&t->arguments, "bus"));
        if (r >= 0)
                r = tdi_client_explain_policy(t->client, &q, &text);
        if (r == -EHOSTUNREACH && !arguments_has(&t->arguments, "verify"))
                return r;
        if (r < 0)
                return fail_client(t, r);
        answer = json_tokener_parse(text);
        *ret = json_object_get(json_member(answer, "policy"));
        return *ret ? 0 : fail(t, "Failed", EXIT_OTHER, "Could not understand tdid's answer.");
}

static int explain_by_files(struct tdictl *t, json_object **ret) {
        const char *device = arguments_text(&t->arguments, "device");
        _cleanup_(asked_done) struct asked a = {};
        _cleanup_policy_ struct policy *p = NULL;
        int r;

        take_circumstances(t, &a.facts);
        r = take_proofs(t, &a);
        if (r >= 0)
                r = load(t, &p);
        if (r >= 0 && device)
                r = take_device(t, device, &a);
        if (r < 0)
                return r;
        *ret = policy_explain(p, &a.facts);
        return *ret ? 0 : fail_oom(t);
}

int verb_policy_explain(struct tdictl *t) {
        _cleanup_(json_object_putp) json_object *model = NULL, *explanation = NULL;
        bool supposed = is_supposed(&t->arguments), by_files = supposed;
        int r;

        if (supposed && arguments_has(&t->arguments, "verify"))
                return fail_usage(t, "With --verify tdid asks the device itself: options that say what it is or proves, --files and --policy do not go with it.");
        r = supposed ? 0 : explain_by_tdid(t, &explanation);
        if (r == -EHOSTUNREACH && !t->error_text) {
                by_files = true;
                r = 0;
        }
        if (r >= 0 && by_files)
                r = explain_by_files(t, &explanation);
        if (r >= 0)
                r = model_new(t, &model);
        if (r < 0)
                return r;
        if (by_files && !supposed && !t->json)
                fprintf(stderr, "tdid is not running: this is by the files of policies as they are now.\n");
        if (json_put_string(explanation, "judged_by", by_files ? "files" : "tdid") < 0 || json_put(model, "explanation", json_object_get(explanation)) < 0)
                return fail_oom(t);
        return print_model(t, model, explanation_view);
}

/* ---- suggestions ---- */

static void tell(struct tdictl *t, const char *format, ...) _printf_(2, 3);
static void tell(struct tdictl *t, const char *format, ...) {
        va_list ap;

        /* The policy goes to standard output, and is the whole of it. */
        if (t->json || !t->legend)
                return;
        va_start(ap, format);
        (void) vfprintf(stderr, format, ap);
        va_end(ap);
        fputc('\n', stderr);
}

static int add_proof(struct asked *a, json_object *verdict, size_t *n_seen) {
        const char *anchor = json_string(verdict, "anchor_file"), *references = json_string(verdict, "references_file");
        size_t n = a->facts.n_proofs;
        char *text = NULL;

        (*n_seen)++;
        if (!json_object_get_boolean(json_member(verdict, "ok")) || isempty(anchor) || n == PROOFS_MAX)
                return 0;
        if (asprintf(&text, "%s%c%s", anchor, 0, strempty(references)) < 0)
                return -ENOMEM;
        a->texts[n] = text;
        a->proofs[n] = (struct policy_proof){ text, references ? text + strlen(text) + 1 : NULL, a->facts.now_usec,
                                              json_object_get_boolean(json_member(json_member(verdict, "measurements"), "signed")), NULL };
        a->facts.n_proofs = n + 1;
        return 0;
}

/* What the device proves of what the policy in force knows anchors of. It need not have any, nor may everybody ask: then there is a rule without. */
static int ask_device(struct tdictl *t, struct asked *a, char **ret_digest) {
        _cleanup_(json_object_putp) json_object *evidence = NULL;
        _cleanup_free_ char *text = NULL;
        json_object *list;
        struct tdi_bdf where;
        size_t seen = 0;
        int r;

        r = tdictl_bdf(t, t->arguments.words[0], &where);
        if (r < 0)
                return r;
        if (tdi_client_evidence(t->client, where, NULL, true, &text, NULL) < 0) {
                tell(t, "The rule requires no evidence: %s", tdi_client_error(t->client, NULL));
                return 0;
        }
        evidence = json_tokener_parse(text);
        list = json_member(evidence, "verified");
        for (size_t i = 0; json_object_is_type(list, json_type_array) && i < json_object_array_length(list); i++)
                if (add_proof(a, json_object_array_get_idx(list, i), &seen) < 0)
                        return fail_oom(t);
        if (a->facts.n_proofs == 0) {
                tell(t, "The rule requires no evidence: the device has some, but %s; --evidence=ANCHOR[,REFERENCES] names others.",
                     seen > 0 ? "it proves nothing that the policy in force knows anchors of ('tdictl device evidence --verify' says why)" : "the policy in force names no anchors");
                return 0;
        }
        if (json_string(evidence, "archived")) {
                *ret_digest = strdup(json_string(evidence, "archived"));
                if (!*ret_digest)
                        return fail_oom(t);
        }
        return 0;
}

int verb_policy_suggest(struct tdictl *t) {
        _cleanup_(json_object_putp) json_object *model = NULL, *policy = NULL;
        const char *given = arguments_text(&t->arguments, "digest");
        _cleanup_(asked_done) struct asked a = {};
        _cleanup_free_ char *digest = NULL;
        int r;

        take_circumstances(t, &a.facts);
        r = take_proofs(t, &a);
        if (r >= 0)
                r = take_device(t, t->arguments.words[0], &a);
        if (r >= 0 && !arguments_has(&t->arguments, "evidence") && !arguments_has(&t->arguments, "id") && !arguments_has(&t->arguments, "no-evidence"))
                r = ask_device(t, &a, &digest);
        if (r < 0)
                return r;
        policy = policy_suggest(&a.facts, arguments_has(&t->arguments, "owner"), given ? given : digest);
        if (!t->json) {
                /* A file, as it is. */
                puts(json_object_to_json_string_ext(policy, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE));
                return 0;
        }
        r = model_new(t, &model);
        if (r < 0)
                return r;
        if (json_put(model, "policy", json_object_get(policy)) < 0)
                return fail_oom(t);
        return print_model(t, model, NULL);
}
