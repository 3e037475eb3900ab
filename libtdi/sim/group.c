/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * IOMMU groups: which functions cannot be told apart (pci_device_group()), their folders in sysfs, and who owns a group's DMA
 * (drivers/iommu/iommu.c).
 */
#include <stdio.h>

#include "sim/machine.h"

/* ---- which group ---- */

/* pci_acs_enabled(fn, REQ_ACS_FLAGS) */
static bool acs_enabled(struct sim_function *fn) {
        const struct topology_function *p = fn_plan(fn);
        unsigned at, want = ACS_ISOLATING;

        switch (fn->port_type) {
        case SIM_CONVENTIONAL:
                return false;
        case PORT_ROOT:
        case PORT_DOWNSTREAM:
                break;
        default:
                if (!p->multifunction || fn->physfn)
                        return true;
                /* pci_acs_flags_enabled(): an endpoint answers only for what its capability says it could do. */
                want &= 0x1c;
        }
        at = sim_find_ext_capability(fn, EXT_ACS);
        return at && (cfg_get16(fn->config + at + ACS_CTRL) & want) == want;
}

/* pci_acs_path_enabled() up to the root */
static bool path_enabled(struct sim_function *fn) {
        for (; fn; fn = fn->bridge)
                if (!acs_enabled(fn))
                        return false;
        return true;
}

static struct sim_group *named_group(struct sim_machine *m, const char *word) {
        for (size_t i = 0; i < m->n_groups; i++)
                if (m->groups[i] && streq_ptr(m->groups[i]->word, word))
                        return m->groups[i];
        return NULL;
}

/* get_pci_function_alias_group(): other functions of its device that cannot be kept from each other either. */
static struct sim_group *alias_group(struct sim_machine *m, struct sim_function *fn) {
        if (!fn_plan(fn)->multifunction || acs_enabled(fn))
                return NULL;
        for (unsigned f = 0; f < 8; f++) {
                struct sim_function *other = pci_find(m, fn->segment, fn->bus, (uint8_t) ((fn->devfn & ~7u) | f));

                if (other && other != fn && other->group && !other->physfn && !acs_enabled(other))
                        return other->group;
        }
        return NULL;
}

static struct sim_group *find_group(struct sim_machine *m, struct sim_function *fn) {
        for (struct sim_function *up = fn->bridge; up; up = up->bridge) {
                if (path_enabled(up))
                        break;
                fn = up;
                if (up->group)
                        return up->group;
        }
        return alias_group(m, fn);
}

/* ---- sysfs ---- */

static ssize_t type_show(_unused_ struct sim_call *c, struct sim_node *n, char *buf, size_t size) {
        return snprintf(buf, size, "%s\n", ((struct sim_group *) n->data)->type);
}

/* iommu_group_store_type() */
static ssize_t type_store(_unused_ struct sim_call *c, struct sim_node *n, const char *text, size_t len) {
        static const char *const types[] = { "identity", "DMA", "DMA-FQ", "auto" };
        struct sim_group *g = n->data;
        const char *type = NULL;

        for (size_t i = 0; i < ARRAY_SIZE(types); i++)
                if (sysfs_equal(text, types[i]))
                        type = types[i];
        if (!type)
                return -EINVAL;
        if (g->owner)
                return -EPERM;
        /* A strict domain turns lazy while in use; every other change needs a group without drivers. */
        if (streq(type, "DMA-FQ") && startswith(g->type, "DMA")) {
                snprintf(g->type, sizeof(g->type), "DMA-FQ");
                return (ssize_t) len;
        }
        for (size_t i = 0; i < g->n_members; i++)
                if (g->members[i]->driver)
                        return -EBUSY;
        snprintf(g->type, sizeof(g->type), "%s", streq(type, "auto") ? "DMA-FQ" : type);
        return (ssize_t) len;
}

static ssize_t regions_show(_unused_ struct sim_call *c, struct sim_node *n, char *buf, size_t size) {
        const struct sim_group *g = n->data;
        size_t at = 0;

        for (unsigned i = 0; i < g->n_reserved; i++)
                at += (size_t) snprintf(buf + at, size - at, "0x%016llx 0x%016llx %s\n", (unsigned long long) g->reserved[i].start,
                                        (unsigned long long) g->reserved[i].end, g->reserved[i].msi ? "msi" : "reserved");
        return (ssize_t) at;
}

static const struct sim_node_ops type_ops = { .show = type_show, .store = type_store };
static const struct sim_node_ops regions_ops = { .show = regions_show };

/* ---- coming and going ---- */

/* The group with this number, made when there is none. */
static struct sim_group *group_get(struct sim_machine *m, unsigned id) {
        struct sim_group *g;
        char name[16];

