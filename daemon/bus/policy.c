/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The policy on the bus: Manager.Reload, and Manager.ExplainPolicy, which says what would be decided, by whom, and what came close. */
#include "admission.h"
#include "bus/bus-vm.h"
#include "device.h"
#include "model/platform.h"
#include "proofs.h"

int bus_method_reload(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        _cleanup_free_ char *text = NULL;
        Manager *m = userdata;
        int r;

        r = access_host(m, POLKIT_RELOAD, NULL, call, bus_method_reload, e);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = admission_load(m, &text);
        if (r == -ENOMEM)
                return r;
        if (r < 0)
                return bus_error(e, TDI_ERROR_POLICY, "the policy stays as it was: %s", strempty(text));
        return sd_bus_reply_method_return(call, NULL);
}

struct question {
        const char *device, *vm, *platform, *mode, *access, *ide;
        int64_t owner;
        bool association, evidence;
};

static const struct option question_options[] = {
        { "device", 's', offsetof(struct question, device), NULL },     { "vm", 's', offsetof(struct question, vm), NULL },
        { "owner", 'u', offsetof(struct question, owner), NULL },       { "platform", 's', offsetof(struct question, platform), NULL },
        { "mode", 's', offsetof(struct question, mode), NULL },         { "access", 's', offsetof(struct question, access), NULL },
        { "ide", 's', offsetof(struct question, ide), NULL },           { "association", 'b', offsetof(struct question, association), NULL },
        { "evidence", 'b', offsetof(struct question, evidence), NULL }, {},
};

/* -EINVAL: no name in the table is that. */
static int find_name(const char *name, const char *(*to_string)(int), int max) {
        for (int i = 0; i < max; i++)
                if (to_string(i) && streq(name, to_string(i)))
                        return i;
        return -EINVAL;
}

static const char *mode_name(int i) {
        return policy_mode_to_string(i);
}

static const char *access_name(int i) {
        return policy_access_to_string(i);
}

static const char *ide_name(int i) {
        return i == POLICY_NO ? "insecure" : i == POLICY_YES ? "secure" : NULL;
}

static int parse(Manager *m, const struct question *q, struct admission_question *ret, sd_bus_error *e) {
        struct tdi_bdf bdf;
        int mode, access, ide;

        *ret = (struct admission_question){ .vm = q->vm, .owner = (uid_t) q->owner, .association = q->association, .evidence = q->evidence };
        if (q->device && tdi_bdf_parse(q->device, &bdf) < 0)
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "device: a PCI address, as 0000:01:00.0");
        ret->device = q->device ? device_find(m, bdf) : NULL;
        if (q->device && !ret->device)
                return bus_error(e, TDI_ERROR_NOT_FOUND, "there is no PCI function %.64s on this host", q->device);
        if (q->vm && !name_is_valid(q->vm))
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "vm: no VM can have that name");
        if (q->evidence && !ret->device)
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "evidence: without a device there is nobody to ask");
        if (q->platform && !platform_find_alias(q->platform))
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "platform: \"%.64s\" is none that tdid knows", q->platform);
        ret->platform = q->platform ? platform_find_alias(q->platform)->name : NULL;
        mode = q->mode ? find_name(q->mode, mode_name, _POLICY_MODE_MAX) : POLICY_MODE_UNKNOWN;
        access = q->access ? find_name(q->access, access_name, _POLICY_ACCESS_MAX) : POLICY_ACCESS_UNKNOWN;
        ide = q->ide ? find_name(q->ide, ide_name, POLICY_YES + 1) : POLICY_UNKNOWN;
        if (mode < 0 || access < 0 || ide < 0)
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "mode is \"early\" or \"late\", access is \"vpci\" or \"handoff\", ide is \"secure\" or \"insecure\"");
        ret->mode = mode;
        ret->access = access;
        ret->ide = ide;
        return 0;
}

/* What others would get is not everybody's business: files name devices and people. And to ask a device for evidence is a permission of its own. */
static int may_explain(Manager *m, sd_bus_message *call, const struct question *q, const struct admission_question *asked, uid_t *ret, sd_bus_error *e) {
        const struct access a = { .action = POLKIT_INSPECT, .has_owner = true, .owner = asked->owner, .vm = q->vm, .device = q->device };
        char bdf[TDI_BDF_MAX];
        int r;

        /* This very call has been authorised; since then the device has been asked. */
        if (proofs_wait(m, call))
                return access_caller(m, call, bus_method_explain_policy, ret, e);
        r = access_check(m, &a, call, bus_method_explain_policy, ret, e);
        if (r > 0 && q->evidence)
                r = access_host(m, POLKIT_EVIDENCE, tdi_bdf_format(asked->device->bdf, bdf), call, bus_method_explain_policy, e);
        return r;
}

int bus_method_explain_policy(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        struct question q = { .owner = -1 };
        struct admission_question asked;
        struct json_object *o = NULL;
        Manager *m = userdata;
        uid_t uid;
        int r;

        r = options_read(call, question_options, &q, e);
        if (r >= 0)
                r = access_caller(m, call, bus_method_explain_policy, &uid, e);
        if (r <= 0)
                return r < 0 ? r : 1;
        if (q.owner < 0)
                q.owner = uid;
        r = parse(m, &q, &asked, e);
        if (r >= 0)
                r = may_explain(m, call, &q, &asked, &uid, e);
        if (r > 0)
                r = admission_explain(m, call, bus_method_explain_policy, &asked, uid, &o, e);
        if (r <= 0)
                return r < 0 ? r : 1;
        return bus_reply_description(call, "policy", o);
}
