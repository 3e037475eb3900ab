/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The archive of evidence: what devices have said, as they have said it, and what was found of it. Objects are files by the digest of their
 * bytes (objects/SHA256), so that what does not change is stored once; each collection is a record (records/TIME-BDF.json) that names them.
 * Both are bounded: what is oldest goes first. A record may outlive its objects, never the other way round by more than a crash.
 */
#ifndef TDID_WORKER_ARCHIVE_H
#define TDID_WORKER_ARCHIVE_H

#include "evidence/evidence.h"
#include "model/json.h"

#define ARCHIVE_DIGEST 65 /* SHA-256 in hexadecimal, terminated */

struct archive_limits {
        uint64_t bytes;   /* of all objects together, and of all records; the last collection stays whatever it has */
        uint64_t records;
};

/* 0; -EIO: the library does not have SHA-256. */
int archive_digest(const void *data, size_t size, char ret[static ARCHIVE_DIGEST]);

/*
 * Stores the objects and the record, each whole or not at all, and drops what is beyond the limits. Waits for others who store; several processes
 * may. @folder is made where its parent is there. The record's name is at @ret_name, which has room for 64 bytes.
 *
 * Return: 0; negative errno, and then what was stored so far stays: the next one drops it in its turn.
 */
int archive_store(const char *folder, const struct evidence *e, const char *bdf, const char *record, const struct archive_limits *limits, char ret_name[static 64]);

/*
 * The newest record of a device: its name and its text, the caller's, which is as it was stored; it is at most @max bytes.
 *
 * Return: 0; -ENOENT: there is none; -EFBIG; another errno.
 */
int archive_newest(const char *folder, const char *bdf, size_t max, char ret_name[static 64], char **ret_record);

/*
 * An object by its digest, the caller's. -ENOENT: it has been dropped, or never was there; -EBADMSG: no digest, or the file is not what it is called;
 * -EFBIG: longer than EVIDENCE_OBJECT_MAX; another errno.
 */
int archive_object(const char *folder, const char *digest, uint8_t **ret, size_t *ret_size);

#endif
