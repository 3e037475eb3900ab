/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * KVM as far as a VM is an object: VMs, vCPUs, memory slots, guest memory files and the kvm-vfio device (virt/kvm/{kvm_main,vfio}.c).
 * Nothing runs. Whoever does not share its creator's memory can hold a VM and do nothing with it.
 */
#include "sim/kvm.h"

#include <stdio.h>
#include <sys/syscall.h>

#include "host/abi/kvm.h"
#include "sim/marshal.h"
#include "sim/pci.h"
#include "sim/vfio.h"

#define PAGE UINT64_C(4096)
#define VCPUS_MAX 1024
#define VCPU_IDS_MAX 4096
#define SLOTS_MAX 32764          /* KVM_USER_MEM_SLOTS */
#define SLOT_PAGES_MAX (UINT64_C(1) << 31)
#define KVM_MEM_LOG_DIRTY_PAGES 1u
#define KVM_MEM_READONLY 2u
#define CAP_NR_VCPUS 9
#define CAP_NR_MEMSLOTS 10
#define CAP_USER_MEMORY 3
#define CAP_MAX_VCPUS 66
#define CAP_MAX_VCPU_ID 128
#define CAP_USER_MEMORY2 231

struct slot {
        uint32_t id, flags;
        uint64_t gpa, size, address;
        struct slot *next;
};

struct vcpu {
        uint32_t id;
        struct vcpu *next;
};

/* A file that a kvm-vfio device was given. */
struct vfio_member {
        struct sim_file *file;
        struct vfio_member *next;
};

struct kvm_vfio {
        struct kvm *kvm;
        struct vfio_member *members;
};

struct kvm {
        unsigned refs; /* files of it, and devices bound while it was theirs */
        struct sim *sim;
        pid_t creator;
        uint64_t type;
        struct vcpu *vcpus;
        unsigned n_vcpus;
        struct slot *slots;
        struct kvm_vfio *vfio;
};

static const struct sim_file_ops vm_ops, guest_memfd_ops;

struct kvm *kvm_get(struct kvm *kvm) {
        kvm->refs++;
        return kvm;
}

void kvm_put(struct sim_call *c, struct kvm *kvm) {
        (void) c;
        if (!kvm || --kvm->refs > 0)
                return;
        for (struct slot *s = kvm->slots, *next; s; s = next) {
                next = s->next;
                free(s);
        }
        for (struct vcpu *v = kvm->vcpus, *next; v; v = next) {
                next = v->next;
                free(v);
        }
        free(kvm);
}

struct kvm *sim_kvm_of(const struct sim_file *f) {
        return f->ops == &vm_ops ? f->data : NULL;
}

/* Do two processes share their memory? The same one does; threads of a vfork() do as well. */
static bool same_memory(pid_t a, pid_t b) {
        return a == b || syscall(SYS_kcmp, a, b, 1 /* KCMP_VM */, 0, 0) == 0;
}

static bool is_arm(const struct kvm *kvm, const struct sim_machine *m) {
        (void) kvm;
        return streq(m->platform, "cca") || streq(m->platform, "pkvm");
}

/* kvm_arch_has_private_mem() */
static bool has_private_memory(const struct kvm *kvm) {
        if (is_arm(kvm, sim_machine(kvm->sim)))
                return false;
        return kvm->type == TDI_KVM_X86_SW_PROTECTED_VM || kvm->type == TDI_KVM_X86_SNP_VM || kvm->type == TDI_KVM_X86_TDX_VM;
}

/* Which types of VM the platform has: a bit each (kvm_caps.supported_vm_types). */
static uint32_t x86_types(const struct sim_machine *m) {
        uint32_t types = 1u << TDI_KVM_X86_DEFAULT_VM | 1u << TDI_KVM_X86_SW_PROTECTED_VM;

        if (streq(m->platform, "tdx"))
                types |= 1u << TDI_KVM_X86_TDX_VM;
        if (streq(m->platform, "sev-snp"))
                types |= 1u << TDI_KVM_X86_SEV_VM | 1u << TDI_KVM_X86_SEV_ES_VM | 1u << TDI_KVM_X86_SNP_VM;
        return types;
}

/* kvm_arch_init_vm(): a width of the guest's addresses from 32 to what the machine has; protected VMs only under pKVM. */
static bool type_is_valid(const struct sim_machine *m, uint64_t type) {
        uint64_t width = type & TDI_KVM_VM_TYPE_ARM_IPA_SIZE_MASK;

        if (!is_arm(NULL, m))
                return type < 32 && x86_types(m) & 1u << type;
        if (type & ~(TDI_KVM_VM_TYPE_ARM_IPA_SIZE_MASK | TDI_KVM_VM_TYPE_ARM_PROTECTED))
                return false;
        if (type & TDI_KVM_VM_TYPE_ARM_PROTECTED && !streq(m->platform, "pkvm"))
                return false;
        return width == 0 || (width >= 32 && width <= 48);
}

