/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tdid's own confinement: what it calls, and what those call that it starts, for a filter is inherited. */
#ifndef TDID_CONFINE_H
#define TDID_CONFINE_H

#include <stdbool.h>

/* Before anybody is heard. 0, or a negative errno. Not applied in sanitizer builds. */
int daemon_confine(bool simulated);

#endif
