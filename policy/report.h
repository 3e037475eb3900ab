/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What people ask of a policy, as JSON: why it decides so, what is wrong with it, what is in it, and which rule would pin a device. Running
 * out of memory here ends the process, as everywhere where JSON is made.
 */
#ifndef TDID_POLICY_REPORT_H
#define TDID_POLICY_REPORT_H

#include "policy/policy.h"

struct json_object;

/*
 * {"decision", "default", "rule", "winners", "requires", "unmet", "pending", "permits", "limits", "ide_reserve", "on_illegal_config_write", "next",
 * "close", "text"}: rules as {"name", "file", "line", "column", "decision"}. The caller's.
 */
struct json_object *policy_explain(const struct policy *p, const struct policy_facts *facts);
struct json_object *policy_decision_to_json(const struct policy_decision *d, const struct policy_facts *facts);

/* {"files": [{"file", "masked"}], "rules": [the above, and "source", the rule as it was written]}, in the order of specificity. */
struct json_object *policy_to_json(const struct policy *p);

/**
 * policy_check() - read policies as far as they can be read, and look what is wrong with them
 * @paths:      files, and folders in ascending precedence
 * @ret:        a list of {"severity", "kind", "file", "line", "column", "text"}: severity "error" means that tdid would not take it, "warning" that
 *              it hardly says what was meant; kind "invalid", "contradiction", "unreachable", "duplicate", "never-met", "evidence-denies",
 *              "missing-file" or "writable-file"
 *
 * Return: how many errors; -ENOMEM.
 */
int policy_check(const char *const paths[], size_t n_paths, struct json_object **ret);

/**
 * policy_suggest() - a policy file with one rule, which allows this device and no other
 * @facts:      the device; owner and VM as they are to be matched
 * @owner:      facts->owner is to be matched
 * @digest:     of the evidence that the proofs are about, for people; NULL: none
 *
 * What proofs verified is required; of a TEE-IO device a secure IDE stream as well.
 */
struct json_object *policy_suggest(const struct policy_facts *facts, bool owner, const char *digest);

#endif
