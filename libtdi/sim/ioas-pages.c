/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The memory behind a map (drivers/iommu/iommufd/pages.c): a process' own, a memory file's, a dma-buf's. It is looked at only when a
 * page table takes it: that is when it is pinned, when it is accounted, and when it turns out not to be memory.
 *
 * Memory of strangers is copied with process_vm_readv() and _writev() even where it is mapped here: a file that was cut short is
 * an error then, not a SIGBUS. What the kernel keeps and this cannot: pages of a process that has ended.
 */
#include "sim/iommufd.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>

/* ---- accounting ---- */

/* struct user_struct.locked_vm, or mm_struct.locked_vm. */
struct payer {
        bool mm;
        uint32_t id; /* uid, or pid */
        uint64_t pages;
        struct payer *next;
};

static struct payer *payer_of(struct sim_machine *m, bool mm, uint32_t id) {
        struct payer *p;

        for (p = m->iommufd; p; p = p->next)
                if (p->mm == mm && p->id == id)
                        return p;
        p = calloc(1, sizeof(*p));
        if (!p)
                return NULL;
        p->mm = mm;
        p->id = id;
        p->next = m->iommufd;
        m->iommufd = p;
        return p;
}

void sim_iommufd_free(struct sim_machine *m) {
        for (struct payer *p = TAKE_PTR(m->iommufd), *next; p; p = next) {
                next = p->next;
                free(p);
        }
}

static int charge(struct sim *sim, bool mm, uid_t uid, pid_t pid, uint64_t pages) {
        struct payer *p = payer_of(sim_machine(sim), mm, mm ? (uint32_t) pid : uid);
        struct rlimit limit;

        if (!p)
                return -ENOMEM;
        if (prlimit(pid, RLIMIT_MEMLOCK, NULL, &limit) < 0)
                return -ENOMEM;
        if (limit.rlim_cur != RLIM_INFINITY && p->pages + pages > limit.rlim_cur / IOMMUFD_PAGE)
                return -ENOMEM;
        p->pages += pages;
        return 0;
}

static void uncharge(struct sim *sim, const struct ioas_pages *pages) {
        struct sim_machine *m = sim_machine(sim);
        struct payer *p = payer_of(m, pages->mm_accounting, pages->mm_accounting ? (uint32_t) pages->pid : pages->uid);

        if (!p)
                return;
        p->pages -= pages->npages < p->pages ? pages->npages : p->pages;
        if (p->pages > 0)
                return;
        for (struct payer **at = (struct payer **) &m->iommufd; *at; at = &(*at)->next)
                if (*at == p) {
                        *at = p->next;
                        free(p);
                        return;
                }
}

/* iommufd_ioas_change_process(): all that the caller does not pay for yet, or nothing. */
int ioas_pages_charge_other(struct sim_call *c, struct ioas_pages **pages, size_t n) {
        uint64_t of_user = 0, of_mm = 0;
        int r = 0;

        for (size_t i = 0; i < n; i++) {
                struct ioas_pages *p = pages[i];
                bool seen = false;

                for (size_t k = 0; k < i && !seen; k++)
                        seen = pages[k] == p;
                if (seen || !p->accounted || p->filled == 0 || (p->pid == c->pid && p->uid == c->uid))
                        continue;
                *(p->mm_accounting ? &of_mm : &of_user) += p->npages;
        }
        if (of_user > 0)
                r = charge(c->sim, false, c->uid, c->pid, of_user);
        if (r == 0 && of_mm > 0) {
                r = charge(c->sim, true, c->uid, c->pid, of_mm);
                if (r < 0 && of_user > 0)
                        payer_of(sim_machine(c->sim), false, c->uid)->pages -= of_user;
        }
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++) {
                struct ioas_pages *p = pages[i];

                if (p->accounted && p->filled > 0 && !(p->pid == c->pid && p->uid == c->uid))
                        uncharge(c->sim, p);
                p->pid = c->pid;
                p->uid = c->uid;
        }
        return 0;
}

/* ---- making and freeing ---- */

/* iopt_alloc_pages() */
static struct ioas_pages *pages_new(struct sim_call *c, uint64_t offset, uint64_t length, bool writable) {
        struct ioas_pages *p;

        p = calloc(1, sizeof(*p));
        if (!p)
                return NULL;
        p->refs = 1;
        p->npages = (length + offset + IOMMUFD_PAGE - 1) / IOMMUFD_PAGE;
        p->writable = writable;
        p->pid = c->pid;
        p->uid = c->uid;
        p->accounted = c->uid != 0;
        p->fd = -EBADF;
        return p;
}

