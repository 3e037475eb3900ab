/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* DOE mailboxes: a function's config space that behaves as PCIe 6, 6.30 says, and what becomes of those that do not. */
#include "evidence/doe.h"
#include "test.h"

#define WORDS 64u
#define ABORT 0x1u
#define GO 0x80000000u
#define BUSY 0x1u
#define ERROR 0x4u
#define READY 0x80000000u

enum fault {
        FINE, SILENT, BUSY_FOR_EVER, BUSY_A_WHILE, ERROR_AT_GO, STUCK_ERROR, GONE, READ_FAILS, WRITE_FAILS, STALE, OTHER_TYPE, OTHER_VENDOR, NO_CONTENT, HUGE, LONGER,
        UNDERRUN, LOOP, SLOW, STALE_ERROR,
};

/* A mailbox at 0x200 that only takes discovery and type 2, one at 0x300 that takes SPDM too. */
struct function {
        enum fault fault;
        uint64_t now;
        uint32_t status[2], written[2][WORDS], answer[2][WORDS];
        size_t n_written[2], n_answer[2], read_at[2];
        uint64_t ready_at[2];
        unsigned aborts, reads;
};

static uint64_t function_now(void *userdata) {
        return ((struct function *) userdata)->now++;
}

static void function_sleep(void *userdata, uint64_t usec) {
        ((struct function *) userdata)->now += usec;
}

static void finish(struct function *f, unsigned m) {
        uint32_t type = f->written[m][0] >> 16;

        memset(f->answer[m], 0, sizeof(f->answer[m]));
        f->answer[m][0] = f->written[m][0];
        f->read_at[m] = 0;
        if (f->written[m][1] != f->n_written[m])
                return; /* discarded: 6.30.1 */
        if (type == DOE_TYPE_DISCOVERY) {
                uint32_t index = f->written[m][2] & 0xff, known = m + 1, entry = index == 0 ? 0 : m == 0 || index == 2 ? 2 : 1;

                check_int(f->written[m][2] >> 8, m == 1 ? 2 : 0);
                f->n_answer[m] = 3;
                f->answer[m][2] = 1 | entry << 16 | (index < known ? index + 1 : 0) << 24;
                if (f->fault == LOOP)
                        f->answer[m][2] = 1 | 3 << 16 | (index ? index : 1) << 24;
        } else {
                /* An echo, each bit turned. */
                f->n_answer[m] = f->n_written[m];
                for (size_t i = 2; i < f->n_answer[m]; i++)
                        f->answer[m][i] = ~f->written[m][i];
                if (f->fault == OTHER_TYPE)
                        f->answer[m][0] = 1 | 2 << 16;
                if (f->fault == OTHER_VENDOR)
                        f->answer[m][0] = 0x1b36 | 1 << 16;
        }
        f->answer[m][1] = (uint32_t) f->n_answer[m];
        if (type != DOE_TYPE_DISCOVERY) {
                if (f->fault == NO_CONTENT)
                        f->answer[m][1] = 2;
                if (f->fault == HUGE)
                        f->answer[m][1] = 0;
                if (f->fault == LONGER)
                        f->answer[m][1] -= 1;
                if (f->fault == UNDERRUN)
                        f->answer[m][1] += 1;
        }
        f->status[m] |= READY;
}

static int function_read(void *userdata, unsigned offset, uint32_t *ret) {
        struct function *f = userdata;
        unsigned m = offset >= 0x300;

        f->reads++;
        check(offset % 4 == 0 && offset < 0x1000);
        if (f->fault == READ_FAILS && offset == 0x314)
                return -EIO;
        switch (offset) {
        case 0x100: *ret = 0x20010001; return 0; /* AER, next at 0x200 */
        case 0x200: *ret = 0x3001002e; return 0;
        case 0x300: *ret = 0x0002002e; return 0;
        case 0x20c:
        case 0x30c:
                if (f->ready_at[m] && f->now >= f->ready_at[m]) {
                        f->ready_at[m] = 0;
                        f->status[m] &= ~BUSY;
                        if (f->n_written[m] > 0)
                                finish(f, m);
                        f->n_written[m] = 0;
                }
                *ret = f->fault == GONE && m == 1 ? UINT32_MAX : f->status[m];
                return 0;
        case 0x214:
        case 0x314: *ret = f->read_at[m] < f->n_answer[m] ? f->answer[m][f->read_at[m]] : 0; return 0;
        default: *ret = 0; return 0;
        }
}

static void do_abort(struct function *f, unsigned m) {
        f->aborts++;
        f->n_written[m] = f->n_answer[m] = f->read_at[m] = 0;
        f->ready_at[m] = 0;
        f->status[m] = f->fault == STUCK_ERROR && m == 1 ? ERROR : f->fault == BUSY_FOR_EVER && m == 1 ? BUSY : 0;
}

