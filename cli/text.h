/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Sentences and values for people: how wide a terminal is, where lines end, what a JSON value looks like. It prints nothing. */
#ifndef TDICTL_TEXT_H
#define TDICTL_TEXT_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* What lines are broken at where nobody says how wide the terminal is, and in help everywhere. */
#define TEXT_WIDTH 80

/* The columns of a terminal, by the kernel or COLUMNS; 0: the descriptor is none, and lines are not broken. */
size_t text_width(int fd);
/* May colours go there? Not when NO_COLOR (no-color.org) says anything, nor to a terminal that has none. */
bool text_colors(int fd);

/* How many columns it takes: one for each character. */
size_t text_columns(const char *text);

/*
 * The text with newlines between words, so that no line is longer than @width columns but for single words that are; those are broken where
 * @hard. The first line has @used columns less, the others begin with @indent spaces. Newlines of the text itself become spaces. @width 0: as it
 * is. The caller's; NULL without memory.
 */
char *text_wrap(const char *text, size_t width, size_t used, size_t indent, bool hard);

/* Without control characters, as \xNN. What tdid says may hold what a guest or a stranger chose. */
void text_put(FILE *f, const char *text);

/* A value for people; "-" for null. The caller's, NULL without memory. */
char *format_value(json_object *value);
/* Microseconds of CLOCK_REALTIME as local time: with the day, or for @clock the time alone. */
char *format_time(json_object *value, bool clock);
/* A number of bytes as 4 KiB, 1.5 GiB. */
char *format_bytes(json_object *value);
/* null, "", [] and {}: nothing to tell. */
bool value_is_empty(json_object *value);

#endif
