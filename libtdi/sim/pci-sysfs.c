/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A function's folder in sysfs, as drivers/pci/pci-sysfs.c and the driver core show it: names, modes, texts, and what stores do.
 */
#include <limits.h>
#include <stdio.h>

#include "sim/machine.h"

#define FN(n) ((struct sim_function *) (n)->data)

/* kstrtoull(buf, 0, …) */
int parse_ulong(const char *text, unsigned long long max, unsigned long long *ret) {
        unsigned long long v;
        char *end;

        if (*text == '+')
                text++;
        if (*text < '0' || *text > '9')
                return -EINVAL;
        errno = 0;
        v = strtoull(text, &end, 0);
        if (*end == '\n')
                end++;
        if (*end || end == text)
                return -EINVAL;
        if (errno || v > max)
                return -ERANGE;
        *ret = v;
        return 0;
}

bool sysfs_equal(const char *text, const char *word) {
        size_t n = strlen(word);

        return strncmp(text, word, n) == 0 && (text[n] == '\0' || streq(text + n, "\n"));
}

#define SHOW(name, ...)                                                                                       \
        static ssize_t name##_show(_unused_ struct sim_call *c, struct sim_node *n, char *buf, size_t size) { \
                _unused_ struct sim_function *fn = FN(n);                                                     \
                return snprintf(buf, size, __VA_ARGS__);                                                      \
        }
#define RO(name, ...)           \
        SHOW(name, __VA_ARGS__) \
        static const struct sim_node_ops name##_ops = { .show = name##_show };

/* ---- identity ---- */

RO(vendor, "0x%04x\n", fn_plan(fn)->vendor)
RO(device, "0x%04x\n", fn_plan(fn)->device)
RO(subsystem_vendor, "0x%04x\n", fn->is_bridge ? 0 : cfg_get16(fn->config + CFG_SUBSYSTEM))
RO(subsystem_device, "0x%04x\n", fn->is_bridge ? 0 : cfg_get16(fn->config + CFG_SUBSYSTEM + 2))
RO(revision, "0x%02x\n", fn_plan(fn)->revision)
RO(class, "0x%06x\n", fn_plan(fn)->class)
RO(irq, "%u\n", fn->pci->msi_count ? fn->pci->msi_first : fn->pci->irq)
RO(ari_enabled, "%d\n", fn_plan(fn)->ari || fn_is_vf(fn) ? 1 : 0)
RO(dma_mask_bits, "%d\n", fn->pci->wide_dma ? 64 : 32)
RO(local_cpus, "3\n")
RO(local_cpulist, "0-1\n")
RO(secondary_bus_number, "%u\n", fn->config[CFG_SECONDARY])
RO(subordinate_bus_number, "%u\n", fn->config[CFG_SUBORDINATE])
RO(boot_vga, "0\n")
RO(waiting_for_supplier, "0\n")

static int modalias(const struct sim_function *fn, char *buf, size_t size) {
        const struct topology_function *p = fn_plan(fn);

        return snprintf(buf, size, "pci:v%08Xd%08Xsv%08Xsd%08Xbc%02Xsc%02Xi%02X\n", p->vendor, p->device,
                        fn->is_bridge ? 0u : cfg_get16(fn->config + CFG_SUBSYSTEM), fn->is_bridge ? 0u :
                                cfg_get16(fn->config + CFG_SUBSYSTEM + 2),
                        p->class >> 16, p->class >> 8 & 0xff, p->class & 0xff);
}

static ssize_t modalias_show(_unused_ struct sim_call *c, struct sim_node *n, char *buf, size_t size) {
        return modalias(FN(n), buf, size);
}
static const struct sim_node_ops modalias_ops = { .show = modalias_show };

