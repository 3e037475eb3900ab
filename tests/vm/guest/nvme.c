/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the guest does with a disk behind the kernel's own nvme driver:
 *
 *      nvme DISK       reads and compares sectors of a disk of topology.json, writes some and reads them back
 *      nvme-gone       waits until there is none
 */
#define _GNU_SOURCE
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NODE "/dev/nvme0n1"
#define SECTOR 512u
#define BLOCK 65536u

/* As tests/vm/boot fills it. */
static void wanted(uint8_t *p, const char *disk, unsigned long sector) {
        char text[64];
        int n = snprintf(text, sizeof(text), "tdid %s sector %lu\n", disk, sector);

        for (unsigned i = 0; i < SECTOR; i++)
                p[i] = (uint8_t) text[i % (unsigned) n];
}

static bool compare(int fd, uint8_t *buf, const char *disk, unsigned long sector) {
        uint8_t text[SECTOR];

        if (pread(fd, buf, BLOCK, (off_t) sector * SECTOR) != BLOCK)
                return fail("%s: cannot read sector %lu: %m", NODE, sector);
        for (unsigned i = 0; i < BLOCK / SECTOR; i++) {
                wanted(text, disk, sector + i);
                if (memcmp(buf + i * SECTOR, text, SECTOR) != 0)
                        return fail("%s: sector %lu differs: '%.20s'", NODE, sector + i, (const char *) buf + i * SECTOR);
        }
        return true;
}

static bool write_back(int fd, uint8_t *buf, unsigned long sector) {
        off_t at = (off_t) sector * SECTOR;

        for (unsigned i = 0; i < BLOCK; i++)
                buf[i] = (uint8_t) (i * 13 + i / 251);
        if (pwrite(fd, buf, BLOCK, at) != BLOCK)
                return fail("%s: cannot write sector %lu: %m", NODE, sector);
        memset(buf, 0, BLOCK);
        if (pread(fd, buf, BLOCK, at) != BLOCK)
                return fail("%s: cannot read back sector %lu: %m", NODE, sector);
        for (unsigned i = 0; i < BLOCK; i++)
                if (buf[i] != (uint8_t) (i * 13 + i / 251))
                        return fail("%s: byte %u written at sector %lu came back different", NODE, i, sector);
        return true;
}

/* Whoever comes next finds the disk as it was. */
static bool restore(int fd, uint8_t *buf, const char *disk, unsigned long sector) {
        for (unsigned i = 0; i < BLOCK / SECTOR; i++)
                wanted(buf + i * SECTOR, disk, sector + i);
        if (pwrite(fd, buf, BLOCK, (off_t) sector * SECTOR) != BLOCK || fsync(fd) < 0)
                return fail("%s: cannot write sector %lu again: %m", NODE, sector);
        return compare(fd, buf, disk, sector);
}

static int open_disk(void) {
        int64_t until = now_ms() + PATIENCE_MS;
        int fd;

        while ((fd = open(NODE, O_RDWR | O_DIRECT | O_CLOEXEC)) < 0 && now_ms() < until)
                sleep_ms(50);
        return fd;
}

static bool nvme(char **words) {
        uint8_t *buf;
        off_t size;
        bool ok;
        int fd;

        if (!words[0])
                return fail("which disk?");
        fd = open_disk();
        if (fd < 0)
                return fail("cannot open %s: %m", NODE);
        buf = aligned_alloc(4096, BLOCK);
        size = lseek(fd, 0, SEEK_END);
        ok = (buf && size > 2 * BLOCK) || fail("%s: too small", NODE);
        ok = ok && compare(fd, buf, words[0], 0) && compare(fd, buf, words[0], 1000) &&
             compare(fd, buf, words[0], (unsigned long) (size - BLOCK) / SECTOR) && write_back(fd, buf, 2000) &&
             restore(fd, buf, words[0], 2000);
        free(buf);
        close(fd);
        if (ok)
                say("nvme: %lld MiB of %s", (long long) size >> 20, words[0]);
        return ok;
}

static bool nvme_gone(char **words) {
        int64_t until = now_ms() + 3 * PATIENCE_MS;

        (void) words;
        while (access(NODE, F_OK) == 0)
                if (now_ms() >= until)
                        return fail("%s is still there", NODE);
                else
                        sleep_ms(50);
        return true;
}

const struct test nvme_tests[] = { { "nvme", nvme }, { "nvme-gone", nvme_gone }, { NULL, NULL } };