/* kvm_vm_ioctl_check_extension_generic(), for what is modelled; kvm is NULL for /dev/kvm. */
static int check_extension(struct sim_machine *m, const struct kvm *kvm, uint64_t cap) {
        switch (cap) {
        case CAP_USER_MEMORY:
        case CAP_USER_MEMORY2:
        case TDI_KVM_CAP_DEVICE_CTRL:
        case TDI_KVM_CAP_GUEST_MEMFD:
                return 1;
        case TDI_KVM_CAP_GUEST_MEMFD_FLAGS:
                return (int) (TDI_GUEST_MEMFD_FLAG_MMAP | (kvm && has_private_memory(kvm) ? 0 : TDI_GUEST_MEMFD_FLAG_INIT_SHARED));
        case TDI_KVM_CAP_MEMORY_ATTRIBUTES:
                return !is_arm(kvm, m) && (!kvm || has_private_memory(kvm)) ? (int) TDI_KVM_MEMORY_ATTRIBUTE_PRIVATE : 0;
        case TDI_KVM_CAP_VM_TYPES:
                return is_arm(kvm, m) ? 0 : (int) x86_types(m);
        case CAP_NR_VCPUS:
        case CAP_MAX_VCPUS:
                return VCPUS_MAX;
        case CAP_MAX_VCPU_ID:
                return VCPU_IDS_MAX;
        case CAP_NR_MEMSLOTS:
                return SLOTS_MAX;
        default:
                return 0;
        }
}

/* ---- the kvm-vfio device ---- */

static void member_free(struct sim_call *c, struct kvm_vfio *k, struct vfio_member *m) {
        for (struct vfio_member **p = &k->members; *p; p = &(*p)->next)
                if (*p == m) {
                        *p = m->next;
                        break;
                }
        sim_vfio_file_set_kvm(m->file, NULL);
        sim_file_put(c, m->file);
        free(m);
}

static struct vfio_member *member_find(const struct kvm_vfio *k, const struct sim_file *f) {
        struct vfio_member *m;

        for (m = k->members; m; m = m->next)
                if (m->file == f)
                        break;
        return m;
}

/* kvm_vfio_set_attr() */
static int set_attribute(struct sim_call *c, struct kvm_vfio *k, const struct sim_ioctl *io) {
        const struct tdi_kvm_device_attr *attr = (const void *) io->arg;
        struct sim_file *f = io->n_in > 0 ? io->in[0].file : NULL;
        struct vfio_member *m;

        if (attr->group != TDI_KVM_DEV_VFIO_FILE || (attr->attr != TDI_KVM_DEV_VFIO_FILE_ADD && attr->attr != TDI_KVM_DEV_VFIO_FILE_DEL))
                return -ENXIO;
        if (!io->blob[0].data || io->blob[0].size < sizeof(int32_t))
                return -EFAULT;
        if (io->n_in == 0 || (!f && io->in[0].fd < 0))
                return -EBADF;
        if (attr->attr == TDI_KVM_DEV_VFIO_FILE_DEL) {
                m = f ? member_find(k, f) : NULL;
                if (!m)
                        return -ENOENT;
                member_free(c, k, m);
                return 0;
        }
        if (!f || !sim_vfio_file_is_valid(f))
                return -EINVAL;
        if (member_find(k, f))
                return -EEXIST;
        m = calloc(1, sizeof(*m));
        if (!m)
                return -ENOMEM;
        m->file = sim_file_get(f);
        m->next = k->members;
        k->members = m;
        sim_vfio_file_set_kvm(f, k->kvm);
        return 0;
}

static int has_attribute(const struct tdi_kvm_device_attr *attr) {
        if (attr->group == TDI_KVM_DEV_VFIO_FILE && (attr->attr == TDI_KVM_DEV_VFIO_FILE_ADD || attr->attr == TDI_KVM_DEV_VFIO_FILE_DEL))
                return 0;
        return -ENXIO;
}

