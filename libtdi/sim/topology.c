/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A topology as a whole: checked, kept, and the machine put up from it. What is checked here is what its parts say of each other.
 */
#include <stdio.h>

#include "model/json.h"
#include "sim/files.h"
#include "sim/machine.h"

static bool has_disk(const struct sim_topology *t, const char *name) {
        for (size_t i = 0; i < t->n_disks; i++)
                if (streq(t->disks[i].name, name))
                        return true;
        return false;
}

static bool has_net(const struct sim_topology *t, const char *name) {
        for (size_t i = 0; i < t->n_nets; i++)
                if (streq(t->nets[i].name, name))
                        return true;
        return false;
}

static int check_users(const struct sim_topology *t, const struct topology_function *f, struct topology_why *why, const char *prefix) {
        char key[32];

        for (size_t i = 0; i < f->disks.n; i++)
                if (!has_disk(t, f->disks.names[i])) {
                        snprintf(key, sizeof(key), "%sdisk", prefix);
                        return topology_bad_function(why, f, key, "there is no disk \"%s\" in \"disks\"", f->disks.names[i]);
                }
        if (f->net && !has_net(t, f->net)) {
                snprintf(key, sizeof(key), "%snet", prefix);
                return topology_bad_function(why, f, key, "there is no interface \"%s\" in \"nets\"", f->net);
        }
        if ((f->disks.n || f->net) && (!f->driver || streq(f->driver, "vfio-pci") || streq(f->driver, "pcieport")))
                return topology_bad_function(why, f, NULL, "disks and interfaces are made by a host driver: \"driver\" has none");
        return 0;
}

/* The table and the array of pending bits must fit into the BAR that has them. */
static int check_msix(const struct topology_function *f, const uint8_t *config, struct topology_why *why) {
        unsigned at = cfg_find(config, CAP_MSIX), table, pba;

        if (!at)
                return 0;
        table = cfg_get32(config + at + 4);
        pba = cfg_get32(config + at + 8);
        if ((table & 7) >= SIM_BARS || (pba & 7) >= SIM_BARS)
                return topology_bad_function(why, f, "msix", "the table is in no BAR");
        if (!f->bar[table & 7].size || f->bar[table & 7].io || (uint64_t) (table & ~7u) + f->msix * 16UL > f->bar[table & 7].size)
                return topology_bad_function(why, f, "msix", "a table of %u vectors does not fit into BAR %u", f->msix, table & 7);
        if (!f->bar[pba & 7].size || f->bar[pba & 7].io || (uint64_t) (pba & ~7u) + (f->msix + 63UL) / 64 * 8 > f->bar[pba & 7].size ||
            ((table & 7) == (pba & 7) && (pba & ~7u) < (table & ~7u) + f->msix * 16UL && (pba & ~7u) >= (table & ~7u)))
                return topology_bad_function(why, f, "msix", "the pending bits of %u vectors do not fit into BAR %u", f->msix, pba & 7);
        return 0;
}

static int check_config(const struct topology_function *f, const struct topology_function *pf, struct topology_why *why) {
        uint8_t config[SIM_CONFIG_SIZE];
        size_t size;

        if (topology_config(f, pf, config, &size) < 0)
                return topology_bad_function(why, f, NULL, "its capabilities do not fit into config space");
        return f->msix ? check_msix(f, config, why) : 0;
}

static int check_functions(const struct sim_topology *t, struct topology_why *why) {
        for (size_t i = 0; i < t->n_functions; i++) {
                const struct topology_function *f = &t->functions[i];
                int r;

                r = check_users(t, f, why, "");
                if (r >= 0)
                        r = check_config(f, NULL, why);
                if (r >= 0 && f->vf)
                        r = check_users(t, f->vf, why, "sriov.vf.");
                if (r >= 0 && f->vf)
                        r = check_config(f->vf, f, why);
                if (r < 0)
                        return r;
                if (f->vf_enabled && !f->driver)
                        return topology_bad_function(why, f, "sriov.enabled",
                                                     "virtual functions are enabled by a driver: \"driver\" has none");
        }
        return 0;
}

static int check_lists(struct sim_topology *t, struct topology_why *why) {
        for (size_t i = 0; i < t->n_tsms; i++) {
                struct topology_at top = { NULL, "tsms", 0 }, at = { &top, NULL, i };

                for (size_t k = 0; k < i; k++)
                        if (streq(t->tsms[k].name, t->tsms[i].name))
                                return topology_bad(why, &at, "\"%s\" is there twice", t->tsms[i].name);
                for (size_t k = 0; k < t->tsms[i].accepts.n; k++) {
                        struct topology_at list = { &at, "accepts", 0 }, entry = { &list, NULL, k };
                        uint16_t segment;
                        uint8_t bus, devfn;

                        /* The TSM compares it with the name in sysfs, which is in lower case. */
                        if (!pci_parse_bdf(t->tsms[i].accepts.names[k], &segment, &bus, &devfn))
                                return topology_bad(why, &entry, "\"%s\" is not how the kernel writes it: in lower case", t->tsms[i].accepts.names[k]);
                        if (!topology_find(t, segment, bus, devfn))
                                return topology_bad(why, &entry, "there is no function %s", t->tsms[i].accepts.names[k]);
                }
        }
        for (size_t i = 0; i < t->n_drivers; i++) {
                struct topology_at top = { NULL, "drivers", 0 }, at = { &top, NULL, i };

                for (size_t k = 0; k < i; k++)
                        if (streq(t->drivers[k].name, t->drivers[i].name))
                                return topology_bad(why, &at, "\"%s\" is there twice", t->drivers[i].name);
        }
        return 0;
}

