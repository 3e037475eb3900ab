// SPDX-License-Identifier: GPL-2.0
/*
 * What tdid-bind makes sure of before it calls the PCI/TSM core: that a file is a KVM VM, that
 * another is the VFIO device of a function, and what the TSM of a function can do. It changes
 * nothing.
 */
#include <linux/device.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/sched.h>
#include <linux/stat.h>
#include <linux/tsm.h>
#include <linux/uaccess.h>
#include <linux/vfio.h>
#include <linux/vfio_pci_core.h>

#include "internal.h"

#define LOOKS_MAX 16

/*
 * file_is_kvm() is exported to KVM's own modules only. The name alone would not do: any file may be
 * called so, and its private data be anything. On the anonymous inode file system only the kernel
 * gives names, and this one is KVM's.
 */
struct kvm *tb_file_to_kvm(struct file *file)
{
	if (file_inode(file)->i_sb->s_magic != ANON_INODE_FS_MAGIC ||
	    strcmp(file->f_path.dentry->d_name.name, "kvm-vm"))
		return NULL;
	return file->private_data;
}

static int is_vfio_node(struct device *dev, const void *inode)
{
	return dev->devt == ((const struct inode *)inode)->i_rdev && dev->class &&
	       !strcmp(dev->class->name, "vfio-dev");
}

/*
 * vfio_file_has_dev() knows group files only, so it is of no use for a device's. Nor is the driver
 * data of the function: what it points to depends on a driver that we would have to know by name.
 * But VFIO's character devices are children of their functions, and no two have one number. So the
 * file is of this function when
 *  - VFIO says that the file is its own and no group's: then it is a device's;
 *  - it was opened by a character device: not one of a legacy group;
 *  - that character device is a child of the function. It is found only while it is registered;
 *    from then on the open file keeps it so, and the driver on the function.
 * Whether BIND_IOMMUFD was called on this very file, and not on another open one of the device, is
 * in VFIO's private data only. Any read says it, though: VFIO refuses those of a file that is not
 * bound before it looks at anything else, and one of no bytes reads nothing. A file that is bound
 * stays bound until its last close.
 */
bool tb_is_device_of(struct file *file, struct pci_dev *pdev)
{
	loff_t pos = VFIO_PCI_INDEX_TO_OFFSET(VFIO_PCI_CONFIG_REGION_INDEX);
	struct inode *inode = file_inode(file);
	struct device *node;

	if (!vfio_file_is_valid(file) || vfio_file_is_group(file) || !S_ISCHR(inode->i_mode))
		return false;
	node = device_find_child(&pdev->dev, inode, is_vfio_node);
	if (!node)
		return false;
	put_device(node);
	return file->f_op->read(file, NULL, 0, &pos) == 0;
}

static int look_once(struct pci_dev *pdev, struct tb_tsm *ret)
{
	const struct pci_tsm_ops *ops;
	struct pci_tsm *tsm = READ_ONCE(pdev->tsm);

	if (!tsm)
		return -ENOTCONN;
	if (copy_from_kernel_nofault(&ret->base, tsm, sizeof(ret->base)) ||
	    ret->base.pdev != pdev || get_kernel_nofault(ops, &ret->base.tsm_dev->pci_ops) ||
	    copy_from_kernel_nofault(&ret->ops, &ops->link_ops, sizeof(ret->ops)))
		return -EAGAIN;
	/* What was copied before this was there still counts. */
	smp_rmb();
	return READ_ONCE(pdev->tsm) == tsm ? 0 : -EAGAIN;
}

/*
 * What the core has for a function now: 0, or ENOTCONN when that is nothing.
 *
 * pci_tsm_bind() and pci_tsm_guest_req() call the operations of the TSM without looking whether it
 * has them, and one that has not makes the kernel oops; so somebody must look. What there is to
 * look at belongs to the core's semaphore, which no module can take: disconnecting frees it, and a
 * TSM's driver takes its operations with it when it is unloaded. Hence copies that survive a bad
 * address, and two in a row that are the same, of an object that says it is this function's.
 *
 * What remains: between this look and the core's call the function can be disconnected, and be
 * connected to another TSM that lacks the operation. It takes two TSMs of different kinds in one
 * host and an administrator that writes to tsm/disconnect and tsm/connect in that moment; the
 * kernel then oopses as it would without the look.
 */
int tb_look(struct pci_dev *pdev, struct tb_tsm *ret)
{
	struct tb_tsm again;
	unsigned int i;
	int rc;

	for (i = 0; i < LOOKS_MAX; i++) {
		/* memcmp() below takes the gaps, too, if there ever are any. */
		memset(ret, 0, sizeof(*ret));
		memset(&again, 0, sizeof(again));
		rc = look_once(pdev, ret);
		if (rc == -ENOTCONN)
			return rc;
		if (!rc && !look_once(pdev, &again) && !memcmp(ret, &again, sizeof(again)))
			return 0;
		cond_resched();
	}
	/* Nothing that stays: it is being disconnected. */
	return -ENOTCONN;
}
