/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The holder's protocol: each request by itself with its limits, and the loop with connections that come and go. */
#include <pthread.h>

#include "holder-client.h"
#include "vm/serve.h"

static struct store store;
static struct json_object *answer;
static int answer_fds[IPC_FDS_MAX];
static size_t n_answer_fds;
static bool is_exit;

/* One request with so many descriptors; the answer's "r". Descriptors that nobody took are closed, as the loop does it. */
static int ask(const char *text, size_t n_fds) {
        _cleanup_json_ struct json_object *request = holder_text(text);
        _cleanup_ipc_fds_ struct ipc_fds fds = {};
        int64_t r = -1;

        test_about("%s with %zu descriptors", text, n_fds);
        json_object_put(TAKE_PTR(answer));
        for (; fds.n < n_fds; fds.n++)
                require((fds.fd[fds.n] = eventfd(0, EFD_CLOEXEC)) >= 0);
        n_answer_fds = 99;
        answer = serve_request(&store, NULL, "17", request, &fds, answer_fds, &n_answer_fds, &is_exit);
        check_int(json_get_i64(answer, "r", &r), 0);
        check(r >= 0 || n_answer_fds == 0);
        check(n_answer_fds <= IPC_FDS_MAX);
        return (int) r;
}

static void clear(void) {
        store_clear(&store);
        json_object_put(TAKE_PTR(answer));
        is_exit = false;
}

static const char *text_of(struct json_object *o, const char *key) {
        struct json_object *v = NULL;

        (void) json_object_object_get_ex(o, key, &v);
        return json_object_to_json_string_ext(v, JSON_C_TO_STRING_PLAIN);
}

static void test_hello(void) {
        clear();
        check_int(ask("{\"op\":\"hello\",\"version\":1}", 0), 0);
        check_int(json_u64_or(answer, "version", 0), IPC_VERSION);
        check_str(json_str_or(answer, "id", ""), "17");
        check_str(text_of(answer, "keys"), "[]");
        check(!json_object_object_get_ex(answer, "state", NULL));
        check_int(ask("{\"op\":\"put\",\"key\":\"iommufd\",\"state\":{\"a\":1}}", 1), 0);
        check_int(ask("{\"op\":\"put\",\"key\":\"cdev:0000:01:00.0\"}", 1), 0);
        check_int(ask("{\"op\":\"hello\"}", 0), 0);
        check_str(text_of(answer, "keys"), "[\"iommufd\",\"cdev:0000:01:00.0\"]");
        check_str(text_of(answer, "state"), "{\"a\":1}");
        check_int(n_answer_fds, 0);
        check(!is_exit);
}

static void test_put(void) {
        unsigned before;
        int first;

        clear();
        before = test_count_fds();
        check_int(ask("{\"op\":\"put\",\"key\":\"a\"}", 0), -EINVAL);
        check_int(ask("{\"op\":\"put\",\"key\":\"a\"}", 2), -EINVAL);
        check_int(ask("{\"op\":\"put\",\"key\":\"a\",\"state\":{}}", 0), -EINVAL);
        check_int(ask("{\"op\":\"put\"}", 1), -EINVAL);
        check_int(ask("{\"op\":\"put\",\"key\":\"\"}", 1), -EINVAL);
        check_int(ask("{\"op\":\"put\",\"key\":1}", 1), -EINVAL);
        check_int(ask("{\"op\":\"put\",\"key\":null}", 1), -EINVAL);
        /* Both or nothing. */
        check(store.n == 0 && !store.state);
        check_int(test_count_fds(), before);

        check_int(ask("{\"op\":\"put\",\"key\":\"a\",\"state\":{\"v\":1}}", 1), 0);
        check_str(text_of(store.state, "v"), "1");
        first = store_get(&store, "a");
        check_int(ask("{\"op\":\"put\",\"key\":\"a\"}", 1), 0);
        /* Replaced and closed; the record stays. */
        check(store_get(&store, "a") != first && fcntl(first, F_GETFD) < 0);
        check_str(text_of(store.state, "v"), "1");
        check_int(test_count_fds(), before + 1);
        clear();
        check_int(test_count_fds(), before);
}

