/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a stranger's descriptor has to be before the kernel is asked to map it. iommufd itself takes any file as long as no page table needs
 * its pages, and keeps it: a VFIO device mapped into the address space of its own iommufd would never be closed again. Neither does it
 * look at the file's mode or seals (iopt_map_file_pages).
 *
 * F_GET_SEALS is the test of kind: it works on shmem and hugetlbfs alone (memfd_file_seals_ptr), and asks nothing of any other file,
 * which may be a FUSE file that never answers. So does what follows, for these two never block.
 *
 * The VMM must map the same file shared at the same offsets: in private mappings the guest sees copies that no device reaches. Which
 * offsets match: those of /proc/PID/maps, that is the file's own. A VMM that leaves its backend's offset into the file out (QEMU's
 * memory-backend-file with offset=) asks for other pages than the guest has; that is refused unless it maps these too, as a second
 * backend in the same file does, which cannot be told apart. One file for each backend, from offset 0 on, is always right.
 */
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "vm/vpci/dma-internal.h"

#define WRITE_SEALS (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)
/* Mappings of one file that are looked at; all that a process can have by default (vm.max_map_count). */
#define SPANS_MAX 65536
#define MAPS_BUFFER 16384

/* ---- the file ---- */

/* What it is instead. Whether that is memory of a guest that no device shall reach matters to nobody but who sent it: a name will do. */
static int other_kind(TdiHost *host, int fd, char why[static DMA_WHY]) {
        char name[128];

        if (host_identify(host, fd, name, sizeof(name)) < 0)
                name[0] = '\0';
        if (startswith(name, "/[kvm-gmem]") || streq(name, "anon_inode:[kvm-gmem]"))
                return 1;
        for (char *s = name; *s; s++)
                if ((unsigned char) *s < ' ' || *s == 0x7f)
                        *s = '?';
        snprintf(why, DMA_WHY, "the descriptor is %s: guest memory has to be a memfd, or a file of tmpfs or hugetlbfs",
                 isempty(name) ? "of another kind" : name);
        return -EBADF;
}

int dma_check_seals(int fd, char why[static DMA_WHY]) {
        int seals = fcntl(fd, F_GET_SEALS);

        if (seals < 0)
                return -errno;
        if (seals & WRITE_SEALS) {
                snprintf(why, DMA_WHY, "the file is sealed against writing");
                return -EACCES;
        }
        return 0;
}

int dma_check_file(TdiHost *host, int fd, uint64_t offset, uint64_t size, bool readable, bool writable, dev_t *ret_dev, ino_t *ret_ino,
                   char why[static DMA_WHY]) {
        struct stat st;
        uint64_t end;
        int flags, r;

        flags = fcntl(fd, F_GETFL);
        if (flags < 0)
                return -errno;
        if (fcntl(fd, F_GET_SEALS) < 0) {
                if (!(flags & O_PATH))
                        return other_kind(host, fd, why);
                snprintf(why, DMA_WHY, "the descriptor gives no access (O_PATH)");
                return -EBADF;
        }
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode)) {
                snprintf(why, DMA_WHY, "the descriptor is no regular file");
                return -EBADF;
        }
        if ((writable && (flags & O_ACCMODE) != O_RDWR) || (readable && (flags & O_ACCMODE) == O_WRONLY)) {
                snprintf(why, DMA_WHY, "the descriptor was not opened for %s", writable ? "reading and writing" : "reading");
                return -EACCES;
        }
        if (writable) {
                r = dma_check_seals(fd, why);
                if (r < 0)
                        return r;
        }
        if (__builtin_add_overflow(offset, size, &end) || end > (uint64_t) st.st_size) {
                snprintf(why, DMA_WHY, "the file has 0x%llx bytes", (unsigned long long) st.st_size);
                return -ENXIO;
        }
        *ret_dev = st.st_dev;
        *ret_ino = st.st_ino;
        return 0;
}

/* ---- what the peer maps ---- */

/* A number in front of one character; NULL when there is none. */
static const char *number(const char *s, int base, char after, uint64_t *ret) {
        char *end;

        if (*s == ' ' || *s == '-' || *s == '+')
                return NULL;
        errno = 0;
        *ret = strtoull(s, &end, base);
        return errno == 0 && end > s && *end == after ? end + 1 : NULL;
}

