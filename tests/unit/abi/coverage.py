#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes sure that test-abi.c compares everything that libtdi/host/abi/*.h declares.

  coverage.py emit HEADER...              prints the table that test-abi.c is compiled with
  coverage.py check MACROS SEEN HEADER... compares what the test says it compared (SEEN) with the headers, and with the
                                          compiler's own list of macros (MACROS, from `cc -dM -E`)

The reader is strict on purpose: a declaration that it does not understand is an error, never skipped. It is no C parser and
reads nothing but these headers, which therefore keep to: #define NAME VALUE, and structs of integers, arrays, structs and
anonymous unions of integers.
"""

import re
import sys

SCALAR = r"(?:u?int(?:8|16|32|64)_t|tdi_aligned_u64)"
FIELD = re.compile(rf"\s*(?:(?P<scalar>{SCALAR})|struct\s+tdi_(?P<nested>\w+))\s+(?P<name>\w+)\s*(?P<array>\[\w*\])?\s*;")
UNION = re.compile(r"\s*union\s*\{([^{}]*)\}\s*;")
STRUCT = re.compile(r"\s*struct\s+tdi_(\w+)\s*\{((?:[^{}]|\{[^{}]*\})*)\}\s*;")
TYPEDEF = re.compile(r"\s*typedef\s+uint64_t\s+tdi_aligned_u64\s+__attribute__\(\(aligned\(8\)\)\)\s*;")
DIRECTIVE = re.compile(r"#\s*(?:pragma once|include\s+\S+)\s*$")
DEFINE = re.compile(r"#\s*define\s+TDI_(\w+)\s+\S")

# Declared by the kernel for one architecture only, in a header that exists only there.
X86_ONLY = re.compile(r"KVM_X86_")


class Unreadable(Exception):
    pass


def read_fields(where, body, alternative=False):
    """Yields (macro, field name). Alternatives of a union after the first add nothing to the size of the struct."""
    pos = 0
    while body[pos:].strip():
        if m := UNION.match(body, pos):
            inner = list(read_fields(where, m.group(1)))
            for i, (macro, name) in enumerate(inner):
                if macro != "SCALAR":
                    raise Unreadable(f"{where}: only integers in a union, not {name}")
                yield ("SCALAR" if i == 0 else "ALTERNATIVE", name)
        elif m := FIELD.match(body, pos):
            kind = "NESTED" if m["nested"] else "SCALAR"
            if m["array"]:
                kind = ("FLEXIBLE_" if m["array"] == "[]" else "ARRAY_") + kind
            yield (kind, m["name"])
        else:
            raise Unreadable(f"{where}: cannot read {body[pos:].strip().splitlines()[0]!r}")
        pos = m.end()


def read_header(path):
    """Returns ({struct: [(macro, field)]}, [constant])."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    text = text.replace("\\\n", " ")
    constants, rest = [], []
    for line in text.splitlines():
        if not line.lstrip().startswith("#"):
            rest.append(line)
        elif m := DEFINE.match(line):
            constants.append(m.group(1))
        elif not DIRECTIVE.match(line.rstrip()):
            raise Unreadable(f"{path}: cannot read {line!r}")
    body, structs, pos = "\n".join(rest), {}, 0
    while body[pos:].strip():
        if m := STRUCT.match(body, pos):
            if m.group(1) in structs:
                raise Unreadable(f"{path}: struct tdi_{m.group(1)} twice")
            structs[m.group(1)] = list(read_fields(f"{path}: struct tdi_{m.group(1)}", m.group(2)))
        elif not (m := TYPEDEF.match(body, pos)):
            raise Unreadable(f"{path}: cannot read {body[pos:].strip().splitlines()[0]!r}")
        pos = m.end()
    return structs, constants


def read_headers(paths):
    structs, constants = {}, []
    for path in paths:
        s, c = read_header(path)
        if clash := (s.keys() & structs.keys()) | (set(c) & set(constants)):
            raise Unreadable(f"{path}: declared in another header too: {sorted(clash)}")
        structs.update(s)
        constants += c
    return structs, constants


def emit(paths):
    structs, constants = read_headers(paths)
    for name, fields in structs.items():
        print(f"STRUCT({name})")
        for macro, field in fields:
            print(f"{macro}({name}, {field})")
        total = " + ".join(f"sizeof(((struct tdi_{name} *)0)->{f})" for m, f in fields
                           if m != "ALTERNATIVE" and not m.startswith("FLEXIBLE_"))
        print(f"NO_HOLES({name}, {total})")
    for name in constants:
        print(f"{'X86_CONSTANT' if X86_ONLY.match(name) else 'CONSTANT'}({name})")


def check(macros, seen, paths):
    structs, constants = read_headers(paths)
    want = {("struct", s) for s in structs}
    want |= {("field", f"{s}.{f}") for s, fields in structs.items() for _, f in fields}
    want |= {("constant", c) for c in constants}

    bad = []
    with open(macros, encoding="utf-8") as f:
        known = set(re.findall(r"^#define TDI_(\w+)", f.read(), flags=re.M))
    bad += [f"macro TDI_{n} is known to the compiler, but was not read here" for n in sorted(known - set(constants))]
    bad += [f"macro TDI_{n} was read here, but is not known to the compiler" for n in sorted(set(constants) - known)]

    got, skipped, total = set(), set(), None
    with open(seen, encoding="utf-8") as f:
        for line in f:
            kind, name = line.split()
            if kind == "total":
                total = int(name)
                continue
            if kind == "skipped":
                kind = "constant"
                skipped.add(name)
                if not X86_ONLY.match(name):
                    bad.append(f"{name} must not be skipped")
            elif (kind, name) in got:
                bad.append(f"{kind} {name} was compared twice")
            got.add((kind, name))
    bad += [f"{k} {n} is declared, but was not compared" for k, n in sorted(want - got)]
    bad += [f"{k} {n} was compared, but is not declared" for k, n in sorted(got - want)]
    if total != len(want):
        bad.append(f"{len(want)} items are declared, the test counted {total}")
    if not want or not structs:
        bad.append("nothing is declared")
    for line in bad:
        print(line, file=sys.stderr)
    if bad:
        return 1
    count = {k: sum(1 for kind, _ in want if kind == k) for k in ("struct", "field", "constant")}
    print(f"compared {count['struct']} structs, {count['field']} fields, {count['constant'] - len(skipped)} constants; "
          f"{len(skipped)} constants are not of this architecture")
    return 0


def main(argv):
    try:
        if len(argv) > 2 and argv[1] == "emit":
            emit(argv[2:])
            return 0
        if len(argv) > 4 and argv[1] == "check":
            return check(argv[2], argv[3], argv[4:])
    except Unreadable as e:
        print(e, file=sys.stderr)
        return 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv))
