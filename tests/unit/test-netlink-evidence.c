/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Dumps of the device-evidence family, made by hand: how objects are put together again, and everything that is refused. Against a kernel it
 * is tried in the VM, by tests/vm/programs/evidence_check.c.
 */
#include "evidence/netlink-reader.h"
#include "evidence/netlink.h"
#include "netlink-stream.h"

#define ALL EVIDENCE_NETLINK_TYPES
#define BIT(n) (1u << (n))

static uint8_t pattern[40000];
static struct stream s;
static struct evidence_why why;

static void fresh(void) {
        s.size = 0;
        why = (struct evidence_why){};
}

static struct netlink_reader reader(unsigned mask) {
        return (struct netlink_reader){ .family = FAMILY, .sequence = SEQUENCE, .port = PORT, .type_mask = mask };
}

/* The stream as one datagram, in memory of its size. */
static int feed(struct netlink_reader *r) {
        _cleanup_free_ char *copy = test_copy(s.bytes, s.size);
        int e = netlink_reader_feed(r, copy, s.size, &why);

        s.size = 0;
        return e;
}

static bool holds(const struct netlink_reader *r, unsigned type, size_t size) {
        const struct evidence_object *o = &r->evidence.objects[type];

        return o->data && o->size == size && memcmp(o->data, pattern, size) == 0;
}

/* The stream so far ends an otherwise right dump; it must be refused with that name. */
static void refused(const char *what, enum evidence_reason reason) {
        struct netlink_reader r = reader(ALL);

        test_about("%s", what);
        check_int(feed(&r), -EBADMSG);
        check_str(evidence_reason_to_string(why.reason), evidence_reason_to_string(reason));
        check(strlen(why.text) > 20);
        netlink_reader_done(&r);
        fresh();
}

static void test_whole(void) {
        static const size_t sizes[] = { 0, 1000, 2000 };
        struct netlink_reader r = reader(ALL);

        test_about("%s", "all objects in their own messages, some empty");
        for (unsigned i = 0; i < TDI_DEVICE_EVIDENCE_TYPES; i++) {
                stream_object(&s, i, 5, (uint32_t) sizes[i % 3]);
                stream_val(&s, pattern, sizes[i % 3]);
                stream_end(&s);
                check_int(feed(&r), 0);
        }
        stream_done(&s, 0, NULL);
        check_int(feed(&r), 1);
        for (unsigned i = 0; i < TDI_DEVICE_EVIDENCE_TYPES; i++)
                check(i % 3 ? holds(&r, i, sizes[i % 3]) : !r.evidence.objects[i].data);
        netlink_reader_done(&r);

        test_about("%s", "nothing at all");
        r = reader(ALL);
        stream_done(&s, 0, NULL);
        check_int(feed(&r), 1);
        netlink_reader_done(&r);
}

/* In pieces of every size, in one datagram or one each. */
static void test_pieces(void) {
        const size_t size = 1000;

        for (size_t piece = 1; piece <= size; piece = piece * 2 + 1) {
                for (unsigned way = 0; way < 4; way++) {
                        struct netlink_reader r = reader(BIT(EVIDENCE_MEASUREMENTS));
                        int e = 0;

                        test_about("pieces of %zu, way %u", piece, way);
                        for (size_t at = 0; at < size;) {
                                size_t n = size - at < piece ? size - at : piece;

                                if (at == 0) {
                                        stream_object(&s, EVIDENCE_MEASUREMENTS, 1, size);
                                } else {
                                        stream_begin_read(&s);
                                        /* What the first message said may come again. */
                                        if (way & 2) {
                                                stream_u32(&s, TDI_DEVICE_EVIDENCE_A_TYPE, EVIDENCE_MEASUREMENTS);
                                                stream_u32(&s, TDI_DEVICE_EVIDENCE_A_GENERATION, 1);
                                                stream_u32(&s, TDI_DEVICE_EVIDENCE_A_LENGTH, size);
                                        }
                                }
                                stream_val(&s, pattern + at, n);
                                at += n;
                                /* Two in one message, where there are two. */
                                n = size - at < piece ? size - at : piece;
                                if (n && way & 2) {
                                        stream_val(&s, pattern + at, n);
                                        at += n;
                                }
                                stream_end(&s);
                                if (way & 1)
                                        check_int(e = feed(&r), 0);
                        }
                        stream_done(&s, 0, NULL);
                        check_int(e = feed(&r), 1);
                        check(holds(&r, EVIDENCE_MEASUREMENTS, size));
                        netlink_reader_done(&r);
                }
        }
}

