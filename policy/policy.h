/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The policy: which function may go to which VM of which owner, on what conditions. It is read from files, whole or not at all, and then asked.
 * The engine knows facts that its caller has found out, and no device, bus or loop; of the system it reads the policy folders, and the user
 * database for owners that are named. tdid-policy(5) describes the files; policy/schema the same for machines.
 *
 * A policy never changes once it is loaded: any number of threads may ask it.
 */
#ifndef TDID_POLICY_H
#define TDID_POLICY_H

#include <stddef.h>
#include <sys/types.h>

#include "util/util.h"

#define POLICY_SCHEMA "tdid-policy/1"

/* Where policies are, in ascending precedence. */
#define POLICY_DIR_SHIPPED "/usr/share/tdid/policy.d"
#define POLICY_DIR_LOCAL "/etc/tdid/policy.d"
#define POLICY_DIRS { POLICY_DIR_SHIPPED, POLICY_DIR_LOCAL }

/* Limits on what is read. Beyond any of them the policy is refused. */
#define POLICY_FILES_MAX 1024u
#define POLICY_FILE_MAX (1u << 20)   /* bytes */
#define POLICY_TOTAL_MAX (32u << 20) /* bytes of all files */
#define POLICY_RULES_MAX 20000u      /* of all files */
#define POLICY_LIST_MAX 64u          /* values of one key of "match" */
#define POLICY_PAIRS_MAX 256u        /* different pairs of anchor and references in all rules */
#define POLICY_NAME_MAX 64u          /* bytes of a rule's name */

struct policy;

/** struct policy_error - why a policy was not taken */
struct policy_error {
        char file[256];        /* "" when it is no file's fault */
        unsigned line, column; /* from 1; 0: of the file as a whole */
        char text[384];
};

/* "FILE:LINE:COLUMN: text", as far as there is a place. Returns @buf. */
char *policy_error_format(const struct policy_error *e, char *buf, size_t size);

/**
 * policy_load() - read the files of some folders
 * @dirs:       in ascending precedence: of files with the same name the one in the last folder counts, and the others are not read. A folder
 *              that does not exist is empty. Files are those named *.json; a link to /dev/null masks those of its name.
 * @ret:        the policy, with one reference
 * @why:        what is wrong, on failure
 *
 * Return: 0; -EBADMSG, a file is not a policy; -E2BIG, a limit; or what reading a file failed with; -ENOMEM.
 */
int policy_load(const char *const dirs[], size_t n_dirs, struct policy **ret, struct policy_error *why);

/** struct policy_text - a file that has been read */
struct policy_text {
        const char *path; /* for messages; its last part is the name that orders files */
        const char *text; /* need not be terminated */
        size_t size;
};

/* The same of texts, in this order. */
int policy_load_texts(const struct policy_text *texts, size_t n_texts, struct policy **ret, struct policy_error *why);

struct policy *policy_ref(struct policy *p);
struct policy *policy_unref(struct policy *p); /* NULL */
DEFINE_CLEANUP(struct policy *, policy_unref);
#define _cleanup_policy_ _cleanup_(policy_unrefp)

/* ---- what is asked ---- */

enum policy_answer {
        POLICY_UNKNOWN, /* not yet: the caller has to see to it, see struct policy_decision, pending */
        POLICY_NO,
        POLICY_YES,
};

enum policy_sriov { POLICY_SRIOV_NONE, POLICY_SRIOV_PF, POLICY_SRIOV_VF, _POLICY_SRIOV_MAX };
/* Is the function attached before the VM is sealed? */
enum policy_mode { POLICY_MODE_UNKNOWN, POLICY_MODE_EARLY, POLICY_MODE_LATE, _POLICY_MODE_MAX };
/* How the VMM reaches it */
enum policy_access { POLICY_ACCESS_UNKNOWN, POLICY_ACCESS_VPCI, POLICY_ACCESS_HANDOFF, _POLICY_ACCESS_MAX };

/** struct policy_proof - what verification found, for one pair that policy_wanted_evidence() named */
struct policy_proof {
        const char *anchor;     /* the path, as it was wanted */
        const char *references; /* the path; NULL: the chain alone was verified */
        uint64_t time_usec;     /* when the evidence was collected, CLOCK_REALTIME */
        bool is_signed;         /* the measurements' signature was verified */
        const char *why;        /* NULL: all is well; else what is wrong, and then it proves nothing */
};

