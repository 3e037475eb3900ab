/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The calls of /dev/tdid-bind, the bind provider that tdid brings with it (daemon/bind-module): bind a function to a VM as a TDI,
 * unbind it, and pass a guest's request to its TSM. The kernel has the functions for it (drivers/pci/tsm.c) and, up to 7.3,
 * no call of user space that reaches them.
 *
 * An open file of the device is one binding, or none yet. It keeps the VFIO file and the VM's file for as long as it is bound, and
 * its last close unbinds: whoever dies, a TDI is unbound before the function can be reset and closed.
 * Every struct begins with its exact size; flags are zero, and what is unknown is refused with EINVAL. Root only.
 */
#ifndef TDID_BIND_H
#define TDID_BIND_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define TDID_BIND_NAME "tdid-bind"
#define TDID_BIND_DEV "/dev/" TDID_BIND_NAME
#define TDID_BIND_API 1

/* Out. Changes nothing, on any file. */
struct tdid_bind_info {
	__u32 argsz;
	__u32 flags;	   /* out: 0 */
	__u32 api;	   /* out: TDID_BIND_API */
	__u32 request_max; /* out: the longest request and the longest answer, in bytes */
};

/*
 * Binds the function to the VM. `function` is segment << 16 | bus << 8 | devfn; `device_fd` is its VFIO device, open and
 * bound to an iommufd; `vm_fd` a KVM VM; `tdi_id` the requester id that the guest knows the function by.
 *
 * EBADF: no such descriptor. EINVAL: device_fd is not the VFIO device of that function, or is not bound to an iommufd; vm_fd is no
 * KVM VM; flags. ENODEV: no such function. ENOTCONN: no TSM is connected for it. EOPNOTSUPP: its TSM cannot bind. EBUSY: this
 * file is bound, or another one has the function. Else what the TSM says.
 */
struct tdid_bind_bind {
	__u32 argsz;
	__u32 flags;
	__u32 function;
	__u32 tdi_id;
	__s32 device_fd;
	__s32 vm_fd;
};

/*
 * A request of the guest, of `in_len` bytes at `in`; the answer goes to `out`, which has room for `out_len`. `scope` is an
 * enum pci_tsm_req_scope: 0 information, 1 state change; nothing else is let through. Out: `out_used` bytes of answer, and
 * `tsm_code`, the TSM's own word for the guest, on failure too.
 *
 * EINVAL: flags, scope. EMSGSIZE: longer than request_max. ENOTCONN: the file is not bound. ENXIO: the TSM has unbound it
 * meanwhile, as when it is disconnected. EOPNOTSUPP: its TSM takes no requests. EIO: the
 * TSM's driver gave an impossible length. EINTR. Else what the TSM says.
 */
struct tdid_bind_request {
	__u32 argsz;
	__u32 flags;
	__u32 scope;
	__u32 in_len;
	__u32 out_len;
	__u32 out_used;
	__u64 in;
	__u64 out;
	__u64 tsm_code;
};

#define TDID_BIND_REQUEST_MAX 65536

#define TDID_BIND_IOC_INFO _IOWR(0xe8, 0x00, struct tdid_bind_info)
#define TDID_BIND_IOC_BIND _IOW(0xe8, 0x01, struct tdid_bind_bind)
/* ENOTCONN: not bound. Otherwise it is unbound when the call returns, and the file may bind again. */
#define TDID_BIND_IOC_UNBIND _IO(0xe8, 0x02)
#define TDID_BIND_IOC_REQUEST _IOWR(0xe8, 0x03, struct tdid_bind_request)

#endif
