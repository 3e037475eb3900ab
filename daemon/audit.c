/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of events, and how an entry is written. */
#include "audit-entry.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>

#define F(field) (UINT64_C(1) << AUDIT_F_##field)
#define VM_FIELDS (F(VM) | F(VM_ID) | F(OWNER))

_Static_assert(AUDIT_FIELD_MAX <= 64, "a set of fields is one number");

static const char *const fields[AUDIT_FIELD_MAX] = {
#define AUDIT_FIELD_NAME(name) [AUDIT_F_##name] = "TDID_" #name,
        AUDIT_FIELDS(AUDIT_FIELD_NAME)
#undef AUDIT_FIELD_NAME
};

/* Every entry has TDID_EVENT as well. An ID is never given to another event, nor an event another ID. */
const struct audit_row audit_table[AUDIT_EVENT_MAX] = {
        /*                name, ID, priority in the journal, on stderr, fields that are always there, those that may be, message */
        [AUDIT_STARTED] = { "started", "ba3765d5e55e47618464a6d1d90f20a7", LOG_NOTICE, LOG_NOTICE,
                F(VERSION) | F(SOURCE), 0,
                "tdid {VERSION} has started, on {SOURCE}" },
        [AUDIT_STOPPING] = { "stopping", "eb9bc298914747eb94c9783406645694", LOG_NOTICE, LOG_NOTICE,
                F(COUNT), 0,
                "stopping: giving everything back" },
        [AUDIT_LEAVING] = { "leaving", "77a18989d09e460b806a7685fe66d21b", LOG_NOTICE, LOG_NOTICE,
                F(REASON) | F(COUNT), 0,
                "{REASON}: leaving {COUNT} VMs with their holders" },
        [AUDIT_ENDED] = { "ended", "210d4ebc06cf4264b6115edb68fff314", LOG_NOTICE, AUDIT_NOT_LOGGED,
                F(RESULT), 0,
                "tdid has ended with {RESULT}" },
        [AUDIT_LOST] = { "lost", "b70b8f7ea09340fb8696dfe84e0719c0", LOG_ERR, LOG_ERR,
                F(COUNT), 0,
                "{COUNT} entries of the audit were lost: the journal, or the file, did not take them" },
        [AUDIT_VM_CREATED] = { "vm-created", "a172cbd1168a4e02a34c358bae69b755", LOG_NOTICE, LOG_INFO,
                VM_FIELDS | F(HOLDER) | F(PLATFORM) | F(CALLER), 0,
                "VM {VM} ({HOLDER}) is created for uid {OWNER}, platform {PLATFORM}" },
        [AUDIT_VM_PHASE] = { "vm-phase", "7b15531e3f35425a8d51395464f9266f", LOG_INFO, LOG_INFO,
                VM_FIELDS | F(OLD) | F(NEW), 0,
                "VM {VM}: {OLD} → {NEW}" },
        [AUDIT_VM_CLOSING] = { "vm-closing", "0adfd7b366e34b00a7e5c7b4e1e2abec", LOG_NOTICE, LOG_INFO,
                VM_FIELDS | F(REASON), 0,
                "VM {VM} is closing: {REASON}" },
        [AUDIT_VM_GONE] = { "vm-gone", "ce623369f3f042c1ba34fab2b858a909", LOG_NOTICE, LOG_INFO,
                VM_FIELDS, 0,
                "VM {VM} is gone" },
        [AUDIT_VM_RECOVERED] = { "vm-recovered", "f8286a7073a64cdebfbf69e003b94b79", LOG_NOTICE, LOG_NOTICE,
                VM_FIELDS | F(HOLDER) | F(NEW) | F(PID), 0,
                "VM {VM} is taken up again from its holder, process {PID}" },
        [AUDIT_VM_NOT_RECOVERED] = { "vm-not-recovered", "645852a797374195a20569eb946271ba", LOG_WARNING, LOG_WARNING,
                F(HOLDER) | F(REASON), 0,
                "VM {HOLDER}: {REASON}" },
        [AUDIT_HOLDER_DIED] = { "holder-died", "e472c7c8ceea457ea4a4e41059c2f5ab", LOG_WARNING, LOG_WARNING,
                VM_FIELDS | F(PID), 0,
                "VM {VM}: its holder (process {PID}) has died" },
        [AUDIT_KVM_SET] = { "kvm-set", "c00401eb842c434ba8d70039e561ceea", LOG_INFO, AUDIT_NOT_LOGGED,
                VM_FIELDS, F(CALLER) | F(PID),
                "VM {VM}:[ uid {CALLER} has given its KVM VM][ its KVM VM is that of process {PID}]" },
        [AUDIT_KVM_GONE] = { "kvm-gone", "c8123473ee934d1db01dd5dabb3ae5bc", LOG_INFO, LOG_INFO,
                VM_FIELDS, 0,
                "VM {VM}: the KVM VM of the process that was connected goes with it" },
        [AUDIT_KEEPER_ADDED] = { "keeper-added", "e4148f806a5740d597c1cb94aa769cd3", LOG_INFO, AUDIT_NOT_LOGGED,
                VM_FIELDS | F(KIND) | F(KEEPER) | F(CALLER), F(LABEL),
                "VM {VM} is kept by {KIND} {KEEPER}[ \"{LABEL}\"] of uid {CALLER}" },
        [AUDIT_KEEPER_ENDED] = { "keeper-ended", "33886ca1e2434d4f99efdb346eea1ba6", LOG_INFO, LOG_INFO,
                VM_FIELDS | F(KIND) | F(KEEPER) | F(CALLER), F(LABEL),
                "VM {VM}: a keeper has ended: {KIND}[ \"{LABEL}\"] of uid {CALLER}" },
        [AUDIT_CONNECTED] = { "connected", "f664d1ee277a4c0fa781f9f1bf20ceee", LOG_INFO, LOG_INFO,
                VM_FIELDS | F(BDF) | F(PID) | F(CALLER), 0,
                "VM {VM}: {BDF} is kept by process {PID} of uid {CALLER}" },
        [AUDIT_DISCONNECTED] = { "disconnected", "795b68db9a31424d90111b1dae6c2230", LOG_INFO, LOG_INFO,
                VM_FIELDS | F(BDF) | F(PID) | F(CALLER) | F(REASON), 0,
                "VM {VM}: process {PID} at {BDF} of uid {CALLER} is no longer connected: {REASON}" },
        [AUDIT_NOTE] = { "note", "59711f2707a343c58e0afcb4fcecf8b2", LOG_WARNING, LOG_WARNING,
                VM_FIELDS | F(BDF) | F(KIND) | F(REASON), 0,
                "VM {VM}: {BDF}: {KIND}: {REASON}" },
        [AUDIT_JOB_STARTED] = { "job-started", "d55e061fc7fa4849878e378ab229ce07", LOG_INFO, AUDIT_NOT_LOGGED,
                F(JOB) | F(KIND) | F(CALLER), VM_FIELDS | F(BDF),
                "job {JOB}: uid {CALLER} asks for {KIND}[ of {BDF}][, VM {VM}]" },
        [AUDIT_JOB_DONE] = { "job-done", "500be4bec1564eb59d54d43e27de19c1", LOG_INFO, AUDIT_NOT_LOGGED,
                F(JOB) | F(KIND) | F(CALLER) | F(RESULT), VM_FIELDS | F(BDF),
                "job {JOB} ({KIND}) is {RESULT}" },
        [AUDIT_JOB_FAILED] = { "job-failed", "42c1713a14ae430b9900e9a94a88d0d0", LOG_NOTICE, LOG_INFO,
                F(JOB) | F(KIND) | F(CALLER) | F(RESULT) | F(ERROR) | F(REASON), VM_FIELDS | F(BDF),
                "job {JOB} ({KIND}) ended: {ERROR}: {REASON}" },
        [AUDIT_TDI_STATE] = { "tdi-state", "ee8b31da9b0c4f77943040367caa79a3", LOG_INFO, LOG_DEBUG,
                VM_FIELDS | F(BDF) | F(OLD) | F(NEW), 0,
                "{BDF}: {OLD} → {NEW}" },
        [AUDIT_TDI_FAILED] = { "tdi-failed", "01c0b84626324fd4bba48a2b7e9fbc73", LOG_ERR, LOG_ERR,
                VM_FIELDS | F(BDF) | F(REASON), 0,
                "VM {VM}: {BDF}: {REASON}" },
        [AUDIT_TDI_TDISP] = { "tdi-tdisp", "fd7662fbdbed4bb49f493bac3d0618ec", LOG_INFO, LOG_DEBUG,
                VM_FIELDS | F(BDF) | F(OLD) | F(NEW), 0,
                "VM {VM}: {BDF}: TDISP state {OLD} → {NEW}" },
        [AUDIT_TDI_UNBOUND] = { "tdi-unbound", "b01221dac71145f8adbcf9c1ed455d49", LOG_ERR, LOG_ERR,
                VM_FIELDS | F(BDF) | F(REASON), 0,
                "VM {VM}: {BDF}: {REASON}" },
        [AUDIT_TDI_MISMATCH] = { "tdi-mismatch", "1eea9c0dec9a407f88b611d0552eefc0", LOG_ERR, LOG_ERR,
                VM_FIELDS | F(BDF) | F(REASON), 0,
                "VM {VM}: {BDF}: it is unbound: {REASON}" },
        [AUDIT_TDI_RECOVERED] = { "tdi-recovered", "44b75c6bf3ba41a383865536e54a1a1d", LOG_INFO, AUDIT_NOT_LOGGED,
                VM_FIELDS | F(BDF) | F(NEW), 0,
                "VM {VM}: {BDF} is taken up again, {NEW}" },
        [AUDIT_CUSTODY] = { "custody", "28adddac0e7f43b39d6f7dde19d3b8ce", LOG_INFO, AUDIT_NOT_LOGGED,
                F(BDF) | F(OLD) | F(NEW), VM_FIELDS,
                "{BDF}: custody {OLD} → {NEW}[, VM {VM}]" },
        [AUDIT_CUSTODY_OVER] = { "custody-over", "059ac8bbefee40c4a945d3ba5d92a86c", LOG_INFO, LOG_INFO,
                F(BDF), VM_FIELDS,
                "{BDF} is given back" },
        [AUDIT_CUSTODY_WANTED] = { "custody-wanted", "ba3aa5fa125f40d8bbe388d9f31abb34", LOG_WARNING, LOG_WARNING,
                F(BDF), VM_FIELDS,
                "{BDF}: the host wants it back (unplug, or its VFs are switched off): giving it back" },
        [AUDIT_QUARANTINED] = { "quarantined", "a34f80ef8c404a2189fccd4d3f6b8ce6", LOG_ERR, LOG_ERR,
                F(BDF) | F(STEP) | F(REASON), VM_FIELDS,
                "{BDF} is quarantined: {REASON}" },
        [AUDIT_RESTORED] = { "restored", "6123a8993ee5433483d8442d78cd260a", LOG_NOTICE, LOG_NOTICE,
                F(BDF) | F(STEP), VM_FIELDS,
                "{BDF} is no longer quarantined" },
        [AUDIT_TSM_CONNECTED] = { "tsm-connected", "f974158c66374d1b8e4ff84e537750c3", LOG_NOTICE, AUDIT_NOT_LOGGED,
                F(DSM) | F(TSM), VM_FIELDS | F(BDF),
                "{DSM} is connected to {TSM}[ for {BDF}]" },
        [AUDIT_TSM_DISCONNECTED] = { "tsm-disconnected", "56d55d4d138344dc803702c016f56468", LOG_NOTICE, AUDIT_NOT_LOGGED,
                F(DSM) | F(TSM), VM_FIELDS | F(BDF),
                "{DSM} is disconnected from {TSM}[ after {BDF}]" },
        [AUDIT_TSM_LOST] = { "tsm-lost", "225d032a202c4f0191313d6b7305eebc", LOG_WARNING, LOG_WARNING,
                F(DSM) | F(BDF) | F(REASON), VM_FIELDS,
                "[{VM}: ]{BDF}: the TSM connection of its DSM {DSM} is lost: {REASON}" },
        [AUDIT_HANDOFF] = { "handoff", "ffcd76ec55544e81bb961b9be5863d2e", LOG_NOTICE, LOG_NOTICE,
                VM_FIELDS | F(BDF) | F(CALLER), 0,
                "VM {VM}: {BDF} is handed off to uid {CALLER}" },
        [AUDIT_ASSOCIATION_OPENED] = { "association-opened", "d8310dd4d09e499caa40cb94d5e4f753", LOG_NOTICE, LOG_NOTICE,
                VM_FIELDS | F(CALLER), 0,
                "VM {VM}: uid {CALLER} has opened the channel of its KVM association: its VMM is trusted with the functions' VFIO nodes" },
        [AUDIT_ASSOCIATED] = { "associated", "f710ede68be24399afd23b085dcbef48", LOG_NOTICE, AUDIT_NOT_LOGGED,
                F(BDF), VM_FIELDS,
                "[VM {VM}: ]{BDF} is associated with the KVM VM: the VMM had its VFIO node" },
        [AUDIT_EXPORT_MADE] = { "export-made", "7f161574d7ae4d3489f1a4375bcb366d", LOG_NOTICE, AUDIT_NOT_LOGGED,
                VM_FIELDS | F(EXPORT) | F(KIND) | F(CLASS) | F(IMPORTER) | F(CALLER), F(BDF) | F(REGION),
                "VM {VM}: {KIND} {EXPORT}[ of BAR {REGION} of {BDF}] is made for uid {CALLER}, {CLASS}, for {IMPORTER}" },
        [AUDIT_EXPORT_STATE] = { "export-state", "444acf87291c498990f078c85b1e590b", LOG_INFO, LOG_INFO,
                VM_FIELDS | F(EXPORT) | F(KIND) | F(OLD) | F(NEW), F(BDF) | F(REGION),
                "VM {VM}: {KIND} {EXPORT}[ of BAR {REGION} of {BDF}]: {OLD} → {NEW}" },
        [AUDIT_DENIED] = { "denied", "d861cf7d7ea14d718e9c77bc6c2232e0", LOG_WARNING, AUDIT_NOT_LOGGED,
                F(METHOD) | F(REASON), VM_FIELDS | F(CALLER) | F(BDF) | F(ACTION) | F(COUNT),
                "{METHOD} is denied[ to uid {CALLER}][ (action {ACTION})]: {REASON}[; {COUNT} more refusals were not told of]" },
        [AUDIT_REFUSED] = { "refused", "a05ad9458a2a46d4af53442bd6ee57f0", LOG_NOTICE, AUDIT_NOT_LOGGED,
                F(METHOD) | F(ERROR) | F(REASON), VM_FIELDS | F(CALLER) | F(BDF) | F(COUNT),
                "{METHOD}[ of uid {CALLER}] is refused: {ERROR}: {REASON}[; {COUNT} more refusals were not told of]" },
        [AUDIT_REQUEST_REFUSED] = { "request-refused", "e198c903c92147dea029e4013c03053b", LOG_WARNING, AUDIT_NOT_LOGGED,
                F(METHOD) | F(ERROR) | F(REASON), VM_FIELDS | F(CALLER) | F(BDF) | F(COUNT),
                "a request of the guest is refused[, {BDF}]: {ERROR}: {REASON}[; {COUNT} more refusals were not told of]" },
        [AUDIT_DECISION] = { "decision", "81a1a0f31175441ebdf437966288451a", LOG_NOTICE, LOG_NOTICE,
                VM_FIELDS | F(BDF) | F(CALLER) | F(RESULT), F(RULE) | F(RULE_FILE) | F(RULE_LINE) | F(REASON),
                "policy: {RESULT} {BDF} to VM {VM}[ by rule {RULE}][ ({RULE_FILE}:{RULE_LINE})][: {REASON}]" },
        [AUDIT_POLICY_LOADED] = { "policy-loaded", "8447a2197b1e4b84bbd50a8637b01308", LOG_NOTICE, LOG_NOTICE,
                F(COUNT) | F(SOURCE), 0,
                "policy: {COUNT} rules of {SOURCE} are in force" },
        [AUDIT_POLICY_REFUSED] = { "policy-refused", "f795d2be4c604639bbefc50f7d7d9975", LOG_ERR, LOG_ERR,
                F(RULE_FILE) | F(RULE_LINE) | F(RULE_COLUMN) | F(REASON), 0,
                "policy: {RULE_FILE}:{RULE_LINE}:{RULE_COLUMN}: {REASON}; what there was stays in force" },
        [AUDIT_EVIDENCE_COLLECTED] = { "evidence-collected", "f2d0e22d0d5549459009b8c85a78f089", LOG_INFO, LOG_INFO,
                F(BDF) | F(SOURCE) | F(DIGEST), F(NONCE),
                "{BDF}: evidence {DIGEST} is collected, from {SOURCE}" },
        [AUDIT_EVIDENCE_VERIFIED] = { "evidence-verified", "a3bc8972168e4ceab5418f39a49ab246", LOG_NOTICE, LOG_NOTICE,
                F(BDF) | F(SOURCE) | F(DIGEST) | F(RESULT), F(NONCE) | F(REASON),
                "{BDF}: evidence {DIGEST} is {RESULT}[: {REASON}]" },
        [AUDIT_GUARD_REFUSED] = { "guard-refused", "07fcc1c87e3b4b649d6fe005ee08429b", LOG_WARNING, LOG_WARNING,
                F(KIND) | F(PID) | F(COMM) | F(CALLER), VM_FIELDS | F(BDF) | F(COUNT),
                "[{BDF}: ]process {PID} ({COMM}) of uid {CALLER} is refused {KIND} by the mmap guard[; {COUNT} more refusals were not told of]" },
};