static void test_numbers(void) {
        struct netlink_reader r = reader(ALL);

        test_about("%s", "64 bits, COUNT, an attribute of tomorrow, VAL before the rest");
        stream_begin_read(&s);
        stream_val(&s, pattern, 3);
        stream_u64(&s, TDI_DEVICE_EVIDENCE_A_COUNT, 9);
        stream_u64(&s, TDI_DEVICE_EVIDENCE_A_GENERATION, UINT64_C(1) << 40);
        stream_u64(&s, TDI_DEVICE_EVIDENCE_A_LENGTH, 3);
        stream_u32(&s, TDI_DEVICE_EVIDENCE_A_TYPE, EVIDENCE_VCA);
        stream_bytes(&s, 11, "later", 5);
        stream_bytes(&s, 200, "later", 5);
        stream_u32(&s, TDI_DEVICE_EVIDENCE_A_FLAGS, 1);
        stream_end(&s);
        stream_done(&s, 0, NULL);
        check_int(feed(&r), 1);
        check(holds(&r, EVIDENCE_VCA, 3));
        netlink_reader_done(&r);
}

static void test_changes(void) {
        struct netlink_reader r = reader(ALL);

        test_about("%s", "generation");
        stream_object(&s, 0, 7, 0);
        stream_end(&s);
        stream_object(&s, 1, 8, 0);
        stream_end(&s);
        check_int(feed(&r), -EAGAIN);
        check_int(why.reason, EVIDENCE_CONTENT_CHANGED);
        check(strstr(why.text, "was 7, and is 8"));
        netlink_reader_done(&r);
        fresh();

        test_about("%s", "generation within an object");
        r = reader(ALL);
        stream_object(&s, 0, 7, 2);
        stream_val(&s, pattern, 1);
        stream_end(&s);
        stream_begin_read(&s);
        stream_u32(&s, TDI_DEVICE_EVIDENCE_A_GENERATION, 6);
        stream_val(&s, pattern, 1);
        stream_end(&s);
        check_int(feed(&r), -EAGAIN);
        netlink_reader_done(&r);
        fresh();

        test_about("%s", "count");
        r = reader(ALL);
        for (unsigned i = 0; i < 2; i++) {
                stream_object(&s, i, 7, 0);
                stream_u64(&s, TDI_DEVICE_EVIDENCE_A_COUNT, i);
                stream_end(&s);
        }
        check_int(feed(&r), -EAGAIN);
        netlink_reader_done(&r);
        fresh();

        test_about("%s", "interrupted");
        r = reader(ALL);
        stream_object(&s, 0, 7, 0);
        ((struct nlmsghdr *) s.bytes)->nlmsg_flags |= NLM_F_DUMP_INTR;
        stream_end(&s);
        check_int(feed(&r), -EAGAIN);
        netlink_reader_done(&r);
        fresh();

        test_about("%s", "the kernel says so, in the middle of an object");
        r = reader(ALL);
        stream_object(&s, 0, 7, 2);
        stream_val(&s, pattern, 1);
        stream_end(&s);
        stream_done(&s, -EAGAIN, "evidence updated during read");
        check_int(feed(&r), -EAGAIN);
        check(strstr(why.text, "evidence updated during read"));
        netlink_reader_done(&r);
        fresh();
}

