/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The printers. See print.h. libsmartcols does alignment, cutting and the escaping of control characters. */
#include "print.h"

#include <libsmartcols/libsmartcols.h>

#include "model.h"

DEFINE_CLEANUP(struct libscols_table *, scols_unref_table);

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
        /* What standard output is has been looked at; the stream may be another one. */
        scols_table_set_termforce(table, style->width > 0 ? SCOLS_TERMFORCE_ALWAYS : SCOLS_TERMFORCE_NEVER);
        scols_table_set_termwidth(table, style->width);
        return table;
}

/* See struct column. The value is the row's, or the caller's in *ret_own. */
static json_object *find_value(json_object *row, const char *key, json_object **ret_own) {
        json_object *v = row;

        while (*key && !strchr("#@", *key)) {
                size_t n = strcspn(key, ".#@");
                char name[64];

                snprintf(name, sizeof(name), "%.*s", (int) n, key);
                v = json_object_is_type(v, json_type_object) ? json_member(v, name) : NULL;
                key += n + (key[n] == '.');
        }
        if (!*key || !json_object_is_type(v, json_type_array))
                return v;
        if (*key == '#')
                return *ret_own = json_object_new_uint64(json_object_array_length(v));
        return json_object_array_length(v) > 0 ? json_object_array_get_idx(v, 0) : NULL;
}

static char *format_cell(const struct column *column, const char *key, json_object *value, json_object *row) {
        const char *text = column->text ? column->text(row) : NULL;
        char hex[16];

        if (column->text)
                return strdup(text ?: "-");
        if (column->format == COLUMN_HEX && json_object_is_type(value, json_type_int)) {
                snprintf(hex, sizeof(hex), "0x%04x", (unsigned) json_object_get_int64(value) & UINT16_MAX);
                return strdup(hex);
        }
        if (column->format == COLUMN_BYTES)
                return format_bytes(value);
        if (column->format == COLUMN_CLOCK || (column->format == COLUMN_VALUE && is_time(key)))
                return format_time(value, column->format == COLUMN_CLOCK);
        return format_value(value);
}

