/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Finds mailboxes by discovery, and exchanges one object at a time. */
#include "evidence/doe.h"

#include <endian.h>
#include <string.h>

#define EXTENDED 0x100u
#define CONFIG_SIZE 0x1000u
#define CAPABILITY_DOE 0x2eu
#define CAPABILITIES_MAX ((CONFIG_SIZE - EXTENDED) / 4)
#define DOE_SIZE 0x18u

#define CONTROL 0x08u
#define CONTROL_ABORT 0x00000001u
#define CONTROL_GO 0x80000000u
#define STATUS 0x0cu
#define STATUS_BUSY 0x00000001u
#define STATUS_ERROR 0x00000004u
#define STATUS_READY 0x80000000u
#define WRITE_MAILBOX 0x10u
#define READ_MAILBOX 0x14u

#define POLL_USEC 1000u
#define POLLS_AT_ONCE 16u /* emulated mailboxes and fast ones have answered by then */

struct mailbox {
        const struct doe_access *a;
        unsigned offset;
        struct evidence_why *why;
};

static int fail(struct mailbox *m, int r, const char *what) {
        return evidence_refuse(m->why, EVIDENCE_TRANSPORT, "DOE mailbox at 0x%x: %s: %s", m->offset, what, strerror(-r));
}

static int get(struct mailbox *m, unsigned reg, uint32_t *ret) {
        int r = m->a->read(m->a->userdata, m->offset + reg, ret);

        return r < 0 ? fail(m, r, "read") : 0;
}

static int put(struct mailbox *m, unsigned reg, uint32_t value) {
        int r = m->a->write(m->a->userdata, m->offset + reg, value);

        return r < 0 ? fail(m, r, "write") : 0;
}

/* Until one of the bits in @any is set, or all of those in @none are clear. -ETIMEDOUT; the status is there in any case. */
static int poll_status(struct mailbox *m, uint32_t any, uint32_t none, uint64_t usec, uint32_t *ret) {
        uint64_t end = m->a->now(m->a->userdata) + usec;

        for (unsigned i = 0;; i++) {
                int r = get(m, STATUS, ret);

                if (r < 0)
                        return r;
                /* A function that is gone reads as all ones. */
                if (*ret == UINT32_MAX)
                        return fail(m, -ENODEV, "status is 0xffffffff");
                if ((any && *ret & any) || (none && !(*ret & none)))
                        return 0;
                if (m->a->now(m->a->userdata) >= end)
                        return -ETIMEDOUT;
                if (i >= POLLS_AT_ONCE)
                        m->a->sleep(m->a->userdata, POLL_USEC);
        }
}

static int abort_exchange(struct mailbox *m) {
        uint32_t status = 0;
        int r;

        r = put(m, CONTROL, CONTROL_ABORT);
        if (r < 0)
                return r;
        r = poll_status(m, 0, STATUS_BUSY | STATUS_ERROR | STATUS_READY, DOE_USEC, &status);
        if (r == -ETIMEDOUT)
                return evidence_refuse(m->why, EVIDENCE_TRANSPORT, "DOE mailbox at 0x%x: status 0x%08x a second after an abort", m->offset, status);
        return r;
}

/* Nothing of an earlier exchange may be left in it. */
static int make_idle(struct mailbox *m) {
        uint32_t status = 0;
        int r;

        r = poll_status(m, 0, STATUS_BUSY, DOE_USEC, &status);
        if (r < 0 && r != -ETIMEDOUT)
                return r;
        return status & (STATUS_BUSY | STATUS_ERROR | STATUS_READY) ? abort_exchange(m) : 0;
}

void doe_header_make(uint8_t type, size_t size, uint8_t ret[static DOE_HEADER]) {
        uint32_t words[2] = { htole32(DOE_VENDOR_PCISIG | (uint32_t) type << 16), htole32((uint32_t) ((size + 3) / 4 + 2) & 0x3ffff) };

        memcpy(ret, words, DOE_HEADER);
}

int doe_header_check(const uint8_t header[static DOE_HEADER], uint8_t type, size_t max, size_t *ret_size, struct evidence_why *why) {
        uint32_t words[2];
        size_t n;

        memcpy(words, header, DOE_HEADER);
        words[0] = le32toh(words[0]);
        n = le32toh(words[1]) & 0x3ffff;
        if (n == 0)
                n = DOE_OBJECT_MAX / 4;
        if ((words[0] & 0xffffff) != (DOE_VENDOR_PCISIG | (uint32_t) type << 16))
                return evidence_refuse(why, EVIDENCE_TRANSPORT, "DOE object: of vendor 0x%04x and type %u, expected 0x%04x and %u", words[0] & 0xffff,
                                       (words[0] >> 16) & 0xff, DOE_VENDOR_PCISIG, type);
        if (n < 3)
                return evidence_refuse(why, EVIDENCE_SHORT, "DOE object: %zu double words, expected at least 3", n);
        if ((n - 2) * 4 > max)
                return evidence_refuse(why, EVIDENCE_TOO_LONG, "DOE object: %zu bytes in it, expected at most %zu", (n - 2) * 4, max);
        *ret_size = (n - 2) * 4;
        return 0;
}

static int send(struct mailbox *m, uint8_t type, const uint8_t *request, size_t size) {
        uint8_t header[DOE_HEADER];
        int r = 0;

        doe_header_make(type, size, header);
        for (size_t i = 0; r == 0 && i < DOE_HEADER + size; i += 4) {
                size_t left = i < DOE_HEADER ? 4 : DOE_HEADER + size - i;
                uint32_t word = 0;

                memcpy(&word, i < DOE_HEADER ? header + i : request + i - DOE_HEADER, left < 4 ? left : 4);
                r = put(m, WRITE_MAILBOX, le32toh(word));
        }
        return r < 0 ? r : put(m, CONTROL, CONTROL_GO);
}

