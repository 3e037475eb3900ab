// SPDX-License-Identifier: GPL-2.0
/*
 * A vIOMMU for IOMMUs that have none, so that nest-parent page tables, vIOMMUs and virtual devices
 * can be made on any machine.
 *
 * The operations of the IOMMU that serves a marked function are replaced by a copy to which the
 * missing ones are added. Nothing is nested: a nest parent is an ordinary page table, DMA goes
 * through it, and a virtual device is a name. Load the module before anything uses the IOMMU
 * through iommufd, and unload it after: a page table made with the other operations does not
 * attach.
 *
 * Its vIOMMUs report what is written to the debugfs file `event`: BDF EVENT ADDRESS, the number and
 * the address of an SMMUv3's event record. The stream is the one that the guest knows.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/iommu.h>
#include <linux/iommufd.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <uapi/linux/iommufd.h>

#include "internal.h"

#define TT_GRAFTS_MAX 8

struct tt_graft {
	struct iommu_device *idev;
	const struct iommu_ops *original;
	struct iommu_ops ops;
};

struct tt_viommu {
	struct iommufd_viommu core;
};

struct tt_vdevice {
	struct iommufd_vdevice core;
	struct list_head list;
};

static DEFINE_MUTEX(vdevices_lock);
static LIST_HEAD(vdevices);

static struct tt_graft *grafts[TT_GRAFTS_MAX];
static unsigned int ngrafts;

static struct pci_dev *vdevice_pdev(struct iommufd_vdevice *vdev)
{
	struct device *dev = iommufd_vdevice_to_device(vdev);

	return dev && dev_is_pci(dev) ? to_pci_dev(dev) : NULL;
}

static void tt_vdevice_destroy(struct iommufd_vdevice *vdev)
{
	struct tt_call call;

	scoped_guard(mutex, &vdevices_lock)
		list_del(&container_of(vdev, struct tt_vdevice, core)->list);
	tt_enter(&call, TT_VDEVICE_DESTROY, vdevice_pdev(vdev), "virt_id=%#llx", vdev->virt_id);
	tt_leave(&call, 0);
}

static int tt_vdevice_init(struct iommufd_vdevice *vdev)
{
	struct tt_call call;
	int rc = tt_enter(&call, TT_VDEVICE_INIT, vdevice_pdev(vdev), "virt_id=%#llx",
			  vdev->virt_id);

	/* Set last: iommufd calls it for one that was not made, too. */
	if (!rc) {
		vdev->destroy = tt_vdevice_destroy;
		guard(mutex)(&vdevices_lock);
		list_add(&container_of(vdev, struct tt_vdevice, core)->list, &vdevices);
	}
	return tt_leave(&call, rc);
}

static int report(const char *bdf, u8 number, u64 address)
{
	struct tt_vdevice *v;

	guard(mutex)(&vdevices_lock);
	list_for_each_entry(v, &vdevices, list) {
		struct pci_dev *pdev = vdevice_pdev(&v->core);
		struct iommu_vevent_arm_smmuv3 event = {
			.evt[0] = cpu_to_le64(number | v->core.virt_id << 32),
			.evt[2] = cpu_to_le64(address),
		};

		if (pdev && !strcmp(pci_name(pdev), bdf))
			return iommufd_viommu_report_event(v->core.viommu,
							   IOMMU_VEVENTQ_TYPE_ARM_SMMUV3, &event,
							   sizeof(event));
	}
	return -ENOENT;
}

static ssize_t event_write(struct file *file, const char __user *from, size_t size, loff_t *pos)
{
	char text[64], bdf[TT_BDF_LEN];
	u64 address;
	u8 number;
	int rc;

	if (size >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, from, size))
		return -EFAULT;
	text[size] = '\0';
	if (sscanf(text, "%19s %hhi %lli", bdf, &number, &address) != 3)
		return -EINVAL;
	rc = report(bdf, number, address);
	return rc ?: size;
}

static const struct file_operations event_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = event_write,
};

void tt_viommu_init_events(struct dentry *dir)
{
	debugfs_create_file("event", 0200, dir, NULL, &event_fops);
}

static void tt_viommu_destroy(struct iommufd_viommu *viommu)
{
	struct tt_call call;

	tt_enter(&call, TT_VIOMMU_DESTROY, NULL, "type=%d", viommu->type);
	tt_leave(&call, 0);
	module_put(THIS_MODULE);
}

static const struct iommufd_viommu_ops tt_viommu_ops = {
	.destroy = tt_viommu_destroy,
	.vdevice_size = VDEVICE_STRUCT_SIZE(struct tt_vdevice, core),
	.vdevice_init = tt_vdevice_init,
};

static size_t tt_get_viommu_size(struct device *dev, enum iommu_viommu_type type)
{
	return VIOMMU_STRUCT_SIZE(struct tt_viommu, core);
}

static int tt_viommu_init(struct iommufd_viommu *viommu, struct iommu_domain *parent,
			  const struct iommu_user_data *data)
{
	struct tt_call call;
	int rc = tt_enter(&call, TT_VIOMMU_INIT, NULL, "type=%d", viommu->type);

	if (!rc) {
		/* Its operations are in this module, so it keeps the module. */
		__module_get(THIS_MODULE);
		viommu->ops = &tt_viommu_ops;
	}
	return tt_leave(&call, rc);
}

static struct iommu_domain *tt_domain_alloc(struct device *dev, u32 flags,
					    const struct iommu_user_data *data)
{
	struct iommu_device *idev = dev->iommu->iommu_dev;
	unsigned int i;

	for (i = 0; i < ngrafts; i++)
		if (grafts[i]->idev == idev)
			return grafts[i]->original->domain_alloc_paging_flags(
				dev, flags & ~IOMMU_HWPT_ALLOC_NEST_PARENT, data);
	return ERR_PTR(-EOPNOTSUPP);
}

/* Only while the module is being loaded: nothing can look at the table yet that is not in it. */
int tt_viommu_graft(struct pci_dev *pdev)
{
	struct iommu_device *idev = pdev->dev.iommu ? pdev->dev.iommu->iommu_dev : NULL;
	struct tt_graft *graft;
	unsigned int i;

	if (!idev || !idev->ops->domain_alloc_paging_flags)
		return -ENODEV;
	for (i = 0; i < ngrafts; i++)
		if (grafts[i]->idev == idev)
			return 0;
	if (ngrafts == TT_GRAFTS_MAX)
		return -ENOSPC;

	graft = kzalloc(sizeof(*graft), GFP_KERNEL);
	if (!graft)
		return -ENOMEM;
	graft->idev = idev;
	graft->original = idev->ops;
	graft->ops = *idev->ops;
	graft->ops.get_viommu_size = tt_get_viommu_size;
	graft->ops.viommu_init = tt_viommu_init;
	graft->ops.domain_alloc_paging_flags = tt_domain_alloc;
	grafts[ngrafts++] = graft;
	smp_store_release(&idev->ops, &graft->ops);
	return 0;
}

void tt_viommu_exit(void)
{
	unsigned int i;

	for (i = 0; i < ngrafts; i++)
		smp_store_release(&grafts[i]->idev->ops, grafts[i]->original);
	/*
	 * The IOMMU core reads the pointer without a lock. Whoever read the old one is done long
	 * before this returns.
	 */
	if (ngrafts)
		ssleep(1);
	for (i = 0; i < ngrafts; i++)
		kfree(grafts[i]);
	ngrafts = 0;
}
