/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The holder's store: descriptors by key, its limits, and that every descriptor is closed once. */
#include <sys/eventfd.h>

#include "test.h"
#include "vm/store.h"

static int new_fd(void) {
        int fd = eventfd(0, EFD_CLOEXEC);

        require(fd >= 0);
        return fd;
}

static bool is_open(int fd) {
        return fcntl(fd, F_GETFD) >= 0;
}

static void test_put_get_drop(void) {
        unsigned before = test_count_fds();
        struct store s = {};
        int a = new_fd(), b = new_fd(), c = new_fd();

        check_int(store_get(&s, "a"), -ENOENT);
        check_int(store_drop(&s, "a"), -ENOENT);
        check_int(store_put(&s, "a", a), 0);
        check_int(store_put(&s, "b", b), 0);
        check_int(s.n, 2);
        check_int(store_get(&s, "a"), a);
        check_int(store_get(&s, "b"), b);
        check_int(store_get(&s, "A"), -ENOENT);
        check_int(store_get(&s, ""), -ENOENT);

        /* The same key again: the old one is closed. */
        check_int(store_put(&s, "a", c), 0);
        check_int(s.n, 2);
        check_int(store_get(&s, "a"), c);
        check(!is_open(a) && is_open(c));

        /* The last entry moves into the gap. */
        check_int(store_drop(&s, "a"), 0);
        check(!is_open(c));
        check_int(store_get(&s, "a"), -ENOENT);
        check_int(store_get(&s, "b"), b);
        check_int(store_drop(&s, "a"), -ENOENT);
        store_clear(&s);
        check(!is_open(b) && s.n == 0 && !s.entries && !s.state);
        store_clear(&s);
        check_int(test_count_fds(), before);
}

static void test_refused(void) {
        char key[STORE_KEY_LENGTH_MAX + 2];
        struct store s = {};
        int fd = new_fd();

        memset(key, 'k', sizeof(key) - 1);
        key[sizeof(key) - 1] = '\0';
        check_int(store_put(&s, "", fd), -EINVAL);
        check_int(store_put(&s, "a", -EBADF), -EINVAL);
        check_int(store_put(&s, key, fd), -EINVAL);
        check_int(s.n, 0);
        /* Refused: it is still the caller's. */
        check(is_open(fd));
        key[STORE_KEY_LENGTH_MAX] = '\0';
        check_int(store_put(&s, key, fd), 0);
        check_int(store_get(&s, key), fd);
        /* An entry stays when what shall replace it is refused. */
        check_int(store_put(&s, key, -EBADF), -EINVAL);
        check_int(store_get(&s, key), fd);
        store_clear(&s);
}

/* The store looks into no descriptor: here they are numbers that nothing is open at. */
static void test_full(void) {
        struct store s = {};
        char key[32];

        for (int i = 0; i < STORE_KEYS_MAX; i++) {
                snprintf(key, sizeof(key), "key:%d", i);
                check_int(store_put(&s, key, 1 << 20 | i), 0);
        }
        check_int(store_put(&s, "one more", 1 << 22), -ENOSPC);
        check_int(s.n, STORE_KEYS_MAX);
        /* Replacing needs no room. */
        check_int(store_put(&s, "key:0", 1 << 22), 0);
        check_int(store_drop(&s, "key:1"), 0);
        check_int(store_put(&s, "one more", 1 << 23), 0);
        for (int i = 2; i < STORE_KEYS_MAX; i++) {
                snprintf(key, sizeof(key), "key:%d", i);
                check_int(store_get(&s, key), 1 << 20 | i);
        }
        store_clear(&s);
}

static void test_state(void) {
        _cleanup_json_ struct json_object *a = json_new(), *b = json_new();
        struct store s = {};

        store_set_state(&s, a);
        check(s.state == a);
        store_set_state(&s, b);
        check(s.state == b);
        store_set_state(&s, b);
        check(s.state == b);
        store_clear(&s);
        /* It had references of its own. */
        check_int(json_object_put(a), 1);
        check_int(json_object_put(b), 1);
        TAKE_PTR(a);
        TAKE_PTR(b);
}

int main(void) {
        test_put_get_drop();
        test_refused();
        test_full();
        test_state();
        return test_end();
}