static void test_limits(void) {
        struct netlink_reader r = reader(ALL);

        stream_object(&s, 0, 1, EVIDENCE_OBJECT_MAX + 1);
        stream_end(&s);
        refused("an object over the limit", EVIDENCE_TOO_LONG);
        stream_object(&s, 0, 1, UINT32_MAX);
        stream_end(&s);
        refused("the longest", EVIDENCE_TOO_LONG);
        stream_begin_read(&s);
        stream_u32(&s, TDI_DEVICE_EVIDENCE_A_TYPE, 0);
        stream_u32(&s, TDI_DEVICE_EVIDENCE_A_GENERATION, 0);
        stream_u64(&s, TDI_DEVICE_EVIDENCE_A_LENGTH, UINT64_MAX);
        stream_end(&s);
        refused("a length that would wrap", EVIDENCE_TOO_LONG);

        test_about("%s", "three objects of which the third is too much");
        for (unsigned i = 0; i < 3; i++) {
                size_t left = EVIDENCE_OBJECT_MAX;

                stream_object(&s, i, 1, i < 2 ? EVIDENCE_OBJECT_MAX : 1);
                if (i == 2)
                        break;
                for (; left; left -= left < sizeof(pattern) ? left : sizeof(pattern)) {
                        if (left < EVIDENCE_OBJECT_MAX)
                                stream_begin_read(&s);
                        stream_val(&s, pattern, left < sizeof(pattern) ? left : sizeof(pattern));
                        stream_end(&s);
                        check_int(feed(&r), 0);
                }
        }
        stream_end(&s);
        check_int(feed(&r), -EBADMSG);
        check_int(why.reason, EVIDENCE_TOO_LONG);
        check(r.evidence.objects[1].size == EVIDENCE_OBJECT_MAX);
        netlink_reader_done(&r);
        fresh();
}

static void test_refusals(void) {
        stream_object(&s, TDI_DEVICE_EVIDENCE_TYPES, 1, 0);
        stream_end(&s);
        refused("a type that is none", EVIDENCE_UNEXPECTED);
        stream_object(&s, UINT32_MAX, 1, 0);
        stream_end(&s);
        refused("a type far off", EVIDENCE_UNEXPECTED);
        for (unsigned i = 0; i < 2; i++) {
                stream_object(&s, 3, 1, 1);
                stream_val(&s, pattern, 1);
                stream_end(&s);
        }
        refused("an object twice", EVIDENCE_UNEXPECTED);
        for (unsigned i = 0; i < 2; i++) {
                stream_object(&s, 3, 1, 0);
                stream_end(&s);
        }
        refused("an empty object twice", EVIDENCE_UNEXPECTED);
        stream_object(&s, 3, 1, 2);
        stream_val(&s, pattern, 1);
        stream_end(&s);
        stream_object(&s, 4, 1, 0);
        stream_end(&s);
        refused("an object before the last one has ended", EVIDENCE_SHORT);
        stream_object(&s, 3, 1, 2);
        stream_val(&s, pattern, 1);
        stream_end(&s);
        stream_done(&s, 0, NULL);
        refused("an object that is never finished", EVIDENCE_SHORT);
        stream_object(&s, 3, 1, 2);
        stream_val(&s, pattern, 3);
        stream_end(&s);
        refused("a piece longer than the object", EVIDENCE_TRAILING);
        stream_object(&s, 3, 1, 0);
        stream_val(&s, pattern, 1);
        stream_end(&s);
        refused("a piece of an empty object", EVIDENCE_TRAILING);
        stream_object(&s, 3, 1, 2);
        stream_val(&s, pattern, 1);
        stream_end(&s);
        stream_begin_read(&s);
        stream_val(&s, pattern, 2);
        stream_end(&s);
        refused("a second piece that is too long", EVIDENCE_TRAILING);
        stream_object(&s, 3, 1, 2);
        stream_val(&s, pattern, 2);
        stream_end(&s);
        stream_begin_read(&s);
        stream_val(&s, pattern, 1);
        stream_end(&s);
        refused("a piece behind the end", EVIDENCE_UNEXPECTED);
        stream_object(&s, 3, 1, 2);
        stream_end(&s);
        stream_begin_read(&s);
        stream_val(&s, pattern, 0);
        stream_end(&s);
        refused("an empty piece", EVIDENCE_SHORT);
        stream_object(&s, 3, 1, 2);
        stream_end(&s);
        stream_begin_read(&s);
        stream_end(&s);
        refused("a message with nothing in it", EVIDENCE_SHORT);
        stream_object(&s, 3, 1, 2);
        stream_end(&s);
        stream_object(&s, 3, 1, 3);
        stream_val(&s, pattern, 1);
        stream_end(&s);
        refused("a length that changes", EVIDENCE_UNEXPECTED);
        stream_begin_read(&s);
        stream_val(&s, pattern, 1);
        stream_end(&s);
        refused("a piece of nothing", EVIDENCE_UNEXPECTED);
        stream_begin_read(&s);
        stream_u32(&s, TDI_DEVICE_EVIDENCE_A_TYPE, 1);
        stream_u32(&s, TDI_DEVICE_EVIDENCE_A_GENERATION, 1);
        stream_val(&s, pattern, 1);
        stream_end(&s);
        refused("no length", EVIDENCE_SHORT);
        stream_begin_read(&s);
        stream_u32(&s, TDI_DEVICE_EVIDENCE_A_TYPE, 1);
        stream_u32(&s, TDI_DEVICE_EVIDENCE_A_LENGTH, 1);
        stream_val(&s, pattern, 1);
        stream_end(&s);
        refused("no generation", EVIDENCE_SHORT);
        stream_object(&s, 3, 1, 0);
        stream_u32(&s, TDI_DEVICE_EVIDENCE_A_LENGTH, 0);
        stream_end(&s);
        refused("a length twice in a message", EVIDENCE_UNEXPECTED);
        for (unsigned size = 0; size < 10; size++) {
                if (size == 4 || size == 8)
                        continue;
                stream_begin_read(&s);
                stream_bytes(&s, TDI_DEVICE_EVIDENCE_A_TYPE, "\0\0\0\0\0\0\0\0\0", size);
                stream_end(&s);
                refused("a number of strange width", EVIDENCE_UNEXPECTED);
        }
}

