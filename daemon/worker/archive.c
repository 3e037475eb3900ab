/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writes the archive, and keeps it within its limits. */
#include "worker/archive.h"

#include <dirent.h>
#include <inttypes.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

/* Beyond what the limits let be there: somebody else has put it there. */
#define ENTRIES_MAX 100000u

struct entry {
        char name[80];
        struct timespec time;
        uint64_t size;
};

struct entries {
        struct entry *all;
        size_t n;
        uint64_t bytes;
};

int archive_digest(const void *data, size_t size, char ret[static ARCHIVE_DIGEST]) {
        uint8_t digest[EVP_MAX_MD_SIZE];
        unsigned n = 0;

        if (EVP_Digest(data, size, digest, &n, EVP_sha256(), NULL) != 1 || n != (ARCHIVE_DIGEST - 1) / 2)
                return -EIO;
        for (unsigned i = 0; i < n; i++)
                snprintf(ret + (size_t) 2 * i, 3, "%02x", digest[i]);
        return 0;
}

static int open_folder(int parent, const char *name) {
        int fd;

        if (mkdirat(parent, name, 0700) < 0 && errno != EEXIST)
                return -errno;
        fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

static int write_all(int fd, const void *data, size_t size) {
        const uint8_t *p = data;

        while (size > 0) {
                ssize_t n = write(fd, p, size);

                if (n < 0)
                        return -errno;
                p += n;
                size -= (size_t) n;
        }
        return fsync(fd) < 0 ? -errno : 0;
}

/* One that is there already is only made young again: its name is the digest of what it holds. */
static int put(int folder, const char *name, const void *data, size_t size, bool by_digest) {
        _cleanup_close_ int fd = -EBADF;
        char temporary[96];
        struct stat st;
        int r;

        if (by_digest && fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) >= 0 && S_ISREG(st.st_mode) && (uint64_t) st.st_size == size &&
            utimensat(folder, name, NULL, AT_SYMLINK_NOFOLLOW) >= 0)
                return 0;
        snprintf(temporary, sizeof(temporary), ".%s.new", name);
        fd = openat(folder, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        r = write_all(fd, data, size);
        if (r >= 0 && renameat(folder, temporary, folder, name) < 0)
                r = -errno;
        if (r < 0)
                (void) unlinkat(folder, temporary, 0);
        return r;
}

static int oldest_first(const void *a, const void *b) {
        const struct entry *x = a, *y = b;

        if (x->time.tv_sec != y->time.tv_sec)
                return x->time.tv_sec < y->time.tv_sec ? -1 : 1;
        if (x->time.tv_nsec != y->time.tv_nsec)
                return x->time.tv_nsec < y->time.tv_nsec ? -1 : 1;
        return strcmp(x->name, y->name);
}

static int look(int folder, struct entries *ret) {
        struct entries l = {};
        size_t room = 0;
        struct dirent *d;
        DIR *dir;
        int fd;

        fd = fd_dup(folder);
        dir = fd < 0 ? NULL : fdopendir(fd);
        if (!dir) {
                close_fd(fd);
                return fd < 0 ? fd : -errno;
        }
        rewinddir(dir);
        while ((d = readdir(dir)) && l.n < ENTRIES_MAX) {
                struct stat st;

                /* What was being written when its writer died goes as what it would have been. */
                if (streq(d->d_name, ".") || streq(d->d_name, "..") || strlen(d->d_name) >= sizeof(l.all->name) ||
                    fstatat(folder, d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
                        continue;
                if (l.n >= room) {
                        struct entry *t;

                        room = room ? room * 2 : 64;
                        t = reallocarray(l.all, room, sizeof(*l.all));
                        if (!t) {
                                free(l.all);
                                closedir(dir);
                                return -ENOMEM;
                        }
                        l.all = t;
                }
                l.all[l.n] = (struct entry){ .time = st.st_mtim, .size = (uint64_t) st.st_size };
                strcpy(l.all[l.n].name, d->d_name);
                l.bytes += (uint64_t) st.st_size;
                l.n++;
        }
        closedir(dir);
        if (l.n > 0)
                qsort(l.all, l.n, sizeof(*l.all), oldest_first);
        *ret = l;
        return 0;
}

/* The newest @keep stay, whatever they have. */
static int prune(int folder, uint64_t most, uint64_t most_bytes, size_t keep) {
        struct entries l = {};
        int r;

        r = look(folder, &l);
        if (r < 0)
                return r;
        for (size_t i = 0, left = l.n; i + keep < l.n && (left > most || l.bytes > most_bytes); i++) {
                if (unlinkat(folder, l.all[i].name, 0) < 0 && errno != ENOENT) {
                        r = -errno;
                        break;
                }
                left--;
                l.bytes -= l.all[i].size;
        }
        free(l.all);
        return r;
}

int archive_store(const char *folder, const struct evidence *e, const char *bdf, const char *record, const struct archive_limits *limits, char ret_name[static 64]) {
        _cleanup_close_ int top = -EBADF, objects = -EBADF, records = -EBADF, lock = -EBADF;
        size_t n = 0;
        int r = 0;

        top = open_folder(AT_FDCWD, folder);
        if (top < 0)
                return top;
        lock = openat(top, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (lock < 0 || flock(lock, LOCK_EX) < 0)
                return -errno;
        objects = open_folder(top, "objects");
        if (objects < 0)
                return objects;
        records = open_folder(top, "records");
        if (records < 0)
                return records;
        for (int i = 0; i < _EVIDENCE_TYPE_MAX && r >= 0; i++) {
                char name[ARCHIVE_DIGEST];

                if (!e->objects[i].data)
                        continue;
                r = archive_digest(e->objects[i].data, e->objects[i].size, name);
                if (r >= 0)
                        r = put(objects, name, e->objects[i].data, e->objects[i].size, true);
                n++;
        }
        if (r >= 0 && fsync(objects) < 0)
                r = -errno;
        if (r < 0)
                return r;
        snprintf(ret_name, 64, "%020" PRIu64 "-%.24s.json", e->time_usec, bdf);
        r = put(records, ret_name, record, strlen(record), false);
        if (r >= 0 && fsync(records) < 0)
                r = -errno;
        if (r >= 0)
                r = prune(records, limits->records, limits->bytes, 1);
        return r < 0 ? r : prune(objects, UINT64_MAX, limits->bytes, n);
}

/* ---- reading ---- */

static int read_file(int folder, const char *name, size_t max, char **ret, size_t *ret_size) {
        _cleanup_close_ int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
        _cleanup_free_ char *data = NULL;
        struct stat st;
        size_t n = 0;

        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EBADMSG;
        if ((uint64_t) st.st_size > max)
                return -EFBIG;
        data = malloc((size_t) st.st_size + 1);
        if (!data)
                return -ENOMEM;
        while (n < (size_t) st.st_size) {
                ssize_t got = read(fd, data + n, (size_t) st.st_size - n);

                if (got <= 0)
                        return got < 0 ? -errno : -EBADMSG;
                n += (size_t) got;
        }
        data[n] = '\0';
        *ret = TAKE_PTR(data);
        *ret_size = n;
        return 0;
}

static int open_part(const char *folder, const char *name) {
        _cleanup_close_ int top = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int fd;

        if (top < 0)
                return -errno;
        fd = openat(top, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

/* TIME-BDF.json: digits of one length, so that the last in the order of text is the newest. */
static bool is_record_of(const char *name, const char *bdf) {
        char end[64];

        if (strspn(name, "0123456789") != 20)
                return false;
        snprintf(end, sizeof(end), "-%.24s.json", bdf);
        return streq(name + 20, end);
}

int archive_newest(const char *folder, const char *bdf, size_t max, char ret_name[static 64], char **ret_record) {
        _cleanup_close_ int records = open_part(folder, "records");
        struct entries l = {};
        const char *newest = NULL;
        size_t size;
        int r;

        if (records < 0)
                return records;
        r = look(records, &l);
        for (size_t i = 0; r >= 0 && i < l.n; i++)
                if (is_record_of(l.all[i].name, bdf) && (!newest || strcmp(l.all[i].name, newest) > 0))
                        newest = l.all[i].name;
        if (r >= 0)
                r = newest ? read_file(records, newest, max, ret_record, &size) : -ENOENT;
        if (r >= 0)
                snprintf(ret_name, 64, "%.63s", newest);
        free(l.all);
        return r;
}

int archive_object(const char *folder, const char *digest, uint8_t **ret, size_t *ret_size) {
        _cleanup_close_ int objects = -EBADF;
        char *data = NULL, found[ARCHIVE_DIGEST];
        size_t size = 0;
        int r;

        if (strlen(digest) != ARCHIVE_DIGEST - 1 || strspn(digest, "0123456789abcdef") != ARCHIVE_DIGEST - 1)
                return -EBADMSG;
        objects = open_part(folder, "objects");
        if (objects < 0)
                return objects;
        r = read_file(objects, digest, EVIDENCE_OBJECT_MAX, &data, &size);
        if (r >= 0)
                r = archive_digest(data, size, found);
        if (r >= 0 && !streq(found, digest))
                r = -EBADMSG;
        if (r < 0) {
                free(data);
                return r;
        }
        *ret = (uint8_t *) data;
        *ret_size = size;
        return 0;
}