int sim_topology_new(struct json_object *json, struct topology_why *why, struct sim_topology **ret) {
        _cleanup_(sim_topology_freep) struct sim_topology *t = NULL;
        int r;

        t = calloc(1, sizeof(*t));
        if (!t)
                return -ENOMEM;
        t->json = json_object_get(json);
        r = topology_read(t, json, why);
        if (r >= 0)
                r = topology_place(t, why);
        if (r >= 0)
                r = check_lists(t, why);
        if (r >= 0)
                r = check_functions(t, why);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(t);
        return 0;
}

struct sim_topology *sim_topology_free(struct sim_topology *t) {
        if (!t)
                return NULL;
        for (size_t i = 0; i < t->n_functions; i++) {
                struct topology_function *f = &t->functions[i];

                if (f->vf) {
                        free(f->vf->disks.names);
                        free(f->vf);
                }
                free(f->disks.names);
                free(f->raw);
        }
        for (size_t i = 0; i < t->n_tsms; i++)
                free(t->tsms[i].accepts.names);
        for (size_t i = 0; i < t->n_disks; i++)
                free(t->disks[i].parts);
        for (size_t i = 0; i < t->n_nets; i++)
                free(t->nets[i].addresses.names);
        free(t->functions);
        free(t->buses);
        free(t->tsms);
        free(t->drivers);
        free(t->disks);
        free(t->nets);
        json_object_put(t->json);
        free(t);
        return NULL;
}

int sim_topology_check(struct json_object *topology, char *ret_why, size_t size) {
        _cleanup_(sim_topology_freep) struct sim_topology *t = NULL;
        struct topology_why why = { ret_why, size };
        int r;

        r = sim_topology_new(topology, &why, &t);
        if (r == -ENOMEM && size)
                snprintf(ret_why, size, "out of memory");
        return r;
}

/* ---- the machine ---- */

void *machine_alloc(size_t size) {
        void *p = calloc(1, size);

        if (!p)
                abort();
        return p;
}

char *machine_strdup(const char *s) {
        char *p = strdup(s);

        if (!p)
                abort();
        return p;
}

static void make_boot_id(char buf[40]) {
        uint8_t b[16];
        size_t n = 0;

        for (size_t i = 0; i < sizeof(b); i++)
                b[i] = (uint8_t) (random() >> 7);
        _cleanup_close_ int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && read(fd, b, sizeof(b)) < 0)
                n = 0;
        b[6] = (uint8_t) (0x40 | (b[6] & 0xf));
        b[8] = (uint8_t) (0x80 | (b[8] & 0x3f));
        for (size_t i = 0; i < sizeof(b); i++)
                n += (size_t) snprintf(buf + n, 40 - n, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", b[i]);
}

int sim_machine_boot(struct sim *sim, struct json_object *topology, char *ret_why, size_t size) {
        struct topology_why why = { ret_why, size };
        struct sim_call call = { .sim = sim };
        struct sim_topology *t = NULL;
        struct sim_machine *m;
        int r;

        r = sim_topology_new(topology, &why, &t);
        if (r < 0) {
                if (r == -ENOMEM && size)
                        snprintf(ret_why, size, "out of memory");
                return r;
        }
        m = machine_alloc(sizeof(*m));
        m->sim = sim;
        m->plan = t;
        m->topology = t->json;
        m->unsafe_interrupts = t->unsafe_interrupts;
        memcpy(m->platform, t->platform, sizeof(m->platform));
        memcpy(m->boot_id, t->boot_id, sizeof(m->boot_id));
        if (!*m->boot_id)
                make_boot_id(m->boot_id);
        sim_rwsem_init(&m->tsm_lock);
        sim_rwsem_init(&m->hotplug_lock);
        m->buses = machine_alloc(sizeof(*m->buses));
        sim_set_machine(sim, m);

        driver_init(m);
        group_init(m);
        sim_users_init(m);
        driver_register_hosts(m);
        sim_vfio_init(m);
        sim_iommufd_init(m);
        sim_kvm_init(m);
        sim_dmabuf_init(m);
        if (m->plan->bind_module)
                (void) sim_bind_load(m->sim);
        pci_bus_init(&call, m);
        pci_bus_bind(&call, m);
        sim_tsm_init(&call, m);
        return sim_files_init(m, &why);
}

void sim_machine_free(struct sim *sim) {
        struct sim_machine *m = sim_machine(sim);

        if (!m)
                return;
        sim_tsm_free(m);
        sim_users_free(m);
        pci_bus_free(m);
        group_free(m);
        driver_free(m);
        sim_vfio_free(m);
        sim_iommufd_free(m);
        sim_rwsem_done(&m->tsm_lock);
        sim_rwsem_done(&m->hotplug_lock);
        sim_topology_free(m->plan);
        sim_set_machine(sim, NULL);
        free(m);
}
