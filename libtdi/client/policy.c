/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What tdid's policy says of a function, a VM and an owner. */
#include "client-internal.h"

/* The device has a minute, and others may be before us. */
#define EVIDENCE_USEC UINT64_C(120000000)

static int append_string(sd_bus_message *m, const char *key, const char *value) {
        return value ? sd_bus_message_append(m, "{sv}", key, "s", value) : 0;
}

static int append_question(sd_bus_message *m, const struct tdi_policy_question *q) {
        char bdf[TDI_BDF_MAX];
        int r;

        if ((r = sd_bus_message_open_container(m, 'a', "{sv}")) < 0 ||
            (q->flags & TDI_POLICY_DEVICE && (r = append_string(m, "device", tdi_bdf_format(q->bdf, bdf))) < 0) ||
            (q->flags & TDI_POLICY_OWNER && (r = sd_bus_message_append(m, "{sv}", "owner", "u", q->owner_uid)) < 0) ||
            (q->flags & TDI_POLICY_ASSOCIATION && (r = sd_bus_message_append(m, "{sv}", "association", "b", 1)) < 0) ||
            (q->flags & TDI_POLICY_EVIDENCE && (r = sd_bus_message_append(m, "{sv}", "evidence", "b", 1)) < 0) ||
            (r = append_string(m, "vm", q->vm)) < 0 || (r = append_string(m, "platform", q->platform)) < 0 || (r = append_string(m, "mode", q->mode)) < 0 ||
            (r = append_string(m, "access", q->access)) < 0 || (r = append_string(m, "ide", q->ide)) < 0)
                return r;
        return sd_bus_message_close_container(m);
}

int tdi_client_explain_policy(struct tdi_client *c, const struct tdi_policy_question *question, char **ret_json) {
        static const struct client_what what = { "ask what the policy says", NULL };
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        struct tdi_policy_question q = {};
        int r;

        r = client_enter(c);
        if (r < 0)
                return r;
        if (!question || !ret_json)
                return client_fail(c, -EINVAL, TDI_ERROR_INVALID_ARGUMENT, "There has to be a question, and a place for the answer.");
        r = client_copy_struct(&q, sizeof(q), question, question->size);
        if (r >= 0 && q.flags & ~(TDI_POLICY_DEVICE | TDI_POLICY_OWNER | TDI_POLICY_ASSOCIATION | TDI_POLICY_EVIDENCE))
                r = -E2BIG;
        if (r < 0)
                return client_fail(c, r, TDI_ERROR_INVALID_ARGUMENT, "The question has a size or flags that this libtdi does not know.");
        r = client_new_call(c, TDI_BUS_ROOT, TDI_IFACE_MANAGER, "ExplainPolicy", &m);
        if (r < 0)
                return r;
        r = append_question(m, &q);
        if (r < 0)
                return client_fail(c, r, TDI_ERROR_INVALID_ARGUMENT, "What is asked is not valid UTF-8.");
        return client_read_text_for(c, m, q.flags & TDI_POLICY_EVIDENCE ? EVIDENCE_USEC : 0, &what, ret_json);
}
