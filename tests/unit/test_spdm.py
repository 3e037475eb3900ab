# SPDX-License-Identifier: LGPL-2.1-or-later
"""The SPDM requester against a responder that shares no source with it: everything they can agree on works, and each fault is refused with
its own reason (data/spdm/faults.json).

usage: test_spdm.py SPDM-ASK RESPONDER-FOLDER FAULTS
"""
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor

ASK, FOLDER, TABLE = sys.argv[1:4]
sys.dont_write_bytecode = True
sys.path.insert(0, FOLDER)

try:
    import cryptography  # noqa: F401
except ImportError:
    print("python3-cryptography is not installed")
    sys.exit(77)

import device  # noqa: E402
from chains import Keys  # noqa: E402
from faults import FAULTS  # noqa: E402
from frames import Server  # noqa: E402

USUAL = ("--challenge", "--all", "--sign")
# Made once for all: RSA keys take long.
KEYS = Keys()
# What is in the chain, or is signed, is for the verifier to refuse; it is collected.
FOR_VERIFIER = {name for name, fault in FAULTS.items() if fault.chain or fault.summary}


def ask(config, *arguments):
    if config.fault:
        config = dataclasses.replace(config, **config.fault.config)
    server = Server(device.Device(config, KEYS)).start()
    try:
        done = subprocess.run([ASK, "--port", str(server.port), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    finally:
        server.stop()
    if done.returncode != 0:
        raise AssertionError(f"spdm-ask {' '.join(arguments)}: {done.returncode}: {done.stderr.decode()}")
    return json.loads(done.stdout)


def expected_blocks(measurement_hash, raw=False):
    """What the device has by default, computed from its data."""
    blocks = {}
    for m in device.MEASUREMENTS:
        data = bytes.fromhex(m["data"])
        as_is = raw or m.get("raw")
        value = data if as_is else device.hashlib.new(measurement_hash, data).digest()
        blocks[str(m["index"])] = f"{m['type'] | (0x80 if as_is else 0):02x}:{value.hex()}"
    return blocks


class Good(unittest.TestCase):
    maxDiff = None

    def test_every_combination(self):
        for asym in device.ASYMS:
            KEYS.get(asym, "leaf0")  # not by two threads at once

        def one(case):
            version, name, asym = case
            result = ask(device.Config(versions=(version,), hashes=(name,), asym=asym), *USUAL)
            return case, result

        cases = [(v, h, a) for v in device.VERSIONS for h in device.HASHES for a in device.ASYMS]
        self.assertEqual(len(cases), 81)
        with ThreadPoolExecutor(3) as pool:
            for (version, name, asym), result in pool.map(one, cases):
                with self.subTest(version=version, hash=name, asym=asym):
                    self.assertEqual((result["reason"], result["text"]), ("ok", ""))
                    self.assertEqual((result["version"], result["hash"], result["asym"]), (device.VERSIONS[version], name, asym))
                    self.assertEqual(result["blocks"], expected_blocks(name))
                    self.assertEqual(set(result["objects"]), {"slot0", "vca", "challenge", "measurements"})

    def check(self, config, *arguments, blocks=None, **wanted):
        result = ask(config, *arguments)
        self.assertEqual((result["reason"], result["text"]), ("ok", ""))
        for name, value in wanted.items():
            self.assertEqual(result[name], value, name)
        if blocks is not None:
            self.assertEqual(result["blocks"], blocks)
        return result

    def test_ways_to_ask(self):
        for number, version in device.VERSIONS.items():
            config = device.Config(versions=(number,), slots=(0, 2, 7))
            with self.subTest(version=number):
                result = self.check(config, "--challenge", "--summary", "0xff", "--each", "--sign", "--slot", "2", blocks=expected_blocks("sha256"), version=version)
                self.assertEqual({"slot0", "slot2", "slot7"} & set(result["objects"]), {"slot0", "slot2", "slot7"})
                result = self.check(config, "--slots", "4", blocks={})
                self.assertEqual(set(result["objects"]), {"slot2", "vca"})
                self.check(config, "--all", blocks=expected_blocks("sha256"))
                self.check(config, "--each", "--sign", blocks=expected_blocks("sha256"))
                self.check(config, "--all", "--raw", "--sign", blocks=expected_blocks("sha256", raw=version >= 0x12))
                self.check(config, "--challenge", "--summary", "1", blocks={})

    def test_negotiation(self):
        everything = device.Config(versions=("1.0", "1.1", "1.2", "1.3", "1.4"))
        self.check(everything, *USUAL, version=0x13)
        self.check(everything, *USUAL, "--version-max", "0x12", version=0x12)
        self.check(device.Config(versions=("1.2", "1.1")), *USUAL, version=0x12)
        self.check(everything, *USUAL, "--hash", "sha512", hash="sha512", measurement_hash="sha512")
        self.check(device.Config(measurement_hash="sha512"), *USUAL, hash="sha256", measurement_hash="sha512", blocks=expected_blocks("sha512"))
        self.check(device.Config(measurement_hash="raw"), *USUAL, measurement_hash="", blocks=expected_blocks("sha256", raw=True))
        self.check(device.Config(opaque=bytes(range(251))), *USUAL)
        self.assertEqual(ask(device.Config(), *USUAL, "--asym", "rsapss-2048")["reason"], "device-error")

    def test_sizes(self):
        for length in (1, 2, 3, 4):
            with self.subTest(length=length):
                self.check(device.Config(chain_length=length, asym="rsapss-4096", dice=True), *USUAL)
        # More than fits into one message: one by one after all.
        many = [{"index": i, "type": 1, "data": f"{i:02x}" * 200, "raw": True} for i in range(1, 100)]
        for number in ("1.2", "1.3"):
            result = self.check(device.Config(versions=(number,), measurements=many), *USUAL)
            self.assertEqual(len(result["blocks"]), 99)
        self.check(device.Config(measurements=many[50:51]), *USUAL, "--each", blocks={"51": "81:" + "33" * 200})

    def test_bearable(self):
        for name in FAULTS:
            if not name.startswith("fine-"):
                continue
            for version in ("0x11", "0x12", "0x13"):
                for how in ("--all", "--each"):
                    with self.subTest(name=name, version=version, how=how):
                        self.check(device.Config(fault=FAULTS[name]), "--challenge", how, "--sign", "--version-max", version, blocks=expected_blocks("sha256"))


class Bad(unittest.TestCase):
    maxDiff = None

    def test_faults(self):
        with open(TABLE, encoding="utf-8") as f:
            rows = json.load(f)["faults"]

        def one(row):
            return row, ask(device.Config(fault=FAULTS[row[0]]), *USUAL, *row[2:])

        texts = set()
        with ThreadPoolExecutor(3) as pool:
            for row, result in pool.map(one, rows):
                with self.subTest(row=row):
                    self.assertEqual(result["reason"], row[1], result["text"])
                    self.assertGreater(len(result["text"]), 15)
                    texts.add(result["text"])
        self.assertGreater(len(texts), 80)
        listed = {row[0] for row in rows} | {name for name in FAULTS if name.startswith("fine-")}
        self.assertEqual(set(FAULTS) - listed - FOR_VERIFIER, set(), "faults that nobody tries")

    def test_what_is_for_the_verifier(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in sorted(FOR_VERIFIER - {"wrong-key", "certificate-form"}):
                with self.subTest(name=name):
                    self.assertEqual(ask(device.Config(fault=FAULTS[name]), *USUAL, "--summary", "0xff", "--out", folder)["reason"], "ok")
                    self.assertGreater(os.path.getsize(os.path.join(folder, "slot0")), 500)


class Responder(unittest.TestCase):
    """It is strict itself, and its command line is what the documentation says."""

    def answer(self, *requests, **config):
        connection = device.Connection(device.Device(device.Config(**config), KEYS))
        for request in requests:
            last = connection.answer(bytes.fromhex(request))
        return last.hex()

    VERSION, CAPABILITIES = "10840000", "12e1000000000000000000000010000000100000"
    ALGORITHMS = "12e3000020000102ff01000007000000" + "00" * 16

    def test_rubbish(self):
        start = (self.VERSION, self.CAPABILITIES, self.ALGORITHMS)
        self.assertEqual(self.answer(*start)[:4], "1263")
        for requests, error in (
                (("10",), "107f01"), (("10840100",), "107f01"), (("1084000000000000",), "107f01"), (("11840000",), "107f41"), (("12810000",), "107f41"),
                ((self.VERSION, self.ALGORITHMS), "107f41"), ((self.VERSION, "14e10000"), "107f41"), ((self.VERSION, self.CAPABILITIES[:-8]), "127f01"),
                ((self.VERSION, self.CAPABILITIES[:-1] + "1"), "127f01"), ((self.VERSION, "12e1000000000000c0000000" + self.CAPABILITIES[24:]), "127f01"),
                ((*start[:2], "12810000"), "127f04"), ((*start[:2], self.ALGORITHMS[:8] + "24" + self.ALGORITHMS[10:]), "127f01"),
                ((*start[:2], self.ALGORITHMS[:12] + "02" + self.ALGORITHMS[14:]), "127f01"), ((*start, self.ALGORITHMS), "127f04"),
                ((*start, "12810001"), "127f01"), ((*start, "1282010000000004"), "127f01"), ((*start, "12820000ffff0004"), "127f01"),
                ((*start, "1282000000000000"), "127f01"), ((*start, "12830000" + "00" * 31), "127f01"), ((*start, "12830002" + "00" * 32), "127f01"),
                ((*start, "12e00800"), "127f01"), ((*start, "12e00063"), "127f01"), ((*start, "12e001ff" + "00" * 32 + "05"), "127f01"),
                ((*start, "12ff8100"), "127f04"), ((*start, "12e40000"), "127f07"), ((*start, "13810000"), "127f41")):
            with self.subTest(requests=requests[-1]):
                self.assertEqual(self.answer(*requests)[:6], error)

    def test_command_line(self):
        program = os.path.join(FOLDER, "responder")
        listed = subprocess.run([sys.executable, program, "--list-faults"], stdout=subprocess.PIPE, check=True).stdout.decode()
        self.assertEqual([line.split()[0] for line in listed.splitlines()], list(FAULTS))
        with tempfile.TemporaryDirectory() as folder:
            measurements = os.path.join(folder, "measurements.json")
            with open(measurements, "w", encoding="utf-8") as f:
                json.dump([{"index": 9, "type": 1, "data": "00", "raw": True}], f)
            root = os.path.join(folder, "root.pem")
            with subprocess.Popen([sys.executable, program, "--once", "--keys", os.path.join(folder, "keys"), "--measurements", measurements, "--slots", "0,1",
                                   "--write-root", root], stdout=subprocess.PIPE) as responder:
                word, port = responder.stdout.readline().split()
                self.assertEqual(word, b"port")
                done = subprocess.run([ASK, "--port", port, *USUAL], stdout=subprocess.PIPE, check=True, timeout=60)
                self.assertEqual(responder.wait(60), 0)
            self.assertEqual(json.loads(done.stdout)["blocks"], {"9": "81:00"})
            with open(root, encoding="ascii") as f:
                self.assertTrue(f.read().startswith("-----BEGIN CERTIFICATE-----"))
            self.assertIn("ecdsa-p384-leaf1.pem", os.listdir(os.path.join(folder, "keys")))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
