// SPDX-License-Identifier: GPL-2.0
/*
 * The generic netlink family "device-evidence" on a kernel that has none: a stand-in, for tests only, for
 * the one that was posted for Linux, with the same messages (see libtdi/host/device_evidence.h). What
 * devices have to say is written by the test, and what goes wrong on the way is, too.
 *
 * In /sys/kernel/debug/tdid_test_evidence:
 *
 *	devices			"BDF" makes the folder of a function, "clear" takes all away
 *	BDF/slot0 ... slot7,	the objects; what is written between open and close is the whole new
 *	    vca, measurements,	one and makes another generation
 *	    report
 *	BDF/refresh		what a nonce does: "none" EOPNOTSUPP, "echo OFFSET" it is written into the
 *				measurements there, "wait" the reader waits until measurements are
 *				written, or 10 s
 *	BDF/nonce		"COUNT HEX": how many there were, and the last one
 *	BDF/fault		"NAME [COUNT]": one of fault_names[] for the next COUNT dumps, or for all
 *	BDF/generation		as it is; may be written
 *	BDF/dumps		how many have begun
 */
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/hex.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/seq_file.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/wait.h>
#include <net/genetlink.h>

#define FAMILY_NAME "device-evidence"
#define CMD_READ 1

enum { TYPE = 1, TYPE_MASK, FLAGS, SUBSYS, DEV_NAME, NONCE, GENERATION, COUNT, LENGTH, VAL };

#define NTYPES 11
#define MEASUREMENTS 9
#define OBJECT_MAX SZ_16M
#define NONCE_MAX 32
#define NAME_LEN 32
#define DEVICES_MAX 64
#define PIECE_MAX 60000 /* an attribute's length has 16 bits */

static const char *const object_names[NTYPES] = {
	"slot0", "slot1", "slot2", "slot3", "slot4", "slot5", "slot6", "slot7",
	"vca", "measurements", "report",
};

enum fault {
	FAULT_NONE,
	FAULT_CHANGED,	   /* there is a new generation after the first message */
	FAULT_MIXED,	   /* from the second object on another generation, and no error */
	FAULT_INTERRUPTED, /* NLM_F_DUMP_INTR, and no error */
	FAULT_OVERSIZE,	   /* objects say that they are longer than they may be */
	FAULT_OVERLONG,	   /* objects are one byte longer than they say */
	FAULT_UNFINISHED,  /* objects are one byte shorter than they say */
	FAULT_TWICE,	   /* the first object comes twice */
	FAULT_FOREIGN,	   /* an object that nobody has asked for comes first */
	FAULT_NO_LENGTH,   /* objects do not say how long they are */
	FAULT_EMPTY,	   /* one byte, then pieces without any, and no end */
	FAULT_SMALL,	   /* no fault: pieces of 100 bytes */
	FAULT_DRIP,	   /* pieces of one byte, each after 50 ms */
	FAULT_ERROR,	   /* EIO after the first message */
	FAULT_MAX,
};

static const char *const fault_names[FAULT_MAX] = {
	"none", "changed", "mixed", "interrupted", "oversize", "overlong", "unfinished", "twice",
	"foreign", "no-length", "empty", "small", "drip", "error",
};

enum refresh { REFRESH_NONE, REFRESH_ECHO, REFRESH_WAIT };

struct object {
	u8 *data;
	size_t len;
};

struct device_entry {
	struct list_head node;
	struct kref ref;
	char name[NAME_LEN];
	struct dentry *dir;
	bool gone;
	u32 generation;
	u32 dumps;
	struct object objects[NTYPES];
	u32 measured; /* how often measurements were written */
	enum refresh refresh;
	u32 echo_at;
	u8 nonce[NONCE_MAX];
	u32 nonce_len, nonces;
	enum fault fault;
	u32 fault_left;
};

/* One dump. */
struct dump {
	struct device_entry *dev;
	u8 nonce[NONCE_MAX];
	u32 nonce_len;
	u32 mask;
	u32 offset;
	u32 generation;
	u32 begun; /* objects */
	enum fault fault;
	bool started, in_object, repeated;
};

struct dump_ctx {
	struct dump *dump;
};

/* A file that is being written. */
struct draft {
	struct device_entry *dev;
	unsigned int type;
	struct object object;
	size_t room;
	bool writes;
};

