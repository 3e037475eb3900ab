/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Workers, spare and at work, with real processes: who is handed out again, whose lock it is, and what a command does. */
#include <signal.h>
#include <sys/file.h>

#include "test.h"
#include "worker.h"

static Manager *manager;
static char lock_path[96];

struct result {
        bool there;
        int r;
        size_t ran;
        char text[256];
};

static void on_result(Worker *w, int r, const char *text, _unused_ struct json_object *values, _unused_ struct ipc_fds *fds, void *userdata) {
        struct result *result = userdata;

        *result = (struct result){ .there = true, .r = r, .ran = worker_ran(w) };
        snprintf(result->text, sizeof(result->text), "%s", text);
}

/* Runs the loop until *what, or for some seconds. */
static bool wait_for(bool (*what)(const void *data), const void *data) {
        uint64_t until = now_monotonic() + 10000000;

        while (!what(data) && now_monotonic() < until)
                (void) sd_event_run(manager->event, 20000);
        return what(data);
}

static bool has_result(const void *data) {
        return ((const struct result *) data)->there;
}

static bool spares_are(const void *data) {
        return manager->n_spares == *(const size_t *) data;
}

static bool workers_are(const void *data) {
        return worker_count(manager) == *(const unsigned *) data;
}

static int open_lock(void) {
        int fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

        require(fd >= 0);
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
                return close_fd(fd);
        return fd;
}

static bool is_unlocked(_unused_ const void *data) {
        int fd = open_lock();

        close_fd(fd);
        return fd >= 0;
}

static Worker *new_worker(bool locked) {
        _cleanup_close_ int lock = locked ? open_lock() : -EBADF;
        Worker *w = NULL;

        check(!locked || lock >= 0);
        require(worker_new(manager, lock, &w) == 0);
        return w;
}

static struct result call_all(Worker *w, const char *const *ops, size_t n, const int *fds, size_t n_fds) {
        struct result result = {};

        if (n == 1)
                require(worker_call(w, ops[0], "do", NULL, fds, n_fds, on_result, &result) == 0);
        else
                require(worker_call_all(w, ops, n, "do", NULL, on_result, &result) == 0);
        check(worker_busy(w));
        check_int(worker_call(w, ops[0], "do", NULL, NULL, 0, on_result, &result), -EBUSY);
        require(wait_for(has_result, &result));
        check(!worker_busy(w));
        return result;
}

static struct result call(Worker *w, const char *op, const int *fds, size_t n_fds) {
        return call_all(w, &op, 1, fds, n_fds);
}

static void test_no_spares(void) {
        Worker *w;

        test_about("%s", "before there shall be any");
        w = new_worker(false);
        check_int(call(w, "vm.close", NULL, 0).r, 0);
        worker_rest(w);
        check_int(manager->n_spares, 0);
        check(wait_for(workers_are, &(unsigned){ 0 }));
        check(!worker_rest(NULL) && !worker_free(NULL));
}

static void test_lock(void) {
        Worker *w;

        test_about("%s", "the lock");
        w = new_worker(true);
        check(!is_unlocked(NULL));
        check_int(call(w, "vm.close", NULL, 0).r, 0);
        check(!is_unlocked(NULL));
        check_int(call(w, "vm.close", NULL, 0).r, 0);
        check_int(worker_count(manager), 1);
        worker_rest(w);
        check_int(worker_count(manager), 0);
        check(wait_for(is_unlocked, NULL));
        check_int(manager->n_spares, 2);
        /* One that never got a command: the lock was still ours. */
        w = new_worker(true);
        check(!is_unlocked(NULL));
        worker_free(w);
        check(is_unlocked(NULL));
        check(wait_for(spares_are, &(size_t){ 2 }));
}

