/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The screen of `tdictl check`, for 80 columns: groups with a line or a few for each check, wrapped, its remedy under it. Widths are counted in
 * characters, of which a terminal shows each in one column here.
 */
#include <stdio.h>

#include "check.h"
#include "model.h"
#include "print.h"

#define WIDTH 79
#define REASON 25 /* column of the reasons: two, the verdict, the title */
#define TITLE 17

struct wrap {
        FILE *f;
        size_t indent, column;
};

static size_t columns(const char *text, size_t bytes) {
        size_t n = 0;

        for (size_t i = 0; i < bytes; i++)
                n += ((unsigned char) text[i] & 0xc0) != 0x80;
        return n;
}

/* Files and devices say what they like: no control character reaches the terminal. */
static void put_word(struct wrap *w, const char *word, size_t bytes) {
        for (size_t i = 0; i < bytes; i++) {
                unsigned char c = (unsigned char) word[i];

                fputc(c < 0x20 || c == 0x7f ? '?' : c, w->f);
        }
        w->column += columns(word, bytes);
}

static void put_text(struct wrap *w, const char *text) {
        bool first = true;

        while (*text) {
                size_t bytes = strcspn(text, " \n");

                if (bytes > 0) {
                        if (!first && w->column + 1 + columns(text, bytes) > WIDTH) {
                                fprintf(w->f, "\n%*s", (int) w->indent, "");
                                w->column = w->indent;
                        } else if (!first) {
                                fputc(' ', w->f);
                                w->column++;
                        }
                        put_word(w, text, bytes);
                        first = false;
                }
                text += bytes;
                text += strspn(text, " \n");
        }
        fputc('\n', w->f);
}

static void put_indented(FILE *f, size_t indent, const char *lead, const char *text) {
        struct wrap w = { .f = f, .indent = indent, .column = indent };

        fprintf(f, "%*s%s", (int) (indent - columns(lead, strlen(lead))), "", lead);
        put_text(&w, text);
}

static const char *color_of(const char *verdict) {
        return streq(verdict, "fail") ? "\033[31m" : streq(verdict, "warn") ? "\033[33m" : streq(verdict, "pass") ? "\033[32m" : "\033[2m";
}

static void put_verdict(FILE *f, bool colors, const char *verdict) {
        if (colors)
                fputs(color_of(verdict), f);
        for (const char *c = verdict; *c; c++)
                fputc(*c - 'a' + 'A', f);
        if (colors)
                fputs("\033[0m", f);
}

/* Functions of which the same is said stand together, where the first of them would. */
static void put_alike(FILE *f, json_object *functions, size_t at) {
        const char *reason = strempty(json_string(json_object_array_get_idx(functions, at), "reason"));
        size_t n = json_object_array_length(functions), size = strlen(reason) + 3 + n * (TDI_BDF_MAX + 2), have;
        _cleanup_free_ char *text = malloc(size);

        for (size_t i = 0; i < at; i++)
                if (streq(strempty(json_string(json_object_array_get_idx(functions, i), "reason")), reason))
                        return;
        if (!text)
                return;
        have = (size_t) snprintf(text, size, "%s:", reason);
        for (size_t i = at, k = 0; i < n && have < size; i++) {
                json_object *o = json_object_array_get_idx(functions, i);

                if (streq(strempty(json_string(o, "reason")), reason))
                        have += (size_t) snprintf(text + have, size - have, "%s %.*s", k++ > 0 ? "," : "", TDI_BDF_MAX, strempty(json_string(o, "bdf")));
        }
        put_indented(f, REASON + 2, "- ", text);
}

static void put_check(FILE *f, bool colors, json_object *o) {
        const char *title = strempty(json_string(o, "title")), *remedy = json_string(o, "remedy");
        json_object *functions = json_member(o, "functions"), *details = json_member(o, "details");
        struct wrap w = { .f = f, .indent = REASON, .column = REASON };

        fputs("  ", f);
        put_verdict(f, colors, strempty(json_string(o, "verdict")));
        fprintf(f, "  %-*s", TITLE, title);
        put_text(&w, strempty(json_string(o, "reason")));
        for (size_t i = 0; json_object_is_type(functions, json_type_array) && i < json_object_array_length(functions); i++)
                put_alike(f, functions, i);
        for (size_t i = 0; json_object_is_type(details, json_type_array) && i < json_object_array_length(details); i++)
                put_indented(f, REASON + 2, "- ", json_object_get_string(json_object_array_get_idx(details, i)));
        if (remedy)
                put_indented(f, REASON + 2, "→ ", remedy);
}

static void put_summary(FILE *f, json_object *model) {
        json_object *s = json_member(model, "summary");
        int64_t n[4];
        static const char *const keys[] = { "pass", "warn", "fail", "skip" };

        for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
                n[i] = json_object_get_int64(json_member(s, keys[i]));
        fprintf(f, "\n%lld passed, %lld with a warning, %lld failed, %lld skipped.\n", (long long) n[0], (long long) n[1], (long long) n[2], (long long) n[3]);
        if (n[2] > 0)
                fputs("What failed comes first: as it is, functions cannot be assigned, or guests not be\nconfidential.\n", f);
        else if (n[1] > 0)
                fputs("Functions can be assigned; warnings say what is lacking, or in the way.\n", f);
        else
                fputs("Functions can be assigned.\n", f);
        fputs(streq(strempty(json_string(model, "looked_by")), "tdid") ? "This is what tdid sees.\n" : "tdid was not asked: this is what this user sees.\n", f);
}

static void put_list_entry(FILE *f, json_object *o) {
        json_object *remedies = json_member(o, "remedies");

        fprintf(f, "  %s\n", strempty(json_string(o, "id")));
        put_indented(f, 6, "", strempty(json_string(o, "about")));
        for (size_t i = 0; i < json_object_array_length(remedies); i++)
                put_indented(f, 8, "→ ", json_object_get_string(json_object_array_get_idx(remedies, i)));
}

int print_checks(struct tdictl *t, json_object *model) {
        const char *term = getenv("TERM"), *group = "";
        bool colors = isatty(STDOUT_FILENO) && isempty(getenv("NO_COLOR")) && term && !streq(term, "dumb"), listed = arguments_has(&t->arguments, "list");
        json_object *list = json_member(model, "checks");

        if (t->json)
                return print_model(t, model, NULL);
        for (size_t i = 0; i < json_object_array_length(list); i++) {
                json_object *o = json_object_array_get_idx(list, i);
                const char *its = strempty(json_string(o, "group"));

                if (!streq(group, its) && t->legend)
                        printf("%s%s\n", i > 0 ? "\n" : "", its);
                group = its;
                if (listed)
                        put_list_entry(stdout, o);
                else
                        put_check(stdout, colors, o);
        }
        if (!listed && t->legend)
                put_summary(stdout, model);
        return 0;
}
