/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The printers. See print.h. libsmartcols does alignment, wrapping and the escaping of control characters. */
#include "print.h"

#include <libsmartcols/libsmartcols.h>
#include <time.h>

#include "model.h"

DEFINE_CLEANUP(struct libscols_table *, scols_unref_table);

static char *join(json_object *array) {
        char *text = strdup("");

        for (size_t i = 0; text && i < json_object_array_length(array); i++) {
                json_object *element = json_object_array_get_idx(array, i);
                /* An object in a list is named by its function. */
                _cleanup_free_ char *one = json_object_is_type(element, json_type_object)
                        ? format_value(json_member(element, "bdf")) : format_value(element);
                char *longer = NULL;

                if (!one || asprintf(&longer, "%s%s%s", text, i > 0 ? "," : "", one) < 0)
                        longer = NULL;
                free(text);
                text = longer;
        }
        if (text && !*text) {
                free(text);
                text = strdup("-");
        }
        return text;
}

static char *join_members(json_object *o) {
        char *text = strdup("");

        json_object_object_foreach(o, key, value) {
                _cleanup_free_ char *one = format_value(value);
                char *longer = NULL;

                if (!text || !one || asprintf(&longer, "%s%s%s=%s", text, *text ? " " : "", key, one) < 0)
                        longer = NULL;
                free(text);
                text = longer;
        }
        return text;
}

char *format_value(json_object *v) {
        switch (json_object_get_type(v)) {
        case json_type_null:
                return strdup("-");
        case json_type_boolean:
                return strdup(json_object_get_boolean(v) ? "yes" : "no");
        case json_type_array:
                return join(v);
        case json_type_object:
                return join_members(v);
        default:
                return strdup(json_object_get_string(v));
        }
}

static char *format_time(json_object *v) {
        time_t seconds = (time_t) (json_object_get_int64(v) / 1000000);
        char text[64];
        struct tm tm;

        if (!json_object_is_type(v, json_type_int) || seconds == 0)
                return strdup("-");
        if (!localtime_r(&seconds, &tm) || strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm) == 0)
                return format_value(v);
        return strdup(text);
}

/* The members that are times, wherever they stand. */
static bool is_time(const char *key) {
        static const char *const keys[] = { "created", "deadline", "given", "started", "tsm_read" };

        for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
                if (streq(keys[i], key))
                        return true;
        return false;
}

static const char *color_of(const char *key, json_object *value) {
        static const struct {
                const char *key, *value, *color;
        } colors[] = {
                { "state", "failed", "red" },     { "state", "stuck", "red" },      { "state", "running", "green" },
                { "state", "detaching", "yellow" }, { "state", "attaching", "yellow" }, { "phase", "closing", "yellow" },
                { "phase", "running", "green" },  { "quarantine", NULL, "red" },
        };
        const char *s = json_object_is_type(value, json_type_string) ? json_object_get_string(value) : NULL;

        for (size_t i = 0; s && i < ARRAY_SIZE(colors); i++)
                if (streq(colors[i].key, key) && (!colors[i].value || streq(colors[i].value, s)))
                        return colors[i].color;
        return NULL;
}

static struct libscols_table *table_new(FILE *f, const struct style *style) {
        struct libscols_table *table = scols_new_table();

        if (!table)
                return NULL;
        scols_table_set_stream(table, f);
        scols_table_enable_colors(table, style->colors);
        scols_table_enable_noheadings(table, !style->legend);
        return table;
}

/* See struct column. The value is the row's, or the caller's in *ret_own. */
static json_object *find_value(json_object *row, const char *key, json_object **ret_own) {
        json_object *v = row;

        while (*key && *key != '#') {
                size_t n = strcspn(key, ".#");
                char name[64];

                snprintf(name, sizeof(name), "%.*s", (int) n, key);
                v = json_object_is_type(v, json_type_object) ? json_member(v, name) : NULL;
                key += n + (key[n] == '.');
        }
        if (*key == '#' && json_object_is_type(v, json_type_array))
                v = *ret_own = json_object_new_uint64(json_object_array_length(v));
        return v;
}