static void test_put_both_or_nothing(void) {
        static const char *const wrong[] = { "1", "null", "[]", "\"{}\"", "true" };

        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                char text[128];

                clear();
                snprintf(text, sizeof(text), "{\"op\":\"put\",\"key\":\"a\",\"state\":%s}", wrong[i]);
                check(ask(text, 1) < 0);
                check(store_get(&store, "a") < 0 && !store.state);
        }
        clear();
}

static void test_get(void) {
        char text[512] = "{\"op\":\"get\",\"keys\":[";
        unsigned before;

        clear();
        before = test_count_fds();
        for (int i = 0; i < 17; i++) {
                char put[64];

                snprintf(put, sizeof(put), "{\"op\":\"put\",\"key\":\"k%d\"}", i);
                check_int(ask(put, 1), 0);
        }
        check_int(ask("{\"op\":\"get\",\"keys\":[]}", 0), 0);
        check_int(n_answer_fds, 0);
        check_int(ask("{\"op\":\"get\",\"keys\":[\"k3\",\"k1\",\"k3\"]}", 0), 0);
        check_str(text_of(answer, "keys"), "[\"k3\",\"k1\",\"k3\"]");
        if (check_int(n_answer_fds, 3)) {
                check_int(answer_fds[0], store_get(&store, "k3"));
                check_int(answer_fds[1], store_get(&store, "k1"));
                check_int(answer_fds[2], store_get(&store, "k3"));
        }
        for (int i = 0; i < 17; i++) {
                size_t n = strlen(text);

                snprintf(text + n, sizeof(text) - n, "%s\"k%d\"", i ? "," : "", i);
                if (i == 15 || i == 16) {
                        char all[520];

                        snprintf(all, sizeof(all), "%s]}", text);
                        check_int(ask(all, 0), i == 15 ? 0 : -E2BIG);
                        check_int(n_answer_fds, i == 15 ? 16 : 0);
                }
        }
        check_int(ask("{\"op\":\"get\",\"keys\":[\"k0\",\"absent\"]}", 0), -ENOENT);
        check_int(ask("{\"op\":\"get\",\"keys\":[\"k0\",null]}", 0), -ENOENT);
        check_int(ask("{\"op\":\"get\",\"keys\":[[]]}", 0), -ENOENT);
        check_int(ask("{\"op\":\"get\",\"keys\":\"k0\"}", 0), -EINVAL);
        check_int(ask("{\"op\":\"get\"}", 0), -EINVAL);
        check_int(test_count_fds(), before + 17);
        clear();
}

static void test_drop_state_exit(void) {
        unsigned before;

        clear();
        before = test_count_fds();
        check_int(ask("{\"op\":\"put\",\"key\":\"a\",\"state\":{\"v\":1}}", 1), 0);
        check_int(ask("{\"op\":\"drop\",\"key\":\"b\"}", 0), -ENOENT);
        check_int(ask("{\"op\":\"drop\"}", 0), -ENOENT);
        check_int(ask("{\"op\":\"drop\",\"key\":\"a\",\"state\":{\"v\":2}}", 0), 0);
        check_str(text_of(store.state, "v"), "2");
        check_int(ask("{\"op\":\"drop\",\"key\":\"a\"}", 0), -ENOENT);
        check_int(test_count_fds(), before);

        check_int(ask("{\"op\":\"state\",\"state\":{\"v\":3}}", 0), 0);
        check_str(text_of(store.state, "v"), "3");
        check_int(ask("{\"op\":\"state\"}", 0), -ENOENT);
        check_int(ask("{\"op\":\"state\",\"state\":4}", 0), -EBADMSG);
        check_str(text_of(store.state, "v"), "3");

        check_int(ask("{}", 0), -EOPNOTSUPP);
        check_int(ask("{\"op\":1}", 0), -EOPNOTSUPP);
        check_int(ask("{\"op\":\"\"}", 0), -EOPNOTSUPP);
        check_int(ask("{\"op\":\"steal\"}", 3), -EOPNOTSUPP);
        check_int(ask("{\"op\":\"Exit\"}", 0), -EOPNOTSUPP);
        check_int(test_count_fds(), before);
        check(!is_exit);
        check_int(ask("{\"op\":\"exit\"}", 0), 0);
        check(is_exit);
        clear();
}

