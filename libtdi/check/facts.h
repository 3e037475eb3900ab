/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What this kernel is and offers, as far as it tells without a device: read for an explanation, never to decide by. Nothing here
 * fails: what cannot be had is told with its errno. What it means model/recognise.h knows.
 */
#ifndef TDI_CHECK_FACTS_H
#define TDI_CHECK_FACTS_H

#include "host/host.h"
#include "model/json.h"

/*
 * @args: "parameters": [{module, name}], as recognise_arguments() has them; NULL: none.
 * @values: "machine", "release", "cmdline", "parameters": {"MODULE.NAME": text}, "kvm", "iommufd", "bind": 0 or a negative errno of opening it or
 * of its first call, "vm_types": bits, "iommufd_tsm": what iommufd_tsm_probe() says, and "iommufd_provider", which it is, "bind_api",
 * "vfio_devices", "tsm_class": is it there?
 *
 * It opens /dev/kvm, /dev/iommu and /dev/tdid-bind, and may sleep.
 */
void facts_read(TdiHost *host, struct json_object *args, struct json_object *values);

#endif