ssize_t pci_uevent_show(struct sim_function *fn, char *buf, size_t size) {
        const struct topology_function *p = fn_plan(fn);
        int n = 0;

        if (fn->driver)
                n = snprintf(buf, size, "DRIVER=%s\n", fn->driver->name);
        n += snprintf(buf + n, size - (size_t) n, "PCI_CLASS=%04X\nPCI_ID=%04X:%04X\nPCI_SUBSYS_ID=%04X:%04X\nPCI_SLOT_NAME=%s\nMODALIAS=",
                      p->class, p->vendor,
                      p->device, fn->is_bridge ? 0u : cfg_get16(fn->config + CFG_SUBSYSTEM), fn->is_bridge ? 0u :
                              cfg_get16(fn->config + CFG_SUBSYSTEM + 2),
                      fn->bdf);
        return n + modalias(fn, buf + n, size - (size_t) n);
}

static ssize_t uevent_show(_unused_ struct sim_call *c, struct sim_node *n, char *buf, size_t size) {
        return pci_uevent_show(FN(n), buf, size);
}

/* kobject_synth_uevent(): an action's name, nothing more after it here. */
static ssize_t uevent_store(struct sim_call *c, struct sim_node *n, const char *text, size_t len) {
        static const char *const actions[] = { "add", "remove", "change", "move", "online", "offline", "bind", "unbind" };

        for (size_t i = 0; i < ARRAY_SIZE(actions); i++)
                if (sysfs_equal(text, actions[i])) {
                        sim_uevent(c->sim, actions[i], "pci", FN(n)->node);
                        return (ssize_t) len;
                }
        return -EINVAL;
}
static const struct sim_node_ops uevent_ops = { .show = uevent_show, .store = uevent_store };

/* ---- resources ---- */

static unsigned long long bar_flags(const struct sim_bar *b) {
        if (b->io)
                return 0x40101;
        return 0x40200ULL | (b->prefetchable ? 0x2008 : 0) | (b->wide ? 0x100004 : 0);
}

static int resource_line(char *buf, size_t size, uint64_t start, uint64_t end, unsigned long long flags) {
        return snprintf(buf, size, "0x%016llx 0x%016llx 0x%016llx\n", (unsigned long long) start, (unsigned long long) end, flags);
}

static ssize_t resource_show(_unused_ struct sim_call *c, struct sim_node *n, char *buf, size_t size) {
        const struct sim_function *fn = FN(n);
        const struct topology_function *p = fn_plan(fn);
        size_t at = 0;

        for (unsigned i = 0; i < 13; i++) {
                struct sim_bar b = i < SIM_BARS ? fn->bar[i] : (struct sim_bar){};

                if (i >= 7 && p->vf_bar[i - 7].size)
                        b = (struct sim_bar){ .address = p->vf_bar[i - 7].address, .size = p->vf_bar[i - 7].size,
                                              .prefetchable = p->vf_bar[i - 7].prefetchable, .wide = p->vf_bar[i - 7].wide };
                at += (size_t) (b.size ? resource_line(buf + at, size - at, b.address, b.address + b.size - 1, bar_flags(&b)) :
                                         resource_line(buf + at, size - at, 0, 0, 0));
        }
        if (fn->is_bridge) {
                const struct topology_window *w[4] = { &p->io, &p->memory, &p->prefetch, NULL };
                static const unsigned long long flags[] = { 0x101, 0x200, 0x102201, 0 };

                for (unsigned i = 0; i < 4; i++)
                        at += (size_t) (w[i] && w[i]->start <= w[i]->end ? resource_line(buf + at, size - at, w[i]->start, w[i]->end,
                                                                                         flags[i]) :
                                                                           resource_line(buf + at, size - at, 0, 0, 0));
        }
        return (ssize_t) at;
}
static const struct sim_node_ops resource_ops = { .show = resource_show };

/* Memory can only be mapped through these files, which a simulated one cannot be; ports can be read and written. */
static int port_access(const struct sim_function *fn, const struct sim_node *n, size_t size, uint64_t offset, unsigned *ret_bar) {
        *ret_bar = (unsigned) (n->name[8] - '0');
        if (!fn->bar[*ret_bar].io)
                return -EIO;
        if (offset >= fn->bar[*ret_bar].size)
                return 0;
        if (size > fn->bar[*ret_bar].size - offset || (size != 1 && size != 2 && size != 4))
                return -EINVAL;
        return 1;
}