static void test_not_empty(void) {
        _cleanup_close_ int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        Worker *w;

        test_about("%s", "who holds something ends");
        w = new_worker(true);
        check_int(call(w, "take", &fd, 1).r, 0);
        worker_rest(w);
        check(wait_for(is_unlocked, NULL));
        check(wait_for(spares_are, &(size_t){ 1 }));
        check(wait_for(spares_are, &(size_t){ 2 }));

        test_about("%s", "who has closed it rests");
        w = new_worker(true);
        check_int(call(w, "vm.take", (int[]){ fd, fd }, 2).r, 0);
        check_int(call(w, "vm.close", NULL, 0).r, 0);
        worker_rest(w);
        check(wait_for(is_unlocked, NULL));
        check_int(manager->n_spares, 2);
}

static void test_failed(void) {
        Worker *w;
        struct result result;

        test_about("%s", "who has failed ends");
        w = new_worker(true);
        result = call(w, "no.such", NULL, 0);
        check_int(result.r, -ENOSYS);
        check_int(result.ran, 0);
        check(strstr(result.text, "no.such"));
        worker_rest(w);
        check_int(manager->n_spares, 1);
        check(wait_for(is_unlocked, NULL));
        check(wait_for(spares_are, &(size_t){ 2 }));
}

static void test_command(void) {
        Worker *w = new_worker(true);
        struct result result;

        test_about("%s", "several operations");
        result = call_all(w, (const char *[]){ "vm.close", "vm.close", "vm.close" }, 3, NULL, 0);
        check_int(result.r, 0);
        check_int(result.ran, 3);
        result = call_all(w, (const char *[]){ "vm.close", "no.such", "vm.close" }, 3, NULL, 0);
        check_int(result.r, -ENOSYS);
        check_int(result.ran, 1);
        check(strstr(result.text, "no.such"));
        worker_free(w);
        check(wait_for(is_unlocked, NULL));
        check(wait_for(spares_are, &(size_t){ 2 }));
}

static void test_killed(void) {
        struct result result = {};
        Worker *w;

        test_about("%s", "a spare one that has ended");
        for (size_t i = 0; i < manager->n_spares; i++)
                worker_kill(manager->spares[i]);
        (void) usleep(200000);
        w = new_worker(true);
        check_int(call(w, "vm.close", NULL, 0).r, 0);

        test_about("%s", "one that ends at work");
        worker_kill(w);
        (void) usleep(200000);
        if (worker_call(w, "vm.close", "do", NULL, NULL, 0, on_result, &result) >= 0) {
                check(wait_for(has_result, &result));
                check_int(result.r, -ECONNRESET);
                check_int(result.ran, 0);
        }
        check(!worker_rest(w));
        check(wait_for(is_unlocked, NULL));
        check(wait_for(spares_are, &(size_t){ 2 }));
        check(wait_for(workers_are, &(unsigned){ 0 }));
}

static void test_limit(void) {
        _cleanup_close_ int lock = open_lock();
        Worker *w = NULL, *two = NULL, *reader;

        test_about("%s", "limit");
        manager->config.workers = 1;
        require(worker_new(manager, lock, &w) == 0);
        check_int(worker_new(manager, lock, &two), -EAGAIN);
        check(!two);
        reader = new_worker(false);
        worker_free(reader);
        worker_free(w);
        manager->config.workers = 128;
        check(wait_for(workers_are, &(unsigned){ 0 }));
}

int main(int argc, char **argv) {
        char dir[64];
        sigset_t mask;

        require(argc == 2);
        sigemptyset(&mask);
        sigaddset(&mask, SIGCHLD);
        require(sigprocmask(SIG_BLOCK, &mask, NULL) == 0);
        (void) signal(SIGPIPE, SIG_IGN);
        test_make_dir(dir);
        snprintf(lock_path, sizeof(lock_path), "%s/lock", dir);
        require(manager_new(&manager) == 0);
        require(free_and_strdup(&manager->libexec_dir, argv[1]) == 0 && free_and_strdup(&manager->host_spec, "linux") == 0);
        require(worker_open_program(manager) == 0);
        test_no_spares();
        worker_keep_spares(manager);
        check(wait_for(spares_are, &(size_t){ 2 }));
        test_lock();
        test_not_empty();
        test_failed();
        test_command();
        test_killed();
        test_limit();
        manager_free(manager);
        test_remove_dir(dir);
        return test_end();
}