/** struct policy_facts - who asks for what; everything in it is borrowed */
struct policy_facts {
        bool has_device;  /* else it is about a VM alone, and no key about devices matches */
        uint32_t bdf;     /* tdi_bdf_number() */
        const uint32_t *path; /* the bridges above it */
        size_t n_path;
        uint16_t vendor, device, subsystem_vendor, subsystem_device;
        uint32_t class;   /* 24 bits */
        bool has_serial;
        uint64_t serial;  /* Device Serial Number */
        bool tee_io;      /* Device Capabilities */
        enum policy_sriov sriov;

        const struct policy_proof *proofs;
        size_t n_proofs;
        uint64_t now_usec; /* CLOCK_REALTIME. Of a TDI that runs: when it was attached, for its evidence grows old and that is no change of mind. */

        const char *vm;       /* name; NULL: not known */
        uint32_t owner;       /* uid */
        const char *platform; /* "tdx", "sev-snp", "cca", "pkvm" or "plain"; NULL: not known */
        enum policy_mode mode;
        enum policy_access access;

        enum policy_answer ide_secure; /* is the link encrypted, and says the TSM that it is secure? */
        enum policy_answer guard;      /* are the function's BARs guarded? */
        const char *guard_text;        /* "on", or "none: " and why; NULL: nobody says why */
        bool association;              /* the VMM wants KVM associated with the device */
};

/** struct policy_wanted - a pair that a rule could ask for */
struct policy_wanted {
        const char *anchor, *references; /* paths, of the policy; references may be NULL */
        uint64_t max_age_usec;           /* the least that a rule asks for; UINT64_MAX: any */
        bool is_signed;                  /* a rule wants a signature */
};

/**
 * policy_wanted_evidence() - what has to be verified before policy_decide() can be asked about these facts
 * @facts:      without proofs
 * @ret:        room for POLICY_PAIRS_MAX; borrowed from the policy
 *
 * Pairs of rules that could still decide, or contribute requirements; what could not change the decision is not asked for.
 *
 * Return: how many.
 */
size_t policy_wanted_evidence(const struct policy *p, const struct policy_facts *facts, struct policy_wanted ret[static POLICY_PAIRS_MAX]);
/* All pairs of all rules, for an inventory: anchor and references only. */
size_t policy_all_evidence(const struct policy *p, struct policy_wanted ret[static POLICY_PAIRS_MAX]);

/* ---- the answer ---- */

enum policy_verdict { POLICY_DENY, POLICY_ALLOW };

enum policy_decides { POLICY_RULE_ALLOWS, POLICY_RULE_DENIES, POLICY_RULE_REQUIRES, POLICY_RULE_LIMITS, _POLICY_DECIDES_MAX };

/** struct policy_rule - where a rule stands; the policy's */
struct policy_rule {
        const char *name, *file;
        unsigned line, column;
        enum policy_decides decides; /* RULE_LIMITS: nothing, it only has limits */
};

/* The keys of "match", in the order that says which rule is more specific. */
enum policy_key {
        POLICY_KEY_BDF, POLICY_KEY_SERIAL, POLICY_KEY_EVIDENCE, POLICY_KEY_SUBSYSTEM, POLICY_KEY_ID, POLICY_KEY_CLASS, POLICY_KEY_PATH,
        POLICY_KEY_TEE_IO, POLICY_KEY_SRIOV, POLICY_KEY_VM, POLICY_KEY_OWNER, POLICY_KEY_PLATFORM, POLICY_KEY_MODE, POLICY_KEY_ACCESS,
        _POLICY_KEY_MAX,
        _POLICY_KEY_INVALID = -EINVAL,
};

enum policy_requirement {
        POLICY_NEEDS_IDE,         /* "ide": "secure" */
        POLICY_NEEDS_EARLY,       /* "mode": "early" */
        POLICY_NEEDS_VPCI,        /* "access": "vpci" */
        POLICY_NEEDS_GUARD,       /* "guard": true */
        POLICY_NEEDS_EVIDENCE,    /* "evidence": … */
        POLICY_NEEDS_ASSOCIATION, /* asked for, and the rule does not permit it */
        POLICY_NEEDS_HANDOFF,     /* likewise */
        _POLICY_REQUIREMENT_MAX,
        _POLICY_REQUIREMENT_INVALID = -EINVAL,
};

/* What rules permit, as bits */
#define POLICY_PERMITS_ASSOCIATION 1u
#define POLICY_PERMITS_HANDOFF 2u

