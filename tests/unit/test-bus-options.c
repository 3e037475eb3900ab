/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Options (a{sv}) over a real connection of two sd-bus peers: every kind, every refusal. And the forms of names. */
#include <sys/socket.h>
#include <systemd/sd-id128.h>

#include "bus/bus.h"
#include "test.h"
#include "vm.h"

static sd_bus *client, *server;
static sd_bus_message *kept;

static void open_peers(void) {
        sd_id128_t id;
        int pair[2];

        require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0 && sd_id128_randomize(&id) >= 0);
        require(sd_bus_new(&server) >= 0 && sd_bus_set_fd(server, pair[0], pair[0]) >= 0 && sd_bus_set_server(server, 1, id) >= 0 &&
                sd_bus_set_anonymous(server, 1) >= 0 && sd_bus_start(server) >= 0);
        require(sd_bus_new(&client) >= 0 && sd_bus_set_fd(client, pair[1], pair[1]) >= 0 && sd_bus_start(client) >= 0);
}

static sd_bus_message *new_message(void) {
        sd_bus_message *m;

        require(sd_bus_message_new_signal(client, &m, "/test", "test.Test", "Test") >= 0);
        return m;
}

/* Sends it, and gives what arrives at the other end. */
static sd_bus_message *deliver(sd_bus_message *m) {
        sd_bus_message *got = NULL;

        require(sd_bus_send(client, m, NULL) >= 0);
        sd_bus_message_unref(m);
        for (unsigned i = 0; i < 10000 && !got; i++) {
                require(sd_bus_process(client, NULL) >= 0);
                require(sd_bus_process(server, &got) >= 0);
                if (got && !sd_bus_message_is_signal(got, "test.Test", "Test"))
                        got = sd_bus_message_unref(got);
        }
        require(got);
        return got;
}

struct nested {
        int64_t number;
        const char *text;
};

struct values {
        const char *text;
        int64_t number;
        bool yes;
        struct nested nested;
        bool flags[40];
};

static const struct option nested_options[] = {
        { "number", 'u', offsetof(struct nested, number), NULL },
        { "text", 's', offsetof(struct nested, text), NULL },
        {},
};

static const struct option options[] = {
        { "text", 's', offsetof(struct values, text), NULL },
        { "number", 'u', offsetof(struct values, number), NULL },
        { "yes", 'b', offsetof(struct values, yes), NULL },
        { "nested", 'a', offsetof(struct values, nested), nested_options },
        {},
};

/* Reads the message's only a{sv}. @says: NULL for success, else a part of the error's text. */
static void check_read(sd_bus_message *m, const struct option *table, struct values *v, const char *says) {
        sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *got = deliver(m);
        int r = options_read(got, table, v, &e);

        if (!says) {
                check(r >= 0 && !sd_bus_error_is_set(&e));
                if (sd_bus_error_is_set(&e))
                        fprintf(stderr, "%s: %s\n", e.name, e.message);
                check(sd_bus_message_at_end(got, 1) > 0);
                /* Strings are borrowed from the message. */
                sd_bus_message_unref(kept);
                kept = sd_bus_message_ref(got);
        } else {
                check(r < 0);
                check_str(e.name, "org.tdid1.Error.InvalidArgument");
                if (!check(e.message && strstr(e.message, says)))
                        fprintf(stderr, "it says: %s\n", strempty(e.message));
        }
        sd_bus_error_free(&e);
        sd_bus_message_unref(got);
}

static void test_good(void) {
        struct values v = { .number = -1, .yes = true };
        sd_bus_message *m = new_message();
        uint32_t u;

        test_about("%s", "none");
        require(sd_bus_message_append(m, "a{sv}", 0) >= 0);
        check_read(m, options, &v, NULL);
        check(!v.text && v.number == -1 && v.yes);

        test_about("%s", "all");
        m = new_message();
        require(sd_bus_message_append(m, "a{sv}", 4, "nested", "a{sv}", 2, "text", "s", "in\xc3\xa9", "number", "u", UINT32_MAX, "yes", "b", 0,
                                      "number", "u", 0, "text", "s", "") >= 0);
        check_read(m, options, &v, NULL);
        check_str(v.text, "");
        check_str(v.nested.text, "in\xc3\xa9");
        check(v.nested.number == UINT32_MAX && v.number == 0 && !v.yes);

        test_about("%s", "an empty nested one");
        v = (struct values){ .nested.number = 7 };
        m = new_message();
        require(sd_bus_message_append(m, "a{sv}", 1, "nested", "a{sv}", 0) >= 0);
        check_read(m, options, &v, NULL);
        check_int(v.nested.number, 7);

        /* What comes after it is still there to be read. */
        test_about("%s", "two in a row");
        m = new_message();
        require(sd_bus_message_append(m, "sa{sv}a{sv}u", "x", 1, "number", "u", 1, 1, "number", "u", 2, 3) >= 0);
        m = deliver(m);
        require(sd_bus_message_skip(m, "s") >= 0);
        check(options_read(m, options, &v, NULL) >= 0 && v.number == 1);
        check(options_read(m, options, &v, NULL) >= 0 && v.number == 2);
        check(sd_bus_message_read(m, "u", &u) > 0 && u == 3);
        sd_bus_message_unref(m);
}

