/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading what verification believes without proof: files of anchors and of reference values. */
#ifndef TDI_EVIDENCE_FILE_H
#define TDI_EVIDENCE_FILE_H

#include "util/util.h"

/**
 * evidence_file_read() - the bytes of a file that whoever owns the machine has put there
 * @max: bytes
 * @ret: free() it; not terminated
 *
 * Return: 0; -EINVAL, it is no regular file; -EBADMSG, everybody may write to it; -EFBIG; -errno of opening and reading; -ENOMEM.
 */
int evidence_file_read(const char *path, size_t max, char **ret, size_t *ret_size);

#endif