static ssize_t resource_pread(struct sim_call *c, struct sim_node *n, void *buf, size_t size, uint64_t offset) {
        struct sim_function *fn = FN(n);
        unsigned bar;
        int r;

        r = port_access(fn, n, size, offset, &bar);
        if (r <= 0)
                return r;
        memset(buf, 0xff, size);
        if (fn->present && fn->model && (cfg_get16(fn->config + CFG_COMMAND) & COMMAND_IO))
                fn->model->read(c, fn, bar, offset, buf, size);
        return (ssize_t) size;
}

static ssize_t resource_pwrite(struct sim_call *c, struct sim_node *n, const void *buf, size_t size, uint64_t offset) {
        struct sim_function *fn = FN(n);
        unsigned bar;
        int r;

        r = port_access(fn, n, size, offset, &bar);
        if (r <= 0)
                return r < 0 ? r : -EINVAL;
        if (fn->present && fn->model && (cfg_get16(fn->config + CFG_COMMAND) & COMMAND_IO))
                fn->model->write(c, fn, bar, offset, buf, size);
        return (ssize_t) size;
}
static const struct sim_node_ops resourceN_ops = { .pread = resource_pread, .pwrite = resource_pwrite };

static bool is_asleep(const struct sim_function *fn);

/* pci_read_config(): without privilege only the header. */
static ssize_t config_pread(struct sim_call *c, struct sim_node *n, void *buf, size_t size, uint64_t offset) {
        struct sim_function *fn = FN(n);
        size_t end = c->uid == 0 ? fn->config_size : 64;

        if (offset >= end)
                return 0;
        if (size > end - offset)
                size = end - offset;
        sim_down_read(c, &fn->config_lock);
        sim_config_read(fn, offset, buf, size);
        /* pci_config_pm_runtime_get() wakes nobody up but from D3cold. */
        if (fn->present && fn->vfio && is_asleep(fn) && sim_find_capability(fn, CAP_PM)) {
                uint64_t at = sim_find_capability(fn, CAP_PM) + 4;

                if (at >= offset && at < offset + size)
                        ((uint8_t *) buf)[at - offset] |= 3;
        }
        sim_up_read(c, &fn->config_lock);
        return (ssize_t) size;
}

static ssize_t config_pwrite(struct sim_call *c, struct sim_node *n, const void *buf, size_t size, uint64_t offset) {
        struct sim_function *fn = FN(n);

        if (offset >= fn->config_size)
                return 0;
        if (size > fn->config_size - offset)
                size = fn->config_size - offset;
        sim_down_read(c, &fn->config_lock);
        sim_config_write(c, fn, offset, buf, size);
        sim_up_read(c, &fn->config_lock);
        return (ssize_t) size;
}
static const struct sim_node_ops config_ops = { .pread = config_pread, .pwrite = config_pwrite };

/* ---- link ---- */

static const char *speed(unsigned code) {
        static const char *const names[] = { "Unknown", "2.5 GT/s PCIe", "5.0 GT/s PCIe", "8.0 GT/s PCIe", "16.0 GT/s PCIe",
                                            "32.0 GT/s PCIe", "64.0 GT/s PCIe" };

        return code < ARRAY_SIZE(names) ? names[code] : names[0];
}

static unsigned link_register(struct sim_function *fn, unsigned offset) {
        unsigned at = sim_find_capability(fn, CAP_EXP);

        return at ? cfg_get16(fn->config + at + offset) : 0;
}

RO(current_link_speed, "%s\n", speed(link_register(fn, EXP_LNKSTA) & 0xf))
RO(current_link_width, "%u\n", link_register(fn, EXP_LNKSTA) >> 4 & 0x3f)
RO(max_link_speed, "%s\n", speed(link_register(fn, EXP_LNKCAP) & 0xf))
RO(max_link_width, "%u\n", link_register(fn, EXP_LNKCAP) >> 4 & 0x3f)

