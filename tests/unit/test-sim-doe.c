/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The simulation's DOE mailbox: discovery, objects that are none, SPDM by way of a responder in this test, what that may do wrong, and
 * what goes on meanwhile.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <semaphore.h>

#include "sim-kernel.h"
#include "sim/config.h"

#define GO 0x80000000u
#define ABORT 1u
#define BUSY 1u
#define ERROR 4u
#define READY 0x80000000u

#define DISCOVERY 0x00000001u /* header: vendor 1, type 0 */
#define SPDM 0x00010001u
#define SECURED 0x00020001u

#define DEVICE "0000:01:00.0"
#define OTHER "0000:02:00.0" /* discovery only */
#define BARE "0000:03:00.0"  /* no mailbox */

static const char topology_text[] =
        "{\"schema\": \"tdi-sim/1\", \"platform\": \"plain\", \"buses\": [{\"bus\": \"0000:00\"}],"
        " \"ports\": [{\"bdf\": \"0000:00:01.0\", \"bus\": \"01\"}, {\"bdf\": \"0000:00:02.0\", \"bus\": \"02\"},"
        "  {\"bdf\": \"0000:00:03.0\", \"bus\": \"03\"}],"
        " \"functions\": ["
        "  {\"bdf\": \"" DEVICE "\", \"ids\": \"1234:0001\", \"doe\": true, \"spdm_port\": %u, \"flr\": true},"
        "  {\"bdf\": \"" OTHER "\", \"ids\": \"1234:0002\", \"doe\": true},"
        "  {\"bdf\": \"" BARE "\", \"ids\": \"1234:0003\"}]}";

/* ---- the responder ---- */

enum mode {
        ANSWER,   /* the request, its last double word twice more */
        ODD,      /* 13 bytes of it */
        LARGEST,  /* 4608 bytes */
        TOO_LONG, /* one more */
        EMPTY,
        COMMAND,  /* another than that of answers */
        SHORT,    /* ends in the middle */
        SILENT,   /* not before it is told to */
        LAST,     /* an answer, and the connection ends */
};

static struct {
        int listener;
        atomic_int mode, connections, shutdowns;
        sem_t asked, tell;
        pthread_mutex_t lock; /* of the last request */
        uint8_t request[8192];
        size_t size;
        uint32_t transport;
        pthread_t thread;
} responder = { .lock = PTHREAD_MUTEX_INITIALIZER };

static bool receive(int fd, void *bytes, size_t size) {
        return size == 0 || recv(fd, bytes, size, MSG_WAITALL) == (ssize_t) size;
}

static void reply(int fd, uint32_t command, const uint8_t *bytes, size_t size, size_t sent) {
        const uint32_t header[] = { htonl(command), htonl(2), htonl((uint32_t) size) };

        /* Who asked may have gone. */
        if (send(fd, header, sizeof(header), MSG_NOSIGNAL) == sizeof(header) && sent)
                (void) send(fd, bytes, sent, MSG_NOSIGNAL);
}

static bool answer(int fd, uint8_t bytes[static 8192], size_t n) {
        int mode = responder.mode;

        for (size_t i = n; i < n + 8; i++)
                bytes[i] = bytes[i - 4];
        (void) sem_post(&responder.asked);
        if (mode == SILENT)
                (void) sem_wait(&responder.tell);
        switch (mode) {
        case ODD:
                reply(fd, 1, bytes, 13, 13);
                break;
        case LARGEST:
                reply(fd, 1, bytes, 4608, 4608);
                break;
        case TOO_LONG:
                reply(fd, 1, bytes, 4609, 4609);
                break;
        case EMPTY:
                reply(fd, 1, NULL, 0, 0);
                break;
        case COMMAND:
                reply(fd, 0xdead, bytes, n, n);
                break;
        case SHORT:
                reply(fd, 1, bytes, n, n - 1);
                return false;
        default:
                reply(fd, 1, bytes, n + 8, n + 8);
        }
        return mode != LAST;
}

