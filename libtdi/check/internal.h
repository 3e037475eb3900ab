/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the checks share: the table's rows, what was read once for all of them, and how they say what they found. */
#ifndef TDI_CHECK_INTERNAL_H
#define TDI_CHECK_INTERNAL_H

#include "check/check.h"
#include "model/ide.h"
#include "model/platform.h"

struct check;

struct check_spec {
        const char *id, *group, *title;
        const char *about; /* what is looked at, and for what: a sentence for the manual */
        void (*run)(struct check *c);
        const char *const *remedies; /* all that it may say; NULL-terminated */
};

struct check_function {
        char bdf[TDI_BDF_MAX];
        uint32_t class;
        int64_t group;       /* -1: none */
        bool bridge, asleep;
        bool config_cut;     /* no more than the bytes that everybody may read, or nothing */
        bool tee_io, doe;
        int ide;             /* 0: it has the capability; else what ide_find() says */
        struct ide_capability ide_cap;
};

enum check_option {
        OPTION_UNKNOWN, /* the configuration is not to be had */
        OPTION_OFF,
        OPTION_ON,
};

/* Read once. */
struct check_facts {
        struct json_object *host, *by, *doubts; /* facts_read(), recognise_host() */
        const struct platform *platform;
        size_t n_tsms, n_strange_tsms; /* those of no platform */
        char *tsms;                    /* names, for people */
        char *cpuinfo;                 /* NULL: it cannot be read */
        char *config, *config_path;    /* NULL: none was found */
        unsigned major, minor;         /* of the kernel; 0: unknown */
        struct check_function *functions;
        size_t n_functions;
        int functions_error;           /* of listing them */
};

/* One check at work. */
struct check {
        const struct check_input *in;
        TdiHost *host;
        struct check_facts *facts;
        const struct check_spec *spec;
        enum check_verdict verdict;
        char *reason;
        const char *remedy;
        struct json_object *functions[CHECK_VERDICT_MAX]; /* lists by verdict, NULL: none */
        size_t counts[CHECK_VERDICT_MAX];
        struct json_object *details;
};

/* The verdict, once; @remedy is one of the row's or NULL. */
void check_say(struct check *c, enum check_verdict verdict, const char *remedy, const char *format, ...) _printf_(4, 5);
/* Of one function. The verdict of the whole is said afterwards, by check_say(). */
void check_say_of(struct check *c, const char *bdf, enum check_verdict verdict, const char *format, ...) _printf_(4, 5);
void check_detail(struct check *c, const char *format, ...) _printf_(2, 3);
/* SKIP, as @what needs a user who may: -EACCES and -EPERM. */
void check_skip_denied(struct check *c, const char *what);
static inline bool is_denied(int r) {
        return r == -EACCES || r == -EPERM;
}
/* strerrorname_np(), never NULL. */
const char *check_error(int r);

struct check_facts *check_facts_new(const struct check_input *in);
struct check_facts *check_facts_free(struct check_facts *f);
DEFINE_CLEANUP(struct check_facts *, check_facts_free);
enum check_option check_option(const struct check_facts *f, const char *name); /* "VFIO_PCI": =y and =m are on */
bool check_kernel_before(const struct check_facts *f, unsigned major, unsigned minor); /* false when unknown */
bool check_has_word(const char *text, const char *word); /* between blanks, commas, or brackets */

/*
 * Config space of a function, of which as little is read as will do: every word is a transaction on the link, and anybody may have all functions
 * looked at. fd: the caller's, who closes it by the host.
 */
struct check_config {
        TdiHost *host;
        int fd;
};
int check_config_open(TdiHost *host, const char *bdf, struct check_config *ret);
/* An ide_read: userdata is the config. -ENODATA: beyond its end, or beyond what this user may read. */
int check_config_word(void *userdata, unsigned at, uint32_t *ret);

/* config.c: the text of a gzip file, at most @max bytes; the caller's. -EBADMSG, -E2BIG, -ENOMEM. */
int check_inflate(const char *data, size_t size, size_t max, char **ret);

#define CHECK_ROWS(group) extern const struct check_spec group[]
CHECK_ROWS(kernel_checks);
CHECK_ROWS(iommu_checks);
CHECK_ROWS(vfio_checks);
CHECK_ROWS(kvm_checks);
CHECK_ROWS(platform_checks);
CHECK_ROWS(device_checks);
CHECK_ROWS(security_checks);
CHECK_ROWS(limit_checks);
CHECK_ROWS(other_checks);
CHECK_ROWS(tdid_checks);

#endif
