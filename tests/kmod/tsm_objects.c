// SPDX-License-Identifier: GPL-2.0
/*
 * Objects that a TSM has collected of its devices, as Arm CCA's host driver has them in the patches of
 * 2026: certificates, measurements, interface report, VCA. A test writes them into the debugfs files
 * object1 to object4, each with one write, the same for every function; while there is none, requests
 * are what they were. libtdi/sim/tsm-request.c does the same.
 *
 *	u32 1, u32 object		its size, a u32
 *	u32 2, u32 object, u64 0	all of it
 *
 * A report that was not written is made of the function's BARs.
 */
#include <linux/debugfs.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/unaligned.h>

#include "internal.h"

#define NOBJECTS 4
#define REPORT 3
#define OBJECT_MAX 65536
#define ASK_SIZE 1
#define ASK_ALL 2

struct object {
	u8 *data;
	size_t len;
};

static DEFINE_MUTEX(objects_lock);
static struct object objects[NOBJECTS];

/* Which one a request is about; 0: about none. With the lock. */
static u32 object_of(enum pci_tsm_req_scope scope, const u8 *buf, size_t len, bool *reads, u64 *offset)
{
	bool any = false;
	u32 what;
	int i;

	for (i = 0; i < NOBJECTS; i++)
		any |= !!objects[i].data;
	if (!any || scope != PCI_TSM_REQ_INFO || len < 8)
		return 0;
	what = get_unaligned_le32(buf);
	if ((what != ASK_SIZE || len != 8) && (what != ASK_ALL || len != 16))
		return 0;
	*reads = what == ASK_ALL;
	*offset = *reads ? get_unaligned_le64(buf + 8) : 0;
	return get_unaligned_le32(buf + 4);
}

/*
 * The answer to a request of @len bytes at @in. Returns its length, with what is to be freed at
 * @answer; -ENOTTY for a request that is not about an object.
 */
ssize_t tt_object_request(struct pci_dev *pdev, enum pci_tsm_req_scope scope, const u8 *in, size_t len,
			  u8 **answer)
{
	u8 *buf __free(kvfree) = NULL;
	u64 offset = 0;
	bool reads;
	ssize_t n;
	u32 number;

	guard(mutex)(&objects_lock);
	number = object_of(scope, in, len, &reads, &offset);
	if (!number)
		return -ENOTTY;
	if (number > NOBJECTS || offset || (!objects[number - 1].data && number != REPORT))
		return -EINVAL;
	n = objects[number - 1].len;
	buf = kvzalloc(max_t(size_t, n, TT_REPORT_ROOM), GFP_KERNEL);
	if (!buf)
		return -ENOMEM;
	if (objects[number - 1].data)
		memcpy(buf, objects[number - 1].data, n);
	else
		n = tt_make_report(pdev, 0, buf);
	if (!reads) {
		put_unaligned_le32(n, buf);
		n = 4;
	}
	*answer = no_free_ptr(buf);
	return n;
}

static ssize_t object_write(struct file *file, const char __user *from, size_t size, loff_t *pos)
{
	struct object *o = file->private_data;
	u8 *data;

	if (size > OBJECT_MAX)
		return -EFBIG;
	data = kvzalloc(size + 1, GFP_KERNEL);
	if (!data)
		return -ENOMEM;
	if (copy_from_user(data, from, size)) {
		kvfree(data);
		return -EFAULT;
	}
	guard(mutex)(&objects_lock);
	swap(o->data, data);
	o->len = size;
	kvfree(data);
	return size;
}

static const struct file_operations object_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = object_write,
};

void tt_objects_init(struct dentry *dir)
{
	char name[16];
	int i;

	for (i = 0; i < NOBJECTS; i++) {
		snprintf(name, sizeof(name), "object%d", i + 1);
		debugfs_create_file(name, 0200, dir, &objects[i], &object_fops);
	}
}

/* After the files have gone. */
void tt_objects_exit(void)
{
	int i;

	for (i = 0; i < NOBJECTS; i++)
		kvfree(objects[i].data);
}
