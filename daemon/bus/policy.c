/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The policy on the bus: Manager.Reload, and Manager.ExplainPolicy, which says what would be decided, by whom, and what came close. */
#include "admission.h"
#include "bus/bus-vm.h"
#include "device.h"
#include "platform.h"

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
        const char *device, *vm, *platform, *mode, *access;
        int64_t owner;
        bool association;
};

static const struct option question_options[] = {
        { "device", 's', offsetof(struct question, device), NULL },     { "vm", 's', offsetof(struct question, vm), NULL },
        { "owner", 'u', offsetof(struct question, owner), NULL },       { "platform", 's', offsetof(struct question, platform), NULL },
        { "mode", 's', offsetof(struct question, mode), NULL },         { "access", 's', offsetof(struct question, access), NULL },
        { "association", 'b', offsetof(struct question, association), NULL }, {},
};

/* -EINVAL: no name in the table is that. */
static int find_name(const char *name, const char *(*to_string)(int), int max) {
        for (int i = 0; i < max; i++)
                if (streq(name, strempty(to_string(i))))
                        return i;
        return -EINVAL;
}

static const char *mode_name(int i) {
        return policy_mode_to_string(i);
}

static const char *access_name(int i) {
        return policy_access_to_string(i);
}

static int parse(Manager *m, const struct question *q, struct admission_question *ret, sd_bus_error *e) {
        struct tdi_bdf bdf;
        int mode, access;

        *ret = (struct admission_question){ .vm = q->vm, .owner = (uid_t) q->owner, .association = q->association };
        if (!q->device || tdi_bdf_parse(q->device, &bdf) < 0)
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "device: a PCI address, as 0000:01:00.0");
        ret->device = device_find(m, bdf);
        if (!ret->device)
                return bus_error(e, TDI_ERROR_NOT_FOUND, "there is no PCI function %.64s on this host", q->device);
        if (q->platform && !platform_find_alias(q->platform))
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "platform: \"%.64s\" is none that tdid knows", q->platform);
        ret->platform = q->platform ? platform_find_alias(q->platform)->name : NULL;
        mode = q->mode ? find_name(q->mode, mode_name, _POLICY_MODE_MAX) : POLICY_MODE_UNKNOWN;
        access = q->access ? find_name(q->access, access_name, _POLICY_ACCESS_MAX) : POLICY_ACCESS_UNKNOWN;
        if (mode < 0 || access < 0)
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "mode is \"early\" or \"late\", access is \"vpci\" or \"handoff\"");
        ret->mode = mode;
        ret->access = access;
        return 0;
}

/* What devices have proved is not asked here: rules about that are shown with what is missing. */
int bus_method_explain_policy(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        struct question q = { .owner = -1 };
        struct admission_question asked;
        Manager *m = userdata;
        struct json_object *o;
        uid_t uid;
        int r;

        r = options_read(call, question_options, &q, e);
        if (r >= 0)
                r = access_caller(m, call, bus_method_explain_policy, &uid, e);
        if (r <= 0)
                return r < 0 ? r : 1;
        if (q.owner < 0)
                q.owner = uid;
        /* What others would get is not everybody's business: files name devices and people. */
        if ((uid_t) q.owner != uid && !access_is_master(uid))
                return bus_error(e, TDI_ERROR_DENIED, "only root may ask for other owners than itself; uid %u asked for %u", uid, (uid_t) q.owner);
        r = parse(m, &q, &asked, e);
        if (r < 0)
                return r;
        o = admission_explain(m, &asked);
        if (!o)
                return bus_error(e, TDI_ERROR_POLICY, "the policy could not be read: %s", strempty(m->policy_error));
        return bus_reply_description(call, "policy", o);
}