/* show_map_vma(): "START-END rwxs OFFSET MAJOR:MINOR INODE   NAME", all but the inode's number in hexadecimal. */
int dma_maps_line(const char *line, dev_t *ret_dev, ino_t *ret_ino, uint64_t *ret_offset, uint64_t *ret_size) {
        uint64_t start, end, offset, major_of, minor_of, inode;
        const char *s, *rights;

        s = number(line, 16, '-', &start);
        if (s)
                s = number(s, 16, ' ', &end);
        if (!s || end <= start || strnlen(s, 5) < 5 || s[4] != ' ')
                return -ENOENT;
        rights = s;
        s = number(s + 5, 16, ' ', &offset);
        if (s)
                s = number(s, 16, ':', &major_of);
        if (s)
                s = number(s, 16, ' ', &minor_of);
        if (!s)
                return -ENOENT;
        /* The name follows after blanks; of some mappings there is none. */
        if (!number(s, 10, ' ', &inode) && !number(s, 10, '\0', &inode))
                return -ENOENT;
        if (rights[3] != 's' || inode == 0 || major_of > UINT32_MAX || minor_of > UINT32_MAX || offset + (end - start) < offset)
                return -ENOENT;
        *ret_dev = makedev((unsigned) major_of, (unsigned) minor_of);
        *ret_ino = (ino_t) inode;
        *ret_offset = offset;
        *ret_size = end - start;
        return 0;
}

struct found {
        dev_t dev;
        ino_t ino;
        struct dma_span *spans;
        size_t n, room;
};

static int take_line(struct found *f, const char *line) {
        uint64_t offset, size;
        struct dma_span span;
        dev_t dev;
        ino_t ino;

        if (dma_maps_line(line, &dev, &ino, &offset, &size) < 0 || dev != f->dev || ino != f->ino || (offset | size) % RANGE_PAGE)
                return 0;
        span = (struct dma_span){ offset >> RANGE_SHIFT, ((offset + size) >> RANGE_SHIFT) - 1 };
        if (f->n > 0 && f->spans[f->n - 1].last + 1 == span.first) {
                f->spans[f->n - 1].last = span.last;
                return 0;
        }
        if (f->n == SPANS_MAX)
                return 0;
        if (f->n == f->room) {
                size_t room = f->room ? f->room * 2 : 8;
                struct dma_span *spans = reallocarray(f->spans, room, sizeof(*spans));

                if (!spans)
                        return -ENOMEM;
                f->spans = spans;
                f->room = room;
        }
        f->spans[f->n++] = span;
        return 0;
}

static int by_first(const void *a, const void *b) {
        const struct dma_span *x = a, *y = b;

        return x->first < y->first ? -1 : x->first > y->first;
}

static void merge(struct found *f) {
        size_t n = 0;

        if (f->n == 0)
                return;
        qsort(f->spans, f->n, sizeof(*f->spans), by_first);
        for (size_t i = 1; i < f->n; i++)
                if (f->spans[i].first <= f->spans[n].last + 1) {
                        if (f->spans[i].last > f->spans[n].last)
                                f->spans[n].last = f->spans[i].last;
                } else
                        f->spans[++n] = f->spans[i];
        f->n = n + 1;
}

int dma_read_maps(TdiHost *host, int maps, dev_t dev, ino_t ino, struct dma_span **ret, size_t *ret_n) {
        struct found f = { .dev = dev, .ino = ino };
        _cleanup_free_ char *buf = NULL;
        uint64_t offset = 0;
        bool skipping = false;
        size_t have = 0;
        ssize_t n;
        int r = 0;

        buf = malloc(MAPS_BUFFER + 1);
        if (!buf)
                return -ENOMEM;
        while ((n = host_pread(host, maps, buf + have, MAPS_BUFFER - have, offset)) > 0) {
                char *line = buf, *end;

                offset += (uint64_t) n;
                have += (size_t) n;
                buf[have] = '\0';
                while (r == 0 && (end = memchr(line, '\n', have - (size_t) (line - buf)))) {
                        *end = '\0';
                        if (!skipping)
                                r = take_line(&f, line);
                        skipping = false;
                        line = end + 1;
                }
                have -= (size_t) (line - buf);
                memmove(buf, line, have);
                /* A name longer than the buffer: what counts stands before it. */
                if (r == 0 && have == MAPS_BUFFER) {
                        buf[have] = '\0';
                        if (!skipping)
                                r = take_line(&f, buf);
                        skipping = true;
                        have = 0;
                }
                if (r < 0)
                        break;
        }
        if (n < 0)
                r = (int) n;
        if (r < 0) {
                free(f.spans);
                return r;
        }
        merge(&f);
        *ret = f.spans;
        *ret_n = f.n;
        return 0;
}

bool dma_spans_cover(const struct dma_span *spans, size_t n, uint64_t first, uint64_t last) {
        size_t low = 0, high = n;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (spans[middle].last < first)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low < n && spans[low].first <= first && spans[low].last >= last;
}

int dma_is_mapped_by_peer(const struct dma_span *spans, size_t n, uint64_t offset, uint64_t size, char why[static DMA_WHY]) {
        if (dma_spans_cover(spans, n, offset >> RANGE_SHIFT, (offset + size - 1) >> RANGE_SHIFT))
                return 0;
        snprintf(why, DMA_WHY, "the process does not map 0x%" PRIx64 " bytes at offset 0x%" PRIx64
                 " of the file shared (share=on, and one file for each backend)", size, offset);
        return -EACCES;
}
