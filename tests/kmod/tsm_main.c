// SPDX-License-Identifier: GPL-2.0
/*
 * A test TSM for an unpatched kernel: registers link TSMs that have no hardware behind them, and
 * makes chosen functions look as if they had it, so that connect, disconnect, bind and unbind can
 * be tested, made slow and made to fail.
 *
 *	devs=BDF,…	functions to mark as TEE capable; the core accepts function 0 of PCIe endpoints and
 *			upstream ports. The mark comes back when one is removed and found again.
 *	ntsm=N		TSMs to register, 1 by default
 *	parent=NAME,…	names of the devices that the TSMs hang on: they tell platforms apart
 *	fake_viommu=1	see tsm_viommu.c
 *	no_bind=1	no operations bind and unbind, as the first TSMs had
 *	no_guest_req=1	no operation guest_req
 *	bind_locks=0	a TDI is CONFIG_UNLOCKED after bind, and the guest asks for the lock
 *
 * Files in debugfs, folder tdid_test_tsm: `log` (tsm_log.c), `rules` (tsm_rules.c), `object1` and on
 * (tsm_objects.c), and `state`, what there is now. It says nothing about real hardware: no SPDM, no IDE, no TDISP message is
 * sent. The mark is in the kernel's copy of the capability, not in configuration space.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt
#include <linux/debugfs.h>
#include <linux/device/faux.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/tsm.h>

#include "internal.h"

#define TT_TSM_MAX 8

static char *devs = "";
module_param(devs, charp, 0444);
MODULE_PARM_DESC(devs, "functions to mark as TEE capable, as SSSS:BB:DD.F, separated by commas");
static unsigned int ntsm = 1;
module_param(ntsm, uint, 0444);
MODULE_PARM_DESC(ntsm, "number of TSMs to register");
static char *parent[TT_TSM_MAX];
static int nparent;
module_param_array(parent, charp, &nparent, 0444);
MODULE_PARM_DESC(parent, "name of each TSM's parent device");
static bool fake_viommu;
module_param(fake_viommu, bool, 0444);
MODULE_PARM_DESC(fake_viommu, "add a vIOMMU to the IOMMUs of the marked functions");
static bool no_bind;
module_param(no_bind, bool, 0444);
MODULE_PARM_DESC(no_bind, "the TSMs cannot bind");
bool tt_bind_locks = true;
module_param_named(bind_locks, tt_bind_locks, bool, 0444);
MODULE_PARM_DESC(bind_locks, "a TDI is locked after bind");
static bool no_guest_req;
module_param(no_guest_req, bool, 0444);
MODULE_PARM_DESC(no_guest_req, "the TSMs take no requests of guests");

/* A place on the bus, and the function that is there now. */
struct tt_mark {
	struct list_head list;
	int segment;
	u8 bus;
	u8 devfn;
	struct pci_dev *pdev; /* a reference, or NULL */
	bool was_capable;
};

static DEFINE_MUTEX(marks_lock);
static LIST_HEAD(marks);

static struct dentry *debug_dir;
static struct faux_device *faux[TT_TSM_MAX];
static struct tsm_dev *tsm[TT_TSM_MAX];

/*
 * The core decides about the files of `tsm/` when a function is added or the first TSM arrives. A
 * mark that comes later needs them looked at again; the core's groups are not exported, but the
 * device's type lists them.
 */
static void refresh_sysfs(struct pci_dev *pdev)
{
	const struct attribute_group *const *group;

	for (group = pdev->dev.type->groups; group && *group; group++) {
		struct attribute **attrs = (*group)->attrs;
		bool is_tsm = (*group)->name && !strcmp((*group)->name, "tsm");
		bool is_auth = !(*group)->name && attrs && *attrs &&
			       !strcmp((*attrs)->name, "authenticated");

		if ((is_tsm || is_auth) && sysfs_update_group(&pdev->dev.kobj, *group))
			pci_warn(pdev, "%s: attributes not refreshed\n", KBUILD_MODNAME);
	}
}

