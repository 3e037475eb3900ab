/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The reader of the kernel's device-evidence family against a kernel that has one: the module tdid_test_evidence's, which says what the
 * device says, and what goes wrong on the way.
 *
 *      evidence_check absent BDF         the module is not there
 *      evidence_check objects BDF        sizes from nothing to the limit, in large and small pieces; what is not there; other functions
 *      evidence_check nonce BDF          new measurements, or none
 *      evidence_check changes BDF        evidence that changes while it is read
 *      evidence_check faults BDF         everything that is refused, each with its reason
 *      evidence_check gone BDF           a function that goes while its evidence is read
 *      evidence_check race BDF           a writer that does not rest
 *      evidence_check unprivileged BDF   another user, also one that is root in namespaces of its own
 *      evidence_check slow BDF           pieces that do not come to an end in time; takes that time
 *
 * Prints a line for each result that is not as it should be, with exit code 1, and "N checks" otherwise.
 */
#include <dirent.h>
#include <err.h>
#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>

#include "evidence/netlink.h"

#define FOLDER "/sys/kernel/debug/tdid_test_evidence"
#define ALL EVIDENCE_NETLINK_TYPES
#define BIT(n) (1u << (n))
#define TYPES 11u
#define KIB ((size_t) 1024)
#define MIB (1024 * KIB)

static const char *bdf;
static unsigned checks, failures;
static struct evidence_why why;

static void compare(int line, const char *what, int64_t got, int64_t want) {
        checks++;
        if (got == want)
                return;
        failures++;
        printf("%s:%d: %s: got %lld, want %lld (%s)\n", __FILE__, line, what, (long long) got, (long long) want, why.text);
}
#define IS(expr, want) compare(__LINE__, #expr, (expr), (want))
#define HOLDS(expr) compare(__LINE__, #expr, !!(expr), 1)

static void put(const char *name, const void *data, size_t size) {
        char path[128];
        int fd;

        snprintf(path, sizeof(path), FOLDER "/%s", name);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
                err(1, "%s", path);
        for (size_t at = 0; at < size;) {
                ssize_t n = write(fd, (const char *) data + at, size - at);

                if (n <= 0)
                        err(1, "write %s", path);
                at += (size_t) n;
        }
        close(fd);
}

static void tell(const char *file, const char *line) {
        char name[64];

        snprintf(name, sizeof(name), "%s/%s", bdf, file);
        put(name, line, strlen(line));
}

static unsigned ask(const char *file) {
        char path[128], text[64] = "";
        FILE *f;

        snprintf(path, sizeof(path), FOLDER "/%s/%s", bdf, file);
        f = fopen(path, "re");
        if (!f || !fgets(text, sizeof(text), f))
                err(1, "%s", path);
        fclose(f);
        return (unsigned) strtoul(text, NULL, 10);
}

/* Of every object and place another byte. */
static uint8_t byte_of(unsigned type, size_t at) {
        return (uint8_t) (at * 31 + at / 253 + (size_t) type * 57);
}

static void set_object(unsigned type, size_t size) {
        uint8_t *data = malloc(size + !size);
        char name[64];

        if (!data)
                err(1, "malloc");
        for (size_t i = 0; i < size; i++)
                data[i] = byte_of(type, i);
        snprintf(name, sizeof(name), "%s/%s", bdf, evidence_type_to_string((int) type));
        put(name, data, size);
        free(data);
}

static bool has_object(const struct evidence *e, unsigned type, size_t size) {
        const struct evidence_object *o = &e->objects[type];

        if (o->size != size || !o->data != !size)
                return false;
        for (size_t i = 0; i < size; i++)
                if (o->data[i] != byte_of(type, i))
                        return false;
        return true;
}

static int collect(unsigned mask, const uint8_t *nonce, struct evidence *ret) {
        why = (struct evidence_why){};
        return evidence_netlink_collect(bdf, nonce, nonce ? EVIDENCE_NONCE : 0, mask, ret, &why);
}

/* Fails in that way, and leaves the result alone. */
static void fails(int line, unsigned mask, const uint8_t *nonce, int want, enum evidence_reason reason, const char *says) {
        struct evidence e = { .time_usec = 42 };

        compare(line, "result", collect(mask, nonce, &e), want);
        compare(line, evidence_reason_to_string(why.reason), why.reason, reason);
        compare(line, says, !!strstr(why.text, says), 1);
        compare(line, "the function's name in the text", startswith(why.text, bdf), 1);
        compare(line, "result untouched", e.time_usec == 42 && !e.objects[0].data, 1);
}
#define FAILS(mask, nonce, want, reason, says) fails(__LINE__, (mask), (nonce), (want), (reason), (says))

