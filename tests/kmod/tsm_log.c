// SPDX-License-Identifier: GPL-2.0
/*
 * The log of the test TSM: every call, in the order in which the calls began, in a ring that is
 * read from debugfs.
 *
 * A line is "SEQ OP BDF RESULT us=N DETAIL…"; RESULT is "-" while the call is going on, else 0 or a
 * negative errno. SEQ never starts again, so a reader sees what the ring lost. It records; what
 * calls do is not decided here.
 */
#include <linux/debugfs.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "internal.h"

#define TT_LOG_ENTRIES 8192

struct tt_entry {
	u64 seq;
	u64 usecs;
	int result;
	bool running;
	enum tt_op op;
	char bdf[TT_BDF_LEN];
	char detail[TT_DETAIL_LEN];
};

const char *const tt_op_names[TT_OP_MAX] = {
	[TT_PROBE] = "probe",
	[TT_REMOVE] = "remove",
	[TT_CONNECT] = "connect",
	[TT_DISCONNECT] = "disconnect",
	[TT_BIND] = "bind",
	[TT_UNBIND] = "unbind",
	[TT_GUEST_REQ] = "guest_req",
	[TT_VIOMMU_INIT] = "viommu_init",
	[TT_VIOMMU_DESTROY] = "viommu_destroy",
	[TT_VDEVICE_INIT] = "vdevice_init",
	[TT_VDEVICE_DESTROY] = "vdevice_destroy",
};

/* Innermost: taken with the PCI/TSM core's locks held, and nothing is called while it is held. */
static DEFINE_MUTEX(log_lock);
static struct tt_entry *ring;
static u64 next_seq = 1; /* the one that the next call gets */
static u64 first_seq = 1; /* the oldest one that can be read */

static struct tt_entry *entry_of(u64 seq)
{
	return &ring[seq % TT_LOG_ENTRIES];
}

u64 tt_log_begin(enum tt_op op, const char *bdf, const char *fmt, va_list ap)
{
	struct tt_entry *e;

	guard(mutex)(&log_lock);
	e = entry_of(next_seq);
	memset(e, 0, sizeof(*e));
	e->seq = next_seq++;
	e->op = op;
	e->running = true;
	strscpy(e->bdf, bdf);
	vsnprintf(e->detail, sizeof(e->detail), fmt, ap);
	if (next_seq - first_seq > TT_LOG_ENTRIES)
		first_seq = next_seq - TT_LOG_ENTRIES;
	return e->seq;
}

void tt_log_end(u64 seq, int result, u64 usecs)
{
	struct tt_entry *e;

	guard(mutex)(&log_lock);
	e = entry_of(seq);
	/* The ring may have come round while the call was waiting. */
	if (e->seq != seq)
		return;
	e->result = result;
	e->usecs = usecs;
	e->running = false;
}

/*
 * The position in the file is the sequence number, so that what is added or dropped between two
 * reads moves nothing.
 */
static void *log_seek(loff_t *pos)
{
	if (*pos < first_seq)
		*pos = first_seq;
	return *pos < next_seq ? entry_of(*pos) : NULL;
}

static void *log_start(struct seq_file *m, loff_t *pos)
{
	mutex_lock(&log_lock);
	return log_seek(pos);
}

static void *log_next(struct seq_file *m, void *v, loff_t *pos)
{
	++*pos;
	return log_seek(pos);
}

static void log_stop(struct seq_file *m, void *v)
{
	mutex_unlock(&log_lock);
}

static int log_show(struct seq_file *m, void *v)
{
	struct tt_entry *e = v;

	seq_printf(m, "%llu %s %s ", e->seq, tt_op_names[e->op], e->bdf);
	if (e->running)
		seq_puts(m, "- us=-");
	else
		seq_printf(m, "%d us=%llu", e->result, e->usecs);
	seq_printf(m, "%s%s\n", e->detail[0] ? " " : "", e->detail);
	return 0;
}

static const struct seq_operations log_seq_ops = {
	.start = log_start,
	.next = log_next,
	.stop = log_stop,
	.show = log_show,
};

static int log_open(struct inode *inode, struct file *file)
{
	return seq_open(file, &log_seq_ops);
}

static ssize_t log_write(struct file *file, const char __user *buf, size_t len, loff_t *pos)
{
	char word[16];

	if (len >= sizeof(word))
		return -EINVAL;
	if (copy_from_user(word, buf, len))
		return -EFAULT;
	word[len] = '\0';
	if (!sysfs_streq(word, "clear"))
		return -EINVAL;

	/* Calls that are going on are forgotten too: their end must find nothing to write to. */
	guard(mutex)(&log_lock);
	memset(ring, 0, TT_LOG_ENTRIES * sizeof(*ring));
	first_seq = next_seq;
	return len;
}

static const struct file_operations log_fops = {
	.owner = THIS_MODULE,
	.open = log_open,
	.read = seq_read,
	.write = log_write,
	.llseek = seq_lseek,
	.release = seq_release,
};

int tt_log_init(struct dentry *dir)
{
	ring = kvcalloc(TT_LOG_ENTRIES, sizeof(*ring), GFP_KERNEL);
	if (!ring)
		return -ENOMEM;
	debugfs_create_file("log", 0600, dir, NULL, &log_fops);
	return 0;
}

void tt_log_exit(void)
{
	kvfree(ring);
	ring = NULL;
}