/* ---- switches ---- */

SHOW(enable, "%d\n", fn->enable_count)
static ssize_t enable_store(struct sim_call *c, struct sim_node *n, const char *text, size_t len) {
        struct sim_function *fn = FN(n);
        unsigned long long v;
        int r;

        r = parse_ulong(text, ULONG_MAX, &v);
        if (r < 0)
                return r;
        sim_down_write(c, &fn->lock);
        /* enable_store(): a driver's count is its own. */
        if (fn->driver)
                r = -EBUSY;
        else if (v)
                sim_pci_enable(fn);
        else if (fn->enable_count > 0)
                sim_pci_disable(fn);
        else
                r = -EIO;
        sim_up_write(c, &fn->lock);
        return r < 0 ? r : (ssize_t) len;
}
static const struct sim_node_ops enable_ops = { .show = enable_show, .store = enable_store };

#define SWITCH(name, member, sense)                                                                                  \
        SHOW(name, "%u\n", (fn->pci->member ? 1u : 0u) == (sense) ? 1u : 0u)                                         \
        static ssize_t name##_store(_unused_ struct sim_call *c, struct sim_node *n, const char *text, size_t len) { \
                unsigned long long v;                                                                                \
                if (parse_ulong(text, ULONG_MAX, &v) < 0)                                                            \
                        return -EINVAL;                                                                              \
                FN(n)->pci->member = (v ? 1u : 0u) == (sense);                                                       \
                return (ssize_t) len;                                                                                \
        }                                                                                                            \
        static const struct sim_node_ops name##_ops = { .show = name##_show, .store = name##_store };

SWITCH(broken_parity_status, broken_parity, 1u)
SWITCH(d3cold_allowed, d3cold_allowed, 1u)
SWITCH(msi_bus, no_msi, 0u)

static int node_of(const struct sim_function *fn) {
        return fn->pci->host ? fn->pci->host->plan->numa_node : -1;
}
RO(numa_node, "%d\n", node_of(fn))

static ssize_t remove_store(struct sim_call *c, struct sim_node *n, const char *text, size_t len) {
        struct sim_function *fn = FN(n);
        struct sim_machine *m = sim_machine(fn->sim);
        unsigned long long v;

        if (parse_ulong(text, ULONG_MAX, &v) < 0)
                return -EINVAL;
        if (!v)
                return (ssize_t) len;
        /* device_remove_file_self(): only one of two writers goes on, or each would wait for the other. */
        if (fn->pci->removing)
                return (ssize_t) len;
        fn->pci->removing = true;
        sim_down_write(c, &m->hotplug_lock);
        if (fn->pci->added)
                pci_remove(c, fn, n);
        fn->pci->removing = false;
        sim_up_write(c, &m->hotplug_lock);
        return (ssize_t) len;
}
static const struct sim_node_ops remove_ops = { .store = remove_store };

static ssize_t rescan_store(struct sim_call *c, struct sim_node *n, const char *text, size_t len) {
        struct sim_machine *m = sim_machine(FN(n)->sim);
        unsigned long long v;

        if (parse_ulong(text, ULONG_MAX, &v) < 0)
                return -EINVAL;
        if (v) {
                sim_down_write(c, &m->hotplug_lock);
                pci_rescan(c, m);
                sim_up_write(c, &m->hotplug_lock);
        }
        return (ssize_t) len;
}
static const struct sim_node_ops rescan_ops = { .store = rescan_store };

static ssize_t reset_store(struct sim_call *c, struct sim_node *n, const char *text, size_t len) {
        unsigned long long v;
        int r;

        if (parse_ulong(text, ULONG_MAX, &v) < 0 || v != 1)
                return -EINVAL;
        r = pci_reset_sysfs(c, FN(n));
        return r < 0 ? r : (ssize_t) len;
}
static const struct sim_node_ops reset_ops = { .store = reset_store };