static void serve_connection(int fd) {
        uint32_t header[3];

        responder.connections++;
        while (receive(fd, header, sizeof(header))) {
                uint8_t bytes[8192] = { 0 };
                size_t n = ntohl(header[2]);

                require(n <= 4096);
                if (!receive(fd, bytes, n))
                        break;
                if (ntohl(header[0]) == 0xfffe) {
                        responder.shutdowns++;
                        break;
                }
                check_int(ntohl(header[0]), 1);
                (void) pthread_mutex_lock(&responder.lock);
                responder.transport = ntohl(header[1]);
                responder.size = n;
                memcpy(responder.request, bytes, n);
                (void) pthread_mutex_unlock(&responder.lock);
                if (!answer(fd, bytes, n))
                        break;
        }
        close_fd(fd);
}

static void *responder_loop(_unused_ void *data) {
        int fd;

        while ((fd = accept4(responder.listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
                serve_connection(fd);
        return NULL;
}

static uint16_t responder_start(void) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t size = sizeof(a);

        require(sem_init(&responder.asked, 0, 0) == 0 && sem_init(&responder.tell, 0, 0) == 0);
        responder.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        require(responder.listener >= 0 && bind(responder.listener, (struct sockaddr *) &a, size) == 0 && listen(responder.listener, 4) == 0);
        require(getsockname(responder.listener, (struct sockaddr *) &a, &size) == 0);
        require(pthread_create(&responder.thread, NULL, responder_loop, NULL) == 0);
        return ntohs(a.sin_port);
}

static void responder_end(void) {
        (void) shutdown(responder.listener, SHUT_RDWR);
        require(pthread_join(responder.thread, NULL) == 0);
        close_fd(responder.listener);
}

/* ---- the requester ---- */

struct mailbox {
        int fd;
        unsigned at;
};

static int open_config(TdiHost *h, const char *bdf) {
        char path[96];
        int fd;

        snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/config", bdf);
        fd = host_open(h, path, O_RDWR);
        require(fd >= 0);
        return fd;
}

static struct mailbox open_mailbox(TdiHost *h, const char *bdf) {
        struct mailbox m = { .fd = open_config(h, bdf) };
        uint8_t config[SIM_CONFIG_SIZE];

        require(host_pread(h, m.fd, config, sizeof(config), 0) == sizeof(config));
        m.at = cfg_find_ext(config, sizeof(config), EXT_DOE);
        require(m.at != 0);
        return m;
}

static uint32_t get(const struct mailbox *m, unsigned reg) {
        return read32(m->fd, m->at + reg);
}

static void put(const struct mailbox *m, unsigned reg, uint32_t v) {
        write32(m->fd, m->at + reg, v);
}

static void put_object(const struct mailbox *m, const uint32_t *words, size_t n) {
        for (size_t i = 0; i < n; i++)
                put(m, DOE_WRITE, words[i]);
        put(m, DOE_CTRL, GO);
}

/* The answer, taken from the mailbox; how many words it has. */
static size_t take(const struct mailbox *m, uint32_t *words, size_t max) {
        size_t n = 0;

        while (get(m, DOE_STATUS) & READY && n < max) {
                words[n++] = get(m, DOE_READ);
                put(m, DOE_READ, 0);
        }
        return n;
}

static void check_words(const struct mailbox *m, const uint32_t *expected, size_t n) {
        uint32_t got[16];

        if (!check_int(take(m, got, ARRAY_SIZE(got)), n))
                return;
        for (size_t i = 0; i < n; i++)
                check_int(got[i], expected[i]);
        check_int(get(m, DOE_STATUS), 0);
}

static void expect_error(const struct mailbox *m) {
        check_int(get(m, DOE_STATUS), ERROR);
        check_int(get(m, DOE_READ), 0);
        /* Nothing else is done before it is cleared. */
        put_object(m, (uint32_t[]){ DISCOVERY, 3, 0 }, 3);
        check_int(get(m, DOE_STATUS), ERROR);
        put(m, DOE_CTRL, ABORT);
        check_int(get(m, DOE_STATUS), 0);
}

static void discover(const struct mailbox *m, uint8_t index, uint32_t expected) {
        test_about("discovery of %u", index);
        put_object(m, (uint32_t[]){ DISCOVERY, 3, index }, 3);
        check_int(get(m, DOE_STATUS), READY);
        check_words(m, (uint32_t[]){ DISCOVERY, 3, expected }, 3);
        test_about("%s", "");
}

static void test_discovery(const char *bdf) {
        struct mailbox m = open_mailbox(host, bdf);

        check_int(read32(m.fd, m.at) & 0xfffff, 0x1002e);
        discover(&m, 0, 0x01000001);
        discover(&m, 1, 0x02010001);
        discover(&m, 2, 0x00020001);
        discover(&m, 3, 0x04ffffff);
        discover(&m, 255, 0x00ffffff);
        check_int(host_close(host, m.fd), 0);
}

/* Dropped without a word; what comes next is as if it had never been. */
static void test_dropped(void) {
        static const struct {
                const char *what;
                uint32_t words[5];
                size_t n;
        } cases[] = {
                { "nothing", { 0 }, 0 },
                { "a header's half", { DISCOVERY }, 1 },
                { "shorter than it says", { DISCOVERY, 4, 0 }, 3 },
                { "longer than it says", { DISCOVERY, 3, 0, 0 }, 4 },
                { "a length of 2^18", { DISCOVERY, 0, 0 }, 3 },
                { "discovery of nothing", { DISCOVERY, 2 }, 2 },
                { "unknown type", { 0x00030001, 3, 0 }, 3 },
                { "another vendor", { 0x00001234, 3, 0 }, 3 },
                { "SPDM, shorter than it says", { SPDM, 4, 0x8410 }, 3 },
        };
        struct mailbox m = open_mailbox(host, DEVICE);

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                test_about("%s", cases[i].what);
                put_object(&m, cases[i].words, cases[i].n);
                check_int(get(&m, DOE_STATUS), 0);
                check_int(get(&m, DOE_READ), 0);
        }
        test_about("%s", "");
        discover(&m, 0, 0x01000001);
        check_int(responder.connections, 0);
        check_int(host_close(host, m.fd), 0);
}

static void test_registers(void) {
        struct mailbox m = open_mailbox(host, DEVICE);
        const uint8_t go = GO >> 24;
        uint8_t all[0x18], words[8];

        /* Only whole double words are words; two in one access are two. */
        write16(m.fd, m.at + DOE_WRITE, 0xffff);
        write16(m.fd, m.at + DOE_WRITE + 2, 0xffff);
        put(&m, DOE_WRITE, DISCOVERY);
        put(&m, DOE_WRITE, 3);
        put(&m, DOE_WRITE, 1);
        check_int(get(&m, DOE_WRITE), 0);
        /* GO by the byte that it is in. */
        check_int(host_pwrite(host, m.fd, &go, 1, m.at + DOE_CTRL + 3), 1);
        check_int(get(&m, DOE_STATUS), READY);
        write16(m.fd, m.at + DOE_READ, 0);
        check_int(host_pread(host, m.fd, all, sizeof(all), m.at), sizeof(all));
        check_int(cfg_get32(all + DOE_CTRL), 0);
        check_int(cfg_get32(all + DOE_STATUS), READY);
        check_int(cfg_get32(all + DOE_READ), DISCOVERY);
        check_int(read16(m.fd, m.at + DOE_STATUS + 2), 0x8000);
        /* Another object before the answer was taken is lost. */
        put_object(&m, (uint32_t[]){ DISCOVERY, 3, 0 }, 3);
        check_words(&m, (uint32_t[]){ DISCOVERY, 3, 0x02010001 }, 3);
        /* More is read than there is. */
        put(&m, DOE_READ, 0);
        expect_error(&m);
        cfg_put32(words, DISCOVERY);
        cfg_put32(words + 4, 0);
        check_int(host_pwrite(host, m.fd, words, sizeof(words), m.at + DOE_WRITE), sizeof(words));
        expect_error(&m);
        /* An abort, and a reset, forget what was written and what is ready. */
        put(&m, DOE_WRITE, DISCOVERY);
        put(&m, DOE_CTRL, ABORT);
        put_object(&m, (uint32_t[]){ 3, 0 }, 2);
        check_int(get(&m, DOE_STATUS), 0);
        put_object(&m, (uint32_t[]){ DISCOVERY, 3, 0 }, 3);
        check_int(get(&m, DOE_STATUS), READY);
        require(host_write_text(host, "/sys/bus/pci/devices/" DEVICE "/reset", "1") >= 0);
        check_int(get(&m, DOE_STATUS), 0);
        discover(&m, 0, 0x01000001);
        check_int(host_close(host, m.fd), 0);
}

static void test_spdm(void) {
        static const uint32_t types[] = { SPDM, SECURED };
        struct mailbox m = open_mailbox(host, DEVICE);
        uint32_t *words = calloc(1200, 4);

        require(words);
        responder.mode = ANSWER;
        for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
                const uint8_t expected[] = { 1, 0, (uint8_t) (types[i] >> 16), 0, 4, 0, 0, 0, 0x10, 0x84, 0, 0, 0x78, 0x56, 0x34, 0x12 };

                put_object(&m, (uint32_t[]){ types[i], 4, 0x8410, 0x12345678 }, 4);
                check_int(get(&m, DOE_STATUS), READY);
                (void) pthread_mutex_lock(&responder.lock);
                check_int(responder.transport, 2);
                check_int(responder.size, sizeof(expected));
                check(memcmp(responder.request, expected, sizeof(expected)) == 0);
                (void) pthread_mutex_unlock(&responder.lock);
                check_words(&m, (uint32_t[]){ types[i], 4, 0x8410, 0x12345678, 0x12345678, 0x12345678 }, 6);
        }
        /* Padded to whole words; and the length is what came, whatever the object says of itself. */
        responder.mode = ODD;
        put_object(&m, (uint32_t[]){ SPDM, 4, 0x8410, 0x12345678 }, 4);
        check_words(&m, (uint32_t[]){ SPDM, 4, 0x8410, 0x78 }, 4);
        responder.mode = LARGEST;
        put_object(&m, (uint32_t[]){ SPDM, 4, 0x8410, 0x12345678 }, 4);
        check_int(take(&m, words, 1200), 1152);
        responder.mode = EMPTY;
        put_object(&m, (uint32_t[]){ SPDM, 4, 0x8410, 0x12345678 }, 4);
        check_int(get(&m, DOE_STATUS), 0);
        check_int(responder.connections, 1);
        /* A responder that has ended is asked anew. */
        responder.mode = LAST;
        put_object(&m, (uint32_t[]){ SPDM, 3, 0x8410 }, 3);
        check_int(take(&m, words, 1200), 5);
        responder.mode = ANSWER;
        put_object(&m, (uint32_t[]){ SPDM, 3, 0x8410 }, 3);
        check_int(take(&m, words, 1200), 5);
        check_int(responder.connections, 2);
        check_int(host_close(host, m.fd), 0);
        free(words);
}

