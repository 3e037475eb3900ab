# SPDX-License-Identifier: LGPL-2.1-or-later
"""`meson install` puts these files in place, and no other: what a package is made of is decided, not found out.

usage: test_installed.py BUILD-FOLDER MAN-PAGES PREFIX BINDIR LIBDIR LIBEXECDIR INCLUDEDIR DATADIR MANDIR
"""
import json
import os
import sys
import unittest

BUILD, MAN_PAGES, PREFIX = sys.argv[1:4]
FOLDERS = dict(zip(("bin", "lib", "libexec", "include", "data", "man"), (os.path.join(PREFIX, p) for p in sys.argv[4:10])), prefix=PREFIX)

EXPECTED = """
{bin}/tdi-sim
{bin}/tdictl
{data}/dbus-1/interfaces/org.tdid1.Device.xml
{data}/dbus-1/interfaces/org.tdid1.Job.xml
{data}/dbus-1/interfaces/org.tdid1.Manager.xml
{data}/dbus-1/interfaces/org.tdid1.TDI.xml
{data}/dbus-1/interfaces/org.tdid1.TSM.xml
{data}/dbus-1/interfaces/org.tdid1.VM.xml
/etc/apparmor.d/abstractions/tdid-vpci
{data}/doc/tdid/examples/libvirt/iommufd-fdgroup.xml
{data}/doc/tdid/examples/libvirt/vpci.xml
{data}/tdid/selinux/tdid.fc
{data}/tdid/selinux/tdid.if
{data}/tdid/selinux/tdid.te
{data}/dbus-1/system-services/org.tdid1.service
{data}/dbus-1/system.d/org.tdid1.conf
{data}/doc/tdid/examples/async.c
{data}/doc/tdid/examples/host.cc
{data}/doc/tdid/examples/plain.py
{data}/doc/tdid/examples/vmm.c
{data}/tdid/policy.d/50-default.json
{data}/tdid/schema/tdictl.schema.json
{data}/tdid/schema/tdid-policy-1.schema.json
{data}/polkit-1/actions/org.tdid1.policy
{include}/tdi/association.h
{include}/tdi/bdf.h
{include}/tdi/client.h
{include}/tdi/dmabuf.h
{include}/tdi/enums.h
{include}/tdi/error.h
{include}/tdi/request.h
{include}/tdi/runs.h
{libexec}/tdid/tdid
{libexec}/tdid/tdid-vm
{libexec}/tdid/tdid-worker
{lib}/libtdi.so
{lib}/libtdi.so.0
{lib}/libtdi.so.0.1.0
{lib}/pkgconfig/libtdi.pc
{prefix}/lib/modules-load.d/tdid.conf
{prefix}/lib/systemd/system/tdid-metrics.service
{prefix}/lib/systemd/system/tdid-metrics.timer
{prefix}/lib/systemd/system/tdid-vm@.service
{prefix}/lib/systemd/system/tdid.service
{prefix}/lib/sysusers.d/tdid.conf
{prefix}/lib/tmpfiles.d/tdid.conf
{prefix}/src/tdid-bind-0.1.0/Kbuild
{prefix}/src/tdid-bind-0.1.0/check.c
{prefix}/src/tdid-bind-0.1.0/dkms.conf
{prefix}/src/tdid-bind-0.1.0/internal.h
{prefix}/src/tdid-bind-0.1.0/tdid_bind.c
{prefix}/src/tdid-bind-0.1.0/tdid_bind.h
"""

# Where tdictl runs on the machine that it is built on.
COMPLETIONS = """
{data}/bash-completion/completions/tdictl
{data}/zsh/site-functions/_tdictl
"""
# Where libxml2 is.
HOOK = """
/etc/apparmor.d/tdid-hook
{libexec}/tdid/tdid-hook
"""


def installed():
    with open(os.path.join(BUILD, "meson-info", "intro-installed.json"), encoding="utf-8") as f:
        for source, target in json.load(f).items():
            if os.path.isdir(source) and not os.path.islink(source):
                for base, _, names in os.walk(source):
                    for name in names:
                        yield os.path.join(target, os.path.relpath(os.path.join(base, name), source))
            else:
                yield target


def when(built, files):
    return files if os.path.exists(os.path.join(BUILD, built)) else ""


def expected():
    for path in (EXPECTED + when("cli/hook/tdid-hook", HOOK) + when("cli/completion/tdictl", COMPLETIONS)).split():
        yield path.format(**FOLDERS)
    # Every page that is written is installed, and those that are made of other documents.
    for page in [*os.listdir(MAN_PAGES), "libtdi.3", "org.tdid1.5"]:
        page = page.removesuffix(".rst")
        yield f"{FOLDERS['man']}/man{page.rpartition('.')[2]}/{page}"


class Installed(unittest.TestCase):
    maxDiff = None

    def test_list(self):
        self.assertEqual(sorted(os.path.normpath(p) for p in installed()), sorted(os.path.normpath(p) for p in expected()))

    def test_units_name_what_is_installed(self):
        programs = {os.path.normpath(p) for p in installed()}
        units = [n for n in os.listdir(os.path.join(BUILD, "systemd")) if n.endswith(".service")]
        self.assertGreater(len(units), 2)
        for unit in units:
            with open(os.path.join(BUILD, "systemd", unit), encoding="utf-8") as f:
                for line in f:
                    key, _, value = line.strip().partition("=")
                    # D-Bus activation goes by way of systemd; its own command is never run.
                    # busctl is systemd's own, and mkdir everybody's.
                    if key in ("ExecStart", "ExecReload", "ExecStartPre", "Exec") and value.split()[0] not in ("/bin/false", "/usr/bin/busctl", "-+/bin/mkdir"):
                        with self.subTest(unit=unit, line=line.strip()):
                            self.assertIn(value.split()[0].lstrip("-+!@:"), programs)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
