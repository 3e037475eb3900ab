# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The SPDM responder behind a function's DOE mailbox, as scenarios choose it: tests/spdm/responder, reached through tests/vm/spdm-relay. In the VM the
# relay runs beside QEMU and is told by files in a shared folder; on the simulation it is ours. And the mailbox itself, by config space.

import base64
import copy
import hashlib
import json
import os
import struct
import subprocess
import threading

from kit.checks import Failure, check, eventually
from kit.daemon import die_with_us
from kit.paths import TESTS

GUEST_FOLDER = "/mnt/spdm"
# RSA keys take seconds, the first time.
STARTED = 90.0

# What the device has unless told otherwise, by index: what it measures as hexadecimal digits, of which it tells the digest, or "raw" for
# what it tells as it is; and the type of DSP0274.
MEASUREMENTS = {
    1: {"type": 0, "data": "626f6f7420524f4d", "tcb": True},
    2: {"type": 1, "data": "6669726d776172652031", "tcb": True},
    3: {"type": 3, "data": "636f6e66696731"},
    16: {"type": 7, "data": "0700000000000000", "raw": True},
}


class GuestRelay:
    """That of tests/vm/boot, which this VM shares a folder with."""

    folder = GUEST_FOLDER

    def connect(self, bdf):
        """QEMU is connected from the start."""

    def close(self):
        pass


class OwnRelay:
    """One for a function of the simulation, which ends with us."""

    def __init__(self, host, folder):
        self.host = host
        self.folder = folder
        self.bdf = None
        os.mkdir(folder)
        self.process = subprocess.Popen([os.path.join(TESTS, "vm/spdm-relay"), folder, os.path.join(TESTS, "spdm/responder")],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_us)
        word, _, port = self.process.stdout.readline().partition(" ")
        if word != "port":
            self.close()
            raise Failure("spdm-relay did not start")
        self.port = int(port)

    def connect(self, bdf):
        self.host.client.control("spdm-port", device=bdf, port=self.port)
        self.bdf = bdf

    def close(self):
        if self.bdf:
            self.host.client.control("spdm-port", device=self.bdf, port=0)
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()


class Responder:
    """What answers for a function, from now until the scenario ends. Every change is there when the method returns, to requesters that begin anew."""

    count = 0

    def __init__(self, host, bdf, folder, measurements=None, **options):
        self.folder = folder
        self.anchor = os.path.join(folder, "anchor.pem")
        self.measurements = copy.deepcopy(MEASUREMENTS if measurements is None else measurements)
        self.options = options
        os.mkdir(folder)
        self.relay = host.new_spdm_relay(os.path.join(folder, "relay"))
        try:
            self._apply()
            self.relay.connect(bdf)
        except BaseException:
            self.relay.close()
            raise

    # ---- what it is ----

    def change(self, index, data):
        """One measurement is of something else: hexadecimal digits."""
        self.measurements[index]["data"] = data
        self._apply()

    def fault(self, name):
        """What it does wrong, by its name in tests/spdm/faults.py; None: nothing."""
        self.set(fault=name)

    def set(self, **options):
        """Options of tests/spdm/responder; None: as it has them by itself."""
        self.options.update(options)
        self._apply()

    def silence(self):
        """Nobody answers any more."""
        self._tell(None)

    def close(self):
        try:
            self.silence()
        finally:
            self.relay.close()

    # ---- what is to be expected of it ----

    def measurement_hash(self):
        """With which it measures: as it was told, or else the connection's, of which a requester that has them all gets the first that is offered."""
        return self.options.get("measurement_hash") or (self.options.get("hashes") or "sha256").split(",")[0]

    def value(self, index):
        """What it tells of a measurement, as hexadecimal digits: a digest, unless it is raw."""
        m = self.measurements[index]
        return m["data"] if m.get("raw") else hashlib.new(self.measurement_hash(), bytes.fromhex(m["data"])).hexdigest()

    def references(self, name="test"):
        """Reference values, as tdid reads them, that all of it matches now."""
        out = []
        for index, m in sorted(self.measurements.items()):
            value = self.value(index)
            out.append({"index": index, **({"raw": value} if m.get("raw") else {"hash": self.measurement_hash(), "values": [value]})})
        return {"schema": "tdid-references/1", "name": name, "measurements": out}

    # ---- how it is told ----

    def _apply(self):
        self._tell({k.replace("_", "-"): v for k, v in self.options.items() if v is not None})
        with open(os.path.join(self.relay.folder, "root.pem"), "rb") as file:
            pem = file.read()
        check(b"BEGIN CERTIFICATE" in pem, "the responder wrote no root")
        with open(self.anchor + ".new", "wb") as file:
            file.write(pem)
        os.replace(self.anchor + ".new", self.anchor)

    def _tell(self, options):
        Responder.count += 1
        number = f"{os.getpid()}.{Responder.count}.{base64.b32encode(os.urandom(5)).decode()}"
        path = os.path.join(self.relay.folder, "settings.json")
        settings = {"id": number, "options": options, "measurements": [{"index": i, **m} for i, m in sorted(self.measurements.items())]}
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(settings, file)
        os.replace(path + ".new", path)
        status = eventually(lambda: self._status(number), "the responder is as it was chosen", STARTED)
        check(status["error"] is None, f"the responder was not started: {status['error']}")

    def _status(self, number):
        try:
            with open(os.path.join(self.relay.folder, "status.json"), encoding="utf-8") as file:
                status = json.load(file)
        except (FileNotFoundError, ValueError):
            return None
        return status if status["id"] == number else None


