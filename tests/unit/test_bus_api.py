# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/dbus-api.md names every method, property, signal and option of the bus interfaces, with its types, and none that is not there.

usage: test_bus_api.py DBUS-API.MD DAEMON-FOLDER
"""
import os
import re
import sys
import unittest

DOCUMENT, DAEMON = sys.argv[1:3]
INTERFACES = ("Manager", "VM", "TDI", "Device", "TSM", "Job")


def strings(c):
    """The first string of each pair in SD_BUS_ARGS("s", name, "a{sv}", options): the types."""
    return tuple(re.findall(r'"([^"]*)"\s*,\s*\w+', c))


def read_vtable(name):
    with open(os.path.join(DAEMON, "bus", name.lower() + ".c"), encoding="utf-8") as f:
        text = re.sub(r"/\*.*?\*/", " ", f.read(), flags=re.S)
    table = text.split(f"const sd_bus_vtable bus_{name.lower()}_vtable[] = {{", 1)[1].split("SD_BUS_VTABLE_END", 1)[0]
    arguments = r"(SD_BUS_ARGS\(.*?\)|SD_BUS_RESULT\(.*?\)|SD_BUS_NO_ARGS|SD_BUS_NO_RESULT)"
    entries, count = {}, 0
    for m in re.finditer(r'SD_BUS_METHOD_WITH_ARGS\("(\w+)",\s*' + arguments + r",\s*" + arguments, table, flags=re.S):
        entries["method", m[1]] = (strings(m[2]), strings(m[3]))
        count += 1
    for m in re.finditer(r'SD_BUS_METHOD\("(\w+)",\s*(NULL|"[^"]*"),\s*(NULL|"[^"]*")', table):
        assert m[2] == m[3] == "NULL", "a method without named arguments"
        entries["method", m[1]] = ((), ())
        count += 1
    for m in re.finditer(r'SD_BUS_SIGNAL_WITH_ARGS\("(\w+)",\s*' + arguments, table, flags=re.S):
        entries["signal", m[1]] = strings(m[2])
        count += 1
    for m in re.finditer(r'SD_BUS_(?:WRITABLE_)?PROPERTY\("(\w+)",\s*"([^"]+)"', table):
        entries["property", m[1]] = m[2]
        count += 1
    assert count == len(re.findall(r"\bSD_BUS_(?!VTABLE)(?:METHOD|SIGNAL|PROPERTY|WRITABLE)", table)), f"{name}: not all entries were read"
    return entries


def split(text):
    """At commas that are in no bracket."""
    parts, depth, part = [], 0, ""
    for c in text:
        depth += (c in "({[") - (c in ")}]")
        if c == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += c
    return [p.strip() for p in parts + [part] if p.strip()]


def types(text):
    return tuple(p.split(" ")[0] for p in split(text))


def results(text):
    text = text.strip()
    # "(o vm, h lease)", but a struct such as "(qqqq)" is one
    if text.startswith("(") and " " in text:
        text = text[1:-1]
    return types(text)


def sections():
    with open(DOCUMENT, encoding="utf-8") as f:
        text = f.read()
    return {m[1]: m[2] for m in re.finditer(r"^## org\.tdid1\.(\w+)\n(.*?)(?=^## |\Z)", text, flags=re.S | re.M)}


def read_document(text):
    entries = {}
    for m in re.finditer(r"`([A-Z]\w*)\(([^`]*?)\)(?:\s*→\s*([^`]+))?`", text):
        kind = "signal" if re.search(r"Signals?\s+$", text[:m.start()]) else "method"
        assert (kind, m[1]) not in entries, m[1]
        entries[kind, m[1]] = types(m[2]) if kind == "signal" else (types(m[2]), results(m[3] or ""))
    for line in re.findall(r"Properties:\s*(.*?)(?:\n- |\Z)", text, flags=re.S):
        for m in re.finditer(r"`([A-Z]\w*)` ([a-z({})]+)", line):
            entries["property", m[1]] = m[2]
    return entries


def options_of_code(file):
    """{table: {option: type}} of a file; a nested table is named behind its option."""
    with open(os.path.join(DAEMON, "bus", file), encoding="utf-8") as f:
        text = f.read()
    found = {}
    for m in re.finditer(r"const struct option (\w+)\[\] = \{(.*?)\n\};", text, flags=re.S):
        found[m[1]] = {o[0]: {"a": "a{sv}"}.get(o[1], o[1]) for o in re.findall(r'\{\s*"(\w+)",\s*\'(\w)\'', m[2])}
    return found


def platform_names():
    """{row: its aliases} of the table of platforms."""
    with open(os.path.join(DAEMON, "../libtdi/model/platform.c"), encoding="utf-8") as f:
        rows = f.read().split("const struct platform platforms[] = {", 1)[1].split("\n};", 1)[0].split(".name = ")[1:]
    aliases = [re.search(r"\.aliases = NAMES\(([^)]*)\)", row) for row in rows]
    return {re.match(r'"([^"]+)"', row)[1]: re.findall(r'"([^"]+)"', a[1]) if a else [] for row, a in zip(rows, aliases)}


FIELD_TYPES = {"s": "const char *", "u": "int64_t ", "b": "bool ", "a": "struct "}


def options_of_text(text):
    return dict(re.findall(r"`([a-z]\w*)` (a\{sv\}|[subh])(?![\w{])", text))


class BusApi(unittest.TestCase):
    def test_interfaces(self):
        self.assertEqual(list(sections()), list(INTERFACES))
        for name in INTERFACES:
            with open(os.path.join(DAEMON, "bus", "bus.h"), encoding="utf-8") as f:
                self.assertIn(f'"org.tdid1.{name}"', f.read())

    def test_entries(self):
        for name in INTERFACES:
            there, written = read_vtable(name), read_document(sections()[name])
            self.assertGreater(len(there), 3)
            for entry in sorted(set(there) | set(written)):
                with self.subTest(interface=name, entry=" ".join(entry)):
                    self.assertIn(entry, written, "not in the document")
                    self.assertIn(entry, there, "not in the program")
                    self.assertEqual(there[entry], written[entry])

    def test_options_of_create(self):
        code = options_of_code("manager.c")
        text = sections()["Manager"].split("Options:", 1)[1].split("\n- ", 1)[0]
        nested = re.search(r"`limits` a\{sv\} \(([^)]*)\)", text)
        self.assertEqual(options_of_text(nested[1]), code["limit_options"])
        self.assertEqual(options_of_text(text.replace(nested[1], "")), code["create_options"])

    def test_platforms(self):
        """Every name of a platform is one for tdictl, and in its man page; the rows are in the document."""
        names = platform_names()
        self.assertGreater(len(names), 4)
        for row in names:
            self.assertIn(f"`{row}`", sections()["Manager"].split("`platform` s", 1)[1].split("`hotplug` b", 1)[0])
        with open(os.path.join(DAEMON, "../cli/verbs.c"), encoding="utf-8") as f:
            choices = re.search(r'#define PLATFORMS "([^"]+)"', f.read())[1].split("|")
        self.assertEqual(choices, ["auto"] + [name for row, aliases in names.items() for name in [row, *aliases]])
        with open(os.path.join(DAEMON, "../docs/man/tdictl.1.rst"), encoding="utf-8") as f:
            text = f.read()
        for name in choices:
            self.assertRegex(text, rf"(?<![\w-]){name}(?![\w-])")

    def test_options_of_attach(self):
        code = options_of_code("attach.c")
        text = sections()["VM"].split("Per function:", 1)[1].split("\n- ", 1)[0]
        self.assertEqual(options_of_text(text), code["function_options"])
        self.assertUsesAct("attach.c")

    def test_fields_of_options(self):
        """options_read() writes through offsets: each field must be of the type that its option's kind writes."""
        seen = 0
        with open(os.path.join(DAEMON, "bus", "bus-vm.h"), encoding="utf-8") as f:
            shared = f.read()
        for file in sorted(f for f in os.listdir(os.path.join(DAEMON, "bus")) if f.endswith((".c", ".h"))):
            with open(os.path.join(DAEMON, "bus", file), encoding="utf-8") as f:
                text = re.sub(r"/\*.*?\*/", " ", f.read(), flags=re.S)
            for kind, struct, field in re.findall(r"\{\s*\"\w+\",\s*'(\w)',\s*offsetof\(struct (\w+), (\w+)\)", text):
                with self.subTest(file=file, struct=struct, field=field):
                    body = re.search(rf"struct {struct} \{{\n(.*?)^ *\}}(?: \w+)?;", text + shared, flags=re.S | re.M)[1]
                    before = re.search(rf"(?:^|[;{{}}])\s*([^;{{}}]*?[ *,]){field}\b[^;]*;|\}} {field};", body)
                    self.assertTrue(before, "the field was not found")
                    self.assertTrue((before[1] or "struct ").startswith(FIELD_TYPES[kind]), before[0])
                    seen += 1
        self.assertGreater(seen, 15)

    def test_options_of_buffers(self):
        text = sections()["VM"].split("`CreateSharedBuffer(", 1)[1].split("\n- ", 1)[0]
        self.assertEqual(options_of_text(text), options_of_code("export.c")["buffer_options"])

    def test_options_of_restore(self):
        self.assertEqual(options_of_code("device.c"), {"restore_options": {"async": "b", "force": "b"}})
        self.assertIn("`Restore(a{sv} {async, force})", sections()["Device"])

    def test_options_of_jobs(self):
        self.assertEqual(options_of_code("vm.c"), {"bus_act_options": {"async": "b"}, "destroy_options": {"async": "b", "abandon": "b"}})
        self.assertIn("`Destroy(a{sv} {async, abandon})", sections()["VM"])
        for file in "vm.c", "tdi.c", "device.c":
            self.assertUsesAct(file)

    def assertUsesAct(self, file):
        """Methods that are jobs read their options by the one table that vm.c has."""
        with open(os.path.join(DAEMON, "bus", file), encoding="utf-8") as f:
            self.assertIn("options_read(call, bus_act_options,", f.read())
        if file != "vm.c":
            self.assertNotIn("act_options", options_of_code(file))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
