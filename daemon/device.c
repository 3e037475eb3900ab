/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* PCI functions: lookup and relations between them. */
#include "device.h"

#include <stdio.h>

Device *device_free(Device *d) {
        if (!d)
                return NULL;
        free(d->name);
        free(d->class_name);
        free(d->driver);
        free(d->tsm);
        free(d->dsm);
        free(d->bound);
        json_object_put(d->streams);
        json_object_put(d->new_streams);
        free(d);
        return NULL;
}

Device *device_find_number(Manager *m, uint32_t number) {
        size_t low = 0, high = m->n_devices;

        while (low < high) {
                size_t mid = (low + high) / 2;
                uint32_t n = tdi_bdf_number(m->devices[mid]->bdf);

                if (n == number)
                        return m->devices[mid];
                if (n < number)
                        low = mid + 1;
                else
                        high = mid;
        }
        return NULL;
}

enum device_sriov device_sriov(const Device *d) {
        return d->phys_fn != UINT32_MAX ? DEVICE_SRIOV_VF : d->n_vfs > 0 ? DEVICE_SRIOV_PF : DEVICE_SRIOV_NONE;
}

Device *device_find(Manager *m, struct tdi_bdf bdf) {
        return device_find_number(m, tdi_bdf_number(bdf));
}

struct tdi_bdf device_bdf(uint32_t number) {
        return (struct tdi_bdf){ .domain = (uint16_t) (number >> 16), .bus = (uint8_t) (number >> 8), .devfn = (uint8_t) number };
}

bool device_is_bridge(const Device *d) {
        return d->class >> 16 == 0x06;
}

bool device_shares_reset(const Device *a, const Device *b) {
        if (a->group >= 0 && a->group == b->group)
                return true;
        /* A VF has its own FLR; what shares a slot otherwise is reset together where FLR is missing. */
        return a->phys_fn == UINT32_MAX && b->phys_fn == UINT32_MAX && a->bdf.domain == b->bdf.domain && a->bdf.bus == b->bdf.bus &&
               a->bdf.devfn >> 3 == b->bdf.devfn >> 3;
}

bool device_is_isolated(const Device *d) {
        for (size_t i = 0; i < d->manager->n_devices; i++) {
                const Device *o = d->manager->devices[i];

                if (o != d && o->group == d->group && (device_is_bridge(o) || o->bdf.domain != d->bdf.domain || o->bdf.bus != d->bdf.bus ||
                                                       o->bdf.devfn >> 3 != d->bdf.devfn >> 3))
                        return false;
        }
        return d->group >= 0;
}

Device *device_dsm(Device *d) {
        struct tdi_bdf zero;
        Device *pf = d, *f0;

        /* The order of find_dsm_dev(): the function itself, function 0 of its (physical) device, the switch above. */
        if (d->tee & DEVICE_DSM)
                return d;
        if (d->phys_fn != UINT32_MAX) {
                pf = device_find_number(d->manager, d->phys_fn);
                if (!pf)
                        return NULL;
        }
        zero = pf->bdf;
        zero.devfn = (uint8_t) (zero.devfn & ~7);
        f0 = device_find(d->manager, zero);
        if (f0 && (f0->tee & DEVICE_DSM))
                return f0;
        if (d->upstream_above != UINT32_MAX) {
                f0 = device_find_number(d->manager, d->upstream_above);
                if (f0 && (f0->tee & DEVICE_DSM))
                        return f0;
        }
        return NULL;
}

void device_renew(Device *d) {
        d->generation = ++d->manager->next_generation;
}

char *device_path(struct tdi_bdf bdf, char buf[static 64]) {
        char label[TDI_BDF_MAX];

        snprintf(buf, 64, BUS_ROOT "/device/%s", tdi_bdf_to_label(bdf, label));
        return buf;
}
