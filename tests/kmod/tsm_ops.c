// SPDX-License-Identifier: GPL-2.0
/*
 * A link TSM without hardware: what the PCI/TSM core calls. There is no DOE mailbox, no IDE stream
 * and no firmware behind it; it keeps the state that a real one would keep, refuses what a real one
 * would refuse, and writes every call to the log.
 *
 * Locks: the core calls all of this with pci_tsm_rwsem held, bind, unbind, guest_req, connect and
 * disconnect with the DSM's lock as well. A VF that appears under a connected DSM is probed with
 * the semaphore held for reading only, hence a lock of our own for the list.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt
#include <linux/kvm_host.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/tsm.h>

#include "internal.h"

/* TDISP interface states, by the numbers of the PCIe specification. */
enum tt_tdisp {
	TT_UNLOCKED = 0,
	TT_LOCKED = 1,
	TT_RUN = 2,
};

static const char *const tdisp_names[] = {
	[TT_UNLOCKED] = "unlocked",
	[TT_LOCKED] = "locked",
	[TT_RUN] = "run",
};

/*
 * A function that the core gave us, DSM or not. A DSM's is a pci_tsm_pf0, whose first member is the
 * pci_tsm.
 */
struct tt_fn {
	union {
		struct pci_tsm tsm;
		struct pci_tsm_pf0 pf0;
	};
	struct list_head list;
	struct tt_tdi *tdi;
};

struct tt_tdi {
	struct pci_tdi base;
	enum tt_tdisp tdisp;
};

static DEFINE_MUTEX(contexts_lock);
static LIST_HEAD(contexts);

static struct tt_fn *to_fn(struct pci_tsm *tsm)
{
	return container_of(tsm, struct tt_fn, tsm);
}

static struct tt_tdi *to_tdi(struct pci_tdi *tdi)
{
	return container_of(tdi, struct tt_tdi, base);
}

/* A function below a switch whose upstream port is the DSM that is being connected. */
static bool below_connected_port(struct pci_dev *pdev)
{
	struct pci_dev *port = pci_upstream_bridge(pdev);

	port = port ? pci_upstream_bridge(port) : NULL;
	return port && port->tsm && is_pci_tsm_pf0(port);
}

static struct pci_tsm *tt_probe(struct tsm_dev *tsm_dev, struct pci_dev *pdev)
{
	struct tt_call call;
	struct tt_fn *fn;
	bool dsm = is_pci_tsm_pf0(pdev);
	int rc;

	rc = tt_enter(&call, TT_PROBE, pdev, "tsm=%s role=%s", dev_name(&tsm_dev->dev),
		      dsm ? "dsm" : "fn");
	/*
	 * Connecting a switch port makes the core probe all that is below it, and overwrite what
	 * such a function has. One that has a context keeps it; one that could be a DSM itself must
	 * not look connected without a connect.
	 */
	if (pdev->tsm) {
		tt_leave(&call, 0);
		return pdev->tsm;
	}
	if (!rc && dsm && below_connected_port(pdev))
		rc = -EBUSY;
	if (rc)
		goto out;

	fn = kzalloc(sizeof(*fn), GFP_KERNEL);
	if (!fn) {
		rc = -ENOMEM;
		goto out;
	}
	/*
	 * pci_tsm_pf0_constructor() insists on a CMA mailbox, which emulated functions do not have.
	 */
	if (dsm)
		mutex_init(&fn->pf0.lock);
	rc = pci_tsm_link_constructor(pdev, &fn->tsm, tsm_dev);
	if (rc) {
		if (dsm)
			pci_tsm_pf0_destructor(&fn->pf0);
		kfree(fn);
		goto out;
	}
	scoped_guard(mutex, &contexts_lock)
		list_add_tail(&fn->list, &contexts);
	tt_leave(&call, 0);
	return &fn->tsm;

out:
	tt_leave(&call, rc);
	return NULL;
}

static void tt_remove(struct pci_tsm *tsm)
{
	struct tt_fn *fn = to_fn(tsm);
	struct tt_call call;

	tt_enter(&call, TT_REMOVE, tsm->pdev, "tsm=%s", dev_name(&tsm->tsm_dev->dev));
	scoped_guard(mutex, &contexts_lock) {
		WARN_ON(fn->tdi);
		list_del(&fn->list);
	}
	/* By what the context is, not by what the function is now: its mark may be gone. */
	if (tsm->dsm_dev == tsm->pdev)
		pci_tsm_pf0_destructor(&fn->pf0);
	kfree(fn);
	tt_leave(&call, 0);
}

static int tt_connect(struct pci_dev *pdev)
{
	struct tt_call call;
	int rc = tt_enter(&call, TT_CONNECT, pdev, "tsm=%s", dev_name(&pdev->tsm->tsm_dev->dev));

	return tt_leave(&call, rc);
}

static void tt_disconnect(struct pci_dev *pdev)
{
	struct tt_call call;

	tt_enter(&call, TT_DISCONNECT, pdev, "tsm=%s", dev_name(&pdev->tsm->tsm_dev->dev));
	tt_leave(&call, 0);
}

