/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* SPDM over a DOE mailbox of a function of this machine, through the seam. */
#include <endian.h>
#include <time.h>

#include "evidence/doe.h"

struct spdm_doe {
        struct spdm_transport transport; /* first: this is what callers hold */
        struct doe_access access;
        TdiHost *host;
        int fd;
        unsigned offset;
};

static int config_read(void *userdata, unsigned offset, uint32_t *ret) {
        const struct spdm_doe *d = userdata;
        uint32_t word;
        ssize_t n = host_pread(d->host, d->fd, &word, sizeof(word), offset);

        if (n < 0)
                return (int) n;
        /* Less is what the kernel shows to those who may not see it, and of functions without an extended config space. */
        if (n != sizeof(word))
                return -ENXIO;
        *ret = le32toh(word);
        return 0;
}

static int config_write(void *userdata, unsigned offset, uint32_t value) {
        const struct spdm_doe *d = userdata;
        uint32_t word = htole32(value);
        ssize_t n = host_pwrite(d->host, d->fd, &word, sizeof(word), offset);

        return n < 0 ? (int) n : n == sizeof(word) ? 0 : -EIO;
}

static uint64_t clock_now(_unused_ void *userdata) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

static void clock_sleep(_unused_ void *userdata, uint64_t usec) {
        struct timespec ts = { .tv_sec = (time_t) (usec / 1000000), .tv_nsec = (long) (usec % 1000000) * 1000 };

        (void) clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
}

static int spdm_doe_exchange(struct spdm_transport *t, const void *request, size_t size, void *response, size_t max, size_t *ret_size, uint64_t usec,
                             struct evidence_why *why) {
        const struct spdm_doe *d = (struct spdm_doe *) t;

        return doe_exchange(&d->access, d->offset, DOE_TYPE_CMA_SPDM, request, size, response, max, ret_size, usec, why);
}

int spdm_doe_open(TdiHost *host, const char *config, struct spdm_transport **ret, struct evidence_why *why) {
        _cleanup_(spdm_doe_closep) struct spdm_transport *t = NULL;
        struct spdm_doe *d = calloc(1, sizeof(*d));
        int r;

        if (!d)
                return -ENOMEM;
        t = &d->transport;
        *t = (struct spdm_transport){ .exchange = spdm_doe_exchange, .max_message = DOE_SPDM_MAX, .alignment = 4, .latency_usec = DOE_USEC };
        d->access = (struct doe_access){ config_read, config_write, clock_now, clock_sleep, d };
        d->host = host;
        d->fd = host_open(host, config, O_RDWR);
        if (d->fd < 0)
                return evidence_refuse(why, EVIDENCE_TRANSPORT, "%s: cannot be opened: %s", config, strerror(-d->fd));
        r = doe_find(&d->access, DOE_TYPE_CMA_SPDM, &d->offset, why);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(t);
        return 0;
}

struct spdm_transport *spdm_doe_close(struct spdm_transport *t) {
        struct spdm_doe *d = (struct spdm_doe *) t;

        if (d) {
                if (d->fd >= 0)
                        (void) host_close(d->host, d->fd);
                free(d);
        }
        return NULL;
}