static void test_wrong(void) {
        static const struct {
                const char *what;
                enum mode mode;
        } cases[] = {
                { "too long", TOO_LONG }, { "another command", COMMAND }, { "cut short", SHORT }, { "nothing", SILENT },
        };
        struct mailbox m = open_mailbox(host, DEVICE);

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                test_about("%s", cases[i].what);
                responder.mode = (int) cases[i].mode;
                put_object(&m, (uint32_t[]){ SPDM, 3, 0x8410 }, 3);
                expect_error(&m);
                if (cases[i].mode == SILENT)
                        (void) sem_post(&responder.tell);
                responder.mode = ANSWER;
                put_object(&m, (uint32_t[]){ SPDM, 3, 0x8410 }, 3);
                check_words(&m, (uint32_t[]){ SPDM, 3, 0x8410, 0x8410, 0x8410 }, 5);
        }
        test_about("%s", "");
        check_int(host_close(host, m.fd), 0);
}

/* ---- at the same time ---- */

static void *ask(void *data) {
        const struct mailbox *m = data;

        put_object(m, (uint32_t[]){ SPDM, 3, 0x8410 }, 3);
        return NULL;
}

static void test_meanwhile(void) {
        /* One open file is one call at a time, as kernfs has it. */
        struct mailbox m = open_mailbox(host, DEVICE), asking = open_mailbox(host, DEVICE), other = open_mailbox(host, OTHER);
        pthread_t thread;

        while (sem_trywait(&responder.asked) == 0)
                ;
        responder.mode = SILENT;
        require(pthread_create(&thread, NULL, ask, &asking) == 0);
        require(sem_wait(&responder.asked) == 0);
        /* On a machine so slow that a second is over already, ERROR: what comes after that is the same. */
        check(get(&m, DOE_STATUS) & (BUSY | ERROR));
        discover(&other, 0, 0x01000001);
        put(&m, DOE_WRITE, DISCOVERY);
        put(&m, DOE_CTRL, GO);
        put(&m, DOE_CTRL, ABORT);
        check(!(get(&m, DOE_STATUS) & ~BUSY));
        (void) sem_post(&responder.tell);
        require(pthread_join(thread, NULL) == 0);
        /* Nobody wanted that answer. */
        check_int(get(&m, DOE_STATUS), 0);
        discover(&m, 0, 0x01000001);
        responder.mode = ANSWER;
        check_int(host_close(host, asking.fd), 0);
        check_int(host_close(host, other.fd), 0);
        check_int(host_close(host, m.fd), 0);
}