/* Takes over the caller's reference. */
static void mark(struct tt_mark *m, struct pci_dev *pdev)
{
	m->pdev = pdev;
	m->was_capable = pdev->devcap & PCI_EXP_DEVCAP_TEE;
	pdev->devcap |= PCI_EXP_DEVCAP_TEE;
	if (!is_pci_tsm_pf0(pdev))
		pci_warn(pdev, "%s: marked, but no function 0 of a PCIe endpoint\n", KBUILD_MODNAME);
}

static struct tt_mark *find_mark(struct pci_dev *pdev)
{
	struct tt_mark *m;

	list_for_each_entry(m, &marks, list)
		if (m->segment == pci_domain_nr(pdev->bus) && m->bus == pdev->bus->number &&
		    m->devfn == pdev->devfn)
			return m;
	return NULL;
}

static int bus_event(struct notifier_block *nb, unsigned long action, void *data)
{
	struct pci_dev *pdev = to_pci_dev(data);
	struct tt_mark *m;

	if (action != BUS_NOTIFY_ADD_DEVICE && action != BUS_NOTIFY_REMOVED_DEVICE)
		return NOTIFY_DONE;
	guard(mutex)(&marks_lock);
	m = find_mark(pdev);
	if (!m)
		return NOTIFY_DONE;
	if (action == BUS_NOTIFY_ADD_DEVICE && !m->pdev) {
		mark(m, pci_dev_get(pdev));
		refresh_sysfs(pdev);
	} else if (action == BUS_NOTIFY_REMOVED_DEVICE && m->pdev == pdev) {
		/*
		 * The core still asks whether it is a DSM until it is gone, so the mark stays on
		 * it.
		 */
		m->pdev = NULL;
		pci_dev_put(pdev);
	}
	return NOTIFY_OK;
}

static struct notifier_block bus_nb = { .notifier_call = bus_event };

static int add_mark(const char *bdf)
{
	unsigned int d, b, s, f;
	struct tt_mark *m;
	int end = 0;

	if (sscanf(bdf, "%x:%x:%x.%x%n", &d, &b, &s, &f, &end) != 4 || bdf[end] || d > 0xffff ||
	    b > 0xff || s > 0x1f || f > 7) {
		pr_err("devs: \"%s\" is no SSSS:BB:DD.F\n", bdf);
		return -EINVAL;
	}
	m = kzalloc(sizeof(*m), GFP_KERNEL);
	if (!m)
		return -ENOMEM;
	m->segment = d;
	m->bus = b;
	m->devfn = PCI_DEVFN(s, f);
	list_add_tail(&m->list, &marks);
	return 0;
}

static int parse_devs(void)
{
	char *text __free(kfree) = kstrdup(devs, GFP_KERNEL);
	char *rest = text, *bdf;
	int rc;

	if (!text)
		return -ENOMEM;
	while ((bdf = strsep(&rest, ","))) {
		if (!*bdf)
			continue;
		rc = add_mark(bdf);
		if (rc)
			return rc;
	}
	return 0;
}

static int mark_all(void)
{
	struct pci_dev *pdev;
	struct tt_mark *m;
	int rc;

	guard(mutex)(&marks_lock);
	list_for_each_entry(m, &marks, list) {
		/* Found again by the notifier in the meantime, or listed twice. */
		if (m->pdev)
			continue;
		pdev = pci_get_domain_bus_and_slot(m->segment, m->bus, m->devfn);
		if (!pdev) {
			pr_warn("%04x:%02x:%02x.%d: not there now\n", m->segment, m->bus,
				PCI_SLOT(m->devfn), PCI_FUNC(m->devfn));
			continue;
		}
		mark(m, pdev);
		if (!fake_viommu)
			continue;
		rc = tt_viommu_graft(pdev);
		if (rc) {
			pci_err(pdev, "%s: no vIOMMU for its IOMMU: %d\n", KBUILD_MODNAME, rc);
			return rc;
		}
	}
	return 0;
}

