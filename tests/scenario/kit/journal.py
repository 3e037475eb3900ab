# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The audit as a tdid of ours has written it to a file: its entries, what is looked for in them, and what must not be in any.

import json
import re

from kit.checks import Failure, eventually

KEYS = {"__REALTIME_TIMESTAMP", "MESSAGE", "MESSAGE_ID", "PRIORITY", "SYSLOG_IDENTIFIER"}
# These are hex by nature.
HEX = {"MESSAGE_ID", "TDID_VM_ID", "TDID_DIGEST", "TDID_NONCE"}
ADDRESS = re.compile(r"0[xX][0-9a-fA-F]{5,}|(?<![0-9A-Za-z-])(?=[0-9]*[a-f])[0-9a-f]{8,16}(?![0-9A-Za-z-])")
CONTROL = re.compile("[\0-\x1f\x7f-\x9f]")


def values(entry, key):
    value = entry.get(key, [])
    return value if isinstance(value, list) else [value]


class Journal:
    def __init__(self, path):
        self.path = path

    def entries(self):
        """All that is whole."""
        try:
            with open(self.path, encoding="utf-8") as file:
                return [json.loads(line) for line in file if line.endswith("\n")]
        except FileNotFoundError:
            return []

    def of(self, *events, **fields):
        """Entries of these events (none: of all) with these fields: vm="web" is TDID_VM=web."""
        return [e for e in self.entries() if (not events or e["TDID_EVENT"] in events)
                and all(str(v) in values(e, "TDID_" + k.upper()) for k, v in fields.items())]

    def one(self, event, **fields):
        found = self.of(event, **fields)
        if len(found) != 1:
            raise Failure(f"{len(found)} entries {event} {fields}: {found or [e['TDID_EVENT'] for e in self.entries()]}")
        return found[0]

    def wait(self, event, **fields):
        return eventually(lambda: self.of(event, **fields), f"an entry {event} {fields}")[-1]

    def changes(self, event, **fields):
        """"old → new" of each, in order."""
        return [f"{e['TDID_OLD']} → {e['TDID_NEW']}" for e in self.of(event, **fields)]

    def problems(self, addresses=()):
        """What is wrong with any entry. @addresses: numbers that are in none."""
        out = []
        forms = [re.compile(rf"(?<![0-9a-zA-Z])(?:0x)?0*(?:{a:x}|{a:X}|{a})(?![0-9a-zA-Z])") for a in addresses if a >= 1 << 16]
        try:
            entries = self.entries()
        except ValueError as error:
            return [f"{self.path}: {error}"]
        for entry in entries:
            for key in entry:
                if key not in KEYS and not re.fullmatch("TDID_[A-Z_]+", key):
                    out.append(f"audit: {key} is no field: {entry}")
                for value in values(entry, key):
                    if not isinstance(value, str) or CONTROL.search(value) or len(value.encode()) > 1023:
                        out.append(f"audit: {key} is {value!r}: {entry}")
                    elif key not in HEX and ADDRESS.search(value):
                        out.append(f"audit: {key} has something like an address: {entry}")
                    elif any(form.search(value) for form in forms) and key != "__REALTIME_TIMESTAMP":
                        out.append(f"audit: {key} has an address of the host: {entry}")
            if not re.fullmatch("[0-9a-f]{32}", entry.get("MESSAGE_ID", "")) or not entry.get("TDID_EVENT"):
                out.append(f"audit: it has no ID: {entry}")
        return out


def bars(host, bdf):
    """Where the BARs of a function are."""
    try:
        lines = (host.read(bdf, "resource") or "").splitlines()
    except OSError:
        return []
    return [int(line.split()[0], 16) for line in lines if line.split()]