/* ---- another responder ---- */

static int set_port(const char *bdf, unsigned port) {
        _cleanup_free_ char *reply_text = NULL;
        char command[128], path[96];

        snprintf(path, sizeof(path), "%s/socket", sim_dir_path);
        snprintf(command, sizeof(command), "{\"do\": \"spdm-port\", \"device\": \"%s\", \"port\": %u}", bdf, port);
        return control_client(path, command, &reply_text);
}

static void test_port(uint16_t port) {
        struct mailbox m = open_mailbox(host, DEVICE), other = open_mailbox(host, OTHER);

        put_object(&other, (uint32_t[]){ SPDM, 3, 0x8410 }, 3);
        expect_error(&other);
        check_int(set_port(BARE, port), -EOPNOTSUPP);
        check_int(set_port("0000:09:00.0", port), -ENODEV);
        check_int(set_port(DEVICE, 65536), -EINVAL);
        /* The responder serves one connection at a time: the first must have ended. */
        check_int(responder.shutdowns, 0);
        check_int(set_port(DEVICE, 0), 0);
        put_object(&m, (uint32_t[]){ SPDM, 3, 0x8410 }, 3);
        expect_error(&m);
        check_int(set_port(OTHER, port), 0);
        put_object(&other, (uint32_t[]){ SPDM, 3, 0x8410 }, 3);
        check_words(&other, (uint32_t[]){ SPDM, 3, 0x8410, 0x8410, 0x8410 }, 5);
        check_int(responder.shutdowns, 1);
        /* Nobody listens there any more. */
        check_int(set_port(OTHER, 0), 0);
        responder_end();
        check_int(responder.shutdowns, 2);
        check_int(set_port(DEVICE, port), 0);
        put_object(&m, (uint32_t[]){ SPDM, 3, 0x8410 }, 3);
        expect_error(&m);
        check_int(host_close(host, other.fd), 0);
        check_int(host_close(host, m.fd), 0);
}

int main(void) {
        char topology[sizeof(topology_text) + 16];
        unsigned fds = test_count_fds();
        uint16_t port = responder_start();

        snprintf(topology, sizeof(topology), topology_text, port);
        kernel_start(topology);
        test_discovery(DEVICE);
        test_discovery(OTHER);
        test_dropped();
        test_registers();
        test_spdm();
        test_wrong();
        test_meanwhile();
        test_port(port);
        kernel_end();
        check_int(test_count_fds(), fds);
        return test_end();
}