/* One VM cannot have two TDIs under one requester id. */
static bool id_taken(struct kvm *kvm, u32 tdi_id)
{
	struct tt_fn *fn;

	list_for_each_entry(fn, &contexts, list)
		if (fn->tdi && fn->tdi->base.kvm == kvm && fn->tdi->base.tdi_id == tdi_id)
			return true;
	return false;
}

static struct pci_tdi *tt_bind(struct pci_dev *pdev, struct kvm *kvm, u32 tdi_id)
{
	struct tt_tdi *tdi __free(kfree) = kzalloc(sizeof(*tdi), GFP_KERNEL);
	struct tt_call call;
	int rc;

	rc = tt_enter(&call, TT_BIND, pdev, "tdi_id=%#x vm=%d", tdi_id, kvm->userspace_pid);
	if (!rc && !tdi)
		rc = -ENOMEM;
	if (rc)
		return ERR_PTR(tt_leave(&call, rc));

	guard(mutex)(&contexts_lock);
	if (id_taken(kvm, tdi_id))
		return ERR_PTR(tt_leave(&call, -EEXIST));
	kvm_get_kvm(kvm);
	pci_tsm_tdi_constructor(pdev, &tdi->base, kvm, tdi_id);
	tdi->tdisp = tt_bind_locks ? TT_LOCKED : TT_UNLOCKED;
	to_fn(pdev->tsm)->tdi = tdi;
	tt_leave(&call, 0);
	return &no_free_ptr(tdi)->base;
}

static void tt_unbind(struct pci_tdi *base)
{
	struct tt_tdi *tdi = to_tdi(base);
	struct tt_call call;

	tt_enter(&call, TT_UNBIND, base->pdev, "tdi_id=%#x was=%s", base->tdi_id,
		 tdisp_names[tdi->tdisp]);
	scoped_guard(mutex, &contexts_lock)
		to_fn(base->pdev->tsm)->tdi = NULL;
	tt_leave(&call, 0);
	/*
	 * May be the last one, and destroy the VM here. KVM calls nothing of the PCI/TSM core when
	 * it does.
	 */
	kvm_put_kvm(base->kvm);
	kfree(tdi);
}

static u8 *put_le(u8 *p, u64 v, size_t size)
{
	__le64 le = cpu_to_le64(v);

	memcpy(p, &le, size);
	return p + size;
}

ssize_t tt_make_report(struct pci_dev *pdev, u32 flags, u8 *buf)
{
	u64 shift = flags & TDID_TEST_TSM_REPORT_SHIFT ? 0x100000 : 0;
	u8 *p = buf, *count;
	u32 n = 0;
	int i;

	p = put_le(p, 2 | (flags & TDID_TEST_TSM_REPORT_ATS ? 8 : 0), 2);
	p = put_le(p, 0, 2 + 2 + 2);
	p = put_le(p, 0, 4);
	count = p;
	p = put_le(p, 0, 4);
	for (i = 0; i < PCI_STD_NUM_BARS; i++) {
		u64 pages = DIV_ROUND_UP_ULL(pci_resource_len(pdev, i), 4096);

		if (!pages || !(pci_resource_flags(pdev, i) & IORESOURCE_MEM))
			continue;
		if (!n && flags & TDID_TEST_TSM_REPORT_BEYOND)
			pages++;
		p = put_le(p, (pci_resource_start(pdev, i) >> 12) + shift, 8);
		p = put_le(p, pages, 4);
		p = put_le(p, n ? 4 : 0, 2);
		p = put_le(p, i, 2);
		n++;
	}
	put_le(count, n, 4);
	p = put_le(p, 4, 4);
	p = put_le(p, 0x74736574, 4);
	return (p - buf) - (flags & TDID_TEST_TSM_REPORT_SHORT ? 8 : 0);
}

/*
 * Runs one request, @buf holds @len bytes of it and has room for as many of the answer, and for a
 * report. Returns the length of the answer.
 */
static ssize_t run_request(struct tt_tdi *tdi, enum pci_tsm_req_scope scope, u8 *buf, size_t len,
			   u64 *code)
{
	u32 op, state, flags = 0;
	size_t i;

	*code = TDID_TEST_TSM_CODE_INVALID;
	if (len < sizeof(op))
		return -EINVAL;
	memcpy(&op, buf, sizeof(op));

	switch (op) {
	case TDID_TEST_TSM_OP_ECHO:
	case TDID_TEST_TSM_OP_STATE:
	case TDID_TEST_TSM_OP_REPORT:
		if (scope != PCI_TSM_REQ_INFO) {
			*code = TDID_TEST_TSM_CODE_WRONG_SCOPE;
			return -EPERM;
		}
		*code = TDID_TEST_TSM_CODE_OK;
		if (op == TDID_TEST_TSM_OP_STATE) {
			state = tdi->tdisp;
			memcpy(buf, &state, sizeof(state));
			return sizeof(state);
		}
		if (op == TDID_TEST_TSM_OP_REPORT) {
			if (len >= sizeof(op) + sizeof(flags))
				memcpy(&flags, buf + sizeof(op), sizeof(flags));
			return tt_make_report(tdi->base.pdev, flags, buf);
		}
		for (i = sizeof(op); i < len; i++)
			buf[i - sizeof(op)] = ~buf[i];
		return len - sizeof(op);
	case TDID_TEST_TSM_OP_LOCK:
	case TDID_TEST_TSM_OP_START:
	case TDID_TEST_TSM_OP_STOP:
		if (scope != PCI_TSM_REQ_STATE_CHANGE) {
			*code = TDID_TEST_TSM_CODE_WRONG_SCOPE;
			return -EPERM;
		}
		if ((op == TDID_TEST_TSM_OP_LOCK) != (tdi->tdisp == TT_UNLOCKED) ||
		    (op == TDID_TEST_TSM_OP_START && tdi->tdisp != TT_LOCKED)) {
			*code = TDID_TEST_TSM_CODE_WRONG_STATE;
			return -EINVAL;
		}
		*code = TDID_TEST_TSM_CODE_OK;
		tdi->tdisp = op == TDID_TEST_TSM_OP_START ? TT_RUN :
			     op == TDID_TEST_TSM_OP_LOCK ? TT_LOCKED : TT_UNLOCKED;
		return 0;
	default:
		return -EINVAL;
	}
}

