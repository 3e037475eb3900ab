/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What metrics, nfd and cdi share: a text goes to standard output, or with --output into a file that readers only ever see whole. */
#ifndef TDICTL_FLEET_H
#define TDICTL_FLEET_H

#include "model.h"

/* All that tdid tells this caller: the snapshot, "host" of DescribeHost(), and "described", the descriptions of the VMs that the caller may
 * describe; not there when there are none. The caller's. */
int fleet_model(struct tdictl *t, json_object **ret);

/* Writes text to standard output or, with --output, to that file: beside it first, synced, renamed over it; mode 0644. */
int fleet_write(struct tdictl *t, const char *text, size_t size);
/* There is nothing to write: with --output what is there goes. Return: 1 when there was no --output. */
int fleet_remove(struct tdictl *t);

/* "" where there is none. */
const char *fleet_text(json_object *o, const char *key);
uint64_t fleet_number(json_object *o, const char *key);
size_t fleet_length(json_object *array);

#endif