const char *audit_field_name(enum audit_field field) {
        return fields[field];
}

/* ---- values ---- */

static bool is_hex(char c) {
        return isxdigit((unsigned char) c);
}

static size_t hex_run(const char *p) {
        size_t n = 0;

        while (is_hex(p[n]))
                n++;
        return n;
}

static bool is_uuid(const char *p) {
        for (int i = 0; i < 36; i++)
                if (i == 8 || i == 13 || i == 18 || i == 23 ? p[i] != '-' : !is_hex(p[i]))
                        return false;
        return true;
}

/*
 * So many characters at the beginning of a word could be an address: more than four digits after 0x, or so many without. Not digests,
 * which are longer, nor UUIDs, nor small numbers.
 */
static size_t address(const char *p) {
        size_t n;

        if (p[0] == '0' && (p[1] == 'x' || p[1] == 'X')) {
                n = hex_run(p + 2);
                return n > 4 ? n + 2 : 0;
        }
        n = hex_run(p);
        if (n < 8 || n > 16 || isalnum((unsigned char) p[n]))
                return 0;
        return n >= 10 || strspn(p, "0123456789") < n || p[n] == '-' ? n : 0;
}

static void hide_addresses(char *text) {
        char *to = text;
        bool inside = false;

        for (const char *p = text; *p;) {
                size_t n = inside ? 0 : is_uuid(p) ? 36 : address(p);

                if (n == 0) {
                        inside = isalnum((unsigned char) *p);
                        *to++ = *p++;
                } else if (n == 36) {
                        memmove(to, p, n);
                        to += n;
                        p += n;
                } else {
                        /* No longer than what it stands for, which has seven characters or more. */
                        to = stpcpy(to, "(addr)");
                        p += n;
                }
        }
        *to = '\0';
}