static void go(struct function *f, unsigned m) {
        bool spdm = f->written[m][0] >> 16 == DOE_TYPE_CMA_SPDM;

        if (f->fault == SILENT && spdm)
                return;
        if (f->fault == ERROR_AT_GO && spdm) {
                f->status[m] |= ERROR;
                return;
        }
        f->ready_at[m] = f->now + (f->fault == SLOW && spdm ? 700000 : 50);
        f->status[m] |= BUSY;
}

static int function_write(void *userdata, unsigned offset, uint32_t value) {
        struct function *f = userdata;
        unsigned m = offset >= 0x300;

        if (f->fault == WRITE_FAILS && offset == 0x310)
                return -EACCES;
        switch (offset & 0xff) {
        case 0x08:
                if (value & ABORT)
                        do_abort(f, m);
                else if (value & GO)
                        go(f, m);
                return 0;
        case 0x10:
                require(f->n_written[m] < WORDS);
                f->written[m][f->n_written[m]++] = value;
                return 0;
        case 0x14:
                f->read_at[m]++;
                if (f->read_at[m] == f->n_answer[m])
                        f->status[m] &= ~READY;
                else if (f->read_at[m] > f->n_answer[m])
                        f->status[m] |= ERROR;
                return 0;
        default: test_fail(__FILE__, __LINE__, "a write to 0x%x", offset); return 0;
        }
}

static struct doe_access access_to(struct function *f) {
        return (struct doe_access){ function_read, function_write, function_now, function_sleep, f };
}

static void test_fine(void) {
        struct function f = {};
        struct doe_access a = access_to(&f);
        struct evidence_why why = {};
        unsigned offset = 0;
        uint8_t request[100], response[100];
        size_t size = 0;

        test_about("fine");
        require(check_int(doe_find(&a, DOE_TYPE_CMA_SPDM, &offset, &why), 0));
        check_int(offset, 0x300);
        check_int(doe_find(&a, 2, &offset, &why), 0);
        check_int(offset, 0x200);
        check_int(f.aborts, 0);
        for (size_t i = 0; i < sizeof(request); i++)
                request[i] = (uint8_t) (i + 1);
        for (size_t n = 1; n <= sizeof(request); n++) {
                require(check_int(doe_exchange(&a, 0x300, DOE_TYPE_CMA_SPDM, request, n, response, sizeof(response), &size, DOE_USEC, &why), 0));
                check_int(size, (n + 3) / 4 * 4);
                for (size_t i = 0; i < size; i++)
                        check_int(response[i], i < n ? (uint8_t) ~request[i] : 0xff);
        }
        check_int(doe_exchange(&a, 0x300, DOE_TYPE_CMA_SPDM, request, 100, response, 97, &size, DOE_USEC, &why), -EBADMSG);
        check_str(evidence_reason_to_string(why.reason), "too-long");
        check_int(f.aborts, 1);
        why = (struct evidence_why){};
        check_int(doe_exchange(&a, 0x300, DOE_TYPE_CMA_SPDM, request, 0, response, 100, &size, DOE_USEC, &why), -EBADMSG);
        check_str(evidence_reason_to_string(why.reason), "too-long");
        check_int(doe_find(&a, 9, &offset, &why), -EBADMSG);
}