/* Each kind of value with every type that is not its own. */
static void test_types(void) {
        static const char *const keys[] = { "text", "number", "yes", "nested" }, *const right[] = { "s", "u", "b", "a{sv}" };
        static const char *const types[] = { "s", "u", "b", "a{sv}", "o", "g", "i", "t", "x", "y", "n", "q", "d", "as", "v", "(s)", "a{ss}", "ay" };

        for (size_t k = 0; k < ARRAY_SIZE(keys); k++)
                for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
                        struct values v = {};
                        sd_bus_message *m = new_message();
                        const char *t = types[i];

                        test_about("%s given as %s", keys[k], t);
                        require(sd_bus_message_open_container(m, 'a', "{sv}") >= 0 && sd_bus_message_open_container(m, 'e', "sv") >= 0 &&
                                sd_bus_message_append(m, "s", keys[k]) >= 0 && sd_bus_message_open_container(m, 'v', t) >= 0);
                        if (streq(t, "s") || streq(t, "o") || streq(t, "(s)"))
                                require(sd_bus_message_append(m, t, "/x") >= 0);
                        else if (streq(t, "g"))
                                require(sd_bus_message_append(m, t, "s") >= 0);
                        else if (streq(t, "v"))
                                require(sd_bus_message_append(m, t, right[k][0] == 'a' ? "u" : right[k], streq(right[k], "s") ? "1" : NULL) >= 0);
                        else if (streq(t, "t") || streq(t, "x"))
                                require(sd_bus_message_append(m, t, UINT64_C(1)) >= 0);
                        else if (streq(t, "d"))
                                require(sd_bus_message_append(m, t, 1.0) >= 0);
                        else
                                require(sd_bus_message_append(m, t, *t == 'a' ? 0 : 1) >= 0);
                        require(sd_bus_message_close_container(m) >= 0 && sd_bus_message_close_container(m) >= 0 && sd_bus_message_close_container(m) >= 0);
                        check_read(m, options, &v, streq(t, right[k]) ? NULL : keys[k]);
                }
}

static void test_refused(void) {
        static const char *const unknown[] = { "", "Number", "numbe", "numbers", "number ", "async" };
        struct values v = {};
        sd_bus_message *m;

        for (size_t i = 0; i < ARRAY_SIZE(unknown); i++) {
                test_about("unknown \"%s\"", unknown[i]);
                m = new_message();
                require(sd_bus_message_append(m, "a{sv}", 2, "number", "u", 1, unknown[i], "u", 1) >= 0);
                check_read(m, options, &v, "unknown option");
        }
        test_about("%s", "twice");
        m = new_message();
        require(sd_bus_message_append(m, "a{sv}", 3, "number", "u", 1, "yes", "b", 1, "number", "u", 1) >= 0);
        check_read(m, options, &v, "\"number\" is given twice");
        m = new_message();
        require(sd_bus_message_append(m, "a{sv}", 2, "nested", "a{sv}", 0, "nested", "a{sv}", 0) >= 0);
        check_read(m, options, &v, "\"nested\" is given twice");

        test_about("%s", "nested");
        m = new_message();
        require(sd_bus_message_append(m, "a{sv}", 1, "nested", "a{sv}", 1, "yes", "b", 1) >= 0);
        check_read(m, options, &v, "unknown option \"yes\"");
        m = new_message();
        require(sd_bus_message_append(m, "a{sv}", 1, "nested", "a{sv}", 1, "nested", "a{sv}", 0) >= 0);
        check_read(m, options, &v, "unknown option \"nested\"");
        m = new_message();
        require(sd_bus_message_append(m, "a{sv}", 1, "nested", "a{sv}", 2, "number", "u", 1, "number", "u", 1) >= 0);
        check_read(m, options, &v, "\"number\" is given twice");
        m = new_message();
        require(sd_bus_message_append(m, "a{sv}", 1, "nested", "a{sv}", 1, "number", "t", UINT64_C(1)) >= 0);
        check_read(m, options, &v, "\"number\" must be");

        test_about("%s", "a table without any");
        m = new_message();
        require(sd_bus_message_append(m, "a{sv}", 1, "number", "u", 1) >= 0);
        check_read(m, nested_options + 2, &v, "unknown option");

        test_about("%s", "no dictionary");
        m = new_message();
        require(sd_bus_message_append(m, "a{ss}", 1, "number", "1") >= 0);
        m = deliver(m);
        check(options_read(m, options, &v, NULL) < 0);
        sd_bus_message_unref(m);
}