/* The layers around the attributes. */
static void test_frames(void) {
        struct netlink_reader r = reader(BIT(3));
        struct nlattr *a;

        test_about("%s", "a type that was not asked for");
        stream_object(&s, 4, 1, 0);
        stream_end(&s);
        check_int(feed(&r), -EBADMSG);
        check_int(why.reason, EVIDENCE_UNEXPECTED);
        netlink_reader_done(&r);
        fresh();

        stream_begin_read(&s)->cmd = 2;
        stream_end(&s);
        refused("another command", EVIDENCE_UNEXPECTED);
        stream_begin(&s, FAMILY + 1, 0);
        stream_put(&s, pattern, 4);
        stream_end(&s);
        refused("another family", EVIDENCE_UNEXPECTED);
        stream_begin(&s, FAMILY, 0);
        stream_put(&s, pattern, 3);
        stream_end(&s);
        refused("half a header", EVIDENCE_SHORT);
        stream_begin(&s, NLMSG_DONE, 0)->nlmsg_seq++;
        stream_put(&s, "\0\0\0", 4);
        stream_end(&s);
        refused("another request's", EVIDENCE_UNEXPECTED);
        stream_begin(&s, NLMSG_DONE, 0)->nlmsg_pid++;
        stream_put(&s, "\0\0\0", 4);
        stream_end(&s);
        refused("another port's", EVIDENCE_UNEXPECTED);
        stream_begin(&s, NLMSG_DONE, 0);
        stream_put(&s, "\0\0", 3);
        stream_end(&s);
        refused("an end of three bytes", EVIDENCE_SHORT);
        stream_begin(&s, NLMSG_ERROR, 0);
        stream_put(&s, pattern, sizeof(struct nlmsgerr) - 1);
        stream_end(&s);
        refused("an error that is too short", EVIDENCE_SHORT);
        stream_begin(&s, NLMSG_OVERRUN, 0);
        stream_end(&s);
        refused("overrun", EVIDENCE_UNEXPECTED);
        stream_done(&s, 0, NULL);
        stream_done(&s, 0, NULL);
        refused("two ends", EVIDENCE_TRAILING);
        refused("an empty datagram", EVIDENCE_SHORT);
        stream_put(&s, pattern, 15);
        refused("a datagram shorter than a header", EVIDENCE_SHORT);
        stream_object(&s, 0, 1, 0);
        stream_end(&s);
        stream_put(&s, pattern, 4);
        refused("bytes behind the last message", EVIDENCE_SHORT);
        stream_begin(&s, FAMILY, 0)->nlmsg_len = 15;
        refused("a message shorter than its header", EVIDENCE_SHORT);
        stream_begin(&s, FAMILY, 0)->nlmsg_len = 17;
        refused("a message longer than its datagram", EVIDENCE_SHORT);

        stream_object(&s, 0, 1, 0);
        stream_put(&s, "\0\0", 3);
        stream_end(&s);
        refused("three bytes behind the last attribute", EVIDENCE_SHORT);
        for (unsigned i = 0; i < 3; i++) {
                stream_object(&s, 0, 1, 4);
                stream_val(&s, pattern, 4);
                a = (struct nlattr *) (s.bytes + s.attribute);
                a->nla_len = (uint16_t[]){ 0, 3, 9 }[i];
                stream_end(&s);
                refused("an attribute of wrong length", EVIDENCE_SHORT);
        }

        test_about("%s", "another version of the family");
        r = reader(ALL);
        stream_begin_read(&s)->version = 2;
        stream_end(&s);
        check_int(feed(&r), -EOPNOTSUPP);
        check(strstr(why.text, "version 2, only 1"));
        netlink_reader_done(&r);
        fresh();
}

