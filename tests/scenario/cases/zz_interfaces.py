# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The XML of the interfaces, which is installed for tools that make code of it, is what a running tdid says of its objects. Where an interface has
# changed, TDID_WRITE_INTERFACES=1 writes the files anew.

import os
from xml.etree import ElementTree

from kit.checks import Failure, equal
from kit.paths import TESTS, first
from kit.registry import scenario

FOLDER = first(os.path.join(TESTS, "../daemon/bus/interfaces"), "/usr/share/dbus-1/interfaces", "/usr/local/share/dbus-1/interfaces")
HEAD = """<!-- SPDX-License-Identifier: LGPL-2.1-or-later -->
<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"
 "https://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">
"""


def said(t, path):
    """{name: XML} of tdid's own interfaces of an object."""
    document = ElementTree.fromstring(str(t.client.call(path, "org.freedesktop.DBus.Introspectable", "Introspect")))
    found = {}
    for interface in document.findall("interface"):
        if interface.get("name").startswith("org.tdid1."):
            node = ElementTree.Element("node")
            node.append(interface)
            ElementTree.indent(node)
            found[interface.get("name")] = HEAD + ElementTree.tostring(node, encoding="unicode").rstrip() + "\n"
    return found


@scenario("edu", "nvme", tsm=("nvme",))
def interfaces_shipped(t):
    edu = t.host.bdf("edu")
    vm = t.vm()
    _, job = vm.attach(edu)
    found = {}
    for path in ("/org/tdid1", vm.path, t.client.tdi(edu).path, t.device(edu).path, f"/org/tdid1/tsm/{t.tsm_name}", job.path):
        found.update(said(t, path))
    equal(sorted(found), sorted("org.tdid1." + name for name in ("Manager", "VM", "TDI", "Device", "TSM", "Job")), "interfaces of all objects")
    if os.environ.get("TDID_WRITE_INTERFACES"):
        for name, text in found.items():
            with open(os.path.join(FOLDER, name + ".xml"), "w", encoding="utf-8") as file:
                file.write(text)
    equal(sorted(n for n in os.listdir(FOLDER) if n.startswith("org.tdid1.")), sorted(n + ".xml" for n in found), "files of interfaces")
    for name, text in found.items():
        with open(os.path.join(FOLDER, name + ".xml"), encoding="utf-8") as file:
            if file.read() != text:
                raise Failure(f"{name}.xml is not what tdid says: TDID_WRITE_INTERFACES=1 writes it anew")