def responder(t, bdf, version=None, hash=None, asym=None, measurements=None, fault=None, **options):  # noqa: A002 - its name in SPDM
    """Puts a responder behind a function: versions ("1.1,1.2") and hashes that it offers, its key's algorithm, what it measures, what it does
    wrong; and any other option of tests/spdm/responder. It ends when tdid has."""
    one = Responder(t.host, bdf, os.path.join(t.folder, f"spdm-{Responder.count}"), measurements, versions=version, hashes=hash, asym=asym, fault=fault,
                    **options)
    t.after(one.close)
    return one


class Mailbox:
    """A function's DOE mailbox by accesses to its config space (PCIe 6.0, 7.9.24)."""

    CAPABILITY, CONTROL, STATUS, WRITE, READ = 0x2E, 0x08, 0x0C, 0x10, 0x14
    ABORT, GO = 1, 1 << 31
    BUSY, ERROR, READY = 1, 4, 1 << 31

    def __init__(self, host, bdf):
        self.files = host.files
        self.fd = self.files.open(host.path(bdf, "config"), os.O_RDWR)
        config, self.at = self.files.pread(self.fd, 4096, 0), 0x100
        while self.at:
            header = int.from_bytes(config[self.at:self.at + 4], "little")
            if header & 0xFFFF == self.CAPABILITY:
                return
            self.at = header >> 20
        self.close()
        raise Failure(f"{bdf} has no DOE mailbox")

    def close(self):
        self.files.close(self.fd)

    def get(self, register):
        return struct.unpack("<I", self.files.pread(self.fd, 4, self.at + register))[0]

    def put(self, register, value):
        check(self.files.pwrite(self.fd, struct.pack("<I", value), self.at + register) == 4, f"write to register {register:#x} of the mailbox")

    def status(self):
        return self.get(self.STATUS)

    def abort(self):
        self.put(self.CONTROL, self.ABORT)

    def send(self, *words):
        for word in words:
            self.put(self.WRITE, word)
        self.put(self.CONTROL, self.GO)

    def take(self):
        """The double words that are ready."""
        words = []
        while self.status() & self.READY:
            words.append(self.get(self.READ))
            self.put(self.READ, 0)
        return words

    def discover(self):
        """What the mailbox takes: (vendor, type) of each, by discovery."""
        found, index = [], 0
        while True:
            self.send(1, 3, index)
            words = self.take()
            check(words[:2] == [1, 3] and len(words) == 3, f"the answer to discovery is {words}")
            found.append((words[2] & 0xFFFF, words[2] >> 16 & 0xFF))
            index = words[2] >> 24
            if not index:
                return found

    def spdm(self, message):
        """One exchange; the answer's message, filled up to whole double words. b"": none was ready when the exchange was over."""
        padded = message + bytes(-len(message) % 4)
        self.send(1 | 1 << 16, 2 + len(padded) // 4, *struct.unpack(f"<{len(padded) // 4}I", padded))
        words = self.take()
        check(not words or (words[0] == 1 | 1 << 16 and words[1] == len(words)), f"the answer is {words}")
        return struct.pack(f"<{len(words[2:])}I", *words[2:])


class Transcript:
    """What a device says in one conversation over its mailbox, as whoever owns that would have it: SPDM 1.2, no more than collecting. Nothing is checked."""

    CAPABILITIES = bytes.fromhex("12e1000000000000000000000010000000100000")
    ALGORITHMS = bytes.fromhex("12e3000020000102ff01000007000000") + bytes(16)
    HASHES = {1: 32, 2: 48, 4: 64}
    # Bytes, by the bit that the device selects: ECDSA on P-256, P-384 and P-521.
    SIGNATURES = {0x10: 64, 0x80: 96, 0x100: 132}

    def __init__(self, t, bdf):
        self.mailbox = Mailbox(t.host, bdf)
        t.defer(self.mailbox.close)
        self.mailbox.abort()
        self.vca = b""
        for request, length in ((bytes.fromhex("10840000"), lambda m: 6 + 2 * m[5]), (self.CAPABILITIES, lambda m: 20),
                                (self.ALGORITHMS, lambda m: int.from_bytes(m[4:6], "little"))):
            self.vca += request + self._ask(request, length)
        algorithms = self.vca[-36:]
        self.signature = self.SIGNATURES[int.from_bytes(algorithms[12:16], "little")]
        self.hash = self.HASHES[int.from_bytes(algorithms[16:20], "little")]
        # The chain as SPDM has it, and the certificates alone.
        self.chain = self._chain()
        self.certificates = self.chain[4 + self.hash:]

    def _ask(self, request, length):
        answer = self.mailbox.spdm(request)
        check(len(answer) > 4 and answer[1] != 0x7F, f"answer to {request[:4].hex()}: {answer.hex()}")
        return answer[:length(answer)]

    def _chain(self):
        chain, left = b"", None
        while left != 0:
            request = bytes([0x12, 0x82, 0, 0]) + struct.pack("<HH", len(chain), 1024)
            answer = self._ask(request, lambda m: 8 + int.from_bytes(m[4:6], "little"))
            chain += answer[8:]
            left = int.from_bytes(answer[6:8], "little")
        return chain

    def measurements(self, nonce):
        """All of them, signed for a nonce: request and answer."""
        request = bytes([0x12, 0xE0, 1, 0xFF]) + nonce + b"\0"

        def length(m):
            end = 8 + int.from_bytes(m[5:8], "little") + 32
            return end + 2 + int.from_bytes(m[end:end + 2], "little") + self.signature
        return request + self._ask(request, length)


class KernelEvidence:
    """What a kernel with the device-evidence family would have of a device: it owns the mailbox of the function at `mailbox`, and speaks SPDM there for
    the device at `bdf`; each nonce is one for new measurements."""

    def __init__(self, t, module, bdf, mailbox):
        self.t, self.module, self.bdf, self.mailbox = t, module, bdf, mailbox
        self.replay = None
        self.count, self.error = 0, None
        self.ended = threading.Event()
        module.add(bdf)
        module.refresh(bdf, "wait")
        self.renew()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        t.defer(self.close)

    def renew(self):
        """After the responder has become another one."""
        self.said = Transcript(self.t, self.mailbox)
        self.module.set_object(self.bdf, "vca", self.said.vca)
        self.module.set_object(self.bdf, "slot0", self.said.chain)

    def close(self):
        self.ended.set()
        self.thread.join()

    def _run(self):
        while not self.ended.wait(0.02):
            try:
                count, nonce = self.module.nonce(self.bdf)
                if count != self.count:
                    self.count = count
                    self.module.set_object(self.bdf, "measurements", self.said.measurements(self.replay or nonce))
            except Exception as error:  # noqa: BLE001 - told by whoever waits for the answer
                self.error = error
                return
