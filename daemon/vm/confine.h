/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A holder's confinement: after start-up it needs no file system, no new process and little memory. */
#ifndef TDID_VM_CONFINE_H
#define TDID_VM_CONFINE_H

#include <stdbool.h>

/* @simulated: its devices are a tdi-sim's. 0, or a negative errno. Not applied in sanitizer builds, whose run-time needs what is forbidden here. */
int confine(bool simulated);

#endif
