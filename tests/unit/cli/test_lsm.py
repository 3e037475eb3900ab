# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is shipped for AppArmor and SELinux is what their own tools take. Whether it allows what it should is seen on hosts that have them alone.

usage: test_lsm.py FOLDER APPARMOR-PROFILE-OF-THE-HOOK
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

FOLDER, PROFILE = (os.path.abspath(a) for a in sys.argv[1:3])
PARSER, CHECKMODULE = (shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") for name in ("apparmor_parser", "checkmodule"))
# As libvirt's template makes one for each domain, with the site's additions that our abstraction says it belongs into.
DOMAIN = """include <tunables/global>
profile libvirt-4dea22b3-1d52-48f3-8756-4a0b1b0b8f0e flags=(attach_disconnected) {
  include <abstractions/base>
  %s
}
"""


def read(*path):
    with open(os.path.join(FOLDER, *path), encoding="utf-8") as file:
        return file.read()


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def write(self, text):
        path = os.path.join(self.folder, "file")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    @staticmethod
    def run_tool(*words):
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


@unittest.skipUnless(PARSER, "no apparmor_parser")
class AppArmor(Case):
    def parse(self, path):
        """The compiled policy; nothing is loaded."""
        return self.run_tool(PARSER, "--skip-kernel-load", "--skip-cache", "--debug", "--Include", os.path.join(FOLDER, "apparmor"),
                             "--Include", "/etc/apparmor.d", path)

    def test_hook(self):
        done = self.parse(PROFILE)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(PROFILE, encoding="utf-8") as file:
            text = file.read()
        self.assertNotIn("@libexecdir@", text)
        self.assertNotEqual(self.parse(self.write(text.replace("mr,", "mr", 1))).returncode, 0)

    def test_domains(self):
        name = re.search(r"^#   (include <abstractions/.*>)$", read("apparmor", "abstractions", "tdid-vpci"), re.M)[1]
        done = self.parse(self.write(DOMAIN % name))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"Mode:\s*rwa:rwa\s*Name:\s*\(\{/run,/var/run\}/tdid/vm/\*/\*\.sock\)")
        self.assertNotEqual(self.parse(self.write(DOMAIN % name.replace("vpci", "other"))).returncode, 0)


@unittest.skipUnless(CHECKMODULE, "no checkmodule")
class SELinux(Case):
    def test_module(self):
        text = read("selinux", "tdid.te")
        out = os.path.join(self.folder, "tdid.mod")  # it must be called as the module is
        done = self.run_tool(CHECKMODULE, "-M", "-m", "-o", out, os.path.join(FOLDER, "selinux/tdid.te"))
        self.assertEqual((done.returncode, os.path.exists(out)), (0, True), done.stderr)
        broken = text.replace("sock_file tdid_vpci_t;", "sock_file tdid_other_t;")
        self.assertNotEqual(self.run_tool(CHECKMODULE, "-M", "-m", "-o", out, self.write(broken)).returncode, 0)

    def test_contexts(self):
        """Each path has a type of the module, and the sockets' paths are those of the API."""
        types = set(re.findall(r"^type (\w+)", read("selinux", "tdid.te"), re.M))
        found = {}
        for line in read("selinux", "tdid.fc").splitlines():
            fields = line.split("\t")
            context = fields[-1].split(":")
            self.assertEqual((len(fields) in (2, 3), context[:2], context[3:]), (True, ["system_u", "object_r"], ["s0"]), line)
            self.assertIn(context[2], types)
            found[fields[0]] = context[2]
        paths = ["/run/tdid/vm/4dea22b3-1d52-48f3-8756-4a0b1b0b8f0e/0000_01_00.0.sock", "/run/tdid/journal", "/run/tdid"]
        last = [[t for p, t in found.items() if re.fullmatch(p, path)][-1] for path in paths]
        self.assertEqual(last, ["tdid_vpci_t", "tdid_run_t", "tdid_run_t"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