static ssize_t reset_method_show(_unused_ struct sim_call *c, struct sim_node *n, char *buf, size_t size) {
        pci_reset_methods(FN(n), buf, size - 1);
        strcat(buf, "\n");
        return (ssize_t) strlen(buf);
}
static const struct sim_node_ops reset_method_ops = { .show = reset_method_show };

#define AER(name, member, list)                                                                                 \
        static ssize_t name##_show(_unused_ struct sim_call *c, struct sim_node *n, char *buf, size_t size) {   \
                static const char *const names[] = list;                                                        \
                size_t at = 0;                                                                                  \
                for (size_t i = 0; i < ARRAY_SIZE(names); i++)                                                  \
                        at += (size_t) snprintf(buf + at, size - at, "%s %u\n", names[i],                       \
                                                i == 0 || i == ARRAY_SIZE(names) - 1 ? FN(n)->pci->member : 0); \
                return (ssize_t) at;                                                                            \
        }                                                                                                       \
        static const struct sim_node_ops name##_ops = { .show = name##_show };
#define LIST(...) { __VA_ARGS__ }
AER(aer_dev_correctable, aer_correctable, LIST("RxErr", "BadTLP", "BadDLLP", "Rollover", "Timeout", "NonFatalErr", "CorrIntErr",
                                               "HeaderOF", "TOTAL_ERR_COR"))
AER(aer_dev_fatal, aer_fatal, LIST("DLP", "SDES", "TLP", "FCP", "CmpltTO", "CmpltAbrt", "UnxCmplt", "RxOF", "MalfTLP", "ECRC", "UnsupReq",
                                   "ACSViol", "UncorrIntErr",
                                   "BlockedTLP", "AtomicOpBlocked", "TLPBlockedErr", "PoisonTLPBlocked", "TOTAL_ERR_FATAL"))
AER(aer_dev_nonfatal, aer_nonfatal, LIST("UnsupReq", "Undefined", "DLP", "SDES", "TLP", "FCP", "CmpltTO", "CmpltAbrt", "UnxCmplt", "RxOF",
                                         "MalfTLP", "ECRC", "ACSViol",
                                         "UncorrIntErr", "BlockedTLP", "AtomicOpBlocked", "TLPBlockedErr", "PoisonTLPBlocked",
                                         "TOTAL_ERR_NONFATAL"))

/* ---- runtime power management ---- */

/* vfio-pci lets go of what nobody has open; other drivers and driverless functions stay awake while they are "on". */
static bool is_asleep(const struct sim_function *fn) {
        if (!streq(fn->power_control, "auto") || fn->pm_users > 0)
                return false;
        return !fn->driver || fn->vfio;
}

RO(runtime_status, "%s\n", is_asleep(fn) ? "suspended" : "active")
/* pci_pm_runtime_suspend() */
RO(power_state, "%s\n", fn->vfio && is_asleep(fn) && sim_find_capability(fn, CAP_PM) ? "D3hot" : fn->pci->power_state)
/* With CONFIG_PM_ADVANCED_DEBUG. */
RO(runtime_active_kids, "0\n")
RO(runtime_enabled, "enabled\n")
RO(runtime_usage, "%u\n", fn->pm_users + (streq(fn->power_control, "on") ? 1 : 0))
RO(runtime_active_time, "%u\n", 0u)
RO(runtime_suspended_time, "%u\n", 0u)

SHOW(power_control, "%s\n", fn->power_control)
static ssize_t power_control_store(struct sim_call *c, struct sim_node *n, const char *text, size_t len) {
        struct sim_function *fn = FN(n);
        const char *word = sysfs_equal(text, "on") ? "on" : sysfs_equal(text, "auto") ? "auto" : NULL;

        if (!word)
                return -EINVAL;
        sim_down_write(c, &fn->lock); /* control_store() takes the device lock */
        snprintf(fn->power_control, sizeof(fn->power_control), "%s", word);
        sim_up_write(c, &fn->lock);
        return (ssize_t) len;
}
static const struct sim_node_ops power_control_ops = { .show = power_control_show, .store = power_control_store };

