/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The files of a function in sysfs by which the host could move, reset or remove it behind the back of its VM. The guard refuses to open
 * them for writing; where there is none, who has written to one is told at least (watch.h). The one list of both.
 */
#ifndef TDID_FUNCTION_FILES_H
#define TDID_FUNCTION_FILES_H

/* X(name, GUARD_KIND_ without that word). Every function has the first; some have no reset. */
#define FUNCTION_FILES(X) \
        X("config", CONFIG) \
        X("reset", RESET) \
        X("reset_method", RESET) /* says how the kernel resets it when it is given back, or that it does not */ \
        X("remove", REMOVE)

#endif
