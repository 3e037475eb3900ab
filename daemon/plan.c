/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See plan.h. */
#include "plan.h"

#include <stdarg.h>
#include <stdio.h>

#include "association.h"
#include "bus/bus.h"
#include "custody-engine.h"
#include "custody-rules.h"
#include "device.h"
#include "guard/guard.h"
#include "vm.h"

struct supposed {
        Custody *c;
        Custody before;
};

struct plan {
        Manager *manager;
        struct supposed *functions;
        size_t n, room;
        struct json_object *json, *list, *then;
};

static const struct {
        const char *does, *undoes;
} words[ACTION_MAX] = {
        [ACTION_CLAIM_CHECK] = { "make sure that the host does not use it", "nothing was done" },
        [ACTION_CLAIM_NOTE] = { "note its driver, driver_override and runtime PM, to give them back", "nothing was done" },
        [ACTION_CLAIM_PM] = { "hold runtime PM on", "give runtime PM back as it was" },
        [ACTION_CLAIM_OVERRIDE] = { "set driver_override to vfio-pci", "give driver_override back as it was" },
        [ACTION_CLAIM_REBIND] = { "rebind it to vfio-pci", "give it back to the driver that it had" },
        [ACTION_GUARD_ON] = { "forbid the host to map its BARs and its VFIO node, and refuse it if somebody has", "allow the host to map it again" },
        [ACTION_OPEN_CDEV] = { "open its VFIO device, and give that to the VM's holder", "close its VFIO device, which resets it" },
        [ACTION_OPEN_ASSOCIATE] = { "have the VMM tell KVM of it", "end what KVM knows of it" },
        [ACTION_OPEN_BIND] = { "bind its VFIO device to the VM's iommufd, which resets it", "nothing, the close does it" },
        [ACTION_CONNECT_NOTE] = { "note whether its DSM is connected", "nothing was done" },
        [ACTION_CONNECT_TSM] = { "connect its DSM to the TSM", "disconnect its DSM from the TSM" },
        [ACTION_PREPARE_VIOMMU] = { "make the VM's nest parent and secure vIOMMU, where it has none for this IOMMU", "nothing, they end with the last function under them" },
        [ACTION_PREPARE_VDEVICE] = { "make its virtual device, by which the secure world knows it", "nothing, its virtual device is gone already" },
        [ACTION_PREPARE_ATTACH] = { "attach it to the VM's I/O address space", "detach it from the I/O address space" },
        [ACTION_PREPARE_WITHDRAW] = { "nothing to do on the way up", "end its virtual device" },
        [ACTION_PREPARE_SOCKET] = { "serve its vPCI socket", "stop serving its vPCI socket" },
        [ACTION_BIND_CONNECT] = { "connect its DSM again", "nothing, the connection stays until the function is given back" },
        [ACTION_BIND_LOCK] = { "keep its client from changing what the TSM locks", "let its client change everything again" },
        [ACTION_BIND_TSM] = { "bind it to the VM's KVM VM in the TSM", "unbind it in the TSM" },
        [ACTION_BIND_REQUESTS] = { "pass the guest's requests to the TSM", "pass no more requests of the guest" },
};

static const char *const runners[] = { [RUNS_WORKER] = "worker", [RUNS_LOCAL] = "tdid", [RUNS_HOLDER] = "holder" };

static const char *const goals[] = {
        [GOAL_KEEP] = "keep", [GOAL_UP] = "acquire", [GOAL_BIND] = "bind", [GOAL_UNBIND] = "unbind", [GOAL_DOWN] = "give-back",
};

const char *plan_words(enum custody_action a, bool undo) {
        return undo ? words[a].undoes : words[a].does;
}

struct plan *plan_new(Manager *m, const char *method, const VM *vm) {
        struct plan *p = calloc(1, sizeof(*p));

        if (!p)
                log_oom();
        p->manager = m;
        p->json = json_new();
        p->list = json_new_array();
        p->then = json_new_array();
        json_set_str(p->json, "method", method);
        json_set_str(p->json, "vm", vm ? vm->name : NULL);
        json_set_take(p->json, "functions", p->list);
        json_set_take(p->json, "then", p->then);
        return p;
}