void audit_clean(const char *text, bool addresses, char buf[static AUDIT_VALUE_MAX]) {
        size_t n = strlen(text);

        if (n < AUDIT_VALUE_MAX)
                memcpy(buf, text, n + 1);
        else
                snprintf(buf, AUDIT_VALUE_MAX, "%.*s...", AUDIT_VALUE_MAX - 4, text);
        /* Control characters, those of C1 (U+0080 to U+009F) too. */
        for (unsigned char *c = (unsigned char *) buf; *c; c++)
                if (*c < 0x20 || *c == 0x7f)
                        *c = '?';
                else if (c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0)
                        c[0] = c[1] = '?';
        json_clean_text(buf);
        if (!addresses)
                hide_addresses(buf);
}

/* Free text, tdid's own or a client's: what else there is has no place for an address. */
static bool may_hide_one(enum audit_field field) {
        return field == AUDIT_F_REASON || field == AUDIT_F_LABEL;
}

static const char *value_text(const struct audit_value *v, bool addresses, char buf[static AUDIT_VALUE_MAX]) {
        if (v->type == AUDIT_NUMBER)
                snprintf(buf, AUDIT_VALUE_MAX, "%" PRIu64, v->number);
        else
                audit_clean(v->text, addresses || !may_hide_one(v->field), buf);
        return buf;
}

