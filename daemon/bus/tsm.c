/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* org.tdid1.TSM */
#include "tsm.h"

#include "bus/bus.h"
#include "device.h"

static int get_text(_unused_ sd_bus *bus, const char *path, _unused_ const char *interface, const char *property, sd_bus_message *reply,
                    void *userdata, _unused_ sd_bus_error *e) {
        Tsm *t = bus_tsm(userdata, path);

        if (!t)
                return -ENOENT;
        return sd_bus_message_append_basic(reply, 's', streq(property, "Name") ? t->name : streq(property, "Parent") ? t->parent : t->platform);
}

static int get_devices(_unused_ sd_bus *bus, const char *path, _unused_ const char *interface, _unused_ const char *property,
                       sd_bus_message *reply, void *userdata, _unused_ sd_bus_error *e) {
        Tsm *t = bus_tsm(userdata, path);
        Manager *m = userdata;
        char bdf[TDI_BDF_MAX];
        int r;

        if (!t)
                return -ENOENT;
        r = sd_bus_message_open_container(reply, 'a', "s");
        for (size_t i = 0; r >= 0 && i < m->n_devices; i++)
                if (streq_ptr(m->devices[i]->tsm, t->name))
                        r = sd_bus_message_append_basic(reply, 's', tdi_bdf_format(m->devices[i]->bdf, bdf));
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

const sd_bus_vtable bus_tsm_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Name", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Platform", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Parent", "s", get_text, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Devices", "as", get_devices, 0, 0),
        SD_BUS_VTABLE_END,
};
