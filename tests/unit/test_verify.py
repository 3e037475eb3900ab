# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a device of the test responder says of itself, collected over SPDM and judged: every version and kind of key is believed, and each fault in the
chain is refused with its own reason.

usage: test_verify.py SPDM-ASK EVIDENCE-JUDGE RESPONDER-FOLDER FAULTS
"""
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import unittest

ASK, JUDGE, FOLDER, TABLE = sys.argv[1:5]
sys.dont_write_bytecode = True
sys.path.insert(0, FOLDER)

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
except ImportError:
    print("python3-cryptography is not installed")
    sys.exit(77)

import device  # noqa: E402
from chains import Keys  # noqa: E402
from faults import FAULTS  # noqa: E402
from frames import Server  # noqa: E402

KEYS = Keys()


def root_of(config, folder):
    """The device's root as a PEM file; where it is a stranger's, or no certificate can be relied on, that of a device without faults."""
    own = config.fault and config.fault.chain == "name-constraint"
    made = device.Device(config if own else dataclasses.replace(config, fault=None), KEYS)
    path = os.path.join(folder, "anchors.pem")
    with open(path, "wb") as f:
        f.write(x509.load_der_x509_certificate(made.chains[config.slots[0]][0][0]).public_bytes(serialization.Encoding.PEM))
    return path


def judge(config, *ask, references=None):
    """The reason with which collecting failed, or the verdict."""
    with tempfile.TemporaryDirectory() as folder:
        anchors = root_of(config, folder)
        out = os.path.join(folder, "out")
        os.mkdir(out)
        server = Server(device.Device(config, KEYS)).start()
        try:
            done = subprocess.run([ASK, "--port", str(server.port), "--out", out, "--challenge", "--summary", "0xff", "--all", "--sign", *ask],
                                  stdout=subprocess.PIPE, timeout=60, check=True)
        finally:
            server.stop()
        arguments = [JUDGE, out, anchors]
        if references:
            arguments.append(os.path.join(folder, "references.json"))
            with open(arguments[-1], "w", encoding="utf-8") as f:
                json.dump(references, f)
        if not os.listdir(out):
            return {"ok": False, **json.loads(done.stdout), "checked": []}
        return json.loads(subprocess.run(arguments, stdout=subprocess.PIPE, timeout=60, check=True).stdout)


class Verdict(unittest.TestCase):
    maxDiff = None

    def test_good(self):
        for version, asym in (("1.1", "ecdsa-p256"), ("1.2", "rsapss-3072"), ("1.2", "ecdsa-p384"), ("1.3", "ecdsa-p521"), ("1.3", "rsassa-2048")):
            with self.subTest(version=version, asym=asym):
                verdict = judge(device.Config(versions=(version,), asym=asym, dice=True))
                self.assertEqual((verdict["reason"], verdict["text"]), ("ok", ""), verdict)
                self.assertTrue(verdict["ok"])
                self.assertEqual(verdict["version"], version)
                self.assertEqual(verdict["slots"]["0"]["device"], "ACME:WIDGET:0123456789")
                self.assertEqual(verdict["slots"]["0"]["dice"][0]["svn"], 3)
                self.assertIn("measurements: the signature is that of slot 0's leaf", verdict["checked"])
                self.assertIn("challenge: the signature is that of slot 0's leaf", verdict["checked"])

    def test_summary(self):
        """Of digests it can be computed; a device that tells raw bit streams may mean their digests."""
        digests = [{"index": 1, "type": 0, "data": "00ff"}, {"index": 2, "type": 1, "data": "0102", "tcb": True},
                   {"index": 9, "type": 5, "data": "00000000", "raw": True}]
        for version in ("1.1", "1.2", "1.3"):
            with self.subTest(version=version):
                verdict = judge(device.Config(versions=(version,), measurements=digests))
                self.assertEqual(verdict["reason"], "ok", verdict["text"])
                self.assertIn("challenge: the summary is that of the measurements", verdict["checked"])
                verdict = judge(device.Config(versions=(version,), measurements=digests, fault=FAULTS["measurement-summary"]))
                self.assertEqual(verdict["reason"], "measurement-summary", verdict["text"])

    def test_faults_in_the_chain(self):
        with open(TABLE, encoding="utf-8") as f:
            rows = json.load(f)["judged"]
        self.assertEqual(sorted(name for name, _ in rows), sorted(n for n, fault in FAULTS.items() if fault.chain), "faults that nobody tries")
        for name, reason in rows:
            with self.subTest(fault=name):
                config = device.Config(fault=FAULTS[name], chain_length=4)
                verdict = judge(config)
                self.assertEqual(verdict["reason"], reason, verdict["text"])
                self.assertFalse(verdict["ok"])
                self.assertTrue(verdict["text"])

    def test_values(self):
        blocks = judge(device.Config())["measurements"]["blocks"]
        listed = [{"index": b["index"], "type": b["type"], **({"raw": b["value"]} if b.get("raw") else {"hash": b["hash"], "values": [b["value"]]})}
                  for b in blocks]
        references = {"schema": "tdid-references/1", "name": "fw", "complete": True, "measurements": listed, "tcb": [{"vendor": "ACME", "svn-at-least": 3}]}
        verdict = judge(device.Config(dice=True), references=references)
        self.assertEqual((verdict["reason"], verdict["text"]), ("ok", ""))
        self.assertTrue(all(b["result"] == "matched" for b in verdict["measurements"]["blocks"]))
        changed = next(entry for entry in listed if "values" in entry)
        good = changed["values"][0]
        changed["values"] = ["00" * (len(good) // 2)]
        verdict = judge(device.Config(dice=True), references=references)
        self.assertEqual(verdict["reason"], "mismatch")
        for word in (f"index {changed['index']} ", good, changed["values"][0]):
            self.assertIn(word, verdict["text"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