static int table_add_row(struct libscols_table *table, const struct style *style, const struct column *columns, json_object *row, json_object *parent) {
        struct libscols_line *line = scols_table_new_line(table, NULL);

        if (!line)
                return -ENOMEM;
        for (size_t i = 0; columns[i].title; i++) {
                _cleanup_(json_object_putp) json_object *own = NULL;
                const char *key = columns[i].key;
                json_object *v = *key == '^' ? find_value(parent, key + 1, &own) : find_value(row, key, &own);
                char *text = format_cell(&columns[i], key, v, row);
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
        for (; columns->title; columns++) {
                struct libscols_column *c = scols_table_new_column(table, columns->title, 0, (columns->right ? SCOLS_FL_RIGHT : 0) |
                                                                   (columns->wrap ? SCOLS_FL_WRAP : 0) | (columns->trunc ? SCOLS_FL_TRUNC : 0));

                /* text_wrap() says where lines end; a newline of anybody else's does not get through it. */
                if (!c || (columns->wrap && (scols_column_set_safechars(c, "\n") < 0 ||
                                             scols_column_set_wrapfunc(c, scols_wrapnl_chunksize, scols_wrapnl_nextchunk, NULL) < 0)))
                        return -ENOMEM;
        }
        return 0;
}

static const char *cell_text(struct libscols_line *line, size_t i) {
        return strempty(scols_cell_get_data(scols_line_get_cell(line, i)));
}

DEFINE_CLEANUP(struct libscols_iter *, scols_free_iter);

/* All lines of a table, in their order: by their number each would be looked for from the first. NULL without memory. */
static struct libscols_iter *each_line(void) {
        return scols_new_iter(SCOLS_ITER_FORWARD);
}

/* What each column takes as it stands; the caller's, NULL without memory. */
static size_t *column_widths(struct libscols_table *table, const struct style *style, const struct column *columns) {
        _cleanup_(scols_free_iterp) struct libscols_iter *lines = each_line();
        size_t *widths = calloc(scols_table_get_ncols(table) + 1, sizeof(*widths));
        struct libscols_line *line;

        if (!lines || !widths) {
                free(widths);
                return NULL;
        }
        for (size_t i = 0; style->legend && columns[i].title; i++)
                widths[i] = text_columns(columns[i].title);
        while (scols_table_next_line(table, lines, &line) == 0)
                for (size_t i = 0; columns[i].title; i++) {
                        size_t n = text_columns(cell_text(line, i));

                        widths[i] = n > widths[i] ? n : widths[i];
                }
        return widths;
}

/* Breaks the lines of the column that may be, to what the others leave. */
static int table_wrap(struct libscols_table *table, const struct style *style, const struct column *columns, const size_t *widths) {
        _cleanup_(scols_free_iterp) struct libscols_iter *lines = each_line();
        size_t others = 0, wrapped = SIZE_MAX;
        struct libscols_line *line;

        if (!lines)
                return -ENOMEM;
        for (size_t i = 0; columns[i].title; i++) {
                others += columns[i].wrap ? 1 : widths[i] + 1;
                if (columns[i].wrap)
                        wrapped = i;
        }
        while (wrapped != SIZE_MAX && scols_table_next_line(table, lines, &line) == 0) {
                size_t width = style->width == 0 ? 0 : style->width > others ? style->width - others : 1;
                char *text = text_wrap(cell_text(line, wrapped), width, 0, 0, true);

                if (!text)
                        return -ENOMEM;
                if (scols_line_refer_data(line, wrapped, text) < 0) {
                        free(text);
                        return -ENOMEM;
                }
        }
        return 0;
}

/* Less of a sentence in a line is no reading. */
#define NARROWEST_TEXT 24
#define NARROWEST_NAME 8

/* Could it be made to fit? */
static bool table_fits(const struct style *style, const struct column *columns, const size_t *widths) {
        size_t width = 0;

        for (size_t i = 0; columns[i].title; i++) {
                size_t least = columns[i].wrap ? NARROWEST_TEXT : columns[i].trunc ? NARROWEST_NAME : widths[i];

                width += (least < widths[i] ? least : widths[i]) + (i > 0);
        }
        return style->width == 0 || width <= style->width || !columns[1].title;
}

static int print_details(FILE *f, const struct style *style, json_object *o, const char *hidden);

/* A record a row, where a table would be too wide. */
static int print_records(FILE *f, const struct style *style, struct libscols_table *rows, const struct column *columns) {
        _cleanup_(scols_free_iterp) struct libscols_iter *lines = each_line();
        struct libscols_line *line;
        bool first = true;

        if (!lines)
                return -ENOMEM;
        while (scols_table_next_line(rows, lines, &line) == 0) {
                _cleanup_(json_object_putp) json_object *o = json_object_new_object();

                for (size_t i = 0; o && columns[i].title; i++) {
                        const char *text = cell_text(line, i);

                        if (!streq(text, "-") && json_put_string(o, columns[i].title, text) < 0)
                                return -ENOMEM;
                }
                if (!first)
                        fputc('\n', f);
                first = false;
                if (!o || print_details(f, style, o, NULL) < 0)
                        return -ENOMEM;
        }
        return 0;
}

static int print_rows(FILE *f, const struct style *style, struct libscols_table *table, const struct column *columns) {
        _cleanup_free_ size_t *widths = column_widths(table, style, columns);

        if (!widths)
                return -ENOMEM;
        if (!table_fits(style, columns, widths))
                return print_records(f, style, table, columns);
        return table_wrap(table, style, columns, widths) < 0 || scols_print_table(table) < 0 ? -ENOMEM : 0;
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
        return print_rows(f, style, table, s->columns);
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

static bool says_nothing(json_object *list, const char *member) {
        for (size_t i = 0; i < json_object_array_length(list); i++)
                if (!value_is_empty(json_member(json_object_array_get_idx(list, i), member)))
                        return false;
        return true;
}

/*
 * A list inside details: its columns are those of inner_tables, or the members of its first element; objects in it have a table of their own, or
 * JSON shows them.
 */
static int print_inner_table(FILE *f, const struct style *style, const char *key, json_object *list) {
        _cleanup_(scols_unref_tablep) struct libscols_table *table = table_new(f, style);
        json_object *first = json_object_array_get_idx(list, 0);
        size_t n = (size_t) json_object_object_length(first), i = 0;
        _cleanup_free_ struct column *own = calloc(n + 1, sizeof(*own));
        const struct section *known = inner_tables;
        const struct column *columns = own;

        if (!table || !own)
                return -ENOMEM;
        while (known->list && !streq(known->list, key))
                known++;
        if (known->list)
                columns = known->columns;
        else {
                json_object_object_foreach(first, member, value) {
                        if (has_object(list, member) || says_nothing(list, member))
                                continue;
                        own[i++] = (struct column){ .title = member, .key = member, .right = json_object_is_type(value, json_type_int) && !is_time(member) };
                }
        }
        if (table_new_columns(table, columns) < 0 || table_add_rows(table, style, known, columns, list, NULL) < 0)
                return -ENOMEM;
        if (style->legend)
                fprintf(f, "\n%s:\n", key);
        return print_rows(f, style, table, columns);
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
        text = is_time(key) ? format_time(value, false) : format_value(value);
        if (!text || scols_line_refer_data(line, 1, text) < 0) {
                free(text);
                return -ENOMEM;
        }
        if (color)
                scols_cell_set_color(scols_line_get_cell(line, 1), color);
        return 0;
}

/* Every member that says something on a line of its own; lists of objects as tables below. */
static int print_details(FILE *f, const struct style *style, json_object *o, const char *hidden) {
        _cleanup_(scols_unref_tablep) struct libscols_table *table = table_new(f, style);
        static const struct column columns[] = {
                { .title = "", .key = "key", .right = true },
                { .title = "", .key = "value", .wrap = true },
                {},
        };
        _cleanup_free_ size_t *widths = NULL;
        int r = 0;

        if (!table || table_new_columns(table, columns) < 0)
                return -ENOMEM;
        scols_table_enable_noheadings(table, 1);
        json_object_object_foreach(o, key, value) {
                size_t n = is_list_of_sentences(value) ? json_object_array_length(value) : 1;

                if (is_list_of_objects(value) || value_is_empty(value) || streq_ptr(key, hidden))
                        continue;
                for (size_t i = 0; i < n; i++)
                        if (add_detail(table, style, i == 0 ? key : NULL, key, n > 1 ? json_object_array_get_idx(value, i) : value) < 0)
                                return -ENOMEM;
        }
        widths = column_widths(table, style, columns);
        if (!widths || table_wrap(table, style, columns, widths) < 0 || scols_print_table(table) < 0)
                return -ENOMEM;
        json_object_object_foreach(o, list, rows) {
                if (r >= 0 && is_list_of_objects(rows) && !streq_ptr(list, hidden))
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
                r = print_details(f, style, is_list ? json_object_array_get_idx(v, i) : v, s->hidden);
        }
        return r;
}

int print_sections(FILE *f, const struct style *style, json_object *model, const struct section *view) {
        bool printed = false;
        int r = 0;

        if (style->json)
                return fprintf(f, "%s\n", json_text(model)) < 0 ? -EIO : 0;
        for (; r >= 0 && view->list; view++)
                r = view->remark && !style->legend ? 0 : view->columns ? print_table(f, style, model, view, &printed) : print_all_details(f, style, model, view, &printed);
        return r;
}

int print_model(struct tdictl *t, json_object *model, const struct section *view) {
        const struct style style = {
                .json = t->json,
                .legend = t->legend,
                .colors = text_colors(STDOUT_FILENO),
                .width = text_width(STDOUT_FILENO),
        };

        return print_sections(stdout, &style, model, view) == -ENOMEM ? fail_oom(t) : 0;
}
