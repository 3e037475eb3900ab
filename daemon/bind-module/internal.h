/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the files of tdid-bind share. User space includes tdid_bind.h, not this.
 */
#ifndef TDID_BIND_INTERNAL_H
#define TDID_BIND_INTERNAL_H

#include <linux/pci.h>
#include <linux/pci-tsm.h>

#include "tdid_bind.h"

struct kvm;

/* Copies of what the core has for a function, and of what its TSM can do. */
struct tb_tsm {
	struct pci_tsm base;
	struct pci_tsm_link_ops ops;
};

/* check.c */
struct kvm *tb_file_to_kvm(struct file *file);
bool tb_is_device_of(struct file *file, struct pci_dev *pdev);
int tb_look(struct pci_dev *pdev, struct tb_tsm *ret);

#endif
