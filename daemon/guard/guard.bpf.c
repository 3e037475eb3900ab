/* SPDX-License-Identifier: GPL-2.0-only OR LGPL-2.1-or-later */
/*
 * The mmap guard's programs in the kernel: what is in the map of objects is refused, and nothing else is looked at closely. They decide by
 * that map alone, which processes of tdid fill; that those have died makes no difference to them.
 *
 * Most calls by far are about something else. They leave after as few loads as can tell that: no file at all, or an ordinary file of
 * another file system. The kernel's structures are declared here with the fields that are used, and the loader finds where they are
 * (CO-RE).
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "layout.h"

#define KERNEL __attribute__((preserve_access_index))

#define S_IFMT 0170000
#define S_IFREG 0100000
#define S_IFCHR 0020000
#define FMODE_WRITE 0x2u
#define EPERM 1

/* include/uapi/linux/magic.h */
#define SYSFS_MAGIC 0x62656572
#define PROC_SUPER_MAGIC 0x9fa0
#define BPF_FS_MAGIC 0xcafe4a11
#define ANON_INODE_FS_MAGIC 0x09041934

struct address_space;

struct super_block {
        unsigned long s_magic;
        struct dentry *s_root;
} KERNEL;

struct inode {
        unsigned short i_mode;
        __u64 i_ino;
        __u32 i_rdev;
        struct super_block *i_sb;
        struct address_space *i_mapping;
} KERNEL;

struct dentry {
        struct inode *d_inode;
} KERNEL;

struct vfsmount {
        struct super_block *mnt_sb;
} KERNEL;

struct file {
        unsigned int f_mode;
        struct inode *f_inode;
        struct address_space *f_mapping;
} KERNEL;

struct vm_area_struct {
        struct file *vm_file;
} KERNEL;

struct ns_common {
        unsigned int inum;
} KERNEL;

struct mnt_namespace {
        struct ns_common ns;
} KERNEL;

struct nsproxy {
        struct mnt_namespace *mnt_ns;
} KERNEL;

struct task_struct {
        int tgid;
        char comm[16];
        struct nsproxy *nsproxy;
} KERNEL;

struct seq_file;

struct bpf_iter_meta {
        __bpf_md_ptr(struct seq_file *, seq);
} KERNEL;

struct bpf_iter__task_vma {
        __bpf_md_ptr(struct bpf_iter_meta *, meta);
        __bpf_md_ptr(struct task_struct *, task);
        __bpf_md_ptr(struct vm_area_struct *, vma);
} KERNEL;

struct bpf_iter__task_file {
        __bpf_md_ptr(struct bpf_iter_meta *, meta);
        __bpf_md_ptr(struct task_struct *, task);
        __u32 fd;
        __bpf_md_ptr(struct file *, file);
} KERNEL;

char guard_license[] SEC("license") = "GPL";

struct {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(max_entries, GUARD_OBJECTS_MAX);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __type(key, struct guard_key);
        __type(value, struct guard_object);
} objects SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_HASH);
        __uint(max_entries, GUARD_FUNCTIONS_MAX);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __type(key, __u32);
        __type(value, struct guard_function);
} functions SEC(".maps");

struct {
        __uint(type, BPF_MAP_TYPE_RINGBUF);
        __uint(max_entries, GUARD_RING_SIZE);
} events SEC(".maps");

/* Tasks that may open for writing what others may not: set by a pidfd, gone with the task, so a number that comes again is nobody's. */
struct {
        __uint(type, BPF_MAP_TYPE_TASK_STORAGE);
        __uint(map_flags, BPF_F_NO_PREALLOC);
        __type(key, int);
        __type(value, __u32);
} excused SEC(".maps");

/* The host's mount namespace: /proc/1/ns/mnt. */
const volatile __u32 host_mounts = 0;

static __always_inline struct guard_object *find(__u32 type, __u64 value) {
        struct guard_key key = { .value = value, .type = type };

        return bpf_map_lookup_elem(&objects, &key);
}

static __always_inline int is_excused(void) {
        __u32 *yes = bpf_task_storage_get(&excused, bpf_get_current_task_btf(), 0, 0);

        return yes && *yes;
}

static __noinline int refuse(struct guard_object *o, __u32 what) {
        struct guard_function *f;
        struct guard_event *e;
        __u32 function, kind;

        if (!o)
                return 0;
        function = o->function;
        kind = o->kind;
        f = bpf_map_lookup_elem(&functions, &function);
        if (f && kind < GUARD_KIND_MAX)
                __sync_fetch_and_add(&f->refused[kind], 1);
        e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
        if (e) {
                e->function = function;
                e->kind = kind;
                e->what = what;
                e->pid = bpf_get_current_pid_tgid() >> 32;
                e->uid = (__u32) bpf_get_current_uid_gid();
                bpf_get_current_comm(e->comm, sizeof(e->comm));
                bpf_ringbuf_submit(e, 0);
        }
        return -EPERM;
}

/* What is behind an open file that is not an ordinary one of another file system; NULL: nothing of ours. */
static __always_inline struct guard_object *find_file(struct file *file) {
        struct inode *inode = file->f_inode;
        unsigned short type = inode->i_mode & S_IFMT;
        struct guard_object *o;

        if (type == S_IFREG) {
                unsigned long magic = inode->i_sb->s_magic;

                if (magic == SYSFS_MAGIC)
                        return find(GUARD_SYSFS, inode->i_ino);
                if (magic == PROC_SUPER_MAGIC)
                        return find(GUARD_PROC, inode->i_ino);
                /* A device of VFIO's legacy kind is one of these, which newer kernels call regular. No other has the pages of another inode. */
                if (magic != ANON_INODE_FS_MAGIC)
                        return NULL;
        } else if (type == S_IFCHR) {
                o = find(GUARD_CHAR, inode->i_rdev);
                if (o)
                        return o;
        }
        if (file->f_mapping == inode->i_mapping)
                return NULL;
        return find(GUARD_MAPPING, (__u64) (unsigned long) file->f_mapping);
}