int ioas_pages_user(struct sim_call *c, uint64_t address, uint64_t length, bool writable, struct ioas_pages **ret, uint64_t *ret_offset) {
        uint64_t offset = address % IOMMUFD_PAGE;
        struct ioas_pages *p;

        if (address + length < address)
                return -EOVERFLOW;
        if (length == 0 || length > UINT64_MAX - IOMMUFD_PAGE)
                return -EINVAL;
        p = pages_new(c, offset, length, writable);
        if (!p)
                return -ENOMEM;
        p->kind = PAGES_USER;
        p->user = address - offset;
        *ret = p;
        *ret_offset = offset;
        return 0;
}

/* iopt_revoke_notify() */
static void on_revoked(struct sim_dmabuf_import *i) {
        struct ioas_pages *p = (struct ioas_pages *) ((char *) i - offsetof(struct ioas_pages, import));

        p->revoked = true;
}

/* iopt_alloc_dmabuf_pages(): not accounted. */
static int take_dmabuf(struct ioas_pages *p, struct sim_file *f, uint64_t start, uint64_t length) {
        struct sim_dmabuf *d = sim_dmabuf_of(f);
        int r;

        if (d->size <= start + length - 1)
                return -EINVAL;
        p->kind = PAGES_DMABUF;
        p->accounted = false;
        p->import.invalidate = on_revoked;
        r = sim_dmabuf_import(d, &p->import);
        if (r < 0)
                return r;
        p->file = sim_file_get(f);
        return 0;
}

/* iopt_map_file_pages(): neither mode nor seals of the file are looked at. */
int ioas_pages_file(struct sim_call *c, const struct sim_ioctl *io, int fd, uint64_t start, uint64_t length, bool writable,
                    struct ioas_pages **ret, uint64_t *ret_offset) {
        uint64_t offset = start % IOMMUFD_PAGE, last;
        struct sim_file *f = io->n_in > 0 ? io->in[0].file : NULL;
        struct ioas_pages *p;
        int r;

        if (length == 0)
                return -EINVAL;
        if (__builtin_add_overflow(start, length - 1, &last))
                return -EOVERFLOW;
        if (fd < 0 || io->n_in == 0 || (!f && io->in[0].fd < 0))
                return -EBADF;
        if (length > UINT64_MAX - IOMMUFD_PAGE - offset)
                return -EINVAL;
        p = pages_new(c, offset, length, writable);
        if (!p)
                return -ENOMEM;
        p->start = start - offset;
        if (f && sim_dmabuf_of(f)) {
                r = take_dmabuf(p, f, start, length);
        } else {
                p->kind = PAGES_FILE;
                p->fd = f ? -EBADF : fd_dup(io->in[0].fd);
                /* Any file is kept: a device that is mapped into the address space that it is attached to is never closed again. */
                p->file = f ? sim_file_get(f) : NULL;
                r = f || p->fd >= 0 ? 0 : p->fd;
        }
        if (r < 0) {
                free(p);
                return r;
        }
        *ret = p;
        *ret_offset = offset;
        return 0;
}

struct ioas_pages *ioas_pages_put(struct sim_call *c, struct ioas_pages *p) {
        struct sim_file *f;

        if (--p->refs > 0)
                return NULL;
        if (p->map)
                (void) munmap(p->map, p->map_size);
        close_fd(p->fd);
        f = p->file;
        if (p->kind == PAGES_DMABUF)
                sim_dmabuf_detach(&p->import);
        free(p);
        if (f)
                sim_file_put(c, f);
        return NULL;
}

/* ---- pinning ---- */

/* memfd_pin_folios(): shmem and hugetlbfs, within the file. */
static int check_file(const struct ioas_pages *p) {
        struct stat st;

        if (p->fd < 0 || fcntl(p->fd, F_GET_SEALS) < 0 || fstat(p->fd, &st) < 0)
                return -EINVAL;
        if (p->start + p->npages * IOMMUFD_PAGE > (uint64_t) st.st_size)
                return -EINVAL;
        return 0;
}

