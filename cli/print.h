/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The two printers of a model: JSON, and tables or details made from the same object, so that they cannot drift. What a list
 * shows is in columns.c; details show every member that says something. On a terminal nothing is wider than it: columns that may be are cut or
 * broken between words, and a table that is too wide even so is shown as details. Elsewhere lines are as long as they are.
 */
#ifndef TDICTL_PRINT_H
#define TDICTL_PRINT_H

#include <json-c/json.h>
#include <stdio.h>

#include "tdictl.h"
#include "text.h"

enum column_format {
        COLUMN_VALUE,
        COLUMN_NUMBER, /* even where it is called as times are */
        COLUMN_HEX,   /* a number of 16 bits, as 0x0100 */
        COLUMN_BYTES, /* 4 KiB */
        COLUMN_CLOCK, /* a time of day */
};

struct column {
        const char *title; /* NULL ends a table of columns */
        const char *key;   /* member of the row; "^key": of the object that the row is nested in; "a.b": of a member; "a#": how many elements; "a@": the first */
        bool right;
        bool wrap;  /* broken between words; one column of a table */
        bool trunc; /* cut where the terminal is too narrow */
        enum column_format format;
        const char *(*text)(json_object *row); /* instead of the member, which only gives the colour; NULL: nothing to tell */
};

struct section {
        const char *list;   /* member of the model: an array of objects, or with details also an object */
        const char *nested; /* member of each of them, whose elements are the rows, or with details of the one object; or NULL */
        const char *heading; /* NULL: none */
        const char *none;   /* said when there is no row; NULL: nothing is printed then */
        const struct column *columns; /* NULL: details of each */
        bool (*shown)(json_object *row); /* NULL: every row */
        bool remark; /* not with --no-legend: it says once more what other rows do */
        const char *hidden; /* a member that details leave out, because another section shows it; or NULL */
};

/* One or several sections; ends with a NULL list. */
extern const struct section status_view[];
extern const struct section devices_view[], device_view[], given_back_view[];
extern const struct section vms_view[], vm_view[];
extern const struct section tdis_view[];
extern const struct section tsms_view[], tsm_view[];
extern const struct section dmabufs_view[];
extern const struct section evidence_view[];
extern const struct section findings_view[], policy_view[], explanation_view[];
extern const struct section plan_view[];
/* The tables of lists inside details, by the name of their member; ends with a NULL list. Others have a column for each member of their first element. */
extern const struct section inner_tables[];

struct style {
        bool json, legend, colors;
        size_t width; /* 0: nothing is cut or broken */
};

/* Prints to f: JSON, or the sections. Return: 0 or -ENOMEM. */
int print_sections(FILE *f, const struct style *style, json_object *model, const struct section *view);

/* Prints to standard output as the command line asks. Return: 0, or a failure. */
int print_model(struct tdictl *t, json_object *model, const struct section *view);

#endif
