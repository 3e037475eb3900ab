/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit.h"

#include <systemd/sd-login.h>

static int on_set(sd_bus_message *reply, _unused_ void *userdata, _unused_ sd_bus_error *e) {
        if (sd_bus_message_is_method_error(reply, NULL))
                log_warning("systemd did not look for VFIO's devices again: %s; restart tdid.service, which VMs do not notice",
                            strempty(sd_bus_message_get_error(reply)->message));
        return 0;
}

int unit_look_for_devices(Manager *m) {
        _cleanup_free_ char *unit = NULL;
        int r;

        if (!m->booted_by_systemd)
                return -EOPNOTSUPP;
        r = sd_pid_get_unit(0, &unit);
        if (r < 0)
                return r;
        log_notice("VFIO's devices are not on the list of what %s may open, which is older than they are: having systemd look for them again", unit);
        /* Naming the class once more is what makes it look. */
        return sd_bus_call_method_async(m->bus, NULL, "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
                                        "SetUnitProperties", on_set, m, "sba(sv)", unit, true, 1, "DeviceAllow", "a(ss)", 1, "char-vfio-dev", "rw");
}
