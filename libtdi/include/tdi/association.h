/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The VMM's part in telling KVM of a VM's functions. The kernel takes it from nobody else: KVM answers EIO to every process whose memory is
 * not that of the VM's creator, and a VFIO device learns of its KVM VM only between its opening and its being bound to an iommufd
 * (KVM_DEV_VFIO_FILE_ADD, vfio_df_ioctl_bind_iommufd()). So tdid, which opens and binds, asks the VMM in between.
 *
 * Why it matters: without it KVM does not know of DMA that passes the caches by, so tdid refuses a function whose IOMMU cannot prevent that;
 * and a kernel whose TSM takes the KVM VM from the VFIO device binds no such function by way of iommufd.
 *
 * What it costs: for that moment a process that shares the VMM's memory has the function's VFIO node. tdid allows it where tdid.conf does.
 */
#ifndef TDI_ASSOCIATION_H
#define TDI_ASSOCIATION_H

#ifdef __cplusplus
extern "C" {
#endif

/**
 * tdi_association_serve() - answer one request of tdid's on the channel of a VM's KVM association
 * @channel: from tdi_client_open_association(); borrowed
 * @kvm_vm: the VM's descriptor from KVM_CREATE_VM, of this process's own making; borrowed
 * @timeout_ms: how long to wait for tdid at each of the two points at which it is awaited, in milliseconds; 0 for the first: only look
 *
 * Poll @channel for POLLIN and call this when there is something. tdid's Attach() waits for it meanwhile, so the thread that waits for Attach()
 * to return cannot be the one that serves; and Detach() of one of several associated functions asks too.
 *
 * The request is carried out by a process that is made for it, shares this one's memory, has a copy of its descriptors, and ends before this
 * returns; the calling thread stands still meanwhile, others go on. Descriptors that tdid sends arrive there, never in this process. It makes
 * the VM's kvm-vfio device, of which a VM can have one, and gives it to tdid. A VMM that has made one itself gets -EBUSY.
 *
 * The process is made with clone(CLONE_VM | CLONE_VFORK): a seccomp filter must let that pass, and its clone() lets no signal handler of the
 * caller's run. All signals are blocked in the calling thread until it has ended. It ends with the caller. Valgrind and ThreadSanitizer take it
 * for a fork, and KVM refuses a VM to a fork.
 *
 * Thread-safe, but one channel is served by one thread at a time. Not a cancellation point.
 *
 * Return: 1 when a request was carried out; 0 when there was none, or tdid took it back; -ECONNRESET when tdid has closed the channel (close
 * it; open another before further functions are attached); -EBADMSG for what no tdid says; what the kernel's KVM_CREATE_DEVICE (-EBUSY,
 * -EIO: @kvm_vm was made by a process with other memory) or KVM_SET_DEVICE_ATTR answered, which tdid has been told of; -EAGAIN, -ENOMEM
 * when there is no process to be had.
 */
int tdi_association_serve(int channel, int kvm_vm, int timeout_ms);

#ifdef __cplusplus
}
#endif

#endif
