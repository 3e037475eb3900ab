// SPDX-License-Identifier: GPL-2.0
/*
 * A function that does not come back from its reset: a stand-in for devices that take the minute which
 * the kernel gives them (pci_dev_wait()).
 *
 * The address of a function in /sys/module/tdid_test_reset/parameters/hang arms it: from its next
 * function-level reset, or the next reset of the bus that it is on, its config space reads as ones and
 * what is written there is lost, until "" is written. The config accessors of its bus and of the bridge's
 * are ours meanwhile. `resets` counts those that hang or hung.
 */
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/pci.h>

static DEFINE_MUTEX(lock);
static struct pci_dev *victim;
static struct pci_dev *bridge;
/* Of the buses (pci_root_ops); they stay when nobody is held any more, for who is still in one of ours. */
static struct pci_ops *real, *real_above;
static unsigned int d3cold_delay;
static bool dead;
static unsigned int resets;

static bool is(struct pci_dev *pdev, struct pci_bus *bus, unsigned int devfn)
{
	return pdev && pdev->bus == bus && pdev->devfn == devfn;
}

/* They differ where errors were injected: aer_inject leaves its own with the buses of those functions. */
static struct pci_ops *below(struct pci_bus *bus)
{
	return bridge && bus == bridge->bus ? real_above : real;
}

static int hang_read(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 *val)
{
	int rc;

	if (READ_ONCE(dead) && is(victim, bus, devfn)) {
		/* Where the bridge tells requests to be repeated from nobody there, it says so in the vendor's place. */
		*val = where == PCI_VENDOR_ID && size == 4 ? 0xffff0001 : GENMASK(8 * size - 1, 0);
		return PCIBIOS_SUCCESSFUL;
	}
	rc = below(bus)->read(bus, devfn, where, size, val);
	/* QEMU's edu is no PCI Express device, and makes no link: without one the kernel does not wait. */
	if (READ_ONCE(dead) && is(bridge, bus, devfn) && bridge->pcie_cap &&
	    where == bridge->pcie_cap + PCI_EXP_LNKSTA)
		*val |= PCI_EXP_LNKSTA_DLLLA;
	return rc;
}

static void fall(void)
{
	if (!READ_ONCE(dead))
		resets++;
	WRITE_ONCE(dead, true);
}

static int hang_write(struct pci_bus *bus, unsigned int devfn, int where, int size, u32 val)
{
	int rc;

	if (READ_ONCE(dead) && is(victim, bus, devfn))
		return PCIBIOS_SUCCESSFUL;
	rc = below(bus)->write(bus, devfn, where, size, val);
	if (is(bridge, bus, devfn) && where == PCI_BRIDGE_CONTROL && (val & PCI_BRIDGE_CTL_BUS_RESET))
		fall();
	if (is(victim, bus, devfn) && victim->pcie_cap && where == victim->pcie_cap + PCI_EXP_DEVCTL &&
	    (val & PCI_EXP_DEVCTL_BCR_FLR))
		fall();
	return rc;
}

static struct pci_ops hang_ops = { .read = hang_read, .write = hang_write };

static void let_go(void)
{
	if (!victim)
		return;
	WRITE_ONCE(dead, false);
	pci_bus_set_ops(victim->bus, real);
	if (bridge)
		pci_bus_set_ops(bridge->bus, real_above);
	victim->d3cold_delay = d3cold_delay;
	/* Config space is read without a lock here (PCI_LOCKLESS_CONFIG): who is in one of ours leaves it. */
	msleep(200);
	pci_dev_put(victim);
	victim = NULL;
	bridge = NULL;
}

static int hold(struct pci_dev *pdev)
{
	let_go();
	bridge = pci_upstream_bridge(pdev);
	real = pdev->bus->ops;
	real_above = bridge ? bridge->bus->ops : NULL;
	victim = pdev;
	/* The firmware of QEMU's machines says that nothing has to be waited for after a bus reset; so nothing is. */
	d3cold_delay = pdev->d3cold_delay;
	pdev->d3cold_delay = 100; /* ms: PCI_PM_D3COLD_WAIT */
	if (bridge)
		pci_bus_set_ops(bridge->bus, &hang_ops);
	pci_bus_set_ops(pdev->bus, &hang_ops);
	return 0;
}

static int set_hang(const char *val, const struct kernel_param *kp)
{
	unsigned int domain, bus, dev, fn;
	struct pci_dev *pdev = NULL;
	int rc = 0;

	if (sscanf(val, "%x:%x:%x.%x", &domain, &bus, &dev, &fn) == 4) {
		pdev = pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(dev, fn));
		if (!pdev)
			return -ENODEV;
	}
	mutex_lock(&lock);
	if (pdev)
		rc = hold(pdev);
	else
		let_go();
	mutex_unlock(&lock);
	return rc;
}

static int get_hang(char *buf, const struct kernel_param *kp)
{
	int n;

	mutex_lock(&lock);
	n = sysfs_emit(buf, "%s\n", victim ? pci_name(victim) : "");
	mutex_unlock(&lock);
	return n;
}

static const struct kernel_param_ops hang_param_ops = {
	.set = set_hang,
	.get = get_hang,
};
module_param_cb(hang, &hang_param_ops, NULL, 0644);
MODULE_PARM_DESC(hang, "the function whose next reset does not end; empty: it does");
module_param(resets, uint, 0444);
MODULE_PARM_DESC(resets, "how many hang or hung");

static int __init reset_init(void)
{
	return 0;
}

static void __exit reset_exit(void)
{
	let_go();
}

module_init(reset_init);
module_exit(reset_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Resets that do not end, for tests");
