/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading what is believed without proof: policies, files of anchors and of reference values. */
#ifndef TDI_UTIL_FILE_H
#define TDI_UTIL_FILE_H

#include "util/util.h"

/**
 * file_read_trusted() - the bytes of a file that whoever owns the machine has put there
 * @max:      bytes
 * @ret:      free() it; not terminated
 * @ret_null: may be NULL; true with -EINVAL: it is /dev/null, by which a name is masked
 *
 * Return: 0; -EINVAL, it is no regular file; -EBADMSG, everybody may write to it; -EFBIG; -errno of opening and reading; -ENOMEM.
 */
int file_read_trusted(const char *path, size_t max, char **ret, size_t *ret_size, bool *ret_null);

#endif