static int device_ioctl(struct sim_call *c, struct sim_file *f, struct sim_ioctl *io) {
        const struct tdi_kvm_device_attr *attr = (const void *) io->arg;
        struct kvm_vfio *k = f->data;

        if (!same_memory(k->kvm->creator, c->pid))
                return -EIO;
        switch (io->request) {
        case TDI_KVM_SET_DEVICE_ATTR:
                return attr->flags ? -EINVAL : set_attribute(c, k, io);
        case TDI_KVM_HAS_DEVICE_ATTR:
                return attr->flags ? -EINVAL : has_attribute(attr);
        default:
                return -ENOTTY;
        }
}

/* kvm_device_release(): the association of its files ends, and maybe the files. */
static void device_release(struct sim_call *c, struct sim_file *f) {
        struct kvm_vfio *k = f->data;
        struct kvm *kvm = k->kvm;

        kvm->vfio = NULL;
        while (k->members)
                member_free(c, k, k->members);
        free(k);
        kvm_put(c, kvm);
}

static const struct sim_file_ops device_ops = { .kind = "kvm-vfio", .ioctl = device_ioctl, .release = device_release };

/* kvm_ioctl_create_device() */
static int create_device(struct sim_call *c, struct kvm *kvm, struct sim_ioctl *io) {
        struct tdi_kvm_create_device *cd = (void *) io->arg;
        struct kvm_vfio *k;
        struct sim_file *f;

        if (cd->type != TDI_KVM_DEV_TYPE_VFIO)
                return -ENODEV;
        if (cd->flags & TDI_KVM_CREATE_DEVICE_TEST)
                return 0;
        if (kvm->vfio)
                return -EBUSY;
        k = calloc(1, sizeof(*k));
        if (!k)
                return -ENOMEM;
        f = sim_file_new(c, &device_ops, k, O_RDWR, "anon_inode:kvm-vfio", "");
        if (!f) {
                free(k);
                return -ENOMEM;
        }
        k->kvm = kvm_get(kvm);
        kvm->vfio = k;
        io->out[io->n_out++] = f;
        return 0;
}

/* ---- vCPUs, memory ---- */

static int vcpu_ioctl(struct sim_call *c, struct sim_file *f, struct sim_ioctl *io) {
        struct kvm *kvm = f->data;

        (void) io;
        return same_memory(kvm->creator, c->pid) ? -ENOTTY : -EIO;
}

static void vcpu_release(struct sim_call *c, struct sim_file *f) {
        kvm_put(c, f->data);
}

static const struct sim_file_ops vcpu_ops = { .kind = "kvm-vcpu", .ioctl = vcpu_ioctl, .release = vcpu_release };

/* kvm_vm_ioctl_create_vcpu(): a vCPU lives as long as its VM. */
static int create_vcpu(struct sim_call *c, struct kvm *kvm, struct sim_ioctl *io) {
        struct vcpu *v;
        struct sim_file *f;
        char name[40];

        if (io->value >= VCPU_IDS_MAX || kvm->n_vcpus >= VCPUS_MAX)
                return -EINVAL;
        for (v = kvm->vcpus; v; v = v->next)
                if (v->id == io->value)
                        return -EEXIST;
        v = calloc(1, sizeof(*v));
        if (!v)
                return -ENOMEM;
        v->id = (uint32_t) io->value;
        snprintf(name, sizeof(name), "anon_inode:kvm-vcpu:%u", v->id);
        f = sim_file_new(c, &vcpu_ops, kvm, O_RDWR, name, "");
        if (!f) {
                free(v);
                return -ENOMEM;
        }
        v->next = kvm->vcpus;
        kvm->vcpus = v;
        kvm->n_vcpus++;
        kvm_get(kvm);
        io->out[io->n_out++] = f;
        return 0;
}

static void guest_memfd_release(struct sim_call *c, struct sim_file *f) {
        kvm_put(c, f->data);
}

static const struct sim_file_ops guest_memfd_ops = { .kind = "guest_memfd", .release = guest_memfd_release };

/* kvm_gmem_create() */
static int create_guest_memfd(struct sim_call *c, struct kvm *kvm, struct sim_ioctl *io) {
        const struct tdi_kvm_create_guest_memfd *args = (const void *) io->arg;
        struct sim_file *f;

        if (args->flags & ~(uint64_t) (unsigned) check_extension(sim_machine(c->sim), kvm, TDI_KVM_CAP_GUEST_MEMFD_FLAGS))
                return -EINVAL;
        if (args->size == 0 || args->size > INT64_MAX || args->size % PAGE)
                return -EINVAL;
        f = sim_file_new(c, &guest_memfd_ops, kvm, O_RDWR, "anon_inode:[kvm-gmem]", "");
        if (!f)
                return -ENOMEM;
        kvm_get(kvm);
        io->out[io->n_out++] = f;
        return 0;
}