/* ---- text ---- */

struct text {
        char *p;
        size_t n, size;
};

static void append(struct text *t, const char *s, size_t n) {
        if (n >= t->size - t->n)
                n = t->size - t->n - 1;
        memcpy(t->p + t->n, s, n);
        t->n += n;
        t->p[t->n] = '\0';
}

static void append_str(struct text *t, const char *s) {
        append(t, s, strlen(s));
}

/* All values of a field; false: there is none. */
static bool append_values(struct text *t, const char *name, size_t length, const struct audit_value *values, size_t n, bool addresses) {
        char buf[AUDIT_VALUE_MAX];
        bool found = false;

        for (size_t i = 0; i < n; i++) {
                const char *field = fields[values[i].field] + strlen("TDID_");

                if (values[i].type == AUDIT_ABSENT || strlen(field) != length || strncmp(field, name, length) != 0)
                        continue;
                if (found)
                        append_str(t, ", ");
                append_str(t, value_text(values + i, addresses, buf));
                found = true;
        }
        return found;
}

void audit_message(enum audit_event event, const struct audit_value *values, size_t n, bool addresses, char *buf, size_t size) {
        struct text t = { buf, 0, size };
        size_t before = 0;
        bool whole = true;

        *buf = '\0';
        for (const char *p = audit_table[event].message; *p; p++) {
                if (*p == '[') {
                        before = t.n;
                        whole = true;
                } else if (*p == ']') {
                        if (!whole)
                                t.p[t.n = before] = '\0';
                        whole = true;
                } else if (*p == '{') {
                        size_t length = strcspn(p + 1, "}");

                        whole &= append_values(&t, p + 1, length, values, n, addresses);
                        p += length + 1;
                } else
                        append(&t, p, 1);
        }
        json_clean_text(buf);
}

