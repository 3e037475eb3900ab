// SPDX-License-Identifier: GPL-2.0
/*
 * The switches of the test TSM: which calls wait, and which fail.
 *
 * One rule a line is written to the debugfs file `rules`:
 *
 *	OP BDF|* [err=ERRNO] [delay=MS] [skip=N] [count=N]
 *
 * and replaces the rule for the same OP and BDF. A rule for a BDF is preferred to one for "*". It
 * lets the first `skip` calls pass, then acts on `count` of them (0 or absent: on all that follow).
 * A call waits first and fails then, and waits where no signal reaches it, as firmware would make
 * it wait. "release" ends all waits that are going on; "clear" removes all rules, and ends no wait.
 *
 * Operations that cannot fail in the kernel's interface take no err=.
 */
#include <linux/debugfs.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/wait.h>

#include "internal.h"

#define TT_RULES_MAX 1024
#define TT_DELAY_MAX_MS (24u * 60 * 60 * 1000)

struct tt_rule {
	struct list_head list;
	enum tt_op op;
	char bdf[TT_BDF_LEN]; /* "*" for any */
	unsigned int err;
	unsigned int delay_ms;
	unsigned int skip;
	unsigned int count; /* 0: no limit */
	unsigned int seen;
	unsigned int hits;
};

static DEFINE_MUTEX(rules_lock);
static LIST_HEAD(rules);
static unsigned int nrules;

/* Counts the releases: a wait that sees another number than it began with is over. */
static atomic_t releases = ATOMIC_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(release_wq);

static bool can_fail(enum tt_op op)
{
	switch (op) {
	case TT_PROBE:
	case TT_CONNECT:
	case TT_BIND:
	case TT_GUEST_REQ:
	case TT_VIOMMU_INIT:
	case TT_VDEVICE_INIT:
		return true;
	default:
		return false;
	}
}

static struct tt_rule *find_rule(enum tt_op op, const char *bdf)
{
	struct tt_rule *r;

	list_for_each_entry(r, &rules, list)
		if (r->op == op && !strcmp(r->bdf, bdf))
			return r;
	return NULL;
}

int tt_enter(struct tt_call *call, enum tt_op op, struct pci_dev *pdev, const char *fmt, ...)
{
	const char *bdf = pdev ? pci_name(pdev) : "-";
	/* Before the call is in the log: whoever sees it there can release it. */
	int seen = atomic_read(&releases);
	unsigned int delay_ms = 0;
	int err = 0;
	va_list ap;

	call->start = ktime_get();
	va_start(ap, fmt);
	call->seq = tt_log_begin(op, bdf, fmt, ap);
	va_end(ap);

	scoped_guard(mutex, &rules_lock) {
		struct tt_rule *r = find_rule(op, bdf) ?: find_rule(op, "*");

		if (r && r->seen++ >= r->skip && (!r->count || r->hits < r->count)) {
			r->hits++;
			delay_ms = r->delay_ms;
			err = -(int)r->err;
		}
	}

	if (delay_ms)
		wait_event_timeout(release_wq, atomic_read(&releases) != seen,
				   msecs_to_jiffies(delay_ms));
	return err;
}

int tt_leave(struct tt_call *call, int result)
{
	tt_log_end(call->seq, result, ktime_us_delta(ktime_get(), call->start));
	return result;
}

void tt_rules_release(void)
{
	atomic_inc(&releases);
	wake_up_all(&release_wq);
}

static void clear_rules(void)
{
	struct tt_rule *r, *tmp;

	guard(mutex)(&rules_lock);
	list_for_each_entry_safe(r, tmp, &rules, list) {
		list_del(&r->list);
		kfree(r);
	}
	nrules = 0;
}

/* Accepts a BDF only in the form in which pci_name() writes it, or the rule would never match. */
static bool bdf_valid(const char *bdf)
{
	unsigned int d, b, s, f;
	char canon[TT_BDF_LEN];
	int end = 0;

	if (!strcmp(bdf, "*") || !strcmp(bdf, "-"))
		return true;
	if (sscanf(bdf, "%x:%x:%x.%x%n", &d, &b, &s, &f, &end) != 4 || bdf[end])
		return false;
	snprintf(canon, sizeof(canon), "%04x:%02x:%02x.%d", d, b, s, f);
	return b < 256 && s < 32 && f < 8 && !strcmp(bdf, canon);
}