/* Who has the function's driver after or before; which DSM, which TSM: what no table of words knows. */
static void describe(const Custody *c, enum custody_action a, bool undo, bool needed, char *buf, size_t size) {
        const Device *d = device_find(c->manager, c->bdf);
        const char *dsm = custody_dsm(c), *tsm = json_str_or(c->values, "tsm", ""), *driver = json_str_or(c->values, "driver", "");

        if (!needed && a == ACTION_GUARD_ON)
                snprintf(buf, size, undo ? "nothing, it is not guarded" : "nothing: there is no mmap guard: %s", startswith(guard_state(c->manager), "none: ") ?
                         guard_state(c->manager) + strlen("none: ") : guard_state(c->manager));
        else if (!needed && a == ACTION_CONNECT_TSM && isempty(dsm))
                snprintf(buf, size, "nothing: it has no DSM, this host no TSM, or the connection is left alone");
        else if (!needed && a == ACTION_CONNECT_TSM)
                snprintf(buf, size, undo ? "nothing: the connection of %s is not tdid's, or others need it" : "nothing: %s is connected already", dsm);
        else if (!needed && a == ACTION_OPEN_ASSOCIATE)
                snprintf(buf, size, "nothing, KVM %s it", undo ? "does not know" : "is not told of");
        else if (!needed && (a == ACTION_PREPARE_VIOMMU || a == ACTION_PREPARE_VDEVICE) && !undo)
                snprintf(buf, size, vm_nests(c->vm) ? "nothing: the VM has it already, or the function has no guest_rid" : "nothing, the VM's platform wants no secure vIOMMU");
        else if (!needed && (undo ? custody_table[a].undo : custody_table[a].do_) != RUNS_LOCAL)
                snprintf(buf, size, "nothing, as things stand");
        else if (a == ACTION_CLAIM_REBIND && !undo && d && !isempty(d->driver))
                snprintf(buf, size, "take it from %s, and bind it to vfio-pci", d->driver);
        else if (a == ACTION_CLAIM_REBIND && !undo)
                snprintf(buf, size, "bind it to vfio-pci; it has no driver");
        else if (a == ACTION_CLAIM_REBIND)
                snprintf(buf, size, "take it from vfio-pci, and give it back to %s", isempty(driver) ? "nobody: it had no driver" : driver);
        else if (a == ACTION_CONNECT_TSM || a == ACTION_BIND_CONNECT)
                snprintf(buf, size, undo ? "disconnect DSM %s from %s" : "connect DSM %s to %s", dsm, tsm);
        else
                snprintf(buf, size, "%s", plan_words(a, undo));
}

static void add_step(const struct plan *p, struct json_object *steps, enum custody_action a, bool undo, bool needed, const char *text) {
        const struct custody_row *row = &custody_table[a];
        size_t offset = undo ? row->deadline_undo : row->deadline;
        struct json_object *o = json_new();

        json_set_str(o, "step", tdi_custody_to_string(row->step));
        json_set_str(o, "action", row->name);
        json_set_str(o, "direction", undo ? "undo" : "do");
        json_set_bool(o, "needed", needed);
        json_set_str(o, "by", needed ? runners[undo ? row->undo : row->do_] : NULL);
        json_set_take(o, "deadline", needed ? json_object_new_uint64(*(const unsigned *) (const void *) ((const char *) &p->manager->config + offset)) : NULL);
        json_set_str(o, "text", text);
        json_push_take(steps, o);
}

/* What the kernel and the workers would have said. */
static void suppose_done(Custody *c, enum custody_action a, bool needed) {
        struct tdi_bdf bdf;
        const Device *dsm;

        c->done |= BIT(a);
        if (a == ACTION_GUARD_ON)
                json_set_bool(c->values, "guard", needed);
        else if (a == ACTION_CONNECT_NOTE && needed) {
                dsm = tdi_bdf_parse(custody_dsm(c), &bdf) < 0 ? NULL : device_find(c->manager, bdf);
                json_set_str(c->values, "connect_before", dsm && dsm->tsm ? dsm->tsm : custody_shares_connection(c) ? json_str_or(c->values, "tsm", "") : "");
        } else if (a == ACTION_CONNECT_TSM && needed)
                json_set_str(c->values, "connected_by", "tdid");
        else if (a == ACTION_PREPARE_VIOMMU && needed)
                json_set_u64(c->values, "viommu", UINT32_MAX);
        else if (a == ACTION_PREPARE_SOCKET)
                json_set_str(c->values, "uuid", c->vm ? c->vm->uuid : "");
}

