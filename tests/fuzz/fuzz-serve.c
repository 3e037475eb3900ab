/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target of the holder's protocol: each line is a request in JSON after one letter that says how many descriptors come with
 * it ('a': none). Every request is answered, the store never holds what is not open, and at its end nothing is.
 */
#include <sys/eventfd.h>

#include "fuzz.h"
#include "vm/serve.h"

static int some_fd = -EBADF;

static void check_store(const struct store *s) {
        must(s->n <= STORE_KEYS_MAX);
        for (size_t i = 0; i < s->n; i++) {
                must(s->entries[i].key[0] && strlen(s->entries[i].key) <= STORE_KEY_LENGTH_MAX);
                must(fcntl(s->entries[i].fd, F_GETFD) >= 0);
                must(store_get(s, s->entries[i].key) == s->entries[i].fd);
        }
        must(!s->state || json_object_is_type(s->state, json_type_object));
}

static void request(struct store *s, const char *line, size_t size) {
        _cleanup_json_ struct json_object *o = NULL, *answer = NULL;
        _cleanup_ipc_fds_ struct ipc_fds fds = {};
        int answer_fds[IPC_FDS_MAX];
        bool end = false;
        int64_t r = 1;
        size_t n = 99;

        if (size == 0 || json_parse_strict(line + 1, size - 1, &o, NULL, NULL) < 0 || !json_object_is_type(o, json_type_object))
                return;
        while (fds.n < (size_t) (line[0] & 0x1f) - !!(line[0] & 0x1f) && fds.n < IPC_FDS_MAX) {
                fds.fd[fds.n] = fd_dup(some_fd);
                must(fds.fd[fds.n] >= 0);
                fds.n++;
        }
        answer = serve_request(s, NULL, "17", o, &fds, answer_fds, &n, &end);
        must(json_get_i64(answer, "r", &r) == 0 && r <= 0);
        must(n <= IPC_FDS_MAX && (r == 0 || n == 0));
        for (size_t i = 0; i < n; i++)
                must(fcntl(answer_fds[i], F_GETFD) >= 0);
        must(end == (r == 0 && streq(json_str_or(o, "op", ""), "exit")));
        check_store(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        const char *p = (const char *) data, *end = p + size;
        struct store s = {};
        int next;

        if (some_fd < 0)
                must((some_fd = eventfd(0, EFD_CLOEXEC)) >= 0);
        next = fuzz_next_fd();
        while (p < end) {
                const char *line = p, *newline = memchr(p, '\n', (size_t) (end - p));

                p = newline ? newline + 1 : end;
                request(&s, line, (size_t) ((newline ? newline : end) - line));
        }
        store_clear(&s);
        must(fuzz_next_fd() == next);
        return 0;
}