/* Guards everything above but drafts. Debugfs files are never removed while it is held: their users take it. */
static DEFINE_MUTEX(lock);
static LIST_HEAD(devices);
static unsigned int ndevices;
static DECLARE_WAIT_QUEUE_HEAD(measured);
static struct dentry *root;
static struct genl_family family;

static void entry_free(struct kref *ref)
{
	struct device_entry *dev = container_of(ref, struct device_entry, ref);

	for (int i = 0; i < NTYPES; i++)
		kvfree(dev->objects[i].data);
	kfree(dev);
}

static struct device_entry *entry_find(const char *name)
{
	struct device_entry *dev;

	list_for_each_entry(dev, &devices, node)
		if (!strcmp(dev->name, name))
			return dev;
	return NULL;
}

/* ---- the family ---- */

static int dump_start(struct netlink_callback *cb)
{
	const struct genl_info *info = genl_info_dump(cb);
	struct dump_ctx *ctx = (struct dump_ctx *)cb->ctx;
	struct dump *dump __free(kfree) = kzalloc(sizeof(*dump), GFP_KERNEL);
	struct device_entry *dev;
	char name[NAME_LEN];

	NL_ASSERT_CTX_FITS(struct dump_ctx);
	if (!dump)
		return -ENOMEM;
	if (GENL_REQ_ATTR_CHECK(info, SUBSYS) || GENL_REQ_ATTR_CHECK(info, DEV_NAME) ||
	    GENL_REQ_ATTR_CHECK(info, TYPE_MASK))
		return -EINVAL;
	if (nla_strcmp(info->attrs[SUBSYS], "pci")) {
		NL_SET_ERR_MSG(info->extack, "no evidence of this subsystem");
		return -EOPNOTSUPP;
	}
	if (nla_strscpy(name, info->attrs[DEV_NAME], sizeof(name)) < 0)
		return -EINVAL;
	dump->mask = nla_get_u32(info->attrs[TYPE_MASK]);
	if (!dump->mask || dump->mask >> NTYPES) {
		NL_SET_ERR_MSG(info->extack, "unknown evidence types, or none");
		return -EINVAL;
	}
	/* Digests are not of use to any test. */
	if (info->attrs[FLAGS] && nla_get_u32(info->attrs[FLAGS]))
		return -EINVAL;
	if (info->attrs[NONCE]) {
		dump->nonce_len = nla_len(info->attrs[NONCE]);
		nla_memcpy(dump->nonce, info->attrs[NONCE], sizeof(dump->nonce));
	}

	guard(mutex)(&lock);
	dev = entry_find(name);
	if (!dev) {
		NL_SET_ERR_MSG(info->extack, "no evidence of this device");
		return -ENODEV;
	}
	dev->dumps++;
	if (dev->fault_left) {
		dump->fault = dev->fault;
		if (dev->fault_left != U32_MAX)
			dev->fault_left--;
	}
	kref_get(&dev->ref);
	dump->dev = dev;
	ctx->dump = no_free_ptr(dump);
	return 0;
}

static int dump_done(struct netlink_callback *cb)
{
	struct dump *dump = ((struct dump_ctx *)cb->ctx)->dump;

	kref_put(&dump->dev->ref, entry_free);
	kfree(dump);
	return 0;
}

static int measure(struct dump *dump)
{
	struct device_entry *dev = dump->dev;
	struct object *m = &dev->objects[MEASUREMENTS];
	enum refresh how;
	u32 before;
	long left;

	scoped_guard(mutex, &lock) {
		how = dev->refresh;
		if (how == REFRESH_NONE)
			return -EOPNOTSUPP;
		memcpy(dev->nonce, dump->nonce, sizeof(dev->nonce));
		dev->nonce_len = dump->nonce_len;
		dev->nonces++;
		before = dev->measured;
		if (how == REFRESH_ECHO) {
			if (m->len < dev->echo_at || m->len - dev->echo_at < dump->nonce_len)
				return -ENOSPC;
			memcpy(m->data + dev->echo_at, dump->nonce, dump->nonce_len);
			dev->generation++;
			return 0;
		}
	}
	left = wait_event_interruptible_timeout(measured, READ_ONCE(dev->measured) != before ||
						READ_ONCE(dev->gone), 10 * HZ);
	return left < 0 ? left : left ? 0 : -ETIMEDOUT;
}