static unsigned open_files(void) {
        DIR *d = opendir("/proc/self/fd");
        unsigned n = 0;

        if (!d)
                err(1, "/proc/self/fd");
        while (readdir(d))
                n++;
        closedir(d);
        return n;
}

static uint64_t now_usec(void) {
        struct timespec ts;

        (void) clock_gettime(CLOCK_REALTIME, &ts);
        return (uint64_t) ts.tv_sec * 1000000 + (uint64_t) ts.tv_nsec / 1000;
}

static void check_absent(void) {
        FAILS(ALL, NULL, -EOPNOTSUPP, EVIDENCE_TRANSPORT, "no generic netlink family \"device-evidence\"");
}

static void check_objects(void) {
        static const size_t sizes[] = { 1, 4096, 100 * KIB, MIB, 16 * MIB, 0, 1, 4095, 4097, 32 * KIB, 65536 };
        const uint64_t before = now_usec();
        struct evidence e = {};
        const char *real = bdf;

        for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
                set_object(i, sizes[i]);
        IS(collect(ALL, NULL, &e), 0);
        for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
                HOLDS(has_object(&e, i, sizes[i]));
        HOLDS(!e.has_nonce && e.time_usec >= before && e.time_usec <= now_usec());
        evidence_done(&e);

        /* One by one. */
        for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
                IS(collect(BIT(i), NULL, &e), 0);
                for (unsigned k = 0; k < ARRAY_SIZE(sizes); k++)
                        HOLDS(has_object(&e, k, k == i ? sizes[i] : 0));
                evidence_done(&e);
        }
        /* In 10 486 messages, and the others in a few hundred. */
        tell("fault", "small");
        IS(collect(ALL & ~BIT(4), NULL, &e), 0);
        for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
                HOLDS(has_object(&e, i, i == 4 ? 0 : sizes[i]));
        evidence_done(&e);
        tell("fault", "none");

        /* Two of 16 MiB are what is taken at once; what does not fit is refused, not cut. */
        set_object(0, 0);
        for (unsigned i = 1; i < ARRAY_SIZE(sizes); i++)
                set_object(i, i == 4 || i == 5 ? 16 * MIB : 0);
        IS(collect(ALL, NULL, &e), 0);
        HOLDS(has_object(&e, 4, 16 * MIB) && has_object(&e, 5, 16 * MIB));
        evidence_done(&e);
        set_object(6, 1);
        FAILS(ALL, NULL, -EBADMSG, EVIDENCE_TOO_LONG, "1 more of the object slot6");

        bdf = "0000:7f:1f.7";
        FAILS(ALL, NULL, -ENODEV, EVIDENCE_TRANSPORT, "no evidence of this device");
        bdf = real;
}

/* A device of our own: waits for the nonce, and then measures. */
static void *device(void *nonces) {
        uint8_t data[4096];
        char name[64];

        while (ask("nonce") == *(unsigned *) nonces)
                usleep(1000);
        memset(data, 0x5a, sizeof(data));
        snprintf(name, sizeof(name), "%s/measurements", bdf);
        put(name, data, sizeof(data));
        return NULL;
}

static void check_device(const uint8_t *nonce) {
        unsigned nonces = ask("nonce");
        struct evidence e = {};
        pthread_t thread;

        tell("refresh", "wait");
        if (pthread_create(&thread, NULL, device, &nonces) != 0)
                errx(1, "no thread");
        IS(collect(ALL, nonce, &e), 0);
        pthread_join(thread, NULL);
        IS(e.objects[EVIDENCE_MEASUREMENTS].size, 4096);
        HOLDS(e.objects[EVIDENCE_MEASUREMENTS].size == 4096 && e.objects[EVIDENCE_MEASUREMENTS].data[4095] == 0x5a);
        evidence_done(&e);
}

