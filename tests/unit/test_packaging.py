# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Debian packaging fits the tree: what building the packages would say, too, but at once.

usage: test_packaging.py BUILD-FOLDER TOP PREFIX VERSION
"""
import fnmatch
import json
import os
import re
import subprocess
import sys
import unittest

BUILD, TOP, PREFIX, VERSION = sys.argv[1:5]
DEBIAN = os.path.join(TOP, "packaging", "debian")


def read(name):
    with open(os.path.join(DEBIAN, name), encoding="utf-8") as f:
        return f.read()


def installed():
    with open(os.path.join(BUILD, "meson-info", "intro-installed.json"), encoding="utf-8") as f:
        for target in json.load(f).values():
            yield os.path.normpath(target)


def wanted():
    """Package and pattern of every line of the .install files that is about what meson installs."""
    for name in sorted(os.listdir(DEBIAN)):
        if name.endswith(".install"):
            for line in read(name).split("\n"):
                if line and not line.startswith(("#", "debian/")):
                    yield name.removesuffix(".install"), "/" + line.split()[0].replace("lib/systemd/system", "usr/lib/systemd/system")


class Packaging(unittest.TestCase):
    def test_version(self):
        self.assertEqual(re.match(r"tdid \(([^-)]*)-", read("changelog"))[1], VERSION)

    def test_packages(self):
        names = re.findall(r"^Package: (.*)$", read("control"), re.M)
        self.assertEqual(sorted(names), sorted({package for package, _ in wanted()}))

    @unittest.skipUnless(PREFIX == "/usr", "the packages' prefix is /usr")
    def test_each_file_in_one_package(self):
        seen = 0
        for path in installed():
            # The folder of the architecture is that of dpkg's, whatever this build has.
            path = re.sub(r"^/usr/lib(64)?/(libtdi\.so|pkgconfig)", r"/usr/lib/arch/\2", path)
            owners = [package for package, pattern in wanted() if fnmatch.fnmatch(path, pattern) or fnmatch.fnmatch(path, pattern + "/*")]
            with self.subTest(path=path):
                self.assertEqual(len(owners), 1, f"in {owners}: see packaging/debian/*.install")
            seen += 1
        self.assertGreater(seen, 20)

    def test_symbols(self):
        with open(os.path.join(TOP, "libtdi", "libtdi.sym"), encoding="utf-8") as f:
            exported = re.findall(r"^\s+(tdi_\w+);", f.read(), re.M)
        listed = re.findall(r"^ (tdi_\w+)@LIBTDI_0 [0-9.]+$", read("libtdi0.symbols"), re.M)
        self.assertEqual(sorted(exported), listed)
        self.assertGreater(len(listed), 30)

    def test_scripts(self):
        for name in ("tdid.postinst", "tdid.prerm", "tdid.postrm"):
            with self.subTest(script=name):
                self.assertEqual(subprocess.run(["sh", "-n", os.path.join(DEBIAN, name)]).returncode, 0)
                self.assertIn("\n#DEBHELPER#\n", read(name))

    def test_build_dependencies(self):
        """What README has installed to build with is what the packages are built with."""
        with open(os.path.join(TOP, "README.md"), encoding="utf-8") as f:
            named = {word for line in re.findall(r"^# apt install (.*)$", f.read(), re.M) for word in line.partition("#")[0].split()}
        needed = set(re.findall(r"[a-z0-9+.-]+", " ".join(re.sub(r"\(.*?\)", "", line) for line in
                                                         re.search(r"^Build-Depends:(.*?)^\S", read("control"), re.M | re.S)[1].split(","))))
        self.assertEqual(named - needed, {"gcc"})
        self.assertEqual({n for n in needed - named if not n.startswith(("debhelper", "dh-"))}, set())


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
