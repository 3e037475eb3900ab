/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The error table: name, errno and exit code stand once, here. */
#include <tdi/error.h>

#include "util/util.h"

static const struct {
        const char *name;
        int error;
        int exit;
} table[TDI_ERROR_MAX] = {
        [TDI_ERROR_NONE] = { "", 0, 0 },
        [TDI_ERROR_INVALID_ARGUMENT] = { "InvalidArgument", EINVAL, 2 },
        [TDI_ERROR_NOT_FOUND] = { "NotFound", ENOENT, 3 },
        [TDI_ERROR_EXISTS] = { "Exists", EEXIST, 5 },
        [TDI_ERROR_IN_USE] = { "InUse", EUSERS, 5 },
        [TDI_ERROR_BUSY] = { "Busy", EBUSY, 5 },
        [TDI_ERROR_INVALID_STATE] = { "InvalidState", ESTALE, 5 },
        [TDI_ERROR_DENIED] = { "Denied", EACCES, 4 },
        [TDI_ERROR_POLICY] = { "Policy", EPERM, 4 },
        [TDI_ERROR_EVIDENCE] = { "Evidence", EKEYREJECTED, 4 },
        [TDI_ERROR_NOT_SUPPORTED] = { "NotSupported", EOPNOTSUPP, 6 },
        [TDI_ERROR_CLASS_MISMATCH] = { "ClassMismatch", EMEDIUMTYPE, 6 },
        [TDI_ERROR_QUARANTINED] = { "Quarantined", EUCLEAN, 7 },
        [TDI_ERROR_LIMIT] = { "Limit", EDQUOT, 8 },
        [TDI_ERROR_TIMEOUT] = { "Timeout", ETIMEDOUT, 9 },
        [TDI_ERROR_CANCELLED] = { "Cancelled", ECANCELED, 10 },
        [TDI_ERROR_KERNEL] = { "Kernel", EIO, 11 },
};

const char *tdi_error_to_name(enum tdi_error error) {
        if (error < 0 || error >= TDI_ERROR_MAX)
                return NULL;
        return table[error].name;
}

enum tdi_error tdi_error_from_name(const char *name) {
        if (isempty(name))
                return TDI_ERROR_INVALID;
        if (startswith(name, TDI_ERROR_PREFIX))
                name += strlen(TDI_ERROR_PREFIX);
        for (int i = TDI_ERROR_NONE + 1; i < TDI_ERROR_MAX; i++)
                if (streq(table[i].name, name))
                        return i;
        return TDI_ERROR_INVALID;
}

int tdi_error_to_errno(enum tdi_error error) {
        if (error < 0 || error >= TDI_ERROR_MAX)
                return EINVAL;
        return table[error].error;
}

int tdi_error_to_exit(enum tdi_error error) {
        if (error < 0 || error >= TDI_ERROR_MAX)
                return 1;
        return table[error].exit;
}
