// SPDX-License-Identifier: GPL-2.0
/*
 * tdid-bind: binds a VFIO function to a KVM VM as a TDI, unbinds it, and passes a guest's requests
 * to its TSM, through what the kernel's PCI/TSM core exports to modules and no call of user space
 * reaches. The calls are in tdid_bind.h; docs/bind-module.md says when it is needed.
 *
 * It decides nothing: which function goes to which VM, and when, is tdid's. It keeps what the core
 * asks of its callers, that a function is bound only while VFIO has it open and the VM is there: an
 * open file of /dev/tdid-bind is one binding at most, and has a reference to both files while there
 * is one. The VFIO file keeps the function's driver, and so the function, from going away.
 *
 * Who may open it is decided by the mode of the node alone, as for /dev/vfio/devices: no capability
 * is asked for, because whoever calls needs a VFIO device that is open and bound, and a VM.
 *
 * Locks, outermost first: the file's, for a whole call, so that a binding does one thing at a time;
 * then the core's, or bindings_lock, never both. A slow TSM holds up its own binding, and those
 * that the core itself makes wait: all functions of one DSM.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt
#include <linux/cleanup.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/pci-tsm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "internal.h"

/* One open file. */
struct binding {
	struct mutex lock;
	struct list_head list;
	struct pci_dev *pdev; /* changes under both locks; NULL: not bound, and not in the list */
	struct file *device;
	struct file *vm;
};

/* All that have a function. pci_tsm_bind() is content with one that the same VM has already. */
static DEFINE_MUTEX(bindings_lock);
static LIST_HEAD(bindings);

DEFINE_FREE(tb_fput, struct file *, if (_T) fput(_T))

static int reserve(struct binding *b, struct pci_dev *pdev)
{
	struct binding *other;

	guard(mutex)(&bindings_lock);
	list_for_each_entry(other, &bindings, list)
		if (other->pdev == pdev)
			return -EBUSY;
	b->pdev = pdev;
	list_add(&b->list, &bindings);
	return 0;
}

static void unreserve(struct binding *b)
{
	guard(mutex)(&bindings_lock);
	list_del(&b->list);
	b->pdev = NULL;
}

static int bind_tsm(struct pci_dev *pdev, struct kvm *kvm, u32 tdi_id)
{
	struct tb_tsm tsm;
	int rc;

	rc = tb_look(pdev, &tsm);
	if (rc)
		return rc;
	if (!tsm.ops.bind || !tsm.ops.unbind)
		return -EOPNOTSUPP;
	/* Another module has it: there would be nothing to tell its binding from ours. */
	if (tsm.base.tdi)
		return -EBUSY;
	rc = pci_tsm_bind(pdev, kvm, tdi_id);
	/* The core says EINVAL for what has been disconnected since we looked. */
	if (rc == -EINVAL && !READ_ONCE(pdev->tsm))
		return -ENOTCONN;
	return rc;
}

static long do_bind(struct binding *b, const struct tdid_bind_bind *arg)
{
	struct pci_dev *pdev __free(pci_dev_put) = NULL;
	struct file *device __free(tb_fput) = NULL;
	struct file *vm __free(tb_fput) = NULL;
	struct kvm *kvm;
	int rc;

	if (arg->argsz != sizeof(*arg) || arg->flags)
		return -EINVAL;
	if (b->pdev)
		return -EBUSY;
	pdev = pci_get_domain_bus_and_slot(arg->function >> 16, arg->function >> 8 & 0xff,
					   arg->function & 0xff);
	if (!pdev)
		return -ENODEV;
	device = fget(arg->device_fd);
	vm = fget(arg->vm_fd);
	if (!device || !vm)
		return -EBADF;
	kvm = tb_file_to_kvm(vm);
	if (!kvm || !tb_is_device_of(device, pdev))
		return -EINVAL;

	rc = reserve(b, pdev);
	if (rc)
		return rc;
	rc = bind_tsm(pdev, kvm, arg->tdi_id);
	if (rc) {
		unreserve(b);
		return rc;
	}
	retain_and_null_ptr(pdev);
	b->device = no_free_ptr(device);
	b->vm = no_free_ptr(vm);
	return 0;
}

/*
 * The TDI first, or the last close of the device would reset it while it is bound. That the TSM has
 * unbound it meanwhile, as when it is disconnected, makes the core do nothing. What the last close
 * of a file does is done before the caller is back in user space.
 */
static long do_unbind(struct binding *b)
{
	struct pci_dev *pdev = b->pdev;

	if (!pdev)
		return -ENOTCONN;
	pci_tsm_unbind(pdev);
	unreserve(b);
	fput(b->device);
	fput(b->vm);
	b->device = NULL;
	b->vm = NULL;
	pci_dev_put(pdev);
	return 0;
}

