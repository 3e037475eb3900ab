/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target of options (a{sv}): the input is the body of a message, as its sender may write it, after one byte that chooses the
 * table. It travels over a real connection, so that what is wrong in it is found where it is read.
 */
#include <sys/socket.h>
#include <systemd/sd-id128.h>

#include "bus/bus.h"
#include "fuzz.h"

struct values {
        const char *text, *more;
        int64_t number, other;
        bool yes;
        struct nested {
                const char *text;
                int64_t number;
        } nested;
};

static const struct option nested_options[] = {
        { "functions", 'u', offsetof(struct nested, number), NULL },
        { "text", 's', offsetof(struct nested, text), NULL },
        {},
};

/* Shaped like those of CreateVM, of Attach and of everything else. */
static const struct option create_options[] = {
        { "uuid", 's', offsetof(struct values, text), NULL },
        { "seclabel", 's', offsetof(struct values, more), NULL },
        { "owner_uid", 'u', offsetof(struct values, number), NULL },
        { "await_vmm", 'u', offsetof(struct values, other), NULL },
        { "hotplug", 'b', offsetof(struct values, yes), NULL },
        { "limits", 'a', offsetof(struct values, nested), nested_options },
        {},
};

static const struct option function_options[] = {
        { "guest_rid", 'u', offsetof(struct values, number), NULL },
        { "bind", 's', offsetof(struct values, text), NULL },
        { "force", 'b', offsetof(struct values, yes), NULL },
        {},
};

static const struct option act_options[] = {
        { "async", 'b', offsetof(struct values, yes), NULL },
        {},
};

static sd_bus *bus;
static int sender = -EBADF;

static void open_bus(void) {
        static const char hello[] = "\0AUTH ANONYMOUS\r\nBEGIN\r\n";
        sd_id128_t id = { .bytes = { 1 } };
        char answer[256];
        int pair[2];

        bus = sd_bus_close_unref(bus);
        sender = close_fd(sender);
        must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
        sender = pair[1];
        must(sd_bus_new(&bus) >= 0 && sd_bus_set_fd(bus, pair[0], pair[0]) >= 0 && sd_bus_set_server(bus, 1, id) >= 0 &&
             sd_bus_set_anonymous(bus, 1) >= 0 && sd_bus_start(bus) >= 0);
        must(send(sender, hello, sizeof(hello) - 1, MSG_NOSIGNAL) == sizeof(hello) - 1);
        for (unsigned i = 0; sd_bus_is_ready(bus) == 0; i++)
                must(i < 1000 && sd_bus_process(bus, NULL) >= 0);
        while (recv(sender, answer, sizeof(answer), MSG_DONTWAIT) > 0)
                ;
}

/* A signal whose body has the signature "a{sv}" (D-Bus specification, "Message Protocol"). */
static void send_body(const uint8_t *body, size_t size) {
        static const uint8_t fields[] = "\1\1o\0\2\0\0\0/t\0\0\0\0\0\0"
                                        "\2\1s\0\3\0\0\0t.t\0\0\0\0\0"
                                        "\3\1s\0\1\0\0\0T\0\0\0\0\0\0\0"
                                        "\10\1g\0\5a{sv}";
        uint32_t lengths[3] = { (uint32_t) size, 1, sizeof(fields) };
        uint8_t message[16 + 64 + 65536] = { 'l', 4, 1, 1 };
        size_t n;

        memcpy(message + 4, lengths, sizeof(lengths));
        memcpy(message + 16, fields, sizeof(fields));
        n = (16 + sizeof(fields) + 7) & ~(size_t) 7;
        memcpy(message + n, body, size);
        must(send(sender, message, n + size, MSG_NOSIGNAL) == (ssize_t) (n + size));
}

/* Errors repeat a part of what the caller wrote: they must be fit to be sent. */
static void check_error(const sd_bus_error *e) {
        sd_bus_message *m = NULL;

        must(streq(e->name, "org.tdid1.Error.InvalidArgument"));
        must(sd_bus_message_new_signal(bus, &m, "/t", "t.t", "T") >= 0);
        must(sd_bus_message_append(m, "s", e->message) >= 0);
        sd_bus_message_unref(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const struct option *const tables[] = { create_options, function_options, act_options };
        sd_bus_error e = SD_BUS_ERROR_NULL;
        struct values v = {};
        sd_bus_message *m = NULL;
        int r = 0;

        /* A body of nothing with a signature is refused with the whole connection. */
        if (size < 2 || size > 65536)
                return 0;
        if (!bus)
                open_bus();
        send_body(data + 1, size - 1);
        for (unsigned i = 0; r >= 0 && !m; i++) {
                must(i < 1000);
                r = sd_bus_process(bus, &m);
        }
        if (!m) {
                open_bus();
                return 0;
        }
        must(sd_bus_message_is_signal(m, "t.t", "T") > 0);
        r = options_read(m, tables[data[0] % ARRAY_SIZE(tables)], &v, &e);
        if (r >= 0) {
                must(!sd_bus_error_is_set(&e));
                must(v.number >= 0 && v.number <= UINT32_MAX && v.other >= 0 && v.other <= UINT32_MAX && v.nested.number <= UINT32_MAX);
                must(strlen(strempty(v.text)) + strlen(strempty(v.more)) + strlen(strempty(v.nested.text)) < 65536);
        } else if (sd_bus_error_is_set(&e))
                check_error(&e);
        sd_bus_error_free(&e);
        sd_bus_message_unref(m);
        return 0;
}