/* After the last TSM is gone. Files of tsm/ that another TSM keeps visible go with the mark. */
static void unmark_all(void)
{
	struct tt_mark *m, *tmp;

	guard(mutex)(&marks_lock);
	list_for_each_entry_safe_reverse(m, tmp, &marks, list) {
		if (m->pdev) {
			if (!m->was_capable) {
				m->pdev->devcap &= ~PCI_EXP_DEVCAP_TEE;
				refresh_sysfs(m->pdev);
			}
			pci_dev_put(m->pdev);
		}
		list_del(&m->list);
		kfree(m);
	}
}

static int state_show(struct seq_file *m, void *v)
{
	struct tt_mark *mark;

	scoped_guard(mutex, &marks_lock)
		list_for_each_entry(mark, &marks, list)
			seq_printf(m, "%04x:%02x:%02x.%d mark %s\n", mark->segment, mark->bus,
				   PCI_SLOT(mark->devfn), PCI_FUNC(mark->devfn),
				   mark->pdev ? "present" : "absent");
	tt_state_show(m);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(state);

static void unregister_tsms(void)
{
	unsigned int i;

	/*
	 * What waits now would keep the core's lock from us. The rules stay, so that a TSM can be
	 * made to leave slowly.
	 */
	tt_rules_release();
	for (i = TT_TSM_MAX; i-- > 0;) {
		if (tsm[i])
			tsm_unregister(tsm[i]);
		tsm[i] = NULL;
		if (faux[i])
			faux_device_destroy(faux[i]);
		faux[i] = NULL;
	}
	tt_ops_exit();
}

static int register_tsms(void)
{
	char name[64];
	unsigned int i;
	int rc;

	for (i = 0; i < ntsm; i++) {
		if (i < nparent)
			strscpy(name, parent[i]);
		else if (i == 0)
			strscpy(name, KBUILD_MODNAME);
		else
			snprintf(name, sizeof(name), KBUILD_MODNAME ".%u", i);
		faux[i] = faux_device_create(name, NULL, NULL);
		if (!faux[i])
			return -ENODEV;
		tsm[i] = tsm_register(&faux[i]->dev, &tt_ops);
		if (IS_ERR(tsm[i])) {
			rc = PTR_ERR(tsm[i]);
			tsm[i] = NULL;
			return rc;
		}
	}
	return 0;
}

static int __init tt_init(void)
{
	int rc;

	if (!ntsm || ntsm > TT_TSM_MAX || nparent > ntsm)
		return -EINVAL;
	if (no_bind) {
		tt_ops.link_ops.bind = NULL;
		tt_ops.link_ops.unbind = NULL;
	}
	if (no_guest_req)
		tt_ops.link_ops.guest_req = NULL;

	debug_dir = debugfs_create_dir(TDID_TEST_TSM_NAME, NULL);
	rc = tt_log_init(debug_dir);
	if (rc)
		goto err_dir;
	tt_rules_init(debug_dir);
	tt_viommu_init_events(debug_dir);
	tt_objects_init(debug_dir);
	debugfs_create_file("state", 0400, debug_dir, NULL, &state_fops);

	rc = parse_devs();
	if (rc)
		goto err_marks;
	rc = bus_register_notifier(&pci_bus_type, &bus_nb);
	if (rc)
		goto err_marks;
	rc = mark_all();
	if (rc)
		goto err_notifier;
	rc = register_tsms();
	if (rc)
		goto err_tsms;
	rc = tt_chardev_init();
	if (rc)
		goto err_tsms;
	return 0;

err_tsms:
	unregister_tsms();
err_notifier:
	tt_viommu_exit();
	bus_unregister_notifier(&pci_bus_type, &bus_nb);
err_marks:
	unmark_all();
	debugfs_remove(debug_dir);
	tt_objects_exit();
	tt_rules_exit();
	tt_log_exit();
	return rc;
err_dir:
	debugfs_remove(debug_dir);
	return rc;
}

static void __exit tt_exit(void)
{
	tt_chardev_exit();
	unregister_tsms();
	tt_viommu_exit();
	bus_unregister_notifier(&pci_bus_type, &bus_nb);
	unmark_all();
	debugfs_remove(debug_dir);
	tt_objects_exit();
	tt_rules_exit();
	tt_log_exit();
}

module_init(tt_init);
module_exit(tt_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("TSM without hardware, for tests");
MODULE_IMPORT_NS("IOMMUFD");
