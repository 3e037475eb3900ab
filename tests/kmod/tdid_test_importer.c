// SPDX-License-Identifier: GPL-2.0
/*
 * An importer of dma-bufs for tests, see tdid_test_importer.h: it attaches in the name of a PCI
 * function, pinned or with an ear for invalidations, and tells what it sees. Nothing is transferred.
 *
 * Locks: a file's mutex keeps its list, the reservation lock of a dma-buf what is known of its
 * mapping; the second is taken inside the first, and invalidations come with the second alone. While an
 * exporter waits for a mapping that is held, it does not hold the reservation lock.
 */
#include <linux/dma-buf.h>
#include <linux/dma-direction.h>
#include <linux/dma-resv.h>
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "tdid_test_importer.h"

#define IMPORTS_MAX 256

struct import {
	struct list_head node;
	u32 id, flags;
	bool pinned;
	struct dma_buf *dmabuf;
	struct dma_buf_attachment *attach;
	struct pci_dev *pdev;

	/* Under the reservation lock. */
	struct sg_table *sgt;
	u32 notified, maps;
	int error;
};

struct importer {
	struct mutex lock;
	struct list_head imports;
	unsigned int n;
	u32 next_id;
};

static void unmap_locked(struct import *im)
{
	if (im->sgt)
		dma_buf_unmap_attachment(im->attach, im->sgt, DMA_BIDIRECTIONAL);
	im->sgt = NULL;
}

static void on_invalidate(struct dma_buf_attachment *attach)
{
	struct import *im = attach->importer_priv;

	im->notified++;
	if (!(im->flags & TDID_TEST_IMPORT_HOLD))
		unmap_locked(im);
}

static const struct dma_buf_attach_ops listening = {
	.allow_peer2peer = true,
	.invalidate_mappings = on_invalidate,
};

static const struct dma_buf_attach_ops listening_no_p2p = {
	.invalidate_mappings = on_invalidate,
};

/* As one that pins: peer-to-peer will do, but it could not let go. */
static const struct dma_buf_attach_ops deaf = {
	.allow_peer2peer = true,
};

static const struct dma_buf_attach_ops *ops_of(u32 class, u32 flags)
{
	if (class == TDID_TEST_IMPORT_PINNED)
		return flags & TDID_TEST_IMPORT_NO_P2P ? NULL : &deaf;
	return flags & TDID_TEST_IMPORT_NO_P2P ? &listening_no_p2p : &listening;
}

static int pin(struct import *im)
{
	int rc;

	if (!im->attach->importer_ops)
		return 0; /* dma_buf_map_attachment() pins */
	dma_resv_lock(im->dmabuf->resv, NULL);
	rc = dma_buf_pin(im->attach);
	dma_resv_unlock(im->dmabuf->resv);
	im->pinned = !rc;
	return rc;
}

static void import_free(struct import *im)
{
	if (!IS_ERR_OR_NULL(im->attach)) {
		dma_resv_lock(im->dmabuf->resv, NULL);
		unmap_locked(im);
		if (im->pinned)
			dma_buf_unpin(im->attach);
		dma_resv_unlock(im->dmabuf->resv);
		dma_buf_detach(im->dmabuf, im->attach);
	}
	if (!IS_ERR_OR_NULL(im->dmabuf))
		dma_buf_put(im->dmabuf);
	pci_dev_put(im->pdev);
	kfree(im);
}

static int do_attach(struct importer *m, struct tdid_test_import_attach *arg)
{
	struct import *im;
	int rc;

	if (arg->dmabuf_class > TDID_TEST_IMPORT_DYNAMIC ||
	    arg->flags & ~(TDID_TEST_IMPORT_HOLD | TDID_TEST_IMPORT_NO_P2P))
		return -EINVAL;
	if (arg->importer != TDID_TEST_IMPORTER_ANY)
		return -EOPNOTSUPP;
	if (m->n >= IMPORTS_MAX)
		return -ENOSPC;
	im = kzalloc(sizeof(*im), GFP_KERNEL);
	if (!im)
		return -ENOMEM;
	im->flags = arg->flags;
	im->dmabuf = dma_buf_get(arg->fd);
	if (IS_ERR(im->dmabuf)) {
		rc = PTR_ERR(im->dmabuf);
		goto fail;
	}
	im->pdev = pci_get_domain_bus_and_slot(arg->device >> 16, arg->device >> 8 & 0xff,
					       arg->device & 0xff);
	if (!im->pdev) {
		rc = -ENODEV;
		goto fail;
	}
	im->attach = dma_buf_dynamic_attach(im->dmabuf, &im->pdev->dev,
					    ops_of(arg->dmabuf_class, arg->flags), im);
	if (IS_ERR(im->attach)) {
		rc = PTR_ERR(im->attach);
		goto fail;
	}
	if (arg->dmabuf_class == TDID_TEST_IMPORT_PINNED) {
		rc = pin(im);
		if (rc)
			goto fail;
	}
	im->id = m->next_id++;
	list_add_tail(&im->node, &m->imports);
	m->n++;
	arg->id = im->id;
	return 0;
fail:
	import_free(im);
	return rc;
}