static void error_message(int error, uint16_t flags, size_t request, const char *text) {
        const struct nlmsgerr e = { .error = error, .msg.nlmsg_len = (uint32_t) (NLMSG_HDRLEN + request) };

        stream_begin(&s, NLMSG_ERROR, flags);
        stream_put(&s, &e, sizeof(e));
        if (!(flags & NLM_F_CAPPED))
                stream_put(&s, pattern, request);
        stream_pad(&s);
        if (text)
                stream_bytes(&s, NLMSGERR_ATTR_MSG, text, strlen(text));
        stream_end(&s);
}

static void test_errors(void) {
        static const struct {
                int error, want;
                enum evidence_reason reason;
        } cases[] = {
                { -EPERM, -EPERM, EVIDENCE_TRANSPORT },         { -EACCES, -EPERM, EVIDENCE_TRANSPORT },
                { -EOPNOTSUPP, -EOPNOTSUPP, EVIDENCE_TRANSPORT }, { -ENODEV, -ENODEV, EVIDENCE_TRANSPORT },
                { -ENXIO, -ENODEV, EVIDENCE_TRANSPORT },        { -EAGAIN, -EAGAIN, EVIDENCE_CONTENT_CHANGED },
                { -EIO, -EBADMSG, EVIDENCE_TRANSPORT },         { -ENOMEM, -EBADMSG, EVIDENCE_TRANSPORT },
                { 5, -EBADMSG, EVIDENCE_UNEXPECTED },           { INT32_MIN, -EBADMSG, EVIDENCE_UNEXPECTED },
                { -4096, -EBADMSG, EVIDENCE_UNEXPECTED },
        };

        for (size_t i = 0; i < 2 * ARRAY_SIZE(cases); i++) {
                struct netlink_reader r = reader(ALL);
                const bool done = i % 2;

                test_about("error %d %s", cases[i / 2].error, done ? "at the end" : "at once");
                if (done)
                        stream_done(&s, cases[i / 2].error, NULL);
                else
                        error_message(cases[i / 2].error, NLM_F_CAPPED, 40, NULL);
                check_int(feed(&r), cases[i / 2].want);
                check_int(why.reason, cases[i / 2].reason);
                netlink_reader_done(&r);
                fresh();
        }
        error_message(0, 0, 0, NULL);
        refused("an acknowledgement", EVIDENCE_UNEXPECTED);

        for (unsigned i = 0; i < 4; i++) {
                struct netlink_reader r = reader(ALL);

                test_about("words of the kernel's, way %u", i);
                if (i < 2)
                        error_message(-EINVAL, (uint16_t) (NLM_F_ACK_TLVS | (i ? NLM_F_CAPPED : 0)), 21, "no \x1b[31mred\n");
                else
                        stream_done(&s, -EINVAL, i == 2 ? "no \x1b[31mred\n" : "");
                check_int(feed(&r), -EBADMSG);
                check_str(why.text, i == 3 ? "the kernel failed to give the evidence: EINVAL"
                                           : "the kernel failed to give the evidence: EINVAL: no ?[31mred?");
                netlink_reader_done(&r);
                fresh();
        }
        for (unsigned i = 0; i < 3; i++) {
                struct netlink_reader r = reader(ALL);

                test_about("words that are not where they should be, %u", i);
                error_message(-EINVAL, NLM_F_ACK_TLVS, 8, i == 2 ? "cut off" : NULL);
                if (i == 0)
                        ((struct nlmsgerr *) (s.bytes + NLMSG_HDRLEN))->msg.nlmsg_len = UINT32_MAX;
                if (i == 1)
                        ((struct nlmsgerr *) (s.bytes + NLMSG_HDRLEN))->msg.nlmsg_len = 0;
                if (i == 2)
                        ((struct nlattr *) (s.bytes + s.attribute))->nla_len = 60000;
                check_int(feed(&r), -EBADMSG);
                check(startswith(why.text, "the kernel failed to give the evidence: EINVAL"));
                netlink_reader_done(&r);
                fresh();
        }
}

