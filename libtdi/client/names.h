/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The names of org.tdid1 on the bus, as docs/dbus-api.md gives them. Names only. */
#ifndef TDI_CLIENT_NAMES_H
#define TDI_CLIENT_NAMES_H

#define TDI_BUS_NAME "org.tdid1"
#define TDI_BUS_ROOT "/org/tdid1"

#define TDI_PATH_VM TDI_BUS_ROOT "/vm/"
#define TDI_PATH_TDI TDI_BUS_ROOT "/tdi/"
#define TDI_PATH_DEVICE TDI_BUS_ROOT "/device/"
#define TDI_PATH_TSM TDI_BUS_ROOT "/tsm/"
#define TDI_PATH_JOB TDI_BUS_ROOT "/job/"

#define TDI_IFACE_MANAGER TDI_BUS_NAME ".Manager"
#define TDI_IFACE_VM TDI_BUS_NAME ".VM"
#define TDI_IFACE_TDI TDI_BUS_NAME ".TDI"
#define TDI_IFACE_DEVICE TDI_BUS_NAME ".Device"
#define TDI_IFACE_TSM TDI_BUS_NAME ".TSM"
#define TDI_IFACE_JOB TDI_BUS_NAME ".Job"

#define DBUS_NAME "org.freedesktop.DBus"
#define DBUS_PATH "/org/freedesktop/DBus"
#define DBUS_IFACE "org.freedesktop.DBus"
#define DBUS_IFACE_PROPERTIES "org.freedesktop.DBus.Properties"
#define DBUS_IFACE_OBJECT_MANAGER "org.freedesktop.DBus.ObjectManager"

#endif