enum policy_limit {
        POLICY_LIMIT_DEVICES, POLICY_LIMIT_EXPORTS, POLICY_LIMIT_SHARED_BYTES, POLICY_LIMIT_PINNED_BYTES, POLICY_LIMIT_FDS, POLICY_LIMIT_VMS,
        _POLICY_LIMIT_MAX,
        _POLICY_LIMIT_INVALID = -EINVAL,
};

/* In ascending order of strictness */
enum policy_config_write { POLICY_CONFIG_UNSAID, POLICY_CONFIG_SHADOW, POLICY_CONFIG_REFUSE, POLICY_CONFIG_UNBIND, _POLICY_CONFIG_MAX };

/* What holds for an owner: everything of one uid is counted together. UINT64_MAX: no limit. */
struct policy_limits {
        uint64_t max[_POLICY_LIMIT_MAX];
        const struct policy_rule *rule[_POLICY_LIMIT_MAX]; /* which says so */
};

#define POLICY_WINNERS_MAX 16
#define POLICY_NEXT_MAX 4
#define POLICY_CLOSE_MAX 8

/** struct policy_need - evidence that the deciding rules want */
struct policy_need {
        const char *anchor, *references;
        uint64_t max_age_usec;
        bool is_signed;
        const struct policy_rule *rule; /* the first that wants it */
};

struct policy_unmet {
        enum policy_requirement what;
        size_t need; /* of POLICY_NEEDS_EVIDENCE: index in needs */
        const struct policy_rule *rule;
};

/** struct policy_decision - the answer. It points into the policy: hold a reference while it is used. About 18 KiB. */
struct policy_decision {
        enum policy_verdict verdict;
        bool is_default;                /* no rule matched */
        const struct policy_rule *rule; /* which decided; NULL: the default */

        /* All that decided together, at most POLICY_WINNERS_MAX of n_winners: rules that allow, as specific as each other. */
        const struct policy_rule *winners[POLICY_WINNERS_MAX];
        size_t n_winners;

        unsigned requires; /* bits of enum policy_requirement, the first five: all of theirs together */
        unsigned pending;  /* of these: not known yet. The caller has to hold back what they are about until they are met. */
        unsigned permits;  /* what all of them permit */
        enum policy_config_write on_illegal_config_write; /* the strictest of theirs */

        /* Of every rule that matches, deciding or not */
        struct policy_limits limits;
        uint32_t ide_reserve; /* the largest; 0: none */

        struct policy_need needs[POLICY_PAIRS_MAX];
        size_t n_needs;
        struct policy_unmet unmet[POLICY_PAIRS_MAX + _POLICY_REQUIREMENT_MAX];
        size_t n_unmet;

        /* The most specific ones that match too and did not decide, and those that one condition of several kept from matching. */
        const struct policy_rule *next[POLICY_NEXT_MAX];
        size_t n_next;
        struct policy_close {
                const struct policy_rule *rule;
                enum policy_key failed;
        } close[POLICY_CLOSE_MAX];
        size_t n_close;

        char text[1536]; /* one sentence, without a full stop, fit for an error message */
};

/* Allocates nothing, cannot fail, and takes time in proportion to the number of rules. */
void policy_decide(const struct policy *p, const struct policy_facts *facts, struct policy_decision *ret);

/* The limits alone, for what is not about a device: creating a VM, sharing memory. */
void policy_limits(const struct policy *p, const struct policy_facts *facts, struct policy_limits *ret);

/* What is missing, and why, for people: "evidence anchored at …: none was collected". Returns @buf. */
char *policy_unmet_describe(const struct policy_decision *d, size_t i, const struct policy_facts *facts, char *buf, size_t size);

/* ---- looking at a policy ---- */

size_t policy_n_rules(const struct policy *p);
/* In the order of specificity, the most specific first. */
const struct policy_rule *policy_get_rule(const struct policy *p, size_t i);
/* The files that were read, and of each whether it is masked. */
size_t policy_n_files(const struct policy *p);
const char *policy_get_file(const struct policy *p, size_t i, bool *ret_masked);

/* Names as they stand in files and in JSON; NULL for what is none. */
const char *policy_key_to_string(enum policy_key k);
const char *policy_requirement_to_string(enum policy_requirement r);
const char *policy_limit_to_string(enum policy_limit l);
const char *policy_decides_to_string(enum policy_decides d);
const char *policy_config_write_to_string(enum policy_config_write w);
const char *policy_sriov_to_string(enum policy_sriov s);
const char *policy_mode_to_string(enum policy_mode m);
const char *policy_access_to_string(enum policy_access a);

#endif