/* kvm_set_memory_region() */
static int set_region(struct kvm *kvm, const struct tdi_kvm_userspace_memory_region2 *mem, const struct sim_ioctl *io) {
        const bool guest = mem->flags & TDI_KVM_MEM_GUEST_MEMFD;
        uint32_t valid = guest ? (uint32_t) TDI_KVM_MEM_GUEST_MEMFD : KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY;
        struct slot **at, *old, *s;

        if (mem->flags & ~valid || mem->memory_size % PAGE || mem->guest_phys_addr % PAGE || mem->userspace_addr % PAGE)
                return -EINVAL;
        if (guest && (mem->guest_memfd_offset % PAGE || mem->guest_memfd_offset + mem->memory_size < mem->guest_memfd_offset))
                return -EINVAL;
        if (mem->slot >> 16 || mem->slot >= SLOTS_MAX || mem->guest_phys_addr + mem->memory_size < mem->guest_phys_addr ||
            mem->memory_size / PAGE > SLOT_PAGES_MAX)
                return -EINVAL;
        for (at = &kvm->slots; *at && (*at)->id != mem->slot; at = &(*at)->next)
                ;
        old = *at;
        if (mem->memory_size == 0) {
                if (!old)
                        return -EINVAL;
                *at = old->next;
                free(old);
                return 0;
        }
        if (old && (guest || mem->userspace_addr != old->address || mem->memory_size != old->size ||
                    (mem->flags ^ old->flags) & (KVM_MEM_READONLY | TDI_KVM_MEM_GUEST_MEMFD)))
                return -EINVAL;
        for (s = kvm->slots; s; s = s->next)
                if (s != old && s->gpa < mem->guest_phys_addr + mem->memory_size && mem->guest_phys_addr < s->gpa + s->size)
                        return -EEXIST;
        if (guest && (io->n_in == 0 || (!io->in[0].file && io->in[0].fd < 0)))
                return -EBADF;
        if (guest && (!io->in[0].file || io->in[0].file->ops != &guest_memfd_ops || io->in[0].file->data != kvm))
                return -EINVAL;
        if (!old) {
                old = calloc(1, sizeof(*old));
                if (!old)
                        return -ENOMEM;
                old->next = kvm->slots;
                kvm->slots = old;
        }
        old->id = mem->slot;
        old->flags = mem->flags;
        old->gpa = mem->guest_phys_addr;
        old->size = mem->memory_size;
        old->address = mem->userspace_addr;
        return 0;
}

/* kvm_vm_ioctl_set_mem_attributes(): what is private only a guest that runs would notice. */
static int set_attributes(struct sim_machine *m, const struct kvm *kvm, const struct tdi_kvm_memory_attributes *a) {
        if (is_arm(kvm, m))
                return -ENOTTY;
        if (a->flags || a->attributes & ~(uint64_t) (unsigned) check_extension(m, kvm, TDI_KVM_CAP_MEMORY_ATTRIBUTES))
                return -EINVAL;
        if (a->size == 0 || a->address + a->size < a->address || a->address % PAGE || a->size % PAGE)
                return -EINVAL;
        return 0;
}

/* ---- a VM ---- */

static int vm_ioctl(struct sim_call *c, struct sim_file *f, struct sim_ioctl *io) {
        struct sim_machine *m = sim_machine(c->sim);
        struct kvm *kvm = f->data;

        if (!same_memory(kvm->creator, c->pid))
                return -EIO;
        switch (io->request) {
        case TDI_KVM_CREATE_VCPU:
                return create_vcpu(c, kvm, io);
        case TDI_KVM_SET_USER_MEMORY_REGION: {
                const struct tdi_kvm_userspace_memory_region *old = (const void *) io->arg;
                struct tdi_kvm_userspace_memory_region2 mem = {
                        .slot = old->slot,
                        .flags = old->flags,
                        .guest_phys_addr = old->guest_phys_addr,
                        .memory_size = old->memory_size,
                        .userspace_addr = old->userspace_addr,
                };

                return mem.flags & TDI_KVM_MEM_GUEST_MEMFD ? -EINVAL : set_region(kvm, &mem, io);
        }
        case TDI_KVM_SET_USER_MEMORY_REGION2:
                return set_region(kvm, (const void *) io->arg, io);
        case TDI_KVM_SET_MEMORY_ATTRIBUTES:
                return set_attributes(m, kvm, (const void *) io->arg);
        case TDI_KVM_CREATE_GUEST_MEMFD:
                return create_guest_memfd(c, kvm, io);
        case TDI_KVM_CREATE_DEVICE:
                return create_device(c, kvm, io);
        case TDI_KVM_CHECK_EXTENSION:
                return check_extension(m, kvm, io->value);
        default:
                return -ENOTTY;
        }
}