static int table_add_row(struct libscols_table *table, const struct style *style, const struct column *columns, json_object *row, json_object *parent) {
        struct libscols_line *line = scols_table_new_line(table, NULL);

        if (!line)
                return -ENOMEM;
        for (size_t i = 0; columns[i].title; i++) {
                _cleanup_(json_object_putp) json_object *own = NULL;
                const char *key = columns[i].key;
                json_object *v = *key == '^' ? find_value(parent, key + 1, &own) : find_value(row, key, &own);
                char *text = is_time(key) ? format_time(v) : format_value(v);
                const char *color = style->colors ? color_of(key, v) : NULL;

                if (!text)
                        return -ENOMEM;
                if (scols_line_refer_data(line, i, text) < 0) {
                        free(text);
                        return -ENOMEM;
                }
                if (color)
                        scols_cell_set_color(scols_line_get_cell(line, i), color);
        }
        return 0;
}

static int table_add_rows(struct libscols_table *table, const struct style *style, const struct section *s, const struct column *columns,
                          json_object *list, json_object *parent) {
        int r = 0;

        for (size_t i = 0; r >= 0 && json_object_is_type(list, json_type_array) && i < json_object_array_length(list); i++) {
                json_object *row = json_object_array_get_idx(list, i);

                if (s->nested && !parent)
                        r = table_add_rows(table, style, s, columns, json_member(row, s->nested), row);
                else if (!s->shown || s->shown(row))
                        r = table_add_row(table, style, columns, row, parent);
        }
        return r;
}

static int table_new_columns(struct libscols_table *table, const struct column *columns) {
        for (; columns->title; columns++)
                if (!scols_table_new_column(table, columns->title, 0,
                                            (columns->right ? SCOLS_FL_RIGHT : 0) | (columns->wrap ? SCOLS_FL_WRAP : 0)))
                        return -ENOMEM;
        return 0;
}

static int print_table(FILE *f, const struct style *style, json_object *model, const struct section *s, bool *printed) {
        _cleanup_(scols_unref_tablep) struct libscols_table *table = table_new(f, style);

        if (!table || table_new_columns(table, s->columns) < 0 ||
            table_add_rows(table, style, s, s->columns, json_member(model, s->list), NULL) < 0)
                return -ENOMEM;
        if (scols_table_is_empty(table) && (!s->none || !style->legend))
                return 0;
        if (*printed)
                fputc('\n', f);
        *printed = true;
        if (scols_table_is_empty(table)) {
                fprintf(f, "%s\n", s->none);
                return 0;
        }
        if (s->heading && style->legend)
                fprintf(f, "%s\n", s->heading);
        return scols_print_table(table) < 0 ? -ENOMEM : 0;
}

static bool is_list_of_objects(json_object *v) {
        return json_object_is_type(v, json_type_array) && json_object_array_length(v) > 0 &&
                json_object_is_type(json_object_array_get_idx(v, 0), json_type_object);
}

static bool has_object(json_object *list, const char *member) {
        for (size_t i = 0; i < json_object_array_length(list); i++)
                if (json_object_is_type(json_member(json_object_array_get_idx(list, i), member), json_type_object))
                        return true;
        return false;
}

/* A list inside details: its columns are the members of its first element; objects in it have a table of their own, or JSON shows them. */
static int print_inner_table(FILE *f, const struct style *style, const char *key, json_object *list) {
        _cleanup_(scols_unref_tablep) struct libscols_table *table = table_new(f, style);
        json_object *first = json_object_array_get_idx(list, 0);
        size_t n = (size_t) json_object_object_length(first), i = 0;
        _cleanup_free_ struct column *columns = calloc(n + 1, sizeof(*columns));
        const struct section all = {};

        if (!table || !columns)
                return -ENOMEM;
        json_object_object_foreach(first, member, value) {
                if (has_object(list, member))
                        continue;
                columns[i++] = (struct column){ .title = member, .key = member, .right = json_object_is_type(value, json_type_int) && !is_time(member) };
        }
        if (table_new_columns(table, columns) < 0 || table_add_rows(table, style, &all, columns, list, NULL) < 0)
                return -ENOMEM;
        if (style->legend)
                fprintf(f, "\n%s:\n", key);
        return scols_print_table(table) < 0 ? -ENOMEM : 0;
}

