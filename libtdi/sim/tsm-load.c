/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* TSMs come and go: tsm_register(), pci_tsm_register() and back. */
#include "sim/tsm.h"

#include <stdio.h>

#include "model/json.h"

static void set_accepts(struct sim_tsm *tsm, const char **names, size_t n) {
        char **copy = machine_alloc((n + 1) * sizeof(*copy));

        for (size_t i = 0; i < n; i++)
                copy[i] = machine_strdup(names[i]);
        for (size_t i = 0; i < tsm->n_accepts; i++)
                free(tsm->accepts[i]);
        free(tsm->accepts);
        tsm->accepts = copy;
        tsm->n_accepts = n;
}

static void take_plan(struct sim_tsm *tsm) {
        const struct topology_tsm *p = tsm->plan;

        snprintf(tsm->parent, sizeof(tsm->parent), "%s", p->parent);
        tsm->all = p->all;
        tsm->marks = p->marks;
        tsm->bind = p->bind;
        tsm->requests = p->requests;
        tsm->bind_locks = p->bind_locks;
        tsm->connect_ms = p->connect_ms;
        tsm->streams = p->streams;
        set_accepts(tsm, p->accepts.names, p->accepts.n);
}

static int take_options(struct sim_machine *m, struct sim_tsm *tsm, struct json_object *options) {
        struct json_object *list = NULL;
        const char *parent = tsm->parent;
        uint64_t connect_ms = tsm->connect_ms, streams = tsm->streams, form = 0;
        bool marks = tsm->marks, bind = tsm->bind, requests = tsm->requests, locks = tsm->bind_locks, viommu = false;
        int r;

        r = json_get_str(options, "parent", &parent);
        if (r == -EBADMSG || !*parent || strlen(parent) >= sizeof(tsm->parent) || strchr(parent, '/') || *parent == '.')
                return -EINVAL;
        if (json_get_u64(options, "connect_ms", &connect_ms) == -EBADMSG || connect_ms > 3600000 || json_get_u64(options, "streams",
                                                                                                                 &streams) == -EBADMSG ||
            streams > 255 || json_get_bool(options, "marks", &marks) == -EBADMSG || json_get_bool(options, "bind", &bind) == -EBADMSG ||
            json_get_bool(options, "requests", &requests) == -EBADMSG || json_get_bool(options, "bind_locks", &locks) == -EBADMSG ||
            json_get_bool(options, "fake_viommu", &viommu) == -EBADMSG || json_get_u64(options, "iommufd_tsm", &form) == -EBADMSG ||
            (form != 0 && (form < 5 || form > 7)))
                return -EINVAL;
        r = json_get_array(options, "accepts", &list);
        if (r == -EBADMSG)
                return -EINVAL;
        if (r >= 0) {
                size_t n = json_object_array_length(list);
                _cleanup_free_ const char **names = machine_alloc((n + 1) * sizeof(*names));

                for (size_t i = 0; i < n; i++) {
                        struct json_object *o = json_object_array_get_idx(list, i);
                        uint16_t segment;
                        uint8_t bus, devfn;

                        if (!json_object_is_type(o, json_type_string) || !pci_parse_bdf(json_object_get_string(o), &segment, &bus, &devfn))
                                return -EINVAL;
                        names[i] = json_object_get_string(o);
                }
                set_accepts(tsm, names, n);
                tsm->all = false;
        }
        if (parent != tsm->parent)
                snprintf(tsm->parent, sizeof(tsm->parent), "%s", parent);
        tsm->connect_ms = (unsigned) connect_ms;
        tsm->streams = (unsigned) streams;
        tsm->marks = marks;
        tsm->bind = bind;
        tsm->requests = requests;
        tsm->bind_locks = locks;
        m->fake_viommu = viommu;
        m->iommufd_tsm = (unsigned) form;
        return 0;
}

static struct sim_tsm *planned(struct sim_machine *m, const char *name) {
        for (size_t i = 0; i < tsms(m)->n; i++)
                if (streq(tsms(m)->all[i].plan->name, name))
                        return &tsms(m)->all[i];
        return NULL;
}