/* Without autosuspend: autosuspend_delay_ms_show(). */
static ssize_t autosuspend_show(_unused_ struct sim_call *c, _unused_ struct sim_node *n, _unused_ char *buf, _unused_ size_t size) {
        return -EIO;
}
static ssize_t autosuspend_store(_unused_ struct sim_call *c, _unused_ struct sim_node *n, _unused_ const char *text, _unused_ size_t len) {
        return -EIO;
}
static const struct sim_node_ops autosuspend_ops = { .show = autosuspend_show, .store = autosuspend_store };

/* ---- the folder ---- */

static bool always(_unused_ const struct sim_function *fn) {
        return true;
}

static bool has_node(const struct sim_function *fn) {
        return node_of(fn) >= 0; /* without CONFIG_NUMA there is no such file */
}

/* pci_dev_hp_attrs_are_visible() */
static bool is_no_vf(const struct sim_function *fn) {
        return !fn_is_vf(fn);
}

static bool is_express(const struct sim_function *fn) {
        return fn->port_type != SIM_CONVENTIONAL && fn->port_type != PORT_RC_ENDPOINT;
}

static bool is_bridge(const struct sim_function *fn) {
        return fn->is_bridge;
}

static bool has_aer(const struct sim_function *fn) {
        return fn_plan(fn)->aer && !fn_is_vf(fn);
}

static bool is_display(const struct sim_function *fn) {
        return fn_plan(fn)->class >> 8 == 0x0300;
}

static const struct {
        const char *name;
        mode_t mode;
        const struct sim_node_ops *ops;
        bool (*visible)(const struct sim_function *fn);
} attributes[] = {
        { "aer_dev_correctable", 0444, &aer_dev_correctable_ops, has_aer },
        { "aer_dev_fatal", 0444, &aer_dev_fatal_ops, has_aer },
        { "aer_dev_nonfatal", 0444, &aer_dev_nonfatal_ops, has_aer },
        { "ari_enabled", 0444, &ari_enabled_ops, always },
        { "boot_vga", 0444, &boot_vga_ops, is_display },
        { "broken_parity_status", 0644, &broken_parity_status_ops, always },
        { "class", 0444, &class_ops, always },
        { "config", 0644, &config_ops, always },
        { "consistent_dma_mask_bits", 0444, &dma_mask_bits_ops, always },
        { "current_link_speed", 0444, &current_link_speed_ops, is_express },
        { "current_link_width", 0444, &current_link_width_ops, is_express },
        { "d3cold_allowed", 0644, &d3cold_allowed_ops, always },
        { "device", 0444, &device_ops, always },
        { "dma_mask_bits", 0444, &dma_mask_bits_ops, always },
        { "enable", 0644, &enable_ops, always },
        { "irq", 0444, &irq_ops, always },
        { "local_cpulist", 0444, &local_cpulist_ops, always },
        { "local_cpus", 0444, &local_cpus_ops, always },
        { "max_link_speed", 0444, &max_link_speed_ops, is_express },
        { "max_link_width", 0444, &max_link_width_ops, is_express },
        { "modalias", 0444, &modalias_ops, always },
        { "msi_bus", 0644, &msi_bus_ops, always },
        { "numa_node", 0444, &numa_node_ops, has_node },
        { "power_state", 0444, &power_state_ops, always },
        { "remove", 0220, &remove_ops, is_no_vf },
        { "rescan", 0220, &rescan_ops, is_no_vf },
        { "resource", 0444, &resource_ops, always },
        { "revision", 0444, &revision_ops, always },
        { "secondary_bus_number", 0444, &secondary_bus_number_ops, is_bridge },
        { "subordinate_bus_number", 0444, &subordinate_bus_number_ops, is_bridge },
        { "subsystem_device", 0444, &subsystem_device_ops, always },
        { "subsystem_vendor", 0444, &subsystem_vendor_ops, always },
        { "uevent", 0644, &uevent_ops, always },
        { "vendor", 0444, &vendor_ops, always },
};

