/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What tdid asks the service manager about the unit that it is; see also stop.h and holder.h. */
#ifndef TDID_UNIT_H
#define TDID_UNIT_H

#include "manager.h"

/*
 * PID 1 makes the list of devices that a unit may open when it starts it, and knows a class by the number that /proc/devices has for it then: of a
 * module that is loaded later, or anew, none (bpf_devices_allow_list_major). Asks it to make the list again. 0: it has been asked, and will have
 * done it a moment later; -EOPNOTSUPP: tdid is no unit.
 */
int unit_look_for_devices(Manager *m);

#endif
