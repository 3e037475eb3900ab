# SPDX-License-Identifier: LGPL-2.1-or-later
"""The schema of policies, tdid-policy(5) and the program know the same keys; the examples and what is shipped are taken.

usage: test_policy_docs.py TDICTL SOURCE-ROOT
"""
import copy
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
import manual

TDICTL, ROOT = sys.argv[1:3]


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


SCHEMA = json.loads(read("policy/schema/tdid-policy-1.schema.json"))
MAN = manual.read(os.path.join(ROOT, "docs/man/tdid-policy.5.rst"))
DEFS = SCHEMA["$defs"]
# What stands under which heading of the man page.
OBJECTS = {
    "FILE FORMAT": SCHEMA["properties"],
    "RULES": DEFS["rule"]["properties"],
    "MATCH": DEFS["match"]["properties"],
    "REQUIREMENTS": DEFS["require"]["properties"],
    "LIMITS": DEFS["limits"]["properties"],
}
EVIDENCE = DEFS["require"]["properties"]["evidence"]["anyOf"][0]["properties"]


def check(document):
    """What tdictl finds in it."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
        f.write(document if isinstance(document, str) else json.dumps(document))
        f.flush()
        r = subprocess.run([TDICTL, "--json", "policy", "check", f.name], capture_output=True, text=True, check=False)
    return json.loads(r.stdout)["findings"]


def errors(document):
    return [f["text"] for f in check(document) if f["severity"] == "error"]


TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}


def is_valid(o, s):
    """As much of JSON Schema as this one uses; a word that is not known here ends the test."""
    if s is False:
        return False
    words = {
        "$ref": lambda v: is_valid(o, DEFS[v.rpartition("/")[2]]),
        "type": lambda v: isinstance(o, TYPES[v]) and (v != "integer" or not isinstance(o, bool)),
        "const": lambda v: type(o) is type(v) and o == v,
        "enum": lambda v: isinstance(o, str) and o in v,
        "anyOf": lambda v: any(is_valid(o, one) for one in v),
        "oneOf": lambda v: sum(is_valid(o, one) for one in v) == 1,
        "minimum": lambda v: not isinstance(o, int) or o >= v,
        "maximum": lambda v: not isinstance(o, int) or o <= v,
        "minLength": lambda v: not isinstance(o, str) or len(o) >= v,
        "maxLength": lambda v: not isinstance(o, str) or len(o) <= v,
        "pattern": lambda v: not isinstance(o, str) or re.search(v, o),
        "items": lambda v: not isinstance(o, list) or all(is_valid(one, v) for one in o),
        "minItems": lambda v: not isinstance(o, list) or len(o) >= v,
        "maxItems": lambda v: not isinstance(o, list) or len(o) <= v,
        "uniqueItems": lambda v: not isinstance(o, list) or len({json.dumps(one) for one in o}) == len(o),
        "required": lambda v: not isinstance(o, dict) or set(v) <= set(o),
        "minProperties": lambda v: not isinstance(o, dict) or len(o) >= v,
        "maxProperties": lambda v: not isinstance(o, dict) or len(o) <= v,
        "properties": lambda v: not isinstance(o, dict) or all(is_valid(o[k], v[k]) for k in v if k in o),
        "propertyNames": lambda v: not isinstance(o, dict) or all(is_valid(k, v) for k in o),
        "additionalProperties": lambda v: not isinstance(o, dict) or all(is_valid(o[k], v) for k in o if k not in s.get("properties", {})),
    }
    return all(words[word](v) for word, v in s.items() if word not in ("$schema", "$comment", "$defs", "title", "description"))


def examples():
    yield from MAN["EXAMPLES"].literals


def policies():
    truth = json.loads(read("tests/unit/policy/truth.json"))
    for name, files in truth["policies"].items():
        for rules in files.values():
            yield name, {"schema": "tdid-policy/1", "rules": rules}


class Docs(unittest.TestCase):
    def test_man_page(self):
        for heading, properties in OBJECTS.items():
            # The head of an entry is its key, or several.
            keys = [re.findall(r"[a-z_]+", term) for term in MAN[heading].entries]
            self.assertEqual([k for one in keys for k in one], list(properties), heading)
        for key in EVIDENCE:
            self.assertRegex(MAN["REQUIREMENTS"].text, rf"\b{key}\b")

    def test_specificity(self):
        listed = MAN["SPECIFICITY"].literals[0].split("\n")
        keys = list(dict.fromkeys(line.split(",")[0] for line in listed))
        self.assertEqual(keys, list(DEFS["match"]["properties"]))
        # Each line against the next, in the program.
        forms = {"bdf": "01:00.0", "serial": "0" * 16, "evidence": {"anchor": "/a"}, "subsystem": "1234:5678", "id, VENDOR:DEVICE": "1234:5678",
                 "id, VENDOR:*": "1234:*", "class, six digits": "020000", "class, four digits": "0200", "class, two digits": "02", "path": "00:01.0",
                 "tee_io": True, "sriov": "vf", "vm, a name": "x", "vm, a pattern": "x*", "owner": 1, "platform": "tdx", "mode": "early", "access": "vpci"}
        self.assertEqual(list(forms), listed)
        rules = [{"name": line, "decision": "deny", "match": {line.split(",")[0]: forms[line]}} for line in reversed(listed)]
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "a.json"), "w", encoding="utf-8") as f:
                json.dump({"schema": "tdid-policy/1", "rules": rules}, f)
            out = subprocess.run([TDICTL, "--json", "policy", "show", f"--policy={folder}"], capture_output=True, text=True, check=True).stdout
        self.assertEqual([r["name"] for r in json.loads(out)["rules"]], listed)

    def test_program_knows_the_schema(self):
        whole = {"schema": "tdid-policy/1", "description": "", "anchors": {}, "references": {}, "rules": []}
        self.assertEqual(set(whole), set(SCHEMA["properties"]))
        self.assertEqual(errors(whole), [])
        for where, key in [(None, k) for k in DEFS["rule"]["properties"]] + \
                [(w, k) for w in ("match", "require", "limits") for k in DEFS[w]["properties"]]:
            # Of a type that no key has: it is known, and refused for something else.
            rule = {"name": "r", "decision": "require" if where == "require" else "allow", (where or key): {key: [[]]} if where else [[]]}
            found = errors({"schema": "tdid-policy/1", "rules": [rule]})
            self.assertEqual(len(found), 1, (where, key))
            self.assertNotIn("unknown key", found[0], (where, key))

    def test_schema_knows_the_program(self):
        parse = read("policy/parse.c") + read("policy/values.c")
        known = set(re.findall(r'^ +\{ "([a-z_]+)", (?:~|OF)', parse, flags=re.M))
        for keys in re.findall(r"keys\[\] = \{(.*?)\};", parse, flags=re.S):
            known |= set(re.findall(r'"([a-z_]+)"', keys))
        for name in "policy_key_to_string", "policy_limit_to_string":
            known |= set(re.findall(r'"([a-z_]+)"', read("policy/policy.c").split(f"NAMES({name}")[1].split("))")[0]))
        documented = set(EVIDENCE).union(*OBJECTS.values())
        self.assertGreater(len(known), 35)
        self.assertEqual(known, documented)

    def test_examples(self):
        found = list(examples())
        self.assertGreaterEqual(len(found), 3)
        for text in found:
            self.assertEqual([f for f in check(text) if f["kind"] != "missing-file"], [], text)

    def test_shipped(self):
        for name in os.listdir(os.path.join(ROOT, "policy/rules")):
            self.assertEqual(check(read(f"policy/rules/{name}")), [], name)

    def test_schema_takes_what_the_program_takes(self):
        for name, document in policies():
            self.assertTrue(is_valid(document, SCHEMA), name)
            self.assertEqual(errors(document), [], name)
        for text in examples():
            self.assertTrue(is_valid(json.loads(text), SCHEMA), text)

    def test_schema_refuses_what_the_program_refuses(self):
        n = 0
        for name, document in policies():
            for i, rule in enumerate(document["rules"]):
                for change in [{"colour": 1}, {"name": ""}, {"decision": "maybe"}, {"match": 7}, {"limits": {}}, {"ide_reserve": 0}, {"require": {}},
                               {"permit": ["x"]}] + [{"match": {k: {}}} for k in rule.get("match", {})]:
                    bad = copy.deepcopy(document)
                    bad["rules"][i].update(change)
                    self.assertFalse(is_valid(bad, SCHEMA), (name, change))
                    n += 1
                    # A program a document takes time: a part of them.
                    if n % 7 == 0:
                        self.assertNotEqual(errors(bad), [], (name, change))
        self.assertGreater(n, 300)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
