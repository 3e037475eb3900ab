/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * dma-bufs: how long what is in one stays where it is (its class), what importers can cope with, and what comes of both.
 *
 * A class is a promise of the exporter. The kernel has no name for it: an importer learns of a move or a revoke through
 * dma_buf_invalidate_mappings() (drivers/dma-buf/dma-buf.c), if it listens, and a mapping that is then asked for again
 * succeeds (it moved) or fails with ENODEV (it is revoked).
 */
#ifndef TDI_DMABUF_H
#define TDI_DMABUF_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* In the order of what they promise: the first that both sides know is the best. */
enum tdi_dmabuf_class {
        TDI_DMABUF_PINNED,    /* never changes while anybody is attached */
        TDI_DMABUF_REVOCABLE, /* stays until it is revoked; then every access is an error. It may come back. */
        TDI_DMABUF_DYNAMIC,   /* moves: the importer must fault and map again */
        TDI_DMABUF_CLASS_MAX,
        TDI_DMABUF_CLASS_INVALID = -22
};

enum tdi_importer {
        TDI_IMPORTER_KVM,
        TDI_IMPORTER_IOMMUFD,
        TDI_IMPORTER_RDMA,
        TDI_IMPORTER_GPU,
        TDI_IMPORTER_ANY, /* one that lists what it takes */
        TDI_IMPORTER_MAX,
        TDI_IMPORTER_INVALID = -22
};

/* A set of classes: bits 1 << enum tdi_dmabuf_class. */
#define TDI_DMABUF_SET(dmabuf_class) (1u << (dmabuf_class))

/* Room for the reason of a refusal. */
#define TDI_DMABUF_REASON_MAX 256

/* Names on the bus, as "pinned" and "iommufd"; NULL out of range. The value of a name, or _INVALID; NULL is no name. Thread-safe. */
const char *tdi_dmabuf_class_to_string(enum tdi_dmabuf_class value);
enum tdi_dmabuf_class tdi_dmabuf_class_from_string(const char *name);
const char *tdi_importer_to_string(enum tdi_importer value);
enum tdi_importer tdi_importer_from_string(const char *name);

/**
 * tdi_importer_classes() - what an importer can take
 * @importer:   which
 *
 * Return: a set of classes; 0 for TDI_IMPORTER_ANY, which says so itself, and out of range. Thread-safe.
 */
unsigned tdi_importer_classes(enum tdi_importer importer);

/**
 * tdi_dmabuf_negotiate() - find the class that a source and an importer agree on
 * @offered:    set of classes that the source can promise; not empty
 * @importer:   who wants it
 * @accept:     set of classes that the importer's user wants; 0: all that the importer can take. What the importer cannot take is a
 *              refusal, not ignored. TDI_IMPORTER_ANY must give one.
 * @ret_class:  the best class that both know, written only on success
 * @ret_reason: may be NULL; at least TDI_DMABUF_REASON_MAX bytes that get why not, a text for people, on failure
 *
 * Return: 0; -EINVAL for a parameter out of range, an empty or an impossible set; -EPROTONOSUPPORT when there is no common
 * class. Thread-safe.
 */
int tdi_dmabuf_negotiate(unsigned offered, enum tdi_importer importer, unsigned accept, enum tdi_dmabuf_class *ret_class, char *ret_reason);

/**
 * tdi_dmabuf_set_format() - write a set of classes for people: "pinned or dynamic"
 * @set:        bits out of range are left out
 * @buf:        where to
 * @size:       of @buf, at least 1; 40 bytes are enough for any set
 *
 * Return: @buf; "nothing" for the empty set. Thread-safe.
 */
char *tdi_dmabuf_set_format(unsigned set, char *buf, size_t size);

#ifdef __cplusplus
}
#endif

#endif