static u32 announced(const struct dump *dump, const struct object *o)
{
	if (dump->fault == FAULT_OVERSIZE)
		return OBJECT_MAX + 1;
	if (dump->fault == FAULT_OVERLONG && o->len)
		return o->len - 1;
	if (dump->fault == FAULT_UNFINISHED)
		return o->len + 1;
	return o->len;
}

static size_t piece_max(const struct dump *dump)
{
	switch (dump->fault) {
	case FAULT_SMALL:
		return 100;
	case FAULT_DRIP:
		return 1;
	case FAULT_EMPTY:
		return dump->offset ? 0 : 1;
	default:
		return PIECE_MAX;
	}
}

static int put_head(struct sk_buff *skb, const struct dump *dump, unsigned int type, const struct object *o)
{
	u32 generation = dump->generation + (dump->fault == FAULT_MIXED && dump->begun > 1);

	return nla_put_u32(skb, TYPE, type) || nla_put_u32(skb, GENERATION, generation) ||
	       (dump->fault != FAULT_NO_LENGTH && nla_put_u32(skb, LENGTH, announced(dump, o)));
}

/* The next message. 0: that was the last one. */
static int put_message(struct sk_buff *skb, struct netlink_callback *cb, struct dump *dump)
{
	bool foreign = dump->fault == FAULT_FOREIGN && !dump->repeated;
	unsigned int type = foreign ? ffz(dump->mask) : __ffs(dump->mask);
	const struct object *o = &dump->dev->objects[foreign ? 0 : type];
	int flags = NLM_F_MULTI | (dump->fault == FAULT_INTERRUPTED ? NLM_F_DUMP_INTR : 0);
	size_t room, len;
	void *hdr;

	hdr = genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq, &family, flags, CMD_READ);
	if (!hdr)
		return -EMSGSIZE;
	if (!dump->in_object) {
		dump->begun++;
		if (put_head(skb, dump, type, o))
			goto full;
		dump->in_object = true;
		dump->offset = 0;
	}
	room = skb_tailroom(skb);
	if (room <= nla_total_size(0) + NLA_ALIGNTO)
		goto full;
	len = min3(room - nla_total_size(0) - NLA_ALIGNTO, o->len - dump->offset, piece_max(dump));
	if (nla_put(skb, VAL, len, len ? o->data + dump->offset : NULL))
		goto full;
	genlmsg_end(skb, hdr);
	dump->offset += len;
	if (dump->offset < o->len)
		return skb->len;
	dump->in_object = false;
	if ((foreign || dump->fault == FAULT_TWICE) && !dump->repeated) {
		dump->repeated = true;
		return skb->len;
	}
	dump->mask &= ~BIT(type);
	return dump->mask ? skb->len : 0;
full:
	genlmsg_cancel(skb, hdr);
	return -EMSGSIZE;
}

static int dump_next(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct dump *dump = ((struct dump_ctx *)cb->ctx)->dump;
	const struct genl_info *info = genl_info_dump(cb);
	struct device_entry *dev = dump->dev;
	bool first = !dump->started;
	int rc;

	if (first && dump->nonce_len) {
		rc = measure(dump);
		if (rc) {
			NL_SET_ERR_MSG(info->extack, "cannot measure the device");
			return rc;
		}
	}
	if (dump->fault == FAULT_DRIP)
		msleep(50);

	guard(mutex)(&lock);
	if (dev->gone)
		return -ENXIO;
	if (first)
		dump->generation = dev->generation;
	dump->started = true;
	if (dump->generation != dev->generation) {
		NL_SET_ERR_MSG(info->extack, "evidence updated during read");
		return -EAGAIN;
	}
	if (!first && dump->fault == FAULT_ERROR)
		return -EIO;
	rc = put_message(skb, cb, dump);
	if (first && dump->fault == FAULT_CHANGED)
		dev->generation++;
	return rc;
}

static const struct nla_policy read_policy[NONCE + 1] = {
	[TYPE_MASK] = { .type = NLA_U32 },
	[FLAGS] = { .type = NLA_U32 },
	[SUBSYS] = { .type = NLA_NUL_STRING },
	[DEV_NAME] = { .type = NLA_NUL_STRING },
	[NONCE] = NLA_POLICY_MAX_LEN(NONCE_MAX),
};

static const struct genl_split_ops family_ops[] = {
	{
		.cmd = CMD_READ,
		.start = dump_start,
		.dumpit = dump_next,
		.done = dump_done,
		.policy = read_policy,
		.maxattr = NONCE,
		.flags = GENL_ADMIN_PERM | GENL_CMD_CAP_DUMP,
	},
};

