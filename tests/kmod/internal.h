/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the files of the test TSM share. User space includes tdid_test_tsm.h, not this.
 */
#ifndef TDID_TEST_TSM_INTERNAL_H
#define TDID_TEST_TSM_INTERNAL_H

#include <linux/pci.h>
#include <linux/pci-tsm.h>
#include <linux/seq_file.h>

#include "tdid_test_tsm.h"

/* Operations that are logged, delayed and made to fail. The order is that of tt_op_names[]. */
enum tt_op {
	TT_PROBE,
	TT_REMOVE,
	TT_CONNECT,
	TT_DISCONNECT,
	TT_BIND,
	TT_UNBIND,
	TT_GUEST_REQ,
	TT_VIOMMU_INIT,
	TT_VIOMMU_DESTROY,
	TT_VDEVICE_INIT,
	TT_VDEVICE_DESTROY,
	TT_OP_MAX,
};

extern const char *const tt_op_names[TT_OP_MAX];

/* Enough for "ffff:ff:1f.7" with room for a domain of 32 bits. */
#define TT_BDF_LEN 20
#define TT_DETAIL_LEN 64

/* One call that is going on. */
struct tt_call {
	u64 seq;
	ktime_t start;
};

/*
 * tt_enter() writes the call to the log, waits as the rules say and returns the error that they ask
 * for, or 0. tt_leave() writes the result and returns it. Every enter is followed by one leave.
 * Both may sleep. @pdev may be NULL.
 */
__printf(4, 5)
int tt_enter(struct tt_call *call, enum tt_op op, struct pci_dev *pdev, const char *fmt, ...);
int tt_leave(struct tt_call *call, int result);

/* tsm_log.c */
int tt_log_init(struct dentry *dir);
void tt_log_exit(void);
__printf(3, 0)
u64 tt_log_begin(enum tt_op op, const char *bdf, const char *fmt, va_list ap);
void tt_log_end(u64 seq, int result, u64 usecs);

/* tsm_rules.c */
void tt_rules_init(struct dentry *dir);
void tt_rules_exit(void);
void tt_rules_release(void);

/* tsm_main.c */
extern bool tt_bind_locks;

/* tsm_ops.c */
extern struct pci_tsm_ops tt_ops;
void tt_state_show(struct seq_file *m);
bool tt_is_bound(struct pci_dev *pdev);
void tt_ops_exit(void);

/* PCIe 6, 11.3.11. Fits into TT_REPORT_ROOM. */
#define TT_REPORT_ROOM (16 + PCI_STD_NUM_BARS * 16 + 4 + 4)
ssize_t tt_make_report(struct pci_dev *pdev, u32 flags, u8 *buf);

/* tsm_objects.c */
void tt_objects_init(struct dentry *dir);
void tt_objects_exit(void);
ssize_t tt_object_request(struct pci_dev *pdev, enum pci_tsm_req_scope scope, const u8 *in, size_t len,
			  u8 **answer);

/* tsm_chardev.c */
int tt_chardev_init(void);
void tt_chardev_exit(void);

/* tsm_viommu.c */
void tt_viommu_init_events(struct dentry *dir);
int tt_viommu_graft(struct pci_dev *pdev);
void tt_viommu_exit(void);

#endif