        if (id < m->n_groups && m->groups[id])
                return m->groups[id];
        if (id >= m->n_groups) {
                size_t n = id < 64 ? 64 : (size_t) id * 2;
                struct sim_group **p = reallocarray(m->groups, n, sizeof(*p));

                if (!p)
                        abort();
                memset(p + m->n_groups, 0, (n - m->n_groups) * sizeof(*p));
                m->groups = p;
                m->n_groups = n;
        }
        g = m->groups[id] = machine_alloc(sizeof(*g));
        g->id = id;
        snprintf(g->type, sizeof(g->type), "%s", m->plan->iommu_type);
        for (unsigned i = 0; i < m->plan->n_reserved; i++) {
                g->reserved[i].start = m->plan->reserved[i].start;
                g->reserved[i].end = m->plan->reserved[i].end;
                g->reserved[i].msi = m->plan->reserved[i].msi;
        }
        g->n_reserved = m->plan->n_reserved;
        snprintf(name, sizeof(name), "%u", id);
        g->node = sim_dir(sim_dirs(m->sim, "sys/kernel/iommu_groups"), name);
        g->node->data = g;
        sim_dir(g->node, "devices");
        sim_file_node(g->node, "type", 0644, &type_ops, g);
        sim_file_node(g->node, "reserved_regions", 0444, &regions_ops, g);
        return g;
}

static void add_windows(struct sim_group *g, const struct topology_function *p) {
        for (unsigned i = 0; i < p->n_reserved && g->n_reserved < ARRAY_SIZE(g->reserved); i++) {
                bool known = false;

                for (unsigned k = 0; k < g->n_reserved; k++)
                        known |= g->reserved[k].start == p->reserved[i].start && g->reserved[k].end == p->reserved[i].end;
                if (known)
                        continue;
                g->reserved[g->n_reserved].start = p->reserved[i].start;
                g->reserved[g->n_reserved].end = p->reserved[i].end;
                g->reserved[g->n_reserved++].msi = p->reserved[i].msi;
        }
        g->no_coherency |= p->no_coherency;
}

static void group_add(struct sim_group *g, struct sim_function *fn) {
        struct sim_machine *m = sim_machine(fn->sim);

        g->members = reallocarray(g->members, g->n_members + 1, sizeof(*g->members));
        if (!g->members)
                abort();
        g->members[g->n_members++] = fn;
        fn->group = g;
        add_windows(g, fn_plan(fn));
        sim_link(fn->node, "iommu_group", g->node);
        sim_link(fn->node, "iommu", m->buses->iommu);
        sim_link(sim_dir(g->node, "devices"), fn->bdf, fn->node);
        sim_link(sim_dir(m->buses->iommu, "devices"), fn->bdf, fn->node);
}

void group_attach(_unused_ struct sim_call *c, struct sim_function *fn) {
        struct sim_machine *m = sim_machine(fn->sim);
        const char *word = fn_plan(fn)->group;
        struct sim_group *g = word ? named_group(m, word) : find_group(m, fn);
        unsigned id = 0;

        if (!g) {
                while (id < m->n_groups && m->groups[id])
                        id++;
                g = group_get(m, id);
                if (word)
                        g->word = machine_strdup(word);
        }
        group_add(g, fn);
}

static void drop_link(struct sim_call *c, struct sim_node *dir, const char *name) {
        struct sim_node *link = sim_child(dir, name);

        if (link)
                sim_remove(c, link, NULL);
}

/* iommu_group_remove_device(); the number is free again when the last has gone (iommu_group_release()). */
void sim_group_remove(struct sim_call *c, struct sim_function *fn) {
        struct sim_machine *m = sim_machine(fn->sim);
        struct sim_group *g = TAKE_PTR(fn->group);

        if (!g)
                return;
        for (size_t i = 0; i < g->n_members; i++)
                if (g->members[i] == fn) {
                        memmove(g->members + i, g->members + i + 1, (g->n_members - i - 1) * sizeof(*g->members));
                        g->n_members--;
                        break;
                }
        if (g->n_members == 0)
                m->groups[g->id] = NULL;
        drop_link(c, sim_dir(m->buses->iommu, "devices"), fn->bdf);
        if (fn->node) {
                drop_link(c, fn->node, "iommu_group");
                drop_link(c, fn->node, "iommu");
        }
        drop_link(c, sim_dir(g->node, "devices"), fn->bdf);
        if (g->n_members > 0)
                return;
        sim_remove(c, g->node, NULL);
        free(g->members);
        free(g->word);
        free(g);
}

/* ---- who owns its DMA ---- */

/* iommu_device_use_default_domain() */
int sim_group_use_default(struct sim_group *g) {
        if (g->owner_count > 0)
                return -EBUSY;
        g->host_users++;
        return 0;
}

void sim_group_unuse_default(struct sim_group *g) {
        if (g->host_users > 0)
                g->host_users--;
}

/* iommu_device_claim_dma_owner() */
int sim_group_claim(struct sim_group *g, const void *owner) {
        if (!owner)
                return -EINVAL;
        if (g->host_users > 0 || (g->owner_count > 0 && g->owner != owner))
                return -EPERM;
        g->owner = owner;
        g->owner_count++;
        return 0;
}

/* iommu_device_release_dma_owner() */
void sim_group_release(struct sim_group *g, const void *owner) {
        if (g->owner != owner || g->owner_count == 0)
                return;
        if (--g->owner_count == 0)
                g->owner = NULL;
}

void group_init(struct sim_machine *m) {
        sim_dirs(m->sim, "sys/kernel/iommu_groups");
}

void group_free(struct sim_machine *m) {
        for (size_t i = 0; i < m->n_groups; i++)
                if (m->groups[i]) {
                        free(m->groups[i]->members);
                        free(m->groups[i]->word);
                        free(m->groups[i]);
                }
        free(m->groups);
        m->groups = NULL;
        m->n_groups = 0;
}