static void vm_release(struct sim_call *c, struct sim_file *f) {
        kvm_put(c, f->data);
}

static const struct sim_file_ops vm_ops = { .kind = "kvm-vm", .ioctl = vm_ioctl, .release = vm_release };

/* ---- /dev/kvm ---- */

static int create_vm(struct sim_call *c, struct sim_ioctl *io) {
        struct sim_file *f;
        struct kvm *kvm;

        if (!type_is_valid(sim_machine(c->sim), io->value))
                return -EINVAL;
        kvm = calloc(1, sizeof(*kvm));
        if (!kvm)
                return -ENOMEM;
        f = sim_file_new(c, &vm_ops, kvm, O_RDWR, "anon_inode:kvm-vm", "");
        if (!f) {
                free(kvm);
                return -ENOMEM;
        }
        kvm->refs = 1;
        kvm->sim = c->sim;
        kvm->creator = c->pid;
        kvm->type = io->value;
        io->out[io->n_out++] = f;
        return 0;
}

static int kvm_ioctl(struct sim_call *c, struct sim_file *f, struct sim_ioctl *io) {
        (void) f;
        switch (io->request) {
        case TDI_KVM_GET_API_VERSION:
                return io->value ? -EINVAL : TDI_KVM_API_VERSION;
        case TDI_KVM_CREATE_VM:
                return create_vm(c, io);
        case TDI_KVM_CHECK_EXTENSION:
                return check_extension(sim_machine(c->sim), NULL, io->value);
        case TDI_KVM_GET_VCPU_MMAP_SIZE:
                /* struct kvm_run, the coalesced ring, and on x86 the I/O port data: a page each. */
                return io->value ? -EINVAL : (int) PAGE * (is_arm(NULL, sim_machine(c->sim)) ? 2 : 3);
        default:
                return -EINVAL; /* kvm_arch_dev_ioctl() */
        }
}

static const struct sim_file_ops kvm_ops = { .kind = "kvm", .ioctl = kvm_ioctl };

static int kvm_open(struct sim_call *c, struct sim_node *n, struct sim_file *f) {
        (void) c;
        (void) n;
        f->ops = &kvm_ops;
        return 0;
}

static const struct sim_node_ops kvm_node_ops = { .open = kvm_open };

/* What the kernel and KVM's modules say of themselves in files. On x86 the machine is Intel's unless it is sev-snp's. */
static void make_files(struct sim_machine *m) {
        const bool arm = is_arm(NULL, m), amd = streq(m->platform, "sev-snp");
        struct sim_node *kernel = sim_dirs(m->sim, "proc/sys/kernel");

        sim_text(kernel, "arch", "%s", arm ? "aarch64" : "x86_64");
        sim_text(kernel, "osrelease", "7.3.4-tdi-sim");
        /* Of what the processor can do, what hosts of confidential guests have; the character devices are VFIO's only. */
        if (arm)
                sim_text(sim_dirs(m->sim, "proc"), "cpuinfo", "processor\t: 0\nFeatures\t: fp asimd");
        else
                sim_text(sim_dirs(m->sim, "proc"), "cpuinfo", "processor\t: 0\nvendor_id\t: %s\nflags\t\t: fpu %s", amd ? "AuthenticAMD" : "GenuineIntel",
                         amd ? "svm sev sev_es sev_snp" : streq(m->platform, "tdx") ? "vmx tdx_host_platform" : "vmx");
        sim_text(sim_dirs(m->sim, "proc"), "devices", "Character devices:\n 10 misc\n242 vfio\n511 vfio-dev\n\nBlock devices:\n259 blkext");
        sim_text(sim_dirs(m->sim, "proc"), "cmdline", "console=ttyS0%s", streq(m->platform, "pkvm") ? " kvm-arm.mode=protected" : "");
        if (amd)
                sim_text(sim_dirs(m->sim, "sys/module/kvm_amd/parameters"), "sev_snp", "Y");
        else if (!arm)
                sim_text(sim_dirs(m->sim, "sys/module/kvm_intel/parameters"), "tdx", "%c", streq(m->platform, "tdx") ? 'Y' : 'N');
}

void sim_kvm_init(struct sim_machine *m) {
        sim_device_node(sim_dirs(m->sim, "dev"), "kvm", &kvm_node_ops, NULL);
        make_files(m);
}