static struct genl_family family __ro_after_init = {
	.name = FAMILY_NAME,
	.version = 1,
	.netnsok = true,
	.parallel_ops = true,
	.module = THIS_MODULE,
	.split_ops = family_ops,
	.n_split_ops = ARRAY_SIZE(family_ops),
};

/* ---- debugfs ---- */

/* The words of a line that user space writes. */
static int get_line(const char __user *buf, size_t len, char *line, size_t size)
{
	if (!len || len >= size)
		return -EINVAL;
	if (copy_from_user(line, buf, len))
		return -EFAULT;
	line[len] = '\0';
	strim(line);
	return 0;
}

static int object_open(struct inode *inode, struct file *file)
{
	struct draft *draft = kzalloc(sizeof(*draft), GFP_KERNEL);

	if (!draft)
		return -ENOMEM;
	draft->dev = debugfs_get_aux(file);
	draft->type = (unsigned long)inode->i_private;
	draft->writes = file->f_mode & FMODE_WRITE;
	kref_get(&draft->dev->ref);
	file->private_data = draft;
	return 0;
}

static ssize_t object_write(struct file *file, const char __user *buf, size_t len, loff_t *pos)
{
	struct draft *draft = file->private_data;
	struct object *o = &draft->object;
	size_t room;
	u8 *more;

	if (*pos != o->len)
		return -EINVAL;
	if (len > OBJECT_MAX - o->len)
		return -EFBIG;
	if (o->len + len > draft->room) {
		room = min(max(2 * draft->room, o->len + len), OBJECT_MAX);
		more = kvmalloc(room, GFP_KERNEL);
		if (!more)
			return -ENOMEM;
		if (o->len)
			memcpy(more, o->data, o->len);
		kvfree(o->data);
		o->data = more;
		draft->room = room;
	}
	if (copy_from_user(o->data + o->len, buf, len))
		return -EFAULT;
	o->len += len;
	*pos += len;
	return len;
}

static ssize_t object_read(struct file *file, char __user *buf, size_t len, loff_t *pos)
{
	struct draft *draft = file->private_data;
	const struct object *o = &draft->dev->objects[draft->type];

	guard(mutex)(&lock);
	return simple_read_from_buffer(buf, len, pos, o->data, o->len);
}

static int object_release(struct inode *inode, struct file *file)
{
	struct draft *draft = file->private_data;
	struct device_entry *dev = draft->dev;

	if (draft->writes) {
		scoped_guard(mutex, &lock) {
			swap(dev->objects[draft->type], draft->object);
			dev->generation++;
			dev->measured += draft->type == MEASUREMENTS;
		}
		wake_up_all(&measured);
	}
	kvfree(draft->object.data);
	kfree(draft);
	kref_put(&dev->ref, entry_free);
	return 0;
}

static const struct file_operations object_fops = {
	.owner = THIS_MODULE,
	.open = object_open,
	.read = object_read,
	.write = object_write,
	.release = object_release,
};

static int fault_show(struct seq_file *m, void *v)
{
	struct device_entry *dev = m->private;

	guard(mutex)(&lock);
	seq_printf(m, "%s %u\n", fault_names[dev->fault], dev->fault_left);
	return 0;
}

static ssize_t fault_write(struct file *file, const char __user *buf, size_t len, loff_t *pos)
{
	struct device_entry *dev = ((struct seq_file *)file->private_data)->private;
	char line[48], name[24];
	u32 count = U32_MAX;
	int rc, fault;

	rc = get_line(buf, len, line, sizeof(line));
	if (rc)
		return rc;
	if (sscanf(line, "%23s %u", name, &count) < 1)
		return -EINVAL;
	fault = match_string(fault_names, FAULT_MAX, name);
	if (fault < 0)
		return -EINVAL;
	guard(mutex)(&lock);
	dev->fault = fault;
	dev->fault_left = fault == FAULT_NONE ? 0 : count;
	return len;
}
DEFINE_SHOW_STORE_ATTRIBUTE(fault);

static int refresh_show(struct seq_file *m, void *v)
{
	struct device_entry *dev = m->private;

	guard(mutex)(&lock);
	if (dev->refresh == REFRESH_ECHO)
		seq_printf(m, "echo %u\n", dev->echo_at);
	else
		seq_puts(m, dev->refresh == REFRESH_WAIT ? "wait\n" : "none\n");
	return 0;
}