static void test_many(void) {
        static struct option table[41];
        static char keys[40][8];

        for (size_t i = 0; i < 40; i++) {
                snprintf(keys[i], sizeof(keys[i]), "f%zu", i);
                table[i] = (struct option){ keys[i], 'b', offsetof(struct values, flags) + i * sizeof(bool), NULL };
        }
        for (unsigned n = 31; n <= 34; n++) {
                struct values v = {};
                sd_bus_message *m = new_message();

                test_about("%u options", n);
                require(sd_bus_message_open_container(m, 'a', "{sv}") >= 0);
                for (unsigned i = 0; i < n; i++)
                        require(sd_bus_message_append(m, "{sv}", keys[i], "b", 1) >= 0);
                require(sd_bus_message_close_container(m) >= 0);
                check_read(m, table, &v, n <= 32 ? NULL : "more than 32 options");
                check(v.flags[30] && (n > 32 || v.flags[n - 1]));
        }
}

/* What a stranger wrote is repeated in part. It is cut where a character ends: a text that is not UTF-8 is never sent. */
static void test_error_text(void) {
        for (size_t n = 55; n < 70; n++) {
                sd_bus_error e = SD_BUS_ERROR_NULL;
                sd_bus_message *m, *got, *reply;
                struct values v = {};
                char key[128];

                memset(key, 'k', n);
                strcpy(key + n, "\xe2\x82\xac\xe2\x82\xac");
                test_about("%zu letters and two of three bytes", n);
                m = new_message();
                require(sd_bus_message_append(m, "a{sv}", 1, key, "u", 1) >= 0);
                got = deliver(m);
                check(options_read(got, options, &v, &e) < 0);
                sd_bus_message_unref(got);
                reply = new_message();
                check(sd_bus_message_append(reply, "s", e.message) >= 0);
                sd_bus_message_unref(reply);
                sd_bus_error_free(&e);
        }
}

static void test_names(void) {
        static const char *const names[] = { "a", "0", "web-1", "A.b_c-d+e:f@g", "x..", "1:2" };
        static const char *const no_names[] = { "", " ", "-a", ".a", "_a", ":a", "@a", "+a", "a b", "a/b", "a\n", "a\t", "\xc3\xa9", "a\xc3\xa9", "a\"", "a%", "a,b", "a\\" };
        static const char *const uuids[] = { "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6BA7B810-9DAD-11D1-80B4-00C04FD430C8", "00000000-0000-0000-0000-000000000000" };
        static const char *const no_uuids[] = {
                "", "6ba7b810", "6ba7b810-9dad-11d1-80b4-00c04fd430c", "6ba7b810-9dad-11d1-80b4-00c04fd430c88", "6ba7b8109dad11d180b400c04fd430c8",
                "6ba7b810-9dad-11d1-80b4-00c04fd430cg", "6ba7b810-9dad-11d1-80b400-c04fd430c8", "{ba7b810-9dad-11d1-80b4-00c04fd430c}",
                "6ba7b810-9dad-11d1-80b4-00c04fd430c ", "-6ba7b81-9dad-11d1-80b4-00c04fd430c8",
        };
        char text[80];

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                test_about("name \"%s\"", names[i]);
                check(name_is_valid(names[i]));
        }
        for (size_t i = 0; i < ARRAY_SIZE(no_names); i++) {
                test_about("name \"%s\"", no_names[i]);
                check(!name_is_valid(no_names[i]));
        }
        for (size_t i = 0; i < ARRAY_SIZE(uuids); i++) {
                test_about("UUID \"%s\"", uuids[i]);
                check(uuid_is_valid(uuids[i]));
        }
        for (size_t i = 0; i < ARRAY_SIZE(no_uuids); i++) {
                test_about("UUID \"%s\"", no_uuids[i]);
                check(!uuid_is_valid(no_uuids[i]));
        }
        test_about("%s", "lengths and labels");
        memset(text, 'a', sizeof(text));
        text[VM_NAME_MAX + 1] = '\0';
        check(!name_is_valid(text));
        text[VM_NAME_MAX] = '\0';
        check(name_is_valid(text));
        memset(text, 'a', sizeof(text));
        text[VM_LABEL_MAX + 1] = '\0';
        check(!label_is_valid(text));
        text[VM_LABEL_MAX] = '\0';
        check(label_is_valid(text));
        check(label_is_valid("") && label_is_valid("qemu of web, \xc3\xa9\"\\/") && label_is_valid(" "));
        check(!label_is_valid("a\nb") && !label_is_valid("\t") && !label_is_valid("\x7f") && !label_is_valid("\x1b[31m") && !label_is_valid("\x1f"));
}

int main(void) {
        open_peers();
        test_good();
        test_types();
        test_refused();
        test_many();
        test_error_text();
        test_names();
        sd_bus_message_unref(kept);
        sd_bus_flush_close_unref(client);
        sd_bus_flush_close_unref(server);
        return test_end();
}
