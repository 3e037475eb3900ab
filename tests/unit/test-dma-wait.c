/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A wait that is over by time, while what was waited for has gone: the linker puts __wrap_pthread_cond_timedwait() into its place. */
#include <semaphore.h>

#include "dma-test.h"

int __real_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *until);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *until);

static pthread_t test_thread;
static atomic_bool armed;
static sem_t waits, is_over;

/* The first wait of another thread than the test's lasts until the test says so, and ends by time. */
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *until) {
        if (pthread_equal(pthread_self(), test_thread) || !atomic_exchange(&armed, false))
                return __real_pthread_cond_timedwait(cond, lock, until);
        (void) pthread_mutex_unlock(lock);
        (void) sem_post(&waits);
        (void) sem_wait(&is_over);
        (void) pthread_mutex_lock(lock);
        return ETIMEDOUT;
}

/* A map whose check waits for the peer is unmapped, and freed, meanwhile. */
static void test_unmapped(void) {
        struct memory m = memory_new(16, 1);
        struct client x;

        require(dma_new(host, &(struct dma_limits){ UINT64_C(1) << 40, 1000 }, &dma) == 0);
        dma_set_iommufd(dma, iommufd);
        client_start(&x, 0);
        dma_client_set_patience(x.c, 0);
        atomic_store(&armed, true);
        check_int(map_pages(&x, 0, 1, &m, 0), 0);
        require(sem_wait(&waits) == 0);
        check_int(unmap_pages(&x, 0, 1), 1);
        check_int(described(&x, "pending"), 0);
        (void) sem_post(&is_over);
        /* The thread goes on: what comes later is made. */
        dma_set_peer(dma, new_peer_maps(), -EBADF);
        check_int(map_pages(&x, 1, 1, &m, 1), 0);
        check(gets_master(&x));
        check(seen(0, 1) == stamp(&m, 1));
        check_int(unmap_pages(&x, 0, 100), 1);
        client_end(&x);
        dma_end();
        memory_free(&m);
}

int main(void) {
        test_thread = pthread_self();
        require(sem_init(&waits, 0, 0) == 0 && sem_init(&is_over, 0, 0) == 0);
        machine_start();
        test_unmapped();
        machine_end();
        return test_end();
}