static void test_faults(void) {
        static const struct {
                enum fault fault;
                enum evidence_reason reason;
                const char *text; /* part of it */
                unsigned aborts;
        } rows[] = {
                { SILENT, EVIDENCE_TIMEOUT, "no answer in 1000 ms", 1 },
                { BUSY_FOR_EVER, EVIDENCE_TRANSPORT, "a second after an abort", 2 },
                { BUSY_A_WHILE, EVIDENCE_OK, "", 0 },
                { SLOW, EVIDENCE_OK, "", 0 },
                { ERROR_AT_GO, EVIDENCE_TRANSPORT, "it tells an error", 1 },
                { STUCK_ERROR, EVIDENCE_TRANSPORT, "a second after an abort", 2 },
                { GONE, EVIDENCE_TRANSPORT, "0xffffffff", 1 },
                { READ_FAILS, EVIDENCE_TRANSPORT, "Input/output error", 1 },
                { WRITE_FAILS, EVIDENCE_TRANSPORT, "Permission denied", 1 },
                { STALE, EVIDENCE_OK, "", 1 },
                { STALE_ERROR, EVIDENCE_OK, "", 1 },
                { OTHER_TYPE, EVIDENCE_TRANSPORT, "type 2, expected 0x0001 and 1", 1 },
                { OTHER_VENDOR, EVIDENCE_TRANSPORT, "0x1b36", 1 },
                { NO_CONTENT, EVIDENCE_SHORT, "2 double words", 1 },
                { HUGE, EVIDENCE_TOO_LONG, "1048568 bytes", 1 },
                { LONGER, EVIDENCE_TRAILING, "behind an object", 1 },
                { UNDERRUN, EVIDENCE_SHORT, "ends before", 1 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct function f = { .fault = rows[i].fault, .now = 1 };
                struct doe_access a = access_to(&f);
                struct evidence_why why = {};
                uint8_t response[64];
                size_t size = 77;
                int r;

                test_about("row %zu", i);
                if (f.fault == BUSY_FOR_EVER || f.fault == BUSY_A_WHILE)
                        f.status[1] = BUSY;
                if (f.fault == BUSY_A_WHILE)
                        f.ready_at[1] = 900000;
                if (f.fault == STUCK_ERROR || f.fault == STALE_ERROR)
                        f.status[1] = ERROR;
                if (f.fault == STALE) {
                        f.status[1] = READY;
                        f.n_answer[1] = 20;
                }
                r = doe_exchange(&a, 0x300, DOE_TYPE_CMA_SPDM, "12345678", 8, response, sizeof(response), &size, DOE_USEC, &why);
                check_int(r, rows[i].reason == EVIDENCE_OK ? 0 : -EBADMSG);
                check_str(evidence_reason_to_string(why.reason), evidence_reason_to_string(rows[i].reason));
                if (!check(strstr(why.text, rows[i].text)))
                        fprintf(stderr, "%s\n", why.text);
                check_int(f.aborts, rows[i].aborts);
                check_int(size, r == 0 ? 8 : 77);
                check(f.now < 4 * DOE_USEC);
        }
        test_about("discovery that leads nowhere");
        {
                struct function f = { .fault = LOOP };
                struct doe_access a = access_to(&f);
                struct evidence_why why = {};
                unsigned offset;

                check_int(doe_find(&a, DOE_TYPE_CMA_SPDM, &offset, &why), -EBADMSG);
                check(strstr(why.text, "leads back"));
                check(f.reads < 1000);
        }
}

/* Lists of capabilities that are none, have no end, or point to where there is nothing. */
struct list {
        uint32_t first, others;
        unsigned reads;
};

static int list_read(void *userdata, unsigned offset, uint32_t *ret) {
        struct list *l = userdata;

        check(offset % 4 == 0 && offset < 0x1000);
        l->reads++;
        *ret = offset == 0x100 ? l->first : l->others;
        return 0;
}

static int list_write(_unused_ void *userdata, _unused_ unsigned offset, _unused_ uint32_t value) {
        test_fail(__FILE__, __LINE__, "a write without a mailbox");
        return 0;
}

static uint64_t list_now(_unused_ void *userdata) {
        return 0;
}

static void list_sleep(_unused_ void *userdata, _unused_ uint64_t usec) {
}

static void test_lists(void) {
        static const struct list lists[] = { { 0, 0, 0 }, { UINT32_MAX, 0, 0 }, { 0x10010001, 0, 0 }, { 0x20010001, 0x20010003, 0 }, { 0xffd10001, 0xffd1002e, 0 },
                                             { 0x0fc10001, 0, 0 } };

        for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
                struct list l = lists[i];
                struct doe_access a = { list_read, list_write, list_now, list_sleep, &l };
                struct evidence_why why = {};
                unsigned offset;

                test_about("list %zu", i);
                check_int(doe_find(&a, DOE_TYPE_CMA_SPDM, &offset, &why), -EBADMSG);
                check_str(evidence_reason_to_string(why.reason), "transport");
                check(strstr(why.text, "0 mailboxes"));
                check(l.reads <= 960);
        }
}

static void test_host(void) {
        struct evidence_why why = {};
        struct spdm_transport *t = NULL;
        char folder[64], path[128];
        uint8_t config[4096] = {};
        TdiHost *host;

        test_about("a config file");
        require(tdi_host_new("linux", &host) == 0);
        test_make_dir(folder);
        snprintf(path, sizeof(path), "%s/config", folder);
        check_int(spdm_doe_open(host, path, &t, &why), -EBADMSG);
        check(strstr(why.text, "No such file"));
        test_write_file(path, config, 256);
        why = (struct evidence_why){};
        check_int(spdm_doe_open(host, path, &t, &why), -EBADMSG);
        check(strstr(why.text, "0x100: read"));
        test_write_file(path, config, sizeof(config));
        why = (struct evidence_why){};
        check_int(spdm_doe_open(host, path, &t, &why), -EBADMSG);
        check(strstr(why.text, "0 mailboxes"));
        check(!t && !spdm_doe_close(NULL));
        test_remove_dir(folder);
        tdi_host_free(host);
}

int main(void) {
        unsigned fds = test_count_fds();

        test_fine();
        test_faults();
        test_lists();
        test_host();
        check_int(test_count_fds(), fds);
        return test_end();
}