SEC("lsm/mmap_file")
int BPF_PROG(guard_mmap_file, struct file *file, unsigned long reqprot, unsigned long prot, unsigned long flags, int ret) {
        struct guard_object *o;

        if (ret || !file)
                return ret;
        o = find_file(file);
        if (!o || !(o->deny & GUARD_DENY_MMAP))
                return 0;
        return refuse(o, GUARD_DENY_MMAP);
}

SEC("lsm/file_open")
int BPF_PROG(guard_file_open, struct file *file, int ret) {
        struct guard_object *o;

        if (ret || !(file->f_mode & FMODE_WRITE))
                return ret;
        o = find_file(file);
        if (!o || !(o->deny & GUARD_DENY_WRITE) || is_excused())
                return 0;
        return refuse(o, GUARD_DENY_WRITE);
}

static __always_inline int change(struct inode *inode) {
        struct guard_object *o;

        if (!inode || inode->i_sb->s_magic != BPF_FS_MAGIC)
                return 0;
        o = find(GUARD_BPFFS, inode->i_ino);
        if (!o || !(o->deny & GUARD_DENY_CHANGE) || is_excused())
                return 0;
        return refuse(o, GUARD_DENY_CHANGE);
}

SEC("lsm/inode_unlink")
int BPF_PROG(guard_inode_unlink, struct inode *dir, struct dentry *dentry, int ret) {
        return ret ? ret : change(dir);
}

SEC("lsm/inode_rmdir")
int BPF_PROG(guard_inode_rmdir, struct inode *dir, struct dentry *dentry, int ret) {
        if (!ret)
                ret = change(dir);
        return ret ? ret : change(dentry->d_inode);
}

SEC("lsm/inode_rename")
int BPF_PROG(guard_inode_rename, struct inode *old_dir, struct dentry *old_dentry, struct inode *new_dir, struct dentry *new_dentry, int ret) {
        if (!ret)
                ret = change(old_dir);
        if (!ret)
                ret = change(new_dir);
        if (!ret)
                ret = change(old_dentry->d_inode);
        return ret ? ret : change(new_dentry->d_inode);
}

/* The pins go with the last mount of their file system. Sandboxes that take their own copy away are none of our business. */
SEC("lsm/sb_umount")
int BPF_PROG(guard_sb_umount, struct vfsmount *mnt, int flags, int ret) {
        struct super_block *sb = mnt->mnt_sb;
        struct guard_object *o;

        if (ret || sb->s_magic != BPF_FS_MAGIC)
                return ret;
        if (bpf_get_current_task_btf()->nsproxy->mnt_ns->ns.inum != host_mounts)
                return 0;
        o = find(GUARD_BPFFS, sb->s_root->d_inode->i_ino);
        if (!o || !(o->deny & GUARD_DENY_UMOUNT) || is_excused())
                return 0;
        return refuse(o, GUARD_DENY_UMOUNT);
}

static __always_inline void tell(struct bpf_iter_meta *meta, struct task_struct *task, const struct guard_object *o) {
        struct guard_found found = { .function = o->function, .kind = o->kind, .pid = task->tgid };

        bpf_probe_read_kernel_str(found.comm, sizeof(found.comm), task->comm);
        bpf_seq_write(meta->seq, &found, sizeof(found));
}

/* Every mapping of what must not be mapped. */
SEC("iter/task_vma")
int guard_mappings(struct bpf_iter__task_vma *ctx) {
        struct task_struct *task = ctx->task;
        struct vm_area_struct *vma = ctx->vma;
        struct guard_object *o;
        struct file *file;

        if (!task || !vma)
                return 0;
        file = vma->vm_file;
        if (!file)
                return 0;
        o = find_file(file);
        if (o && (o->deny & GUARD_DENY_MMAP))
                tell(ctx->meta, task, o);
        return 0;
}

/* Every descriptor that was opened for writing where nobody may any more. */
SEC("iter/task_file")
int guard_writers(struct bpf_iter__task_file *ctx) {
        struct task_struct *task = ctx->task;
        struct file *file = ctx->file;
        struct guard_object *o;

        if (!task || !file || !(file->f_mode & FMODE_WRITE))
                return 0;
        o = find_file(file);
        if (o && (o->deny & GUARD_DENY_WRITE))
                tell(ctx->meta, task, o);
        return 0;
}

/* What shares its pages with a VFIO device that is known by its number: from here on it is known by those too. */
SEC("iter/task_file")
int guard_learn(struct bpf_iter__task_file *ctx) {
        struct file *file = ctx->file;
        struct guard_object *o, copy;
        struct guard_key key = {};
        struct inode *inode;

        if (!file)
                return 0;
        inode = file->f_inode;
        if ((inode->i_mode & S_IFMT) != S_IFCHR || file->f_mapping == inode->i_mapping)
                return 0;
        o = find(GUARD_CHAR, inode->i_rdev);
        if (!o || o->kind != GUARD_KIND_VFIO)
                return 0;
        copy = *o;
        key.type = GUARD_MAPPING;
        key.value = (__u64) (unsigned long) file->f_mapping;
        bpf_map_update_elem(&objects, &key, &copy, BPF_ANY);
        return 0;
}