static long do_request(struct binding *b, struct tdid_bind_request *arg)
{
	/* Without an answer, what is left over is of the request. */
	ssize_t most = arg->out_len ?: arg->in_len;
	struct tb_tsm tsm;
	ssize_t left;
	int rc;

	if (arg->argsz != sizeof(*arg) || arg->flags || arg->scope > PCI_TSM_REQ_STATE_CHANGE)
		return -EINVAL;
	if (arg->in_len > TDID_BIND_REQUEST_MAX || arg->out_len > TDID_BIND_REQUEST_MAX)
		return -EMSGSIZE;
	if (!b->pdev)
		return -ENOTCONN;
	rc = tb_look(b->pdev, &tsm);
	if (rc || !tsm.base.tdi)
		return -ENXIO;
	if (!tsm.ops.guest_req)
		return -EOPNOTSUPP;

	left = pci_tsm_guest_req(b->pdev, arg->scope, USER_SOCKPTR(u64_to_user_ptr(arg->in)),
				 arg->in_len,
				 USER_SOCKPTR(arg->out_len ? u64_to_user_ptr(arg->out) : NULL),
				 arg->out_len, &arg->tsm_code);
	/* What is neither an error nor a possible length comes from a TSM driver that is broken. */
	if (left < -MAX_ERRNO || left > most)
		return -EIO;
	if (left < 0)
		return left;
	arg->out_used = arg->out_len ? arg->out_len - left : 0;
	return 0;
}

static long ioctl_info(void __user *user)
{
	struct tdid_bind_info info;

	if (copy_from_user(&info, user, sizeof(info)))
		return -EFAULT;
	if (info.argsz != sizeof(info))
		return -EINVAL;
	info.flags = 0;
	info.api = TDID_BIND_API;
	info.request_max = TDID_BIND_REQUEST_MAX;
	return copy_to_user(user, &info, sizeof(info)) ? -EFAULT : 0;
}

static long ioctl_bind(struct binding *b, void __user *user)
{
	struct tdid_bind_bind arg;
	long rc;

	if (copy_from_user(&arg, user, sizeof(arg)))
		return -EFAULT;
	/* Not by any signal: pci_tsm_bind() itself waits through them. */
	if (mutex_lock_killable(&b->lock))
		return -EINTR;
	rc = do_bind(b, &arg);
	mutex_unlock(&b->lock);
	return rc;
}

/* When it returns to a caller that lives, the function is unbound: no other signal ends it. */
static long ioctl_unbind(struct binding *b)
{
	long rc;

	if (mutex_lock_killable(&b->lock))
		return -EINTR;
	rc = do_unbind(b);
	mutex_unlock(&b->lock);
	return rc;
}

static long ioctl_request(struct binding *b, void __user *user)
{
	struct tdid_bind_request arg;
	long rc;

	if (copy_from_user(&arg, user, sizeof(arg)))
		return -EFAULT;
	arg.out_used = 0;
	arg.tsm_code = 0;
	if (mutex_lock_interruptible(&b->lock))
		return -EINTR;
	rc = do_request(b, &arg);
	mutex_unlock(&b->lock);
	return copy_to_user(user, &arg, sizeof(arg)) ? -EFAULT : rc;
}

static long tb_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *user = (void __user *)arg;
	struct binding *b = file->private_data;

	switch (cmd) {
	case TDID_BIND_IOC_INFO:
		return ioctl_info(user);
	case TDID_BIND_IOC_BIND:
		return ioctl_bind(b, user);
	case TDID_BIND_IOC_UNBIND:
		return ioctl_unbind(b);
	case TDID_BIND_IOC_REQUEST:
		return ioctl_request(b, user);
	default:
		return -ENOTTY;
	}
}

static int tb_open(struct inode *inode, struct file *file)
{
	struct binding *b = kzalloc(sizeof(*b), GFP_KERNEL_ACCOUNT);

	if (!b)
		return -ENOMEM;
	mutex_init(&b->lock);
	INIT_LIST_HEAD(&b->list);
	file->private_data = b;
	return stream_open(inode, file);
}

/* The last close: a call that is going on has a reference to the file, so none is. */
static int tb_release(struct inode *inode, struct file *file)
{
	struct binding *b = file->private_data;

	do_unbind(b);
	mutex_destroy(&b->lock);
	kfree(b);
	return 0;
}

/* All members of the structs have the same place for 32-bit callers: one code for both. */
static const struct file_operations tb_fops = {
	.owner = THIS_MODULE,
	.open = tb_open,
	.release = tb_release,
	.unlocked_ioctl = tb_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice tb_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = TDID_BIND_NAME,
	.fops = &tb_fops,
	.mode = 0600,
};

module_misc_device(tb_misc);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Binds VFIO functions to KVM VMs as TDIs");