static bool is_needed(Custody *c, enum custody_action a, bool undo) {
        /* Its space is made with it: before that the engine has not asked. */
        if (a == ACTION_PREPARE_VIOMMU && !undo && c->vm && !vm_space_find(c->vm, c))
                return vm_nests(c->vm) && json_object_object_get_ex(c->values, "guest_rid", NULL);
        return !custody_is_local(c, a, undo);
}

static struct json_object *values_copy(struct json_object *values) {
        struct json_object *copy = NULL;

        if (json_object_deep_copy(values, &copy, NULL) < 0)
                log_oom();
        return copy;
}

/* From here on the custody is what it is supposed to be. */
static void suppose(struct plan *p, Custody *c, enum custody_goal goal) {
        if (p->n == p->room) {
                p->room = p->room * 2 + 8;
                p->functions = reallocarray(p->functions, p->room, sizeof(*p->functions));
                if (!p->functions)
                        log_oom();
        }
        p->functions[p->n++] = (struct supposed){ c, *c };
        c->values = values_copy(c->values);
        c->goal = goal;
        if (goal == GOAL_BIND)
                custody_choose_dsm(c);
}

void plan_add(struct plan *p, Custody *c, enum custody_goal goal) {
        struct json_object *o = json_new(), *steps = json_new_array();
        const char *rule = json_str_or(c->values, "admitted_by", "");
        enum custody_action a;
        bool undo;

        suppose(p, c, goal);
        undo = goal == GOAL_UNBIND || goal == GOAL_DOWN;
        json_set_str(o, "bdf", c->name);
        json_set_take(o, "iommu_group", c->group < 0 ? NULL : json_object_new_int(c->group));
        json_set_str(o, "goal", goals[goal]);
        json_set_str(o, "admitted_by", isempty(rule) ? NULL : rule);
        json_set_take(o, "steps", steps);
        json_push_take(p->list, o);
        while ((a = custody_next_action(c)) != ACTION_NONE) {
                char text[400];
                bool needed;

                if (a == ACTION_CONNECT_NOTE && !undo)
                        custody_choose_tsm(c);
                needed = is_needed(c, a, undo);
                if (a == ACTION_BIND_CONNECT && !undo && needed)
                        custody_choose_again(c);
                describe(c, a, undo, needed, text, sizeof(text));
                add_step(p, steps, a, undo, needed, text);
                if (!undo) {
                        suppose_done(c, a, needed);
                        continue;
                }
                c->done &= ~BIT(a);
                c->begun &= ~BIT(a);
        }
}

void plan_add_action(struct plan *p, struct tdi_bdf bdf, enum custody_action a, bool undo, const char *text) {
        struct json_object *o = json_new(), *steps = json_new_array();
        char name[TDI_BDF_MAX];

        json_set_str(o, "bdf", tdi_bdf_format(bdf, name));
        json_set_take(o, "iommu_group", NULL);
        json_set_str(o, "goal", undo ? "disconnect" : "connect");
        json_set_str(o, "admitted_by", NULL);
        add_step(p, steps, a, undo, true, text);
        json_set_take(o, "steps", steps);
        json_push_take(p->list, o);
}

void plan_then(struct plan *p, const char *format, ...) {
        char text[400];
        va_list ap;

        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        json_push_str(p->then, text);
}

struct json_object *plan_end(struct plan *p) {
        struct json_object *json = p->json;

        while (p->n > 0) {
                struct supposed *s = &p->functions[--p->n];

                json_object_put(s->c->values);
                *s->c = s->before;
                if (!s->c->supposed)
                        continue;
                manager_remove((void **) p->manager->custodies, &p->manager->n_custodies, s->c);
                custody_free(s->c);
        }
        free(p->functions);
        free(p);
        return json;
}

int plan_reply(struct plan *p, sd_bus_message *call) {
        return bus_reply_description(call, "plan", plan_end(p));
}