/* ---- entries ---- */

static void append_line(struct text *t, const char *key, const char *value) {
        append_str(t, key);
        append_str(t, "=");
        append_str(t, value);
        append_str(t, "\n");
}

size_t audit_native(enum audit_event event, const struct audit_value *values, size_t n, char buf[static AUDIT_ENTRY_MAX]) {
        const struct audit_row *row = &audit_table[event];
        struct text t = { buf, 0, AUDIT_ENTRY_MAX };
        char value[AUDIT_VALUE_MAX], message[AUDIT_VALUE_MAX];

        audit_message(event, values, n, false, message, sizeof(message));
        append_line(&t, "MESSAGE", message);
        append_line(&t, "MESSAGE_ID", row->id);
        snprintf(value, sizeof(value), "%d", row->priority);
        append_line(&t, "PRIORITY", value);
        append_line(&t, "SYSLOG_IDENTIFIER", "tdid");
        append_line(&t, fields[AUDIT_F_EVENT], row->name);
        /* No value has a line break: the short form of the protocol does. */
        for (size_t i = 0; i < n; i++)
                if (values[i].type != AUDIT_ABSENT)
                        append_line(&t, fields[values[i].field], value_text(values + i, false, value));
        return t.n;
}

/* Several of one field are a list, as journalctl has it. */
static void add(struct json_object *o, const char *key, const char *value) {
        struct json_object *before, *list;

        if (!json_object_object_get_ex(o, key, &before)) {
                json_set_str(o, key, value);
                return;
        }
        if (json_object_is_type(before, json_type_array)) {
                json_push_str(before, value);
                return;
        }
        list = json_new_array();
        json_push_take(list, json_object_get(before));
        json_push_str(list, value);
        json_set_take(o, key, list);
}

size_t audit_json(enum audit_event event, const struct audit_value *values, size_t n, char buf[static AUDIT_ENTRY_MAX]) {
        _cleanup_json_ struct json_object *o = json_new();
        const struct audit_row *row = &audit_table[event];
        struct text t = { buf, 0, AUDIT_ENTRY_MAX };
        char value[AUDIT_VALUE_MAX];

        snprintf(value, sizeof(value), "%" PRIu64, now_realtime());
        json_set_str(o, "__REALTIME_TIMESTAMP", value);
        audit_message(event, values, n, false, value, sizeof(value));
        json_set_str(o, "MESSAGE", value);
        json_set_str(o, "MESSAGE_ID", row->id);
        snprintf(value, sizeof(value), "%d", row->priority);
        json_set_str(o, "PRIORITY", value);
        json_set_str(o, "SYSLOG_IDENTIFIER", "tdid");
        json_set_str(o, fields[AUDIT_F_EVENT], row->name);
        for (size_t i = 0; i < n; i++)
                if (values[i].type != AUDIT_ABSENT)
                        add(o, fields[values[i].field], value_text(values + i, false, value));
        append_str(&t, json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
        append_str(&t, "\n");
        return t.n;
}