static void check_nonce(void) {
        uint8_t nonce[EVIDENCE_NONCE];
        struct evidence e = {};

        for (size_t i = 0; i < sizeof(nonce); i++)
                nonce[i] = (uint8_t) (0xa0 + i);
        set_object(EVIDENCE_MEASUREMENTS, 100 * KIB);
        FAILS(ALL, nonce, -EOPNOTSUPP, EVIDENCE_TRANSPORT, "cannot measure the device");
        tell("refresh", "echo 50000");
        IS(collect(ALL, nonce, &e), 0);
        HOLDS(e.has_nonce && memcmp(e.nonce, nonce, sizeof(nonce)) == 0);
        IS(e.objects[EVIDENCE_MEASUREMENTS].size, 100 * KIB);
        HOLDS(memcmp(e.objects[EVIDENCE_MEASUREMENTS].data + 50000, nonce, sizeof(nonce)) == 0);
        HOLDS(e.objects[EVIDENCE_MEASUREMENTS].data[49999] == byte_of(EVIDENCE_MEASUREMENTS, 49999));
        evidence_done(&e);
        IS(ask("nonce"), 1);
        /* Without one nothing is measured. */
        IS(collect(ALL, NULL, &e), 0);
        HOLDS(!e.has_nonce);
        evidence_done(&e);
        IS(ask("nonce"), 1);
        /* Each attempt measures again. */
        tell("fault", "changed 2");
        IS(collect(ALL, nonce, &e), 0);
        evidence_done(&e);
        IS(ask("nonce"), 4);
        tell("refresh", "echo 200000");
        FAILS(ALL, nonce, -EBADMSG, EVIDENCE_TRANSPORT, "ENOSPC: cannot measure the device");
        check_device(nonce);
}

static void check_changes(void) {
        static const char *const ways[] = { "changed", "mixed", "interrupted" };
        struct evidence e = {};
        char line[32];

        for (unsigned i = 0; i < TYPES; i++)
                set_object(i, 40000);
        for (unsigned i = 0; i < ARRAY_SIZE(ways); i++) {
                unsigned dumps = ask("dumps");

                for (unsigned n = 1; n < EVIDENCE_NETLINK_ATTEMPTS; n *= 2) {
                        snprintf(line, sizeof(line), "%s %u", ways[i], n);
                        tell("fault", line);
                        IS(collect(ALL, NULL, &e), 0);
                        for (unsigned k = 0; k < TYPES; k++)
                                HOLDS(has_object(&e, k, 40000));
                        evidence_done(&e);
                        dumps += n + 1;
                        IS(ask("dumps"), dumps);
                }
                tell("fault", ways[i]);
                FAILS(ALL, NULL, -EBADMSG, EVIDENCE_CONTENT_CHANGED, "changed each of the 8 times");
                IS(ask("dumps"), dumps + EVIDENCE_NETLINK_ATTEMPTS);
        }
}

static void check_faults(void) {
        static const struct {
                const char *name;
                enum evidence_reason reason;
                const char *says;
        } cases[] = {
                { "oversize", EVIDENCE_TOO_LONG, "announces 16777217 bytes of the object slot0, at most 16777216" },
                { "overlong", EVIDENCE_TRAILING, "the object slot0 goes on behind its 39999 bytes" },
                { "unfinished", EVIDENCE_SHORT, "the object slot0 ends after 40000 bytes, 40001 were announced" },
                { "twice", EVIDENCE_UNEXPECTED, "sent the object slot0 twice" },
                { "foreign", EVIDENCE_UNEXPECTED, "sent an object of type" },
                { "no-length", EVIDENCE_SHORT, "the object slot0 comes without its length" },
                { "empty", EVIDENCE_SHORT, "an empty piece of the object slot0, which lacks 39999" },
                { "error", EVIDENCE_TRANSPORT, "failed to give the evidence: EIO" },
        };
        struct evidence e = {};

        for (unsigned i = 0; i < TYPES; i++)
                set_object(i, 40000);
        for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
                tell("fault", cases[i].name);
                FAILS(ALL, NULL, -EBADMSG, cases[i].reason, cases[i].says);
                FAILS(BIT(0), NULL, -EBADMSG, cases[i].reason, cases[i].says);
                /* Nothing is left of it. */
                tell("fault", "none");
                IS(collect(ALL, NULL, &e), 0);
                HOLDS(has_object(&e, 10, 40000));
                evidence_done(&e);
        }
}

static void *take_away(_unused_ void *arg) {
        while (!ask("dumps"))
                usleep(1000);
        usleep(200000);
        put("devices", "clear", 5);
        return NULL;
}

/* The function goes in the middle of a dump. */
static void check_gone(void) {
        pthread_t thread;

        set_object(0, 100 * KIB);
        tell("fault", "drip");
        if (pthread_create(&thread, NULL, take_away, NULL) != 0)
                errx(1, "no thread");
        FAILS(BIT(0), NULL, -ENODEV, EVIDENCE_TRANSPORT, "no evidence of this function");
        pthread_join(thread, NULL);
        FAILS(BIT(0), NULL, -ENODEV, EVIDENCE_TRANSPORT, "no evidence of this device");
}