/* A tdid that comes back to the fullest holder must be able to hear of it. */
static void test_hello_fits(void) {
        char key[STORE_KEY_LENGTH_MAX + 1];
        size_t size;

        clear();
        for (int i = 0; i < STORE_KEYS_MAX; i++) {
                /* The number of a descriptor is all that matters here: nothing is open at it. */
                snprintf(key, sizeof(key), "%0*d", STORE_KEY_LENGTH_MAX, i);
                check_int(store_put(&store, key, 1 << 20 | i), 0);
        }
        check_int(ask("{\"op\":\"hello\"}", 0), 0);
        size = strlen(json_object_to_json_string_ext(answer, JSON_C_TO_STRING_PLAIN));
        check(size <= (size_t) IPC_SIZE_MAX);
        clear();
}

/* ---- the loop ---- */

static int listener;

static void *run(_unused_ void *unused) {
        _cleanup_(tdi_host_freep) TdiHost *host = NULL;

        require(tdi_host_linux_new(&host) == 0);
        return (void *) (intptr_t) serve(listener, host, "17", &store);
}

static void test_loop(void) {
        _cleanup_ipc_fds_ struct ipc_fds fds = {};
        struct sockaddr_un name;
        unsigned before;
        socklen_t len;
        pthread_t thread;
        uint64_t number;
        void *result;
        int a, b;

        clear();
        test_about("%s", "the loop");
        before = test_count_fds();
        listener = holder_listen(&name, &len);
        require(pthread_create(&thread, NULL, run, NULL) == 0);
        a = holder_connect_to(&name, len);
        check_int(holder_ask(a, "{\"op\":\"hello\"}", 0, NULL, NULL), 0);
        check_int(holder_ask(a, "{\"op\":\"put\",\"key\":\"a\"}", 1, NULL, NULL), 0);
        check_int(holder_ask(a, "{\"op\":\"put\",\"key\":\"none\"}", 3, NULL, NULL), -EINVAL);
        check_int(holder_ask(a, "{\"op\":\"nonsense\"}", 16, NULL, NULL), -EOPNOTSUPP);

        /* The newest connection is the one that counts, and it finds what the old one left. */
        test_about("%s", "a second connection");
        b = holder_connect_to(&name, len);
        check_int(holder_ask(b, "{\"op\":\"get\",\"keys\":[\"a\"]}", 0, NULL, &fds), 0);
        check_int(fds.n, 1);
        check(fds.n == 1 && write(fds.fd[0], &(uint64_t){ 7 }, 8) == 8);
        ipc_fds_close(&fds);
        check(holder_ask(a, "{\"op\":\"hello\"}", 0, NULL, NULL) < 0);
        close_fd(a);

        /* Who talks nonsense loses its connection and nothing else. */
        test_about("%s", "nonsense");
        check_int(send(b, "nonsense", 8, MSG_NOSIGNAL), 8);
        check_int(recv(b, &number, 8, 0), 0);
        close_fd(b);
        a = holder_connect_to(&name, len);
        check_int(holder_ask(a, "{\"op\":\"get\",\"keys\":[\"a\"]}", 0, NULL, &fds), 0);
        check(fds.n == 1 && read(fds.fd[0], &number, 8) == 8 && number == 7);
        ipc_fds_close(&fds);
        close_fd(a);

        test_about("%s", "exit");
        a = holder_connect_to(&name, len);
        check_int(holder_ask(a, "{\"op\":\"exit\"}", 0, NULL, NULL), 0);
        require(pthread_join(thread, &result) == 0);
        check_int((intptr_t) result, 0);
        close_fd(a);
        close_fd(listener);
        check_int(store.n, 1);
        clear();
        check_int(test_count_fds(), before);
}

int main(void) {
        test_hello();
        test_put();
        test_put_both_or_nothing();
        test_get();
        test_drop_state_exit();
        test_hello_fits();
        test_loop();
        clear();
        return test_end();
}
