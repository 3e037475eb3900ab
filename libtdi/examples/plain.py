#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""tdid without libtdi, over plain D-Bus: usage: plain.py BUS VM BDF…   (needs python3-dbus)

Creates a VM, attaches the functions, seals it, tells where its VMM would connect, and gives everything back. org.tdid1(5) has the calls.
"""
import json
import os
import sys

import dbus
import dbus.bus

# Jobs are waited for in the call here. A reset alone may take a minute, and D-Bus gives up after 25 s when nothing is said.
PATIENCE = 600


def main(address, name, *functions):
    bus = dbus.SystemBus() if address == "system" else dbus.bus.BusConnection(address)

    def call(path, interface, method, signature, *arguments):
        return bus.call_blocking("org.tdid1", path, "org.tdid1." + interface, method, signature, arguments, timeout=PATIENCE)

    # The lease is the VM's life: keep the descriptor open. take() makes it ours.
    vm, lease = call("/org/tdid1", "Manager", "CreateVM", "sa{sv}", name, {})
    lease = lease.take()

    # Each function with its options, then options of the call. All of them, or none.
    tdis, _ = call(vm, "VM", "Attach", "a(sa{sv})a{sv}", [(bdf, {"guest_rid": dbus.UInt32(0x100 + 8 * i)}) for i, bdf in enumerate(functions)], {})
    call(vm, "VM", "Seal", "a{sv}", {})
    for tdi in tdis:
        state = bus.call_blocking("org.tdid1", tdi, "org.freedesktop.DBus.Properties", "Get", "ss", ("org.tdid1.TDI", "State"))
        print(f"{tdi}: {state}")

    # What only root and the VM's owner may know.
    described = json.loads(call(vm, "VM", "Describe", ""))["vm"]
    for tdi in described["tdis"]:
        print(f"{tdi['bdf']}: {tdi['vpci']['socket']}")

    # Closing the last keeper would do; this waits until all functions are back.
    call(vm, "VM", "Destroy", "a{sv}", {})
    os.close(lease)
    print("given back")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except dbus.DBusException as error:
        # org.tdid1.Error.InUse and its like, and a text that says what was tried and what to do.
        sys.exit(f"{error.get_dbus_name()}: {error.get_dbus_message()}")
