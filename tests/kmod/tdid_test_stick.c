// SPDX-License-Identifier: GPL-2.0
/*
 * A PCI driver that will not let go: a stand-in for drivers whose unbinding hangs, and for drivers
 * that fail to take a function back.
 *
 * It binds to whatever has "tdid_test_stick" in driver_override and does nothing with it.
 * Parameters, writable at any time in /sys/module/tdid_test_stick/parameters:
 *
 *	stick		unbinding waits, where no signal reaches it, until this is 0
 *	probe_stick	the same for binding
 *	probe_err	binding fails with this errno (positive)
 *
 * `stuck` tells how many threads wait now. Removing the module lets go first.
 */
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/wait.h>

static DECLARE_WAIT_QUEUE_HEAD(let_go);
static atomic_t nstuck = ATOMIC_INIT(0);

static bool stick;
static bool probe_stick;
static unsigned int probe_err;

static int set_stick(const char *val, const struct kernel_param *kp)
{
	int rc = param_set_bool(val, kp);

	wake_up_all(&let_go);
	return rc;
}

static const struct kernel_param_ops stick_ops = {
	.set = set_stick,
	.get = param_get_bool,
};
module_param_cb(stick, &stick_ops, &stick, 0644);
MODULE_PARM_DESC(stick, "unbinding waits until this is 0");
module_param_cb(probe_stick, &stick_ops, &probe_stick, 0644);
MODULE_PARM_DESC(probe_stick, "binding waits until this is 0");

static int set_err(const char *val, const struct kernel_param *kp)
{
	return param_set_uint_minmax(val, kp, 0, MAX_ERRNO);
}

static const struct kernel_param_ops err_ops = {
	.set = set_err,
	.get = param_get_uint,
};
module_param_cb(probe_err, &err_ops, &probe_err, 0644);
MODULE_PARM_DESC(probe_err, "binding fails with this errno");

static int get_stuck(char *buf, const struct kernel_param *kp)
{
	return sysfs_emit(buf, "%d\n", atomic_read(&nstuck));
}

static const struct kernel_param_ops stuck_ops = { .get = get_stuck };
module_param_cb(stuck, &stuck_ops, NULL, 0444);
MODULE_PARM_DESC(stuck, "threads that wait now");

static void wait_while(bool *flag)
{
	atomic_inc(&nstuck);
	wait_event(let_go, !READ_ONCE(*flag));
	atomic_dec(&nstuck);
}

static int stick_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	unsigned int err;

	wait_while(&probe_stick);
	err = READ_ONCE(probe_err);
	return -(int)err;
}

static void stick_remove(struct pci_dev *pdev)
{
	wait_while(&stick);
}

/* No ids: only driver_override brings a function here. */
static const struct pci_device_id stick_ids[] = { {} };

static struct pci_driver stick_driver = {
	.name = KBUILD_MODNAME,
	.id_table = stick_ids,
	.probe = stick_probe,
	.remove = stick_remove,
};

static int __init stick_init(void)
{
	return pci_register_driver(&stick_driver);
}

static void __exit stick_exit(void)
{
	WRITE_ONCE(stick, false);
	WRITE_ONCE(probe_stick, false);
	wake_up_all(&let_go);
	pci_unregister_driver(&stick_driver);
}

module_init(stick_init);
module_exit(stick_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("PCI driver that will not let go, for tests");