/* Returns how many of the @out_len bytes were left alone, as the core's interface wants it. */
static ssize_t tt_guest_req(struct pci_tdi *base, enum pci_tsm_req_scope scope, sockptr_t in,
			    size_t in_len, sockptr_t out, size_t out_len, u64 *tsm_code)
{
	u64 code = TDID_TEST_TSM_CODE_INJECTED;
	u8 *object __free(kvfree) = NULL;
	u8 *buf __free(kvfree) = NULL;
	struct tt_call call;
	s64 bare;
	ssize_t n;
	u32 op;
	int rc;

	rc = tt_enter(&call, TT_GUEST_REQ, base->pdev, "scope=%d in=%zu out=%zu", scope, in_len,
		      out_len);
	if (rc)
		goto out;
	code = TDID_TEST_TSM_CODE_INVALID;
	rc = -EMSGSIZE;
	if (in_len > TDID_TEST_TSM_REQ_MAX)
		goto out;
	rc = -ENOMEM;
	buf = kvzalloc(in_len + TT_REPORT_ROOM, GFP_KERNEL);
	if (!buf)
		goto out;
	rc = -EFAULT;
	if (in_len && copy_from_sockptr(buf, in, in_len))
		goto out;

	if (in_len == sizeof(op) + sizeof(bare)) {
		memcpy(&op, buf, sizeof(op));
		memcpy(&bare, buf + sizeof(op), sizeof(bare));
		if (op == TDID_TEST_TSM_OP_RETURN) {
			tt_leave(&call, 0);
			return bare;
		}
	}
	n = tt_object_request(base->pdev, scope, buf, in_len, &object);
	if (n == -ENOTTY)
		n = run_request(to_tdi(base), scope, buf, in_len, &code);
	else
		code = TDID_TEST_TSM_CODE_OK;
	rc = n < 0 ? n : 0;
	if (rc)
		goto out;
	rc = -EMSGSIZE;
	if (n > out_len)
		goto out;
	rc = -EFAULT;
	if (n && copy_to_sockptr(out, object ?: buf, n))
		goto out;
	rc = 0;
out:
	if (tsm_code)
		*tsm_code = code;
	tt_leave(&call, rc);
	return rc ?: out_len - n;
}

struct pci_tsm_ops tt_ops = {
	.link_ops = {
		.probe = tt_probe,
		.remove = tt_remove,
		.connect = tt_connect,
		.disconnect = tt_disconnect,
		.bind = tt_bind,
		.unbind = tt_unbind,
		.guest_req = tt_guest_req,
	},
};

bool tt_is_bound(struct pci_dev *pdev)
{
	struct tt_fn *fn;

	guard(mutex)(&contexts_lock);
	list_for_each_entry(fn, &contexts, list)
		if (fn->tsm.pdev == pdev)
			return fn->tdi;
	return false;
}

/* "BDF ROLE tsm=NAME dsm=BDF", and for a TDI " tdi_id=ID vm=PID tdisp=STATE". */
void tt_state_show(struct seq_file *m)
{
	struct tt_fn *fn;

	guard(mutex)(&contexts_lock);
	list_for_each_entry(fn, &contexts, list) {
		struct pci_tsm *tsm = &fn->tsm;

		seq_printf(m, "%s %s tsm=%s dsm=%s", pci_name(tsm->pdev),
			   tsm->dsm_dev == tsm->pdev ? "dsm" : "fn", dev_name(&tsm->tsm_dev->dev),
			   pci_name(tsm->dsm_dev));
		if (fn->tdi)
			seq_printf(m, " tdi_id=%#x vm=%d tdisp=%s", fn->tdi->base.tdi_id,
				   fn->tdi->base.kvm->userspace_pid, tdisp_names[fn->tdi->tdisp]);
		seq_putc(m, '\n');
	}
}

/* After every TSM is unregistered the core has given back every function. */
void tt_ops_exit(void)
{
	WARN(!list_empty(&contexts), "functions left behind");
}