/* pin_user_pages(): ordinary memory without a gap, writable where it has to be. */
static int check_user(const struct ioas_pages *p) {
        uint64_t at = p->user, end = p->user + p->npages * IOMMUFD_PAGE;
        char path[32], *line = NULL;
        size_t room = 0;
        FILE *f;

        snprintf(path, sizeof(path), "/proc/%d/maps", (int) p->pid);
        f = fopen(path, "re");
        if (!f)
                return -EFAULT;
        while (at < end && getline(&line, &room, f) > 0) {
                unsigned long long first, last;
                char rights[8];

                if (sscanf(line, "%llx-%llx %7s", &first, &last, rights) != 3 || last <= at)
                        continue;
                if (first > at || rights[0] != 'r' || (p->writable && rights[1] != 'w'))
                        break;
                at = last;
        }
        free(line);
        (void) fclose(f);
        return at < end ? -EFAULT : 0;
}

int ioas_pages_fill(struct sim *sim, struct ioas_pages *p) {
        int r = 0;

        if (p->filled == 0) {
                if (p->kind == PAGES_FILE)
                        r = check_file(p);
                else if (p->kind == PAGES_USER)
                        r = check_user(p);
                if (r == 0 && p->accounted)
                        r = charge(sim, p->mm_accounting, p->uid, p->pid, p->npages);
                if (r < 0)
                        return r;
        }
        p->filled++;
        return 0;
}

void ioas_pages_unfill(struct sim *sim, struct ioas_pages *p) {
        if (--p->filled == 0 && p->accounted)
                uncharge(sim, p);
}

/* ---- access ---- */

/* Huge pages are mapped from a whole one on (hugetlbfs_file_mmap). */
static int map_file(struct ioas_pages *p) {
        uint64_t size = p->npages * IOMMUFD_PAGE, unit, first;
        _cleanup_close_ int writable = -EBADF;
        char path[32];
        struct stat st;
        void *map;

        if (fstat(p->fd, &st) < 0)
                return -EFAULT;
        unit = (uint64_t) st.st_blksize > IOMMUFD_PAGE ? (uint64_t) st.st_blksize : IOMMUFD_PAGE;
        first = p->start / unit * unit;
        size = (p->start + size - first + unit - 1) / unit * unit;
        map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd, (off_t) first);
        if (map == MAP_FAILED) {
                /* A descriptor without write access does not keep the kernel from writing. */
                snprintf(path, sizeof(path), "/proc/self/fd/%d", p->fd);
                writable = open(path, O_RDWR | O_CLOEXEC);
                if (writable >= 0)
                        map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, writable, (off_t) first);
        }
        if (map == MAP_FAILED)
                map = mmap(NULL, size, PROT_READ, MAP_SHARED, p->fd, (off_t) first);
        if (map == MAP_FAILED)
                return -EFAULT;
        p->map = map;
        p->map_size = (size_t) size;
        p->skew = (size_t) (p->start - first);
        return 0;
}

/* Memory of a process, ours included, that may go at any moment. Kernels without CROSS_MEMORY_ATTACH, and qemu-user, have its file only. */
static ssize_t access_memory(pid_t pid, const struct iovec *here, const struct iovec *there, bool write) {
        _cleanup_close_ int fd = -EBADF;
        char path[32];
        ssize_t n;

        n = write ? process_vm_writev(pid, here, 1, there, 1, 0) : process_vm_readv(pid, here, 1, there, 1, 0);
        if (n >= 0 || errno != ENOSYS)
                return n;
        snprintf(path, sizeof(path), "/proc/%d/mem", (int) pid);
        fd = open(path, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC);
        if (fd < 0)
                return -1;
        return write ? pwrite(fd, here->iov_base, here->iov_len, (off_t) (uintptr_t) there->iov_base)
                     : pread(fd, here->iov_base, here->iov_len, (off_t) (uintptr_t) there->iov_base);
}

int ioas_pages_access(struct ioas_pages *p, uint64_t offset, uint8_t *buf, size_t size, bool write) {
        struct iovec here = { buf, size }, there = { .iov_len = size };
        pid_t pid = p->pid;
        int r;

        if (p->filled == 0 || p->revoked)
                return -EFAULT;
        if (p->kind == PAGES_DMABUF)
                return sim_dmabuf_access(p->import.buffer, p->start + offset, buf, size, write);
        if (p->kind == PAGES_FILE) {
                if (!p->map) {
                        r = map_file(p);
                        if (r < 0)
                                return r;
                }
                there.iov_base = p->map + p->skew + offset;
                pid = getpid();
        } else
                there.iov_base = (void *) (uintptr_t) (p->user + offset);
        return access_memory(pid, &here, &there, write) == (ssize_t) size ? 0 : -EFAULT;
}
