/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tdictl's life: parse, connect, run the verb, tell the failure. What verbs do is in a file per group. */
#include "tdictl.h"

#include <json-c/json.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>

#include "model.h"
#include "select.h"
#include "text.h"

static int fail_va(struct tdictl *t, const char *name, int exit_code, const char *format, va_list ap) _printf_(4, 0);
static int fail_va(struct tdictl *t, const char *name, int exit_code, const char *format, va_list ap) {
        char *text = NULL;

        if (vasprintf(&text, format, ap) < 0)
                text = NULL;
        free(t->error_text);
        t->error_text = text;
        t->error_name = name;
        t->error_exit = exit_code;
        return -ECANCELED;
}

int fail(struct tdictl *t, const char *name, int exit_code, const char *format, ...) {
        va_list ap;
        int r;

        va_start(ap, format);
        r = fail_va(t, name, exit_code, format, ap);
        va_end(ap);
        return r;
}

int fail_usage(struct tdictl *t, const char *format, ...) {
        va_list ap;
        int r;

        va_start(ap, format);
        r = fail_va(t, "Usage", EXIT_USAGE, format, ap);
        va_end(ap);
        return r;
}

int fail_oom(struct tdictl *t) {
        return fail(t, "Failed", EXIT_OTHER, "Out of memory.");
}

int fail_client(struct tdictl *t, int r) {
        enum tdi_error error = TDI_ERROR_NONE;
        const char *text = tdi_client_error(t->client, &error);

        if (isempty(text))
                text = strerror(-r);
        if (error != TDI_ERROR_NONE)
                return fail(t, tdi_error_to_name(error), tdi_error_to_exit(error), "%s", text);
        if (r == -EHOSTUNREACH || r == -ECONNRESET)
                return fail(t, "Unreachable", EXIT_UNREACHABLE, "%s", text);
        if (r == -EINPROGRESS)
                return fail(t, "Interrupted", EXIT_OTHER, "%s", text);
        return fail(t, "Failed", EXIT_OTHER, "%s", text);
}

int fail_prefix(struct tdictl *t, int r, const char *prefix) {
        char *text = NULL;

        if (asprintf(&text, "%s%s", prefix, strempty(t->error_text)) >= 0) {
                free(t->error_text);
                t->error_text = text;
        }
        return r;
}

int tdictl_bdf(struct tdictl *t, const char *word, struct tdi_bdf *ret) {
        if (tdi_bdf_parse(word, ret) < 0)
                return fail(t, tdi_error_to_name(TDI_ERROR_INVALID_ARGUMENT), tdi_error_to_exit(TDI_ERROR_INVALID_ARGUMENT),
                            "'%s' is not a PCI function: write 0000:01:00.0, 01:00.0 or pci_0000_01_00_0.", word);
        return 0;
}

#define PREFIX "tdictl: "

static void tell_failure(struct tdictl *t) {
        _cleanup_(json_object_putp) json_object *o = NULL, *e = NULL;
        const char *text = strempty(t->error_text);

        if (!t->json) {
                _cleanup_free_ char *wrapped = text_wrap(*text ? text : "out of memory", text_width(STDERR_FILENO), strlen(PREFIX), strlen(PREFIX), false);

                fputs(PREFIX, stderr);
                text_put(stderr, wrapped ?: text);
                fputc('\n', stderr);
                return;
        }
        e = json_object_new_object();
        o = json_object_new_object();
        if (!o || !e || json_put_string(o, "schema", TDICTL_SCHEMA) < 0 || json_put_string(e, "name", t->error_name) < 0 ||
            json_put_string(e, "text", text) < 0 || json_put(e, "exit", json_object_new_int(t->error_exit)) < 0 ||
            json_put(o, "error", TAKE_PTR(e)) < 0)
                puts("{\"schema\":\"" TDICTL_SCHEMA "\",\"error\":{\"name\":\"Failed\",\"text\":\"Out of memory.\",\"exit\":1}}");
        else
                puts(json_text(o));
}

static int run(struct tdictl *t, int argc, char *argv[]) {
        const struct arguments *a = &t->arguments;
        _cleanup_free_ char *error = NULL;
        int r;

        r = arguments_parse(verbs, argc, argv, &t->arguments, &error);
        t->json = arguments_has(a, "json");
        t->legend = !arguments_has(a, "no-legend");
        if (r == -ENOMEM)
                return fail_oom(t);
        if (r < 0)
                return fail_usage(t, "%s", error);

        if (arguments_has(a, "help") && t->json)
                return print_help_json(t, a->verb ? NULL : a->group, a->verb);
        if (arguments_has(a, "help")) {
                if (a->verb)
                        print_verb_help(a->verb);
                else
                        print_help(a->group);
                return 0;
        }
        if (arguments_has(a, "version")) {
                if (t->json)
                        puts("{\"schema\":\"" TDICTL_SCHEMA "\",\"version\":\"" TDI_VERSION "\"}");
                else
                        puts("tdictl " TDI_VERSION);
                return 0;
        }

        r = tdi_client_new(&t->client);
        if (r < 0)
                return fail_oom(t);
        /* Where there is somebody to ask. A script is never made to wait for a dialog. */
        tdi_client_set_interactive(t->client, !arguments_has(a, "no-ask-password") && !t->json && isatty(STDIN_FILENO) && isatty(STDERR_FILENO));
        r = select_functions(t);
        return r < 0 ? r : a->verb->run(t);
}

int tdictl_main(int argc, char *argv[]) {
        struct tdictl t = {};
        int r;

        (void) setlocale(LC_ALL, "");
        r = run(&t, argc, argv);
        if (r < 0) {
                tell_failure(&t);
                r = t.error_exit;
        }
        /* A full disk or a closed pipe must not look like success. */
        if ((fflush(stdout) != 0 || ferror(stdout)) && r == 0) {
                fprintf(stderr, "tdictl: cannot write to standard output: %s\n", strerror(errno));
                r = EXIT_OTHER;
        }
        tdi_client_free(t.client);
        json_object_put(t.selected);
        arguments_done(&t.arguments);
        free(t.error_text);
        return r;
}
