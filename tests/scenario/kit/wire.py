# SPDX-License-Identifier: LGPL-2.1-or-later
#
# D-Bus bodies made of values by hand (D-Bus specification, "Marshaling"), for what libraries do not let one say: keys that are there twice, text that is
# none, signatures that are not the method's. What a signature consists of, too. Little endian.

import struct

FIXED = {"y": ("B", 1), "b": ("I", 4), "n": ("h", 2), "q": ("H", 2), "i": ("i", 4), "u": ("I", 4), "x": ("q", 8), "t": ("Q", 8), "d": ("d", 8), "h": ("I", 4)}


def one(signature, at=0):
    """The end of the complete type that begins there."""
    kind = signature[at]
    if kind == "a":
        return one(signature, at + 1)
    if kind in "({":
        at += 1
        while signature[at] not in ")}":
            at = one(signature, at)
    return at + 1


def split(signature):
    """The complete types of a signature."""
    out, at = [], 0
    while at < len(signature):
        end = one(signature, at)
        out.append(signature[at:end])
        at = end
    return out


def alignment(kind):
    return FIXED[kind[0]][1] if kind[0] in FIXED else {"s": 4, "o": 4, "g": 1, "v": 1, "a": 4, "(": 8, "{": 8}[kind[0]]


def text(value):
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")


class Body:
    def __init__(self):
        self.data = bytearray()

    def pad(self, to):
        self.data += bytes(-len(self.data) % to)

    def put(self, kind, value):
        """
        One value of a complete type. Of an array of entries the value is a list of pairs, so that keys can be there twice; of a variant (type, value);
        text may be bytes.
        """
        self.pad(alignment(kind))
        if kind in FIXED:
            self.data += struct.pack("<" + FIXED[kind][0], value)
        elif kind in "so":
            self.data += struct.pack("<I", len(text(value))) + text(value) + b"\0"
        elif kind == "g":
            self.data += bytes([len(text(value))]) + text(value) + b"\0"
        elif kind == "v":
            self.put("g", value[0])
            self.put(value[0], value[1])
        elif kind == "ay" and isinstance(value, bytes):
            self.data += struct.pack("<I", len(value)) + value
        elif kind[0] == "a":
            at = len(self.data)
            self.data += bytes(4)
            self.pad(alignment(kind[1:]))
            begin = len(self.data)
            for v in value:
                self.put(kind[1:], v)
            self.data[at:at + 4] = struct.pack("<I", len(self.data) - begin)
        else:
            for inner, v in zip(split(kind[1:-1]), value):
                self.put(inner, v)


def marshal(signature, values):
    body = Body()
    for kind, value in zip(split(signature), values):
        body.put(kind, value)
    return bytes(body.data)