/* A write, of anything, makes the mailbox show its next word. */
static int receive_word(struct mailbox *m, uint8_t ret[static 4]) {
        uint32_t word;
        int r;

        r = get(m, READ_MAILBOX, &word);
        if (r < 0)
                return r;
        word = htole32(word);
        memcpy(ret, &word, 4);
        return put(m, READ_MAILBOX, 0);
}

static int receive(struct mailbox *m, uint8_t type, uint8_t *response, size_t max, size_t *ret_size) {
        uint8_t header[DOE_HEADER];
        uint32_t status;
        size_t size = 0;
        int r;

        r = receive_word(m, header);
        if (r == 0)
                r = receive_word(m, header + 4);
        if (r == 0)
                r = doe_header_check(header, type, max & ~(size_t) 3, &size, m->why);
        for (size_t i = 0; r == 0 && i < size; i += 4) {
                /* The last word is there as long as READY is: what is read behind the end is not of the object. */
                if (i + 4 == size) {
                        r = get(m, STATUS, &status);
                        if (r == 0 && (!(status & STATUS_READY) || status & STATUS_ERROR))
                                r = evidence_refuse(m->why, EVIDENCE_SHORT,
                                                    "DOE mailbox at 0x%x: the object ends before its %zu bytes (status 0x%08x)", m->offset, size,
                                                    status);
                }
                if (r == 0)
                        r = receive_word(m, response + i);
        }
        if (r < 0)
                return r;
        r = get(m, STATUS, &status);
        if (r < 0)
                return r;
        if (status & (STATUS_READY | STATUS_ERROR))
                return evidence_refuse(m->why, EVIDENCE_TRAILING, "DOE mailbox at 0x%x: status 0x%08x behind an object of %zu bytes", m->offset,
                                       status, size);
        *ret_size = size;
        return 0;
}

static int exchange(struct mailbox *m, uint8_t type, const void *request, size_t size, void *response, size_t max, size_t *ret_size, uint64_t usec) {
        uint32_t status = 0;
        int r;

        r = make_idle(m);
        if (r == 0)
                r = send(m, type, request, size);
        if (r == 0)
                r = poll_status(m, STATUS_READY | STATUS_ERROR, 0, usec, &status);
        if (r == -ETIMEDOUT)
                return evidence_refuse(m->why, EVIDENCE_TIMEOUT, "DOE mailbox at 0x%x: no answer in %llu ms (status 0x%08x)", m->offset,
                                       (unsigned long long) usec / 1000, status);
        if (r < 0)
                return r;
        if (status & STATUS_ERROR)
                return evidence_refuse(m->why, EVIDENCE_TRANSPORT, "DOE mailbox at 0x%x: it tells an error (status 0x%08x)", m->offset, status);
        return receive(m, type, response, max, ret_size);
}

int doe_exchange(const struct doe_access *a, unsigned offset, uint8_t type, const void *request, size_t size, void *response, size_t max, size_t *ret_size,
                 uint64_t usec, struct evidence_why *why) {
        struct mailbox m = { a, offset, why };
        int r;

        if (size == 0 || size > DOE_OBJECT_MAX - DOE_HEADER)
                return evidence_refuse(why, EVIDENCE_TOO_LONG, "DOE object: %zu bytes in it, expected 1 to %u", size, DOE_OBJECT_MAX - DOE_HEADER);
        r = exchange(&m, type, request, size, response, max, ret_size, usec);
        if (r < 0)
                (void) abort_exchange(&m);
        return r;
}

/* ---- discovery ---- */

/* 1 if the mailbox takes such objects, 0 if not. From version 2 of the capability on the request says that it knows of it (PCIe 6.1). */
static int discover(struct mailbox *m, unsigned version, uint8_t type) {
        uint8_t index = 0;

        do {
                uint8_t request[4] = { index, version >= 2 ? 2 : 0 }, answer[4] = {}, next;
                size_t size;
                int r;

                r = doe_exchange(m->a, m->offset, DOE_TYPE_DISCOVERY, request, sizeof(request), answer, sizeof(answer), &size, DOE_USEC, m->why);
                if (r < 0)
                        return r;
                if ((answer[0] | answer[1] << 8) == DOE_VENDOR_PCISIG && answer[2] == type)
                        return 1;
                next = answer[3];
                if (next != 0 && next <= index)
                        return evidence_refuse(m->why, EVIDENCE_TRANSPORT, "DOE mailbox at 0x%x: discovery of index %u leads back to %u", m->offset,
                                               index, next);
                index = next;
        } while (index != 0);
        return 0;
}

int doe_find(const struct doe_access *a, uint8_t type, unsigned *ret_offset, struct evidence_why *why) {
        struct mailbox m = { a, EXTENDED, why };
        unsigned offset = EXTENDED, mailboxes = 0;

        for (unsigned i = 0; i < CAPABILITIES_MAX && offset >= EXTENDED; i++) {
                uint32_t header;
                int r;

                m.offset = offset;
                r = get(&m, 0, &header);
                if (r < 0)
                        return r;
                if (header == 0 || header == UINT32_MAX)
                        break;
                if ((header & 0xffff) == CAPABILITY_DOE && offset <= CONFIG_SIZE - DOE_SIZE) {
                        mailboxes++;
                        r = discover(&m, (header >> 16) & 0xf, type);
                        if (r < 0)
                                return r;
                        if (r > 0) {
                                *ret_offset = offset;
                                return 0;
                        }
                }
                offset = (header >> 20) & ~3u;
        }
        return evidence_refuse(why, EVIDENCE_TRANSPORT, "no DOE mailbox takes objects of type %u; the function has %u mailboxes", type, mailboxes);
}