/* Sentences have commas of their own: each gets a line. */
static bool is_list_of_sentences(json_object *v) {
        for (size_t i = 0; json_object_is_type(v, json_type_array) && i < json_object_array_length(v); i++) {
                json_object *element = json_object_array_get_idx(v, i);

                if (json_object_is_type(element, json_type_string) && strchr(json_object_get_string(element), ' '))
                        return true;
        }
        return false;
}

static int add_detail(struct libscols_table *table, const struct style *style, const char *title, const char *key, json_object *value) {
        const char *color = style->colors ? color_of(key, value) : NULL;
        struct libscols_line *line = scols_table_new_line(table, NULL);
        char *text, *label = NULL;

        if (!line || asprintf(&label, "%s%s", strempty(title), title ? ":" : "") < 0)
                return -ENOMEM;
        if (scols_line_refer_data(line, 0, label) < 0) {
                free(label);
                return -ENOMEM;
        }
        text = is_time(key) ? format_time(value) : format_value(value);
        if (!text || scols_line_refer_data(line, 1, text) < 0) {
                free(text);
                return -ENOMEM;
        }
        if (color)
                scols_cell_set_color(scols_line_get_cell(line, 1), color);
        return 0;
}

/* Every member on a line of its own; lists of objects as tables below. */
static int print_details(FILE *f, const struct style *style, json_object *o) {
        _cleanup_(scols_unref_tablep) struct libscols_table *table = table_new(f, style);
        static const struct column columns[] = {
                { .title = "KEY", .key = "key", .right = true },
                { .title = "VALUE", .key = "value", .wrap = true },
                {},
        };
        int r = 0;

        if (!table || table_new_columns(table, columns) < 0)
                return -ENOMEM;
        scols_table_enable_noheadings(table, 1);
        json_object_object_foreach(o, key, value) {
                size_t n = is_list_of_sentences(value) ? json_object_array_length(value) : 1;

                if (is_list_of_objects(value))
                        continue;
                for (size_t i = 0; i < n; i++)
                        if (add_detail(table, style, i == 0 ? key : NULL, key, n > 1 ? json_object_array_get_idx(value, i) : value) < 0)
                                return -ENOMEM;
        }
        if (scols_print_table(table) < 0)
                return -ENOMEM;
        json_object_object_foreach(o, list, rows) {
                if (r >= 0 && is_list_of_objects(rows))
                        r = print_inner_table(f, style, list, rows);
        }
        return r;
}

static int print_all_details(FILE *f, const struct style *style, json_object *model, const struct section *s, bool *printed) {
        json_object *list = json_member(model, s->list), *v = s->nested ? json_member(list, s->nested) : list;
        bool is_list = json_object_is_type(v, json_type_array);
        size_t n = is_list ? json_object_array_length(v) : v ? 1 : 0;
        int r = 0;

        for (size_t i = 0; r >= 0 && i < n; i++) {
                if (*printed)
                        fputc('\n', f);
                *printed = true;
                if (i == 0 && s->heading && style->legend)
                        fprintf(f, "%s\n", s->heading);
                r = print_details(f, style, is_list ? json_object_array_get_idx(v, i) : v);
        }
        return r;
}

int print_sections(FILE *f, const struct style *style, json_object *model, const struct section *view) {
        bool printed = false;
        int r = 0;

        if (style->json)
                return fprintf(f, "%s\n", json_text(model)) < 0 ? -EIO : 0;
        for (; r >= 0 && view->list; view++)
                r = view->columns ? print_table(f, style, model, view, &printed) : print_all_details(f, style, model, view, &printed);
        return r;
}

int print_model(struct tdictl *t, json_object *model, const struct section *view) {
        const char *term = getenv("TERM");
        const struct style style = {
                .json = t->json,
                .legend = t->legend,
                .colors = isatty(STDOUT_FILENO) && isempty(getenv("NO_COLOR")) && term && !streq(term, "dumb"),
        };

        return print_sections(stdout, &style, model, view) == -ENOMEM ? fail_oom(t) : 0;
}
