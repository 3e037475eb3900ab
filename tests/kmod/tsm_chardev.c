// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/tdid_test_tsm: bind, unbind and guest requests for tests, see tdid_test_tsm.h.
 *
 * A binding belongs to the TSM and not to the open file: it stays until it is unbound, its DSM is
 * disconnected, the function goes away or the module does.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kvm_host.h>
#include <linux/magic.h>
#include <linux/miscdevice.h>
#include <linux/uaccess.h>

#include "internal.h"

DEFINE_FREE(tt_fput, struct file *, if (_T) fput(_T))

static struct pci_dev *get_fn(const struct tdid_test_tsm_fn *fn)
{
	return pci_get_domain_bus_and_slot(fn->segment, fn->bus, fn->devfn);
}

/*
 * file_is_kvm() is exported to KVM's own modules only. The name alone would not do: any file may be
 * called so, and its private data be anything. On the anonymous inode file system only the kernel
 * gives names, and this one is KVM's.
 */
static struct kvm *file_to_kvm(struct file *file)
{
	if (file_inode(file)->i_sb->s_magic != ANON_INODE_FS_MAGIC ||
	    strcmp(file->f_path.dentry->d_name.name, "kvm-vm"))
		return NULL;
	return file->private_data;
}

static long do_bind(const struct tdid_test_tsm_bind *arg)
{
	struct pci_dev *pdev __free(pci_dev_put) = NULL;
	struct file *file __free(tt_fput) = NULL;
	struct kvm *kvm;

	if (arg->reserved)
		return -EINVAL;
	pdev = get_fn(&arg->fn);
	if (!pdev)
		return -ENODEV;
	file = fget(arg->vm_fd);
	if (!file)
		return -EBADF;
	kvm = file_to_kvm(file);
	if (!kvm)
		return -EINVAL;
	return pci_tsm_bind(pdev, kvm, arg->tdi_id);
}

static long do_unbind(const struct tdid_test_tsm_unbind *arg)
{
	struct pci_dev *pdev __free(pci_dev_put) = NULL;

	if (arg->reserved)
		return -EINVAL;
	pdev = get_fn(&arg->fn);
	if (!pdev)
		return -ENODEV;
	/*
	 * pci_tsm_unbind() has no result. Two at once can both see a binding; then one of them does
	 * nothing, as in the core.
	 */
	if (!tt_is_bound(pdev))
		return -ENXIO;
	pci_tsm_unbind(pdev);
	return 0;
}

static long do_req(struct tdid_test_tsm_req *arg)
{
	struct pci_dev *pdev __free(pci_dev_put) = NULL;
	ssize_t left;

	if (arg->reserved || arg->out_used)
		return -EINVAL;
	if (arg->in_len > TDID_TEST_TSM_REQ_MAX || arg->out_len > TDID_TEST_TSM_REQ_MAX)
		return -EMSGSIZE;
	pdev = get_fn(&arg->fn);
	if (!pdev)
		return -ENODEV;
	left = pci_tsm_guest_req(pdev, arg->scope, USER_SOCKPTR(u64_to_user_ptr(arg->in)),
				 arg->in_len, USER_SOCKPTR(u64_to_user_ptr(arg->out)), arg->out_len,
				 &arg->tsm_code);
	if (left < 0)
		return left;
	arg->out_used = arg->out_len - left;
	return 0;
}

static long tt_ioctl(struct file *file, unsigned int cmd, unsigned long ptr)
{
	void __user *user = (void __user *)ptr;
	union {
		struct tdid_test_tsm_bind bind;
		struct tdid_test_tsm_unbind unbind;
		struct tdid_test_tsm_req req;
	} arg;
	long rc;

	if (_IOC_TYPE(cmd) != _IOC_TYPE(TDID_TEST_TSM_IOC_BIND) || _IOC_SIZE(cmd) > sizeof(arg))
		return -ENOTTY;
	memset(&arg, 0, sizeof(arg));

	switch (cmd) {
	case TDID_TEST_TSM_IOC_BIND:
	case TDID_TEST_TSM_IOC_UNBIND:
	case TDID_TEST_TSM_IOC_REQ:
		break;
	default:
		return -ENOTTY;
	}
	if (copy_from_user(&arg, user, _IOC_SIZE(cmd)))
		return -EFAULT;

	if (cmd == TDID_TEST_TSM_IOC_BIND)
		return do_bind(&arg.bind);
	if (cmd == TDID_TEST_TSM_IOC_UNBIND)
		return do_unbind(&arg.unbind);

	arg.req.tsm_code = 0;
	rc = do_req(&arg.req);
	if (copy_to_user(user, &arg.req, sizeof(arg.req)))
		return -EFAULT;
	return rc;
}

static const struct file_operations tt_fops = {
	.owner = THIS_MODULE,
	.open = nonseekable_open,
	.unlocked_ioctl = tt_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice tt_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = TDID_TEST_TSM_NAME,
	.fops = &tt_fops,
	.mode = 0600,
};

int tt_chardev_init(void)
{
	return misc_register(&tt_misc);
}

void tt_chardev_exit(void)
{
	misc_deregister(&tt_misc);
}