static int do_map(struct import *im)
{
	struct sg_table *sgt;
	int rc = -EBUSY;

	dma_resv_lock(im->dmabuf->resv, NULL);
	if (!im->sgt) {
		sgt = dma_buf_map_attachment(im->attach, DMA_BIDIRECTIONAL);
		rc = PTR_ERR_OR_ZERO(sgt);
		if (!rc)
			im->sgt = sgt;
		im->maps++;
		im->error = rc;
	}
	dma_resv_unlock(im->dmabuf->resv);
	return rc;
}

static int do_unmap(struct import *im)
{
	int rc = -EINVAL;

	dma_resv_lock(im->dmabuf->resv, NULL);
	if (im->sgt) {
		unmap_locked(im);
		rc = 0;
	}
	dma_resv_unlock(im->dmabuf->resv);
	return rc;
}

static void tell_state(struct import *im, struct tdid_test_import_state *arg)
{
	struct scatterlist *sg;
	unsigned int i;

	*arg = (struct tdid_test_import_state){ .id = im->id };
	dma_resv_lock(im->dmabuf->resv, NULL);
	arg->notified = im->notified;
	arg->maps = im->maps;
	arg->error = im->error;
	if (im->sgt) {
		arg->flags = TDID_TEST_IMPORT_MAPPED;
		arg->segments = im->sgt->nents;
		for_each_sgtable_dma_sg(im->sgt, sg, i) {
			if (i == 0)
				arg->address = sg_dma_address(sg);
			arg->length += sg_dma_len(sg);
		}
	}
	dma_resv_unlock(im->dmabuf->resv);
}

static struct import *find(struct importer *m, unsigned long id)
{
	struct import *im;

	list_for_each_entry(im, &m->imports, node)
		if (im->id == id)
			return im;
	return NULL;
}

static void remove(struct importer *m, struct import *im)
{
	list_del(&im->node);
	m->n--;
	import_free(im);
}

static long ioctl_struct(struct importer *m, unsigned int cmd, void __user *user)
{
	union {
		struct tdid_test_import_attach attach;
		struct tdid_test_import_state state;
	} arg;
	struct import *im;
	int rc = 0;

	memset(&arg, 0, sizeof(arg));
	if (copy_from_user(&arg, user, _IOC_SIZE(cmd)))
		return -EFAULT;
	if (cmd == TDID_TEST_IMPORT_ATTACH) {
		rc = do_attach(m, &arg.attach);
	} else {
		im = find(m, arg.state.id);
		if (!im)
			return -ENOENT;
		tell_state(im, &arg.state);
	}
	if (!rc && copy_to_user(user, &arg, _IOC_SIZE(cmd)))
		rc = -EFAULT;
	return rc;
}

static long ioctl_id(struct importer *m, unsigned int cmd, unsigned long id)
{
	struct import *im = find(m, id);

	if (!im)
		return -ENOENT;
	if (cmd == TDID_TEST_IMPORT_MAP)
		return do_map(im);
	if (cmd == TDID_TEST_IMPORT_UNMAP)
		return do_unmap(im);
	remove(m, im);
	return 0;
}

static long importer_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct importer *m = file->private_data;

	guard(mutex)(&m->lock);
	switch (cmd) {
	case TDID_TEST_IMPORT_ATTACH:
	case TDID_TEST_IMPORT_STATE:
		return ioctl_struct(m, cmd, (void __user *)arg);
	case TDID_TEST_IMPORT_MAP:
	case TDID_TEST_IMPORT_UNMAP:
	case TDID_TEST_IMPORT_DETACH:
		return ioctl_id(m, cmd, arg);
	default:
		return -ENOTTY;
	}
}

static int importer_open(struct inode *inode, struct file *file)
{
	struct importer *m = kzalloc(sizeof(*m), GFP_KERNEL);

	if (!m)
		return -ENOMEM;
	mutex_init(&m->lock);
	INIT_LIST_HEAD(&m->imports);
	m->next_id = 1;
	file->private_data = m;
	return nonseekable_open(inode, file);
}

static int importer_release(struct inode *inode, struct file *file)
{
	struct importer *m = file->private_data;
	struct import *im, *next;

	list_for_each_entry_safe(im, next, &m->imports, node)
		remove(m, im);
	mutex_destroy(&m->lock);
	kfree(m);
	return 0;
}

static const struct file_operations importer_fops = {
	.owner = THIS_MODULE,
	.open = importer_open,
	.release = importer_release,
	.unlocked_ioctl = importer_ioctl,
};

static struct miscdevice importer_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = TDID_TEST_IMPORTER_NAME,
	.fops = &importer_fops,
	.mode = 0600,
};

module_misc_device(importer_misc);
MODULE_IMPORT_NS("DMA_BUF");
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Importer of dma-bufs, for tests");
