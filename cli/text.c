/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See text.h. */
#include "text.h"

#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>

#include "model.h"

#define NARROWEST 20 /* a narrower terminal is none that anybody reads */

size_t text_width(int fd) {
        const char *columns = getenv("COLUMNS");
        struct winsize w = {};
        uint32_t n;

        if (!isatty(fd))
                return 0;
        if (ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col >= NARROWEST)
                return w.ws_col;
        return columns && parse_number(columns, UINT16_MAX, &n) >= 0 && n >= NARROWEST ? n : TEXT_WIDTH;
}

bool text_colors(int fd) {
        const char *term = getenv("TERM");

        return isatty(fd) && isempty(getenv("NO_COLOR")) && term && !streq(term, "dumb");
}

static bool is_start(char c) {
        return ((unsigned char) c & 0xc0) != 0x80;
}

static size_t columns_of(const char *text, size_t bytes) {
        size_t n = 0;

        for (size_t i = 0; i < bytes; i++)
                n += is_start(text[i]);
        return n;
}

size_t text_columns(const char *text) {
        return columns_of(text, strlen(text));
}

/* As many bytes as fill so many columns. */
static size_t bytes_of(const char *text, size_t columns) {
        size_t i = 0;

        for (size_t n = 0; text[i]; i++) {
                n += is_start(text[i]);
                if (n > columns)
                        break;
        }
        return i;
}

char *text_wrap(const char *text, size_t width, size_t used, size_t indent, bool hard) {
        size_t at = used;
        bool first = true;
        char *out = NULL;
        size_t n;
        FILE *f;

        if (width > 0 && width < indent + NARROWEST)
                width = indent + NARROWEST;
        f = open_memstream(&out, &n);
        if (!f)
                return NULL;
        while (*text) {
                size_t spaces = strspn(text, " \n"), bytes = strcspn(text + spaces, " \n"), columns = columns_of(text + spaces, bytes);

                if (bytes == 0)
                        break;
                if (width > 0 && !first && at + spaces + columns > width) {
                        fprintf(f, "\n%*s", (int) indent, "");
                        at = indent;
                } else {
                        fprintf(f, "%*s", (int) spaces, "");
                        at += spaces;
                }
                text += spaces;
                while (hard && width > 0 && at + columns > width) {
                        size_t part = bytes_of(text, width - at);

                        fprintf(f, "%.*s\n%*s", (int) part, text, (int) indent, "");
                        columns -= width - at;
                        text += part;
                        bytes -= part;
                        at = indent;
                }
                fprintf(f, "%.*s", (int) bytes, text);
                at += columns;
                text += bytes;
                first = false;
        }
        if (fclose(f) != 0) {
                free(out);
                return NULL;
        }
        return out;
}

void text_put(FILE *f, const char *text) {
        for (; *text; text++)
                if ((unsigned char) *text >= 0x20 ? *text != 0x7f : *text == '\n')
                        fputc(*text, f);
                else
                        fprintf(f, "\\x%02x", (unsigned char) *text);
}

/* ---- values ---- */

bool value_is_empty(json_object *v) {
        switch (json_object_get_type(v)) {
        case json_type_null:
                return true;
        case json_type_string:
                return isempty(json_object_get_string(v));
        case json_type_array:
                return json_object_array_length(v) == 0;
        case json_type_object:
                return json_object_object_length(v) == 0;
        default:
                return false;
        }
}

static char *join(json_object *array) {
        char *text = strdup("");

        for (size_t i = 0; text && i < json_object_array_length(array); i++) {
                json_object *element = json_object_array_get_idx(array, i);
                /* An object in a list is named by its function. */
                _cleanup_free_ char *one = json_object_is_type(element, json_type_object)
                        ? format_value(json_member(element, "bdf")) : format_value(element);
                char *longer = NULL;

                if (!one || asprintf(&longer, "%s%s%s", text, i > 0 ? ", " : "", one) < 0)
                        longer = NULL;
                free(text);
                text = longer;
        }
        return text;
}

static char *join_members(json_object *o) {
        char *text = strdup("");

        json_object_object_foreach(o, key, value) {
                _cleanup_free_ char *one = NULL;
                char *longer = NULL;

                if (value_is_empty(value))
                        continue;
                one = format_value(value);
                if (!text || !one || asprintf(&longer, "%s%s%s=%s", text, *text ? " " : "", key, one) < 0)
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

char *format_value(json_object *v) {
        if (value_is_empty(v))
                return strdup("-");
        switch (json_object_get_type(v)) {
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

char *format_time(json_object *v, bool clock) {
        time_t seconds = (time_t) (json_object_get_int64(v) / 1000000);
        char text[64];
        struct tm tm;

        if (!json_object_is_type(v, json_type_int) || seconds == 0)
                return strdup("-");
        if (!localtime_r(&seconds, &tm) || strftime(text, sizeof(text), clock ? "%H:%M:%S" : "%Y-%m-%d %H:%M:%S", &tm) == 0)
                return format_value(v);
        return strdup(text);
}

char *format_bytes(json_object *v) {
        static const char units[] = "KMGTPE";
        uint64_t n = json_object_get_uint64(v);
        double value = (double) n / 1024;
        size_t unit = 0;
        char *text;

        if (!json_object_is_type(v, json_type_int) || n < 1024)
                return format_value(v);
        while (value >= 1024 && units[unit + 1]) {
                value /= 1024;
                unit++;
        }
        /* Whole ones are said as such. */
        if (asprintf(&text, value == (double) (uint64_t) value ? "%.0f %ciB" : "%.1f %ciB", value, units[unit]) < 0)
                return NULL;
        return text;
}
