/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The two printers of a model: JSON, and tables or details made from the same object, so that they cannot drift. What a list
 * shows is in columns.c; details show every member.
 */
#ifndef TDICTL_PRINT_H
#define TDICTL_PRINT_H

#include <json-c/json.h>
#include <stdio.h>

#include "tdictl.h"

struct column {
        const char *title; /* NULL ends a table of columns */
        const char *key;   /* member of the row; "^key": of the object that the row is nested in; "a.b": of a member; "a#": how many elements */
        bool right;
        bool wrap;
};

struct section {
        const char *list;   /* member of the model: an array of objects, or with details also an object */
        const char *nested; /* member of each of them, whose elements are the rows, or with details of the one object; or NULL */
        const char *heading; /* NULL: none */
        const char *none;   /* said when there is no row; NULL: nothing is printed then */
        const struct column *columns; /* NULL: details of each */
        bool (*shown)(json_object *row); /* NULL: every row */
};

/* One or several sections; ends with a NULL list. */
extern const struct section status_view[];
extern const struct section devices_view[], device_view[];
extern const struct section vms_view[], vm_view[];
extern const struct section tdis_view[];
extern const struct section tsms_view[], tsm_view[];
extern const struct section dmabufs_view[];
extern const struct section evidence_view[];
extern const struct section findings_view[], policy_view[], explanation_view[];

struct style {
        bool json, legend, colors;
};

/* Prints to f: JSON, or the sections. Return: 0 or -ENOMEM. */
int print_sections(FILE *f, const struct style *style, json_object *model, const struct section *view);

/* Prints to standard output as the command line asks. Return: 0, or a failure. */
int print_model(struct tdictl *t, json_object *model, const struct section *view);

/* A value for people; "-" for null. The caller's, NULL without memory. */
char *format_value(json_object *value);

#endif