static void create_power(struct sim_function *fn) {
        struct sim_node *dir = sim_dir(fn->node, "power");

        sim_file_node(dir, "autosuspend_delay_ms", 0644, &autosuspend_ops, fn);
        sim_file_node(dir, "control", 0644, &power_control_ops, fn);
        sim_file_node(dir, "runtime_active_kids", 0444, &runtime_active_kids_ops, fn);
        sim_file_node(dir, "runtime_active_time", 0444, &runtime_active_time_ops, fn);
        sim_file_node(dir, "runtime_enabled", 0444, &runtime_enabled_ops, fn);
        sim_file_node(dir, "runtime_status", 0444, &runtime_status_ops, fn);
        sim_file_node(dir, "runtime_suspended_time", 0444, &runtime_suspended_time_ops, fn);
        sim_file_node(dir, "runtime_usage", 0444, &runtime_usage_ops, fn);
}

/* doe_features: what discovery found (drivers/pci/doe.c). */
static void create_doe(struct sim_function *fn) {
        struct sim_node *dir = sim_dir(fn->node, "doe_features");

        sim_text(dir, "doe_discovery", "0001:00");
        sim_text(dir, "0001:01", "0001:01");
        sim_text(dir, "0001:02", "0001:02");
}

void pci_sysfs_create(struct sim_function *fn) {
        struct sim_node *bus = sim_dirs(fn->sim, "sys/bus/pci");

        for (size_t i = 0; i < ARRAY_SIZE(attributes); i++)
                if (attributes[i].visible(fn))
                        sim_file_node(fn->node, attributes[i].name, attributes[i].mode, attributes[i].ops, fn);
        for (unsigned i = 0; i < SIM_BARS; i++) {
                char name[16];

                if (!fn->bar[i].size)
                        continue;
                snprintf(name, sizeof(name), "resource%u", i);
                sim_file_node(fn->node, name, 0600, &resourceN_ops, fn);
                if (!fn->bar[i].prefetchable)
                        continue;
                snprintf(name, sizeof(name), "resource%u_wc", i);
                sim_file_node(fn->node, name, 0600, &resourceN_ops, fn);
        }
        if (sim_can_reset(fn)) {
                sim_file_node(fn->node, "reset", 0200, &reset_ops, fn);
                sim_file_node(fn->node, "reset_method", 0444, &reset_method_ops, fn);
        }
        if (fn->pci->waiting)
                sim_file_node(fn->node, "waiting_for_supplier", 0444, &waiting_for_supplier_ops, fn);
        create_power(fn);
        if (fn_plan(fn)->doe)
                create_doe(fn);
        if (fn_is_vf(fn) || fn->sriov_total)
                pci_iov_sysfs(fn);
        driver_sysfs(fn);
        sim_link(fn->node, "subsystem", bus);
        if (fn->is_bridge) {
                char name[16];

                /* The class device of the bus behind it. */
                snprintf(name, sizeof(name), "%04x:%02x", fn->segment, fn->config[CFG_SECONDARY]);
                sim_text(sim_dir(sim_dir(sim_dir(fn->node, "pci_bus"), name), "power"), "runtime_status", "unsupported");
        }
}

/* ---- host bridges ---- */

static ssize_t available_streams_show(_unused_ struct sim_call *c, struct sim_node *n, char *buf, size_t size) {
        const struct sim_host *host = n->data;
        unsigned taken = 0;

        for (unsigned i = 0; i < host->plan->streams; i++)
                taken += host->streams[i / 8] >> i % 8 & 1;
        return snprintf(buf, size, "%u\n", host->plan->streams - taken);
}
static const struct sim_node_ops available_streams_ops = { .show = available_streams_show };

void pci_sysfs_host(struct sim_host *host) {
        struct sim_node *power = sim_dir(host->node, "power");

        sim_text(power, "runtime_status", "unsupported");
        sim_text(power, "control", "auto");
        sim_text(host->node, "uevent", "%s", "");
        if (host->plan->streams)
                sim_file_node(host->node, "available_secure_streams", 0444, &available_streams_ops, host);
}
