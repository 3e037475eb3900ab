/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * PCI function addresses: domain, bus, device and function number (PCIe base specification, 2.2.4.2),
 * in the three ways people write them.
 */
#ifndef TDI_BDF_H
#define TDI_BDF_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Room for "0000:00:00.0" and its terminator. Domains are 16 bits wide here. */
#define TDI_BDF_MAX 13

struct tdi_bdf {
        uint16_t domain;
        uint8_t bus;
        uint8_t devfn; /* device 7:3, function 2:0 */
};

/**
 * tdi_bdf_parse() - parse "0000:01:00.0", "01:00.0" or "pci_0000_01_00_0"
 * @text:       the text; every form takes lower and upper case hex digits, all digits must be there
 * @ret:        the address, written only on success
 *
 * Return: 0, or -EINVAL. Thread-safe.
 */
int tdi_bdf_parse(const char *text, struct tdi_bdf *ret);

/**
 * tdi_bdf_format() - write as "0000:01:00.0", the form of sysfs
 * @bdf:        the address
 * @buf:        at least TDI_BDF_MAX bytes
 *
 * Return: @buf. Thread-safe.
 */
char *tdi_bdf_format(struct tdi_bdf bdf, char *buf);

/**
 * tdi_bdf_to_label() - write as "0000_01_00_0", the form of D-Bus paths and file names
 * @bdf:        the address
 * @buf:        at least TDI_BDF_MAX bytes
 *
 * Return: @buf. Thread-safe.
 */
char *tdi_bdf_to_label(struct tdi_bdf bdf, char *buf);

/**
 * tdi_bdf_number() - one number that orders addresses: domain, bus, devfn
 * @bdf:        the address
 *
 * Return: domain in bits 31:16, bus in 15:8, devfn in 7:0; the low half is the RID. Thread-safe.
 */
uint32_t tdi_bdf_number(struct tdi_bdf bdf);

#ifdef __cplusplus
}
#endif

#endif
