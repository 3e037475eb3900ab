# SPDX-License-Identifier: LGPL-2.1-or-later
"""The schema of tdictl's JSON, asked of one verb's output or of an error."""
import json
import os
import re

import jsonschema

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../cli/schema/tdictl.schema.json")

with open(PATH, encoding="utf-8") as f:
    SCHEMA = json.load(f)
jsonschema.Draft202012Validator.check_schema(SCHEMA)
WHOLE = jsonschema.Draft202012Validator(SCHEMA)
# What each verb answers with.
VERBS = SCHEMA["$defs"]["verbs"]["properties"]


def problems(document, name):
    """What is wrong with it, as the output of a verb, "error" for an error, "help" or "version"; [] when nothing is."""
    definition = VERBS[name] if name in VERBS else {"$ref": "#/$defs/" + name}
    own = jsonschema.Draft202012Validator({**definition, "$defs": SCHEMA["$defs"]})
    return [f"{'/'.join(map(str, e.absolute_path))}: {e.message[:300]}" for v in (own, WHOLE) for e in deepest(v.iter_errors(document))]


def deepest(errors):
    for e in errors:
        if e.context:
            yield from sorted(deepest(e.context), key=lambda x: -len(x.absolute_path))[:1]
        else:
            yield e


def verb_of(words, verbs):
    """Which verb of the table these words are."""
    words = [w for w in words if not w.startswith("--bus=")]
    plain = [w for w in words if not w.startswith("--")]
    if "--help" in words or "--version" in words:
        return "help" if "--help" in words else "version"
    for n in 2, 1:
        if " ".join(plain[:n]) in verbs:
            return " ".join(plain[:n])
    return "status" if not plain else None


def has_all(document, pattern):
    """Does any member's name match?"""
    if isinstance(document, dict):
        return any(re.search(pattern, k) or has_all(v, pattern) for k, v in document.items())
    return isinstance(document, list) and any(has_all(v, pattern) for v in document)