/* Every beginning of a right dump: not one is taken for the whole. */
static void test_cut(void) {
        struct stream whole;

        stream_object(&s, 0, 1, 5);
        stream_val(&s, pattern, 5);
        stream_end(&s);
        stream_object(&s, 9, 1, 3);
        stream_val(&s, pattern, 1);
        stream_end(&s);
        stream_begin_read(&s);
        stream_val(&s, pattern + 1, 2);
        stream_end(&s);
        stream_done(&s, 0, NULL);
        whole = s;
        for (size_t n = 0; n <= whole.size; n++) {
                struct netlink_reader r = reader(ALL);
                int e;

                test_about("the first %zu of %zu bytes", n, whole.size);
                s = whole;
                s.size = n;
                e = feed(&r);
                check(n == whole.size ? e == 1 : e == 0 || e == -EBADMSG);
                check(!r.evidence.objects[9].data || r.evidence.objects[9].size == 0 || holds(&r, 9, 3));
                netlink_reader_done(&r);
                fresh();
        }
}

static void test_arguments(void) {
        const uint8_t nonce[EVIDENCE_NONCE] = {};
        struct evidence e = { .time_usec = 42 };

        test_about("%s", "arguments");
        fresh();
        check_int(evidence_netlink_collect("0000:01:00", NULL, 0, ALL, &e, &why), -EINVAL);
        check_int(evidence_netlink_collect("0000:01:00.0", NULL, 0, 0, &e, &why), -EINVAL);
        check_int(evidence_netlink_collect("0000:01:00.0", NULL, 0, BIT(EVIDENCE_CHALLENGE), &e, &why), -EINVAL);
        check_int(evidence_netlink_collect("0000:01:00.0", nonce, EVIDENCE_NONCE - 1, ALL, &e, &why), -EINVAL);
        check_int(evidence_netlink_collect("0000:01:00.0", nonce, 0, ALL, &e, &why), -EINVAL);
        check_int(evidence_netlink_collect("0000:01:00.0", NULL, EVIDENCE_NONCE, ALL, &e, &why), -EINVAL);
        check(e.time_usec == 42 && why.reason == EVIDENCE_OK);
}

int main(void) {
        for (size_t i = 0; i < sizeof(pattern); i++)
                pattern[i] = (uint8_t) (i * 7 + i / 251);
        test_whole();
        test_pieces();
        test_numbers();
        test_changes();
        test_limits();
        test_refusals();
        test_frames();
        test_errors();
        test_cut();
        test_arguments();
        return test_end();
}