/* tsm_register(), pci_tsm_register(): "change" says that the files are valid, "add" comes too early for that. */
int sim_tsm_load_with(struct sim_call *c, const char *name, struct json_object *options) {
        struct sim_machine *m = sim_machine(c->sim);
        struct sim_tsm *tsm = planned(m, name);
        int r;

        if (!tsm)
                return -ENODEV;
        if (tsm->node)
                return -EEXIST;
        take_plan(tsm);
        r = options ? take_options(m, tsm, options) : 0;
        if (r < 0)
                return r;
        tsm_device_create(m, tsm);
        sim_down_write(c, &m->tsm_lock);
        tsm->registered = true;
        tsms(m)->link_count++;
        for (struct sim_function *fn = m->functions; fn; fn = fn->next) {
                bool was = fn->pci->tee;

                tsm_mark(m, fn);
                if (tsm_is_pf0(fn) && (tsms(m)->link_count == 1 || fn->pci->tee != was))
                        tsm_sysfs_update(c, fn);
        }
        sim_up_write(c, &m->tsm_lock);
        sim_uevent(c->sim, "change", "tsm", tsm->node);
        return 0;
}

int sim_tsm_load(struct sim_call *c, const char *name) {
        return sim_tsm_load_with(c, name, NULL);
}

/* All functions as they are now: files are taken away meanwhile, which sleeps. */
static struct sim_function **snapshot(struct sim_machine *m, size_t *ret_n) {
        struct sim_function **all;
        size_t n = 0;

        for (struct sim_function *fn = m->functions; fn; fn = fn->next)
                n++;
        all = machine_alloc((n + 1) * sizeof(struct sim_function *));
        n = 0;
        for (struct sim_function *fn = m->functions; fn; fn = fn->next)
                all[n++] = fn;
        *ret_n = n;
        return all;
}

/* pci_tsm_unregister(): functions in reverse. */
static void unregister(struct sim_call *c, struct sim_machine *m, struct sim_tsm *tsm) {
        size_t n;
        _cleanup_free_ struct sim_function **all = snapshot(m, &n);

        while (n-- > 0) {
                struct sim_function *fn = all[n];

                if (!fn->pci->added)
                        continue;
                if (tsm_is_pf0(fn) && tsms(m)->link_count == 0)
                        tsm_sysfs_update(c, fn);
                if (fn->tsm && fn->tsm->tsm == tsm)
                        tsm_context_destroy(c, fn);
        }
}

static void unmark(struct sim_call *c, struct sim_machine *m, const struct sim_tsm *tsm) {
        size_t n;
        _cleanup_free_ struct sim_function **all = snapshot(m, &n);

        for (size_t i = 0; i < n && tsm->marks; i++) {
                bool was = all[i]->pci->tee;

                if (!tsm_accepts(tsm, all[i]))
                        continue;
                all[i]->pci->tee = fn_plan(all[i])->tee_io;
                tsm_mark(m, all[i]);
                if (all[i]->pci->added && all[i]->pci->tee != was)
                        tsm_sysfs_update(c, all[i]);
        }
}

int sim_tsm_unload(struct sim_call *c, const char *name) {
        struct sim_machine *m = sim_machine(c->sim);
        struct sim_tsm *tsm = planned(m, name);

        if (!tsm || !tsm->registered)
                return -ENODEV;
        sim_down_write(c, &m->tsm_lock);
        if (!tsm->registered) {
                sim_up_write(c, &m->tsm_lock);
                return -ENODEV;
        }
        tsm->registered = false;
        tsms(m)->link_count--;
        unregister(c, m, tsm);
        sim_up_write(c, &m->tsm_lock);
        tsm_device_remove(c, m, tsm);
        unmark(c, m, tsm);
        m->fake_viommu = false;
        m->iommufd_tsm = 0;
        sim_tsm_forget_objects(m);
        return 0;
}

void sim_tsm_init(struct sim_call *c, struct sim_machine *m) {
        struct sim_tsms *t = machine_alloc(sizeof(*t));

        m->tsms = t;
        t->n = m->plan->n_tsms;
        t->all = machine_alloc((t->n + 1) * sizeof(*t->all));
        /* A kernel with the TSM core has the class without any TSM. */
        sim_dirs(m->sim, "sys/class/tsm");
        for (size_t i = 0; i < t->n; i++)
                t->all[i].plan = &m->plan->tsms[i];
        for (size_t i = 0; i < t->n; i++)
                if (t->all[i].plan->loaded)
                        (void) sim_tsm_load(c, t->all[i].plan->name);
}

void sim_tsm_free(struct sim_machine *m) {
        struct sim_tsms *t = tsms(m);

        sim_tsm_forget_objects(m);
        if (!t)
                return;
        for (struct sim_function *fn = m->functions; fn; fn = fn->next)
                tsm_context_remove(fn);
        for (size_t i = 0; i < t->n; i++) {
                for (size_t k = 0; k < t->all[i].n_accepts; k++)
                        free(t->all[i].accepts[k]);
                free(t->all[i].accepts);
        }
        free(t->all);
        free(t);
        m->tsms = NULL;
}
