/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the verbs share: the running program, its table of verbs, its failures. One file per verb group implements them. */
#ifndef TDICTL_H
#define TDICTL_H

#include <json-c/json.h>
#include <tdi/client.h>

#include "options.h"
#include "util/util.h"

struct tdictl {
        struct arguments arguments;
        struct tdi_client *client;
        json_object *selected; /* the snapshot that selectors were found in; NULL: there was none */
        bool json;
        bool legend;

        /* The failure that ends the program, told once, by main. */
        char *error_text;
        const char *error_name;
        int error_exit;
};

#define EXIT_OTHER 1
#define EXIT_USAGE 2
#define EXIT_UNREACHABLE 12

extern const struct verb verbs[];

/* A verb returns its exit code, or what one of these returns: always negative. */
int fail(struct tdictl *t, const char *name, int exit_code, const char *format, ...) _printf_(4, 5);
int fail_usage(struct tdictl *t, const char *format, ...) _printf_(2, 3);
int fail_client(struct tdictl *t, int r); /* the client's last error */
int fail_oom(struct tdictl *t);

/* Puts something before the text of a failure that is there already. */
int fail_prefix(struct tdictl *t, int r, const char *prefix);

int tdictl_bdf(struct tdictl *t, const char *word, struct tdi_bdf *ret);

/* Runs it all; the exit code. Apart from main() so that tests can link the rest. */
int tdictl_main(int argc, char *argv[]);

/* Help. `group` or `verb` may be NULL. */
void print_help(const char *group);
void print_verb_help(const struct verb *v);
/* The table of verbs as JSON: {"schema", "help": {"verbs": […], "options": […]}}. Only of one group or verb where that is not NULL. */
int print_help_json(struct tdictl *t, const char *group, const struct verb *verb);

int verb_status(struct tdictl *t);
int verb_check(struct tdictl *t);
int verb_tsm_list(struct tdictl *t);
int verb_tsm_show(struct tdictl *t);
int verb_device_list(struct tdictl *t);
int verb_device_show(struct tdictl *t);
int verb_device_connect(struct tdictl *t);
int verb_device_disconnect(struct tdictl *t);
int verb_device_restore(struct tdictl *t);
int verb_device_evidence(struct tdictl *t);
int verb_vm_create(struct tdictl *t);
int verb_vm_list(struct tdictl *t);
int verb_vm_show(struct tdictl *t);
int verb_vm_seal(struct tdictl *t);
int verb_vm_destroy(struct tdictl *t);
int verb_run(struct tdictl *t);
int verb_attach(struct tdictl *t);
int verb_detach(struct tdictl *t);
int verb_bind(struct tdictl *t);
int verb_unbind(struct tdictl *t);
int verb_dmabuf_export(struct tdictl *t);
int verb_dmabuf_list(struct tdictl *t);
int verb_monitor(struct tdictl *t);
int verb_metrics(struct tdictl *t);
int verb_nfd(struct tdictl *t);
int verb_cdi(struct tdictl *t);
int verb_completion(struct tdictl *t);
int verb_policy_check(struct tdictl *t);
int verb_policy_show(struct tdictl *t);
int verb_policy_explain(struct tdictl *t);
int verb_policy_suggest(struct tdictl *t);

#endif
