# SPDX-License-Identifier: LGPL-2.1-or-later
"""libtdi.so exports what libtdi.sym lists, which is what the public headers declare; every header stands alone, in C and C++.

usage: test_exports.py LIBTDI.SO LIBTDI.SYM INCLUDE-FOLDER C-COMPILER C++-COMPILER
"""
import glob
import os
import re
import subprocess
import sys
import unittest

LIBRARY, SYMBOLS, INCLUDE, CC, CXX = sys.argv[1:6]
HEADERS = sorted(glob.glob(os.path.join(INCLUDE, "tdi", "*.h")))

USE = """
#include <tdi/client.h>
int main() {
        struct tdi_vm_options options = {};
        struct tdi_function function = {};
        options.size = sizeof(options);
        function.size = sizeof(function);
        return tdi_client_create_vm(nullptr, "x", &options, nullptr, nullptr) == 0;
}
"""


def without_comments(text):
    return re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.S)


def listed():
    with open(SYMBOLS, encoding="utf-8") as f:
        text = without_comments(f.read())
    exported = text[text.index("global:") + len("global:"):text.index("local:")]
    return re.findall(r"(\w+);", exported)


def exported():
    out = subprocess.run(["nm", "-D", "--defined-only", LIBRARY], check=True, capture_output=True, text=True).stdout
    symbols = [line.split()[-1] for line in out.splitlines()]
    return {s.split("@")[0] for s in symbols if not s.startswith("LIBTDI_")}


def declared():
    names = set()
    for header in HEADERS:
        with open(header, encoding="utf-8") as f:
            text = re.sub(r"^\s*#.*?(?<!\\)$", "", without_comments(f.read()), flags=re.M | re.S)
        for statement in text.split(";"):
            if "static inline" in statement or "typedef" in statement:
                continue
            names.update(re.findall(r"\b(tdi_\w+)\s*\(", statement))
    return names


class Exports(unittest.TestCase):
    def test_list_is_sorted_and_without_doubles(self):
        self.assertEqual(listed(), sorted(set(listed())))

    def test_library_exports_the_list(self):
        self.assertEqual(sorted(exported()), listed())

    def test_headers_declare_the_list(self):
        self.assertEqual(sorted(declared()), listed())

    def test_soname(self):
        out = subprocess.run(["readelf", "-d", LIBRARY], check=True, capture_output=True, text=True).stdout
        self.assertIn("[libtdi.so.0]", out)


class Headers(unittest.TestCase):
    def compile(self, compiler, arguments, source):
        r = subprocess.run([*compiler.split(), "-I" + INCLUDE, "-fsyntax-only", "-Wall", "-Wextra", "-Werror", *arguments, "-"],
                           input=source, capture_output=True, text=True, check=False)
        self.assertEqual(r.returncode, 0, r.stderr)

    def test_c(self):
        for header in HEADERS:
            for standard in "-std=c99", "-std=gnu17":
                with self.subTest(header=header, standard=standard):
                    self.compile(CC, ["-xc", standard, "-pedantic"], f'#include "{os.path.abspath(header)}"\n')

    @unittest.skipIf(CXX == "none", "no C++ compiler")
    def test_cxx(self):
        for header in HEADERS:
            for standard in "-std=c++11", "-std=c++17":
                with self.subTest(header=header, standard=standard):
                    self.compile(CXX, ["-xc++", standard, "-pedantic"], f'#include "{os.path.abspath(header)}"\n')

    @unittest.skipIf(CXX == "none", "no C++ compiler")
    def test_cxx_use(self):
        self.compile(CXX, ["-xc++", "-std=c++11"], USE)

    def test_no_bus_in_the_api(self):
        for header in HEADERS:
            with open(header, encoding="utf-8") as f:
                self.assertNotRegex(f.read(), r"sd_bus|sd-bus|json_object|dbus/")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
