/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Waiting and telling; what has failed, and what that means for bus mastering. */
#include <inttypes.h>
#include <stdio.h>

#include "vm/vpci/dma-internal.h"

/* A client whose maps all fail tells so often in so many seconds; the count goes on. */
#define TELL_MAX 16
#define TELL_SECONDS 60

/* ---- lock ---- */

void dma_lock(struct dma *d) {
        (void) pthread_mutex_lock(&d->lock);
}

/* Lock held, and again afterwards. */
static void settle(struct dma *d) {
        struct dma_closing *closing = TAKE_PTR(d->closing);
        struct dma_said *said = TAKE_PTR(d->said);

        d->said_end = &d->said;
        (void) pthread_mutex_unlock(&d->lock);
        while (closing) {
                struct dma_closing *next = closing->next;

                close_fd(closing->fd);
                free(closing);
                closing = next;
        }
        for (struct dma_said *s = said; s; s = s->next)
                s->client->notify(s->event, s->has_text ? s->text : NULL, s->client->userdata);
        (void) pthread_mutex_lock(&d->lock);
        while (said) {
                struct dma_said *next = said->next;

                said->client->telling--;
                free(said);
                said = next;
        }
        dma_changed(d);
}

void dma_unlock(struct dma *d) {
        while (d->said || d->closing)
                settle(d);
        (void) pthread_mutex_unlock(&d->lock);
}

struct timespec dma_deadline(unsigned msec) {
        struct timespec t;

        (void) clock_gettime(CLOCK_MONOTONIC, &t);
        t.tv_sec += msec / 1000;
        t.tv_nsec += (long) (msec % 1000) * 1000000;
        if (t.tv_nsec >= 1000000000) {
                t.tv_nsec -= 1000000000;
                t.tv_sec++;
        }
        return t;
}

bool dma_is_over(const struct timespec *deadline) {
        struct timespec t;

        (void) clock_gettime(CLOCK_MONOTONIC, &t);
        return t.tv_sec > deadline->tv_sec || (t.tv_sec == deadline->tv_sec && t.tv_nsec >= deadline->tv_nsec);
}

int dma_wait(struct dma *d, const struct timespec *deadline) {
        int r;

        if (d->said || d->closing) {
                settle(d);
                return 0;
        }
        d->waiters++;
        r = deadline ? pthread_cond_timedwait(&d->changed, &d->lock, deadline) : pthread_cond_wait(&d->changed, &d->lock);
        d->waiters--;
        return r == ETIMEDOUT ? -ETIMEDOUT : 0;
}

void dma_changed(struct dma *d) {
        if (d->waiters > 0)
                (void) pthread_cond_broadcast(&d->changed);
}

/* ---- for later ---- */

void dma_say(struct dma_client *c, enum dma_event event, const char *text) {
        size_t size = text ? strlen(text) + 1 : 0;
        struct dma_said *s;

        s = malloc(sizeof(*s) + size);
        if (!s)
                return;
        *s = (struct dma_said){ .client = c, .event = event, .has_text = text };
        if (text)
                memcpy(s->text, text, size);
        c->telling++;
        *c->d->said_end = s;
        c->d->said_end = &s->next;
}

void dma_close_later(struct dma *d, int fd) {
        struct dma_closing *closing;

        if (fd < 0)
                return;
        closing = malloc(sizeof(*closing));
        if (!closing) {
                close_fd(fd);
                return;
        }
        *closing = (struct dma_closing){ d->closing, fd };
        d->closing = closing;
}

/* ---- what has failed ---- */

enum dma_master dma_find_master(const struct dma_client *c) {
        if (c->failed.n > 0 || c->failed_lost)
                return DMA_MASTER_NO;
        return c->pending > 0 ? DMA_MASTER_STAYS : DMA_MASTER_YES;
}

void dma_update_master(struct dma_client *c) {
        enum dma_master master = dma_find_master(c);

        if (master == c->master)
                return;
        c->master = master;
        dma_say(c, DMA_EVENT_MASTER, NULL);
}

/* The limit of entries holds for these too; without room for them the function stays as it is until all is unmapped. */
static void put_failed(struct dma_client *c, const struct range *r) {
        if (c->d->maps >= c->d->limits.maps || ranges_insert(&c->failed, r) < 0) {
                c->failed_lost = true;
                return;
        }
        c->d->maps++;
}

static void remove_failed(struct dma_client *c, struct ranges_at at) {
        ranges_remove(&c->failed, at);
        c->d->maps--;
}

uint64_t dma_unfail(struct dma_client *c, uint64_t first, uint64_t last) {
        struct ranges_at at;
        struct range *found;
        uint64_t pages = 0;

        while ((found = ranges_seek(&c->failed, first, &at)) && found->first <= last) {
                struct range r = *found, part = r;
                uint64_t begin = r.first > first ? r.first : first, end = range_last(&r) < last ? range_last(&r) : last;

                pages += end - begin + 1;
                remove_failed(c, at);
                if (r.first < begin) {
                        part.pages = begin - r.first;
                        put_failed(c, &part);
                }
                if (range_last(&r) > end) {
                        part.first = end + 1;
                        part.pages = range_last(&r) - end;
                        put_failed(c, &part);
                }
        }
        return pages;
}

/* Neighbours that failed for the same reason are one. */
static void add_failed(struct dma_client *c, uint64_t first, uint64_t last, int error) {
        struct ranges_at at;
        struct range *found;

        (void) dma_unfail(c, first, last);
        if (first > 0) {
                found = ranges_seek(&c->failed, first - 1, &at);
                if (found && range_last(found) == first - 1 && found->offset == (uint64_t) error) {
                        first = found->first;
                        remove_failed(c, at);
                }
        }
        found = ranges_seek(&c->failed, last, &at);
        if (found && found->first == last + 1 && found->offset == (uint64_t) error) {
                last = range_last(found);
                remove_failed(c, at);
        }
        /* All pages there are is one more than an entry counts. */
        if (last - first == RANGE_PAGE_MAX)
                put_failed(c, &(struct range){ .first = last--, .pages = 1, .offset = (uint64_t) error });
        put_failed(c, &(struct range){ .first = first, .pages = last - first + 1, .offset = (uint64_t) error });
}

void dma_fail(struct dma_client *c, uint64_t iova, uint64_t size, int r, const char *why) {
        struct timespec now;
        char text[DMA_WHY + 256];

        add_failed(c, iova >> RANGE_SHIFT, (iova + size - 1) >> RANGE_SHIFT, -r);
        dma_update_master(c);
        (void) clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec - c->told_time >= TELL_SECONDS) {
                c->told_time = now.tv_sec;
                c->told_failed = 0;
        }
        if (c->told_failed >= TELL_MAX)
                return;
        c->told_failed++;
        snprintf(text, sizeof(text),
                 "guest memory at 0x%" PRIx64 ", 0x%" PRIx64 " bytes, could not be mapped into IOAS %u: %s%s%s; "
                 "the function is kept from bus mastering until the VMM unmaps that range or maps it again",
                 iova, size, c->space->ioas, isempty(why) ? "" : why, isempty(why) ? "" : ": ", strerror(-r));
        dma_say(c, DMA_EVENT_FAILED, text);
}
