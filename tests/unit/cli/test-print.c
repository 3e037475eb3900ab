/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The printers against golden texts: every view of one model, with and without legend, an empty model, and JSON, which must
 * come back as the model. `test-print FOLDER --write` writes the texts anew, to be looked at before they are kept.
 */
#include <locale.h>
#include <stdio.h>

#include <json-c/json.h>

#include "print.h"
#include "util/util.h"

static char *render(json_object *model, const struct section *view, const struct style *style) {
        char *text = NULL;
        size_t n;
        FILE *f = open_memstream(&text, &n);

        if (!f || print_sections(f, style, model, view) < 0 || fclose(f) != 0) {
                fprintf(stderr, "printing failed\n");
                exit(1);
        }
        return text;
}

static char *read_file(const char *path) {
        FILE *f = fopen(path, "re");
        char *text = calloc(1, 65536);

        if (!f || !text) {
                fprintf(stderr, "%s: cannot read\n", path);
                exit(1);
        }
        (void) !fread(text, 1, 65535, f);
        (void) fclose(f);
        return text;
}

static int compare(const char *folder, const char *name, const char *got, bool write) {
        _cleanup_free_ char *path = NULL, *expected = NULL;

        if (asprintf(&path, "%s/%s.txt", folder, name) < 0)
                exit(1);
        if (write) {
                FILE *f = fopen(path, "we");

                if (!f || fputs(got, f) < 0 || fclose(f) != 0)
                        exit(1);
                return 0;
        }
        expected = read_file(path);
        if (streq(expected, got))
                return 0;
        fprintf(stderr, "%s: expected\n%s--- got\n%s", name, expected, got);
        return 1;
}

/* A terminal would break the line where it ends. */
static int too_wide(const char *name, const char *text) {
        int failed = 0;

        while (*text) {
                _cleanup_free_ char *line = strndup(text, strcspn(text, "\n"));

                /* Paths of sockets are whole. */
                if (text_columns(line) > 80 && line[0] != '/') {
                        fprintf(stderr, "%s: a line of %zu columns: %s\n", name, text_columns(line), line);
                        failed++;
                }
                text += strlen(line);
                text += *text == '\n';
        }
        return failed;
}

/* What no view reaches. */
static int check_text(void) {
        static const struct {
                const char *text, *wrapped;
                size_t width, used, indent;
                bool hard;
        } cases[] = {
                { "one two three four five six", "one two three four five six", 0, 0, 0, true },
                { "one two three four five six", "one two three four\n  five six", 22, 4, 2, true },
                { "0123456789012345678901234", "01234567890123456789\n01234", 20, 0, 0, true },
                { "0123456789012345678901234", "0123456789012345678901234", 20, 0, 0, false },
                { "a\nb  c", "a b  c", 20, 0, 0, true },
                { "ääääääääää öööööööööö ü", "ääääääääää\nöööööööööö ü", 20, 0, 0, true },
                { "", "", 20, 0, 0, true },
        };
        static const struct {
                uint64_t n;
                const char *text;
        } bytes[] = { { 0, "0" }, { 1023, "1023" }, { 1024, "1 KiB" }, { 1536, "1.5 KiB" }, { 1u << 30, "1 GiB" }, { UINT64_C(3) << 40, "3 TiB" } };
        int failed = 0;

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_free_ char *got = text_wrap(cases[i].text, cases[i].width, cases[i].used, cases[i].indent, cases[i].hard);

                if (!streq_ptr(got, cases[i].wrapped)) {
                        fprintf(stderr, "wrapped: expected\n%s--- got\n%s\n", cases[i].wrapped, got);
                        failed++;
                }
        }
        for (size_t i = 0; i < ARRAY_SIZE(bytes); i++) {
                json_object *n = json_object_new_uint64(bytes[i].n);
                _cleanup_free_ char *got = format_bytes(n);

                if (!streq_ptr(got, bytes[i].text)) {
                        fprintf(stderr, "bytes: expected %s, got %s\n", bytes[i].text, got);
                        failed++;
                }
                json_object_put(n);
        }
        return failed;
}

int main(int argc, char *argv[]) {
        static const struct {
                const char *name;
                const struct section *view;
        } views[] = {
                { "status", status_view }, { "devices", devices_view }, { "device", device_view }, { "vms", vms_view },
                { "vm", vm_view }, { "tdis", tdis_view }, { "tsms", tsms_view }, { "tsm", tsm_view },
        };
        const struct style plain = { .legend = true }, narrow = { .legend = true, .width = 80 }, bare = {}, json = { .json = true }, colored = { .legend = true, .colors = true };
        json_object *model, *empty = json_object_new_object(), *back;
        char *text, path[512];
        bool write;
        int failed = 0;

        if (argc < 2)
                return 2;
        write = argc > 2 && streq(argv[2], "--write");
        (void) setenv("TZ", "UTC", 1);
        if (!setlocale(LC_ALL, "C.UTF-8"))
                return 77;
        snprintf(path, sizeof(path), "%s/snapshot.json", argv[1]);
        text = read_file(path);
        model = json_tokener_parse(text);
        free(text);
        if (!model)
                return 1;

        for (size_t i = 0; i < ARRAY_SIZE(views); i++) {
                char name[64];

                text = render(model, views[i].view, &plain);
                failed += compare(argv[1], views[i].name, text, write);
                free(text);
                text = render(model, views[i].view, &narrow);
                snprintf(name, sizeof(name), "%s-80", views[i].name);
                failed += compare(argv[1], name, text, write) + too_wide(name, text);
                free(text);
                text = render(model, views[i].view, &bare);
                snprintf(name, sizeof(name), "%s-bare", views[i].name);
                failed += compare(argv[1], name, text, write);
                free(text);
                text = render(empty, views[i].view, &plain);
                snprintf(name, sizeof(name), "%s-empty", views[i].name);
                failed += compare(argv[1], name, text, write);
                free(text);
                text = render(empty, views[i].view, &bare);
                if (*text) {
                        fprintf(stderr, "%s: without legend nothing is nothing, got\n%s", views[i].name, text);
                        failed++;
                }
                free(text);
        }

        text = render(model, status_view, &json);
        back = json_tokener_parse(text);
        if (!json_object_equal(model, back) || strchr(text, '\n') != text + strlen(text) - 1) {
                fprintf(stderr, "JSON is not the model on one line: %s", text);
                failed++;
        }
        free(text);
        json_object_put(back);

        /* What a device calls itself must not reach the terminal as a control character, colours or not. */
        text = render(model, devices_view, &bare);
        if (strchr(text, '\033')) {
                fprintf(stderr, "a control character got through: %s", text);
                failed++;
        }
        free(text);
        text = render(model, devices_view, &colored);
        if (strstr(text, "\033[31mFunction")) {
                fprintf(stderr, "a control character got through among colours: %s", text);
                failed++;
        }
        free(text);
        json_object_put(model);
        json_object_put(empty);
        failed += check_text();
        return failed != 0;
}
