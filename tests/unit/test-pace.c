/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* How fast tdid starts again: a burst, then one after each pace; what is in the file may be anything. */
#include "pace.h"

#include <sys/stat.h>

#include "test.h"

#define SECOND UINT64_C(1000000)
#define NOW (1000 * SECOND)

static void test_rule(void) {
        uint64_t spent = 0, now = NOW, n = 0;

        /* One after the other without a rest: as many as the burst has, and none before its time after that. */
        while (pace_next(spent, now, &spent) == 0 && n <= 1000)
                n++;
        check_int(n, PACE_BURST_USEC / PACE_USEC);
        check_int(spent - now, PACE_BURST_USEC + PACE_USEC);
        /* Ended while they wait: the same again, not less, not more. */
        for (unsigned i = 0; i < 3; i++) {
                check_int(pace_next(spent, now, &spent), PACE_USEC);
                check_int(spent - now, PACE_BURST_USEC + PACE_USEC);
        }
        for (unsigned i = 0; i < 10; i++) {
                now += PACE_USEC;
                check_int(pace_next(spent, now, &spent), PACE_USEC);
        }
        /* Who comes slower than that never waits, and what was spent is there again after a while. */
        now += 2 * PACE_USEC;
        check_int(pace_next(spent, now, &spent), 0);
        now += PACE_BURST_USEC;
        for (n = 0; pace_next(spent, now, &spent) == 0 && n <= 1000;)
                n++;
        check_int(n, PACE_BURST_USEC / PACE_USEC);
}

static void test_odd(void) {
        static const uint64_t odd[] = { 0, 1, NOW - 1, NOW + PACE_BURST_USEC + PACE_USEC + 1, UINT64_MAX };
        uint64_t spent;

        for (size_t i = 0; i < ARRAY_SIZE(odd); i++) {
                test_about("%" PRIu64, odd[i]);
                check_int(pace_next(odd[i], NOW, &spent), 0);
                check_int(spent, NOW + PACE_USEC);
        }
        test_about("%s", "");
}

static void put(const char *dir, const char *text) {
        char path[128];
        int fd;

        snprintf(path, sizeof(path), "%s/pace", dir);
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        require(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t) strlen(text));
        close_fd(fd);
}

static void test_file(void) {
        static const char *const odd[] = { "", "\n", "junk", "-1", "99999999999999999999999999999999999999999999999999", "18446744073709551615" };
        char dir[64], path[128];
        unsigned n = 0;

        test_make_dir(dir);
        snprintf(path, sizeof(path), "%s/pace", dir);
        for (size_t i = 0; i < ARRAY_SIZE(odd); i++) {
                test_about("%s", odd[i]);
                put(dir, odd[i]);
                check_int(pace_begin(dir), 0);
                pace_end(dir);
                check_int(access(path, F_OK), -1);
        }
        test_about("%s", "");
        pace_end(dir);
        while (pace_begin(dir) == 0 && n <= 1000)
                n++;
        /* Time goes on meanwhile. */
        check(n >= PACE_BURST_USEC / PACE_USEC && n <= 1000);
        check(pace_begin(dir) > 0);
        pace_end(dir);
        check_int(pace_begin(dir), 0);
        pace_end(dir);
        require(mkdir(path, 0700) == 0);
        check(pace_begin(dir) < 0);
        require(rmdir(path) == 0);
        check_int(pace_begin("/nonexistent"), -ENOENT);
        test_remove_dir(dir);
}

int main(void) {
        test_rule();
        test_odd();
        test_file();
        return test_end();
}