static int parse_option(struct tt_rule *r, char *word)
{
	char *value = strchr(word, '=');
	unsigned int n;
	int rc;

	if (!value)
		return -EINVAL;
	*value++ = '\0';
	rc = kstrtouint(value, 10, &n);
	if (rc)
		return rc;

	if (!strcmp(word, "err")) {
		if (!n || n > MAX_ERRNO || !can_fail(r->op))
			return -EINVAL;
		r->err = n;
	} else if (!strcmp(word, "delay")) {
		if (n > TT_DELAY_MAX_MS)
			return -EINVAL;
		r->delay_ms = n;
	} else if (!strcmp(word, "skip")) {
		r->skip = n;
	} else if (!strcmp(word, "count")) {
		r->count = n;
	} else {
		return -EINVAL;
	}
	return 0;
}

static int add_rule(char *line)
{
	struct tt_rule *r __free(kfree) = kzalloc(sizeof(*r), GFP_KERNEL);
	struct tt_rule *old;
	char *word;
	int op, rc;

	if (!r)
		return -ENOMEM;

	word = strsep(&line, " ");
	op = match_string(tt_op_names, TT_OP_MAX, word);
	if (op < 0)
		return -EINVAL;
	r->op = op;

	word = line ? strsep(&line, " ") : NULL;
	if (!word || !bdf_valid(word) || strscpy(r->bdf, word) < 0)
		return -EINVAL;

	while ((word = strsep(&line, " "))) {
		rc = parse_option(r, word);
		if (rc)
			return rc;
	}

	guard(mutex)(&rules_lock);
	old = find_rule(r->op, r->bdf);
	if (old) {
		list_del(&old->list);
		kfree(old);
		nrules--;
	}
	if (nrules >= TT_RULES_MAX)
		return -ENOSPC;
	list_add_tail(&no_free_ptr(r)->list, &rules);
	nrules++;
	return 0;
}

/*
 * One write is one line: a line that is wrong then fails by itself, and the writer learns which one
 * it was.
 */
static ssize_t rules_write(struct file *file, const char __user *buf, size_t len, loff_t *pos)
{
	char *text __free(kfree) = NULL;
	char *line;
	int rc = 0;

	if (len > PAGE_SIZE)
		return -EINVAL;
	text = memdup_user_nul(buf, len);
	if (IS_ERR(text))
		return PTR_ERR(text);
	if (strlen(text) != len)
		return -EINVAL;
	line = strim(text);
	if (!*line || strchr(line, '\n'))
		return -EINVAL;

	if (!strcmp(line, "clear"))
		clear_rules();
	else if (!strcmp(line, "release"))
		tt_rules_release();
	else
		rc = add_rule(line);
	return rc ?: len;
}

static int rules_show(struct seq_file *m, void *v)
{
	struct tt_rule *r;

	guard(mutex)(&rules_lock);
	list_for_each_entry(r, &rules, list)
		seq_printf(m, "%s %s err=%u delay=%u skip=%u count=%u seen=%u hits=%u\n",
			   tt_op_names[r->op], r->bdf, r->err, r->delay_ms, r->skip, r->count,
			   r->seen, r->hits);
	return 0;
}

static int rules_open(struct inode *inode, struct file *file)
{
	return single_open(file, rules_show, NULL);
}

static const struct file_operations rules_fops = {
	.owner = THIS_MODULE,
	.open = rules_open,
	.read = seq_read,
	.write = rules_write,
	.llseek = seq_lseek,
	.release = single_release,
};

void tt_rules_init(struct dentry *dir)
{
	debugfs_create_file("rules", 0600, dir, NULL, &rules_fops);
}

void tt_rules_exit(void)
{
	clear_rules();
}