static ssize_t refresh_write(struct file *file, const char __user *buf, size_t len, loff_t *pos)
{
	struct device_entry *dev = ((struct seq_file *)file->private_data)->private;
	enum refresh how;
	char line[32];
	u32 at = 0;
	int rc;

	rc = get_line(buf, len, line, sizeof(line));
	if (rc)
		return rc;
	if (!strcmp(line, "none"))
		how = REFRESH_NONE;
	else if (!strcmp(line, "wait"))
		how = REFRESH_WAIT;
	else if (sscanf(line, "echo %u", &at) == 1)
		how = REFRESH_ECHO;
	else
		return -EINVAL;
	guard(mutex)(&lock);
	dev->refresh = how;
	dev->echo_at = at;
	return len;
}
DEFINE_SHOW_STORE_ATTRIBUTE(refresh);

static int nonce_show(struct seq_file *m, void *v)
{
	struct device_entry *dev = m->private;

	guard(mutex)(&lock);
	seq_printf(m, "%u %*phN\n", dev->nonces, (int)dev->nonce_len, dev->nonce);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(nonce);

static int entry_add(const char *name)
{
	struct device_entry *dev;

	if (strlen(name) >= NAME_LEN || strspn(name, "0123456789abcdef:.") != strlen(name) || name[0] == '.')
		return -EINVAL;
	guard(mutex)(&lock);
	if (entry_find(name))
		return -EEXIST;
	if (ndevices >= DEVICES_MAX)
		return -ENOSPC;
	dev = kzalloc(sizeof(*dev), GFP_KERNEL);
	if (!dev)
		return -ENOMEM;
	kref_init(&dev->ref);
	strscpy(dev->name, name);
	dev->generation = 1;
	dev->dir = debugfs_create_dir(name, root);
	for (unsigned long i = 0; i < NTYPES; i++)
		debugfs_create_file_aux(object_names[i], 0600, dev->dir, (void *)i, dev, &object_fops);
	debugfs_create_file("fault", 0600, dev->dir, dev, &fault_fops);
	debugfs_create_file("refresh", 0600, dev->dir, dev, &refresh_fops);
	debugfs_create_file("nonce", 0400, dev->dir, dev, &nonce_fops);
	debugfs_create_u32("generation", 0600, dev->dir, &dev->generation);
	debugfs_create_u32("dumps", 0400, dev->dir, &dev->dumps);
	list_add_tail(&dev->node, &devices);
	ndevices++;
	return 0;
}

static void entries_clear(void)
{
	struct device_entry *dev, *next;
	LIST_HEAD(old);

	scoped_guard(mutex, &lock) {
		list_splice_init(&devices, &old);
		ndevices = 0;
		list_for_each_entry(dev, &old, node)
			WRITE_ONCE(dev->gone, true);
	}
	wake_up_all(&measured);
	list_for_each_entry_safe(dev, next, &old, node) {
		debugfs_remove(dev->dir);
		kref_put(&dev->ref, entry_free);
	}
}

static int devices_show(struct seq_file *m, void *v)
{
	struct device_entry *dev;

	guard(mutex)(&lock);
	list_for_each_entry(dev, &devices, node)
		seq_printf(m, "%s\n", dev->name);
	return 0;
}

static ssize_t devices_write(struct file *file, const char __user *buf, size_t len, loff_t *pos)
{
	char line[NAME_LEN + 1];
	int rc;

	rc = get_line(buf, len, line, sizeof(line));
	if (rc)
		return rc;
	if (!strcmp(line, "clear"))
		entries_clear();
	else
		rc = entry_add(line);
	return rc ?: len;
}
DEFINE_SHOW_STORE_ATTRIBUTE(devices);

static int __init evidence_init(void)
{
	int rc;

	root = debugfs_create_dir(KBUILD_MODNAME, NULL);
	debugfs_create_file("devices", 0600, root, NULL, &devices_fops);
	rc = genl_register_family(&family);
	if (rc)
		debugfs_remove(root);
	return rc;
}

static void __exit evidence_exit(void)
{
	genl_unregister_family(&family);
	entries_clear();
	debugfs_remove(root);
}

module_init(evidence_init);
module_exit(evidence_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Generic netlink family device-evidence with made-up evidence, for tests only");