static atomic_bool resting;

static void *write_on(_unused_ void *arg) {
        static uint8_t data[300 * KIB];
        char name[64];

        snprintf(name, sizeof(name), "%s/measurements", bdf);
        for (unsigned n = 0; !atomic_load(&resting); n++) {
                memset(data, (int) (n & 0xff), sizeof(data));
                put(name, data, sizeof(data));
                /* Now and then a moment in which it can be read. */
                usleep(n % 8 ? 0 : 20000);
        }
        return NULL;
}

static void check_race(void) {
        unsigned whole = 0, changed = 0, dumps;
        pthread_t writer;

        set_object(EVIDENCE_MEASUREMENTS, 300 * KIB);
        dumps = ask("dumps");
        if (pthread_create(&writer, NULL, write_on, NULL) != 0)
                errx(1, "no thread");
        for (unsigned i = 0; i < 200 || (i < 5000 && (!whole || ask("dumps") - dumps == i)); i++) {
                struct evidence e = {};
                int r = collect(ALL, NULL, &e);
                const struct evidence_object *o = &e.objects[EVIDENCE_MEASUREMENTS];

                HOLDS(r == 0 || (r == -EBADMSG && why.reason == EVIDENCE_CONTENT_CHANGED));
                whole += r == 0;
                changed += r != 0;
                if (r == 0 && o->data[0] != byte_of(EVIDENCE_MEASUREMENTS, 0))
                        HOLDS(o->size == 300 * KIB && memcmp(o->data, o->data + 1, o->size - 1) == 0);
                evidence_done(&e);
        }
        atomic_store(&resting, true);
        pthread_join(writer, NULL);
        dumps = ask("dumps") - dumps;
        HOLDS(whole > 0);
        /* Else nothing changed under a reader. */
        HOLDS(dumps > whole + changed);
        printf("read %u times with %u dumps: %u whole, %u refused\n", whole + changed, dumps, whole, changed);
}

/* In a process of its own: 0 unless the kernel gives it something, or refuses in another way. */
static int as_other(bool namespace) {
        int status = 0;
        pid_t pid = fork();

        if (pid < 0)
                err(1, "fork");
        if (pid == 0) {
                failures = 0;
                if (setgroups(0, NULL) < 0 || setresgid(1000, 1000, 1000) < 0 || setresuid(1000, 1000, 1000) < 0)
                        err(1, "setresuid");
                /* Every capability, over nothing. */
                if (namespace && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
                        err(1, "unshare");
                FAILS(ALL, NULL, -EPERM, EVIDENCE_TRANSPORT, "only to those with CAP_NET_ADMIN");
                fflush(stdout);
                _exit(failures > 0);
        }
        return waitpid(pid, &status, 0) == pid ? status : -1;
}

static void check_unprivileged(void) {
        struct evidence e = {};

        set_object(0, 10);
        IS(collect(ALL, NULL, &e), 0);
        evidence_done(&e);
        IS(as_other(false), 0);
        IS(as_other(true), 0);
        IS(ask("dumps"), 1);
}

static void check_slow(void) {
        const uint64_t begin = now_usec();

        set_object(0, 100 * KIB);
        tell("fault", "drip");
        FAILS(BIT(0), NULL, -EBADMSG, EVIDENCE_TIMEOUT, "did not end within 30 s");
        HOLDS(now_usec() - begin >= EVIDENCE_NETLINK_TIMEOUT * UINT64_C(1000000));
}

int main(int argc, char **argv) {
        static const struct {
                const char *name;
                void (*run)(void);
        } verbs[] = {
                { "absent", check_absent }, { "objects", check_objects }, { "nonce", check_nonce }, { "changes", check_changes },
                { "faults", check_faults }, { "gone", check_gone }, { "race", check_race },
                { "unprivileged", check_unprivileged }, { "slow", check_slow },
        };
        unsigned files;

        if (argc != 3)
                errx(2, "usage: evidence_check VERB BDF");
        bdf = argv[2];
        for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
                if (!streq(argv[1], verbs[i].name))
                        continue;
                files = open_files();
                if (verbs[i].run != check_absent) {
                        put("devices", "clear", 5);
                        put("devices", bdf, strlen(bdf));
                }
                verbs[i].run();
                if (verbs[i].run != check_absent)
                        put("devices", "clear", 5);
                IS(open_files(), files);
                printf("%u checks, %u failed\n", checks, failures);
                return failures > 0;
        }
        errx(2, "no such verb: %s", argv[1]);
}
