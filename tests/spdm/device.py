# SPDX-License-Identifier: LGPL-2.1-or-later
"""An SPDM responder (DMTF DSP0274, 1.1 to 1.3): what it has, and what it answers to each request. It checks what it is asked."""
import hashlib
import json
import os
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils

from chains import Keys, chain_object, make_chain

VERSIONS = {"1.1": 0x11, "1.2": 0x12, "1.3": 0x13}
HASHES = {"sha256": 1, "sha384": 2, "sha512": 4}
MEASUREMENT_HASHES = {"raw": 1, "sha256": 2, "sha384": 4, "sha512": 8}
ASYMS = {"rsassa-2048": 0x1, "rsapss-2048": 0x2, "rsassa-3072": 0x4, "rsapss-3072": 0x8, "ecdsa-p256": 0x10, "rsassa-4096": 0x20, "rsapss-4096": 0x40,
         "ecdsa-p384": 0x80, "ecdsa-p521": 0x100}
COORDINATES = {"p256": 32, "p384": 48, "p521": 66}
CERT, CHAL, MEAS_NO_SIG, MEAS_SIG = 0x02, 0x04, 0x08, 0x10
MEAS = MEAS_NO_SIG | MEAS_SIG

INVALID_REQUEST, BUSY, UNEXPECTED_REQUEST, UNSUPPORTED_REQUEST, RESPONSE_TOO_LARGE, VERSION_MISMATCH, NOT_READY, RESYNCH = (
    0x01, 0x03, 0x04, 0x07, 0x0d, 0x41, 0x42, 0x43)
GET_DIGESTS, GET_CERTIFICATE, CHALLENGE, GET_VERSION, GET_MEASUREMENTS, GET_CAPABILITIES, NEGOTIATE_ALGORITHMS, RESPOND_IF_READY = (
    0x81, 0x82, 0x83, 0x84, 0xe0, 0xe1, 0xe3, 0xff)

# What a device without a file has: a digest of firmware, a manifest as it is, a version number, and the device's mode.
MEASUREMENTS = [
    {"index": 1, "type": 0, "data": "00112233", "tcb": True},
    {"index": 2, "type": 1, "data": "6669726d77617265", "tcb": True},
    {"index": 3, "type": 3, "data": "636f6e666967"},
    {"index": 16, "type": 7, "data": "0700000000000000", "raw": True},
    {"index": 253, "type": 4, "data": "6d616e6966657374", "raw": True},
]


class Refused(Exception):
    """The request gets an ERROR."""

    def __init__(self, code, data=0, extended=b""):
        super().__init__(f"ERROR 0x{code:02x}")
        self.code, self.data, self.extended = code, data, extended


def need(condition, code=INVALID_REQUEST):
    if not condition:
        raise Refused(code)


def le(value, size):
    return value.to_bytes(size, "little")


@dataclass
class Config:
    """What can be chosen on the command line."""

    versions: tuple = ("1.1", "1.2", "1.3")
    hashes: tuple = ("sha256", "sha384", "sha512")
    asym: str = "ecdsa-p384"
    measurement_hash: str = ""  # that of the connection
    slots: tuple = (0,)
    chain_length: int = 3
    issuer: str = "ecdsa-p384"
    portion: int = 65535
    measurements: list = field(default_factory=lambda: MEASUREMENTS)
    flags: int = CERT | CHAL | MEAS_SIG
    transfer_size: int = 4560
    opaque: bytes = b""
    dice: bool = False
    fault: object = None

    def load_measurements(self, path):
        with open(path, encoding="utf-8") as f:
            self.measurements = json.load(f)


class Device:
    """What does not change from one connection to the next."""

    def __init__(self, config, keys=None):
        self.config, self.fault = config, config.fault
        keys = keys or Keys()
        name = self.fault.chain if self.fault else None
        self.chains = {slot: make_chain(keys, config.asym, config.chain_length, slot, config.issuer, name, config.dice) for slot in config.slots}
        self.seen = {}  # faults count in it, over all connections

    def hook(self, name):
        return getattr(self.fault, name) if self.fault else None


class Connection:
    """One requester's: what was said so far."""

    def __init__(self, device):
        self.device, self.config = device, device.config
        self.pending = None
        self.reset()

    def reset(self):
        self.state, self.version, self.peer_size = "start", 0x10, 0
        self.a = self.b = self.l1 = b""
        self.authenticated = False

    # ---- one request, one response ----

    def answer(self, request):
        """The response to the bytes of a request, which may be filled up to a multiple of four. None: silence."""
        before = self.device.hook("before")
        response = before(self, request) if before else None
        if response is None:
            response = self._answer(request)
        after = self.device.hook("after")
        return after(self, request, response) if after else response

    def error(self, code, data=0, extended=b""):
        version = self.version if self.state != "start" else 0x10
        return bytes([version, 0x7f, code, data]) + extended

    def _answer(self, request):
        try:
            need(len(request) >= 4)
            code = request[1]
            # Asking again for what was not ready is no other request.
            if code not in (GET_MEASUREMENTS, RESPOND_IF_READY):
                self.l1 = b""
            if code == RESPOND_IF_READY:
                return self._respond_if_ready(request)
            handler = {GET_VERSION: self._version, GET_CAPABILITIES: self._capabilities, NEGOTIATE_ALGORITHMS: self._algorithms, GET_DIGESTS: self._digests,
                       GET_CERTIFICATE: self._certificate, CHALLENGE: self._challenge, GET_MEASUREMENTS: self._measurements}.get(code)
            if handler is None:
                raise Refused(UNSUPPORTED_REQUEST, code)
            if code not in (GET_VERSION, GET_CAPABILITIES):
                need(request[0] == self.version, VERSION_MISMATCH)
            if code in (GET_DIGESTS, GET_CERTIFICATE, CHALLENGE, GET_MEASUREMENTS):
                need(self.state == "negotiated", UNEXPECTED_REQUEST)
            return handler(request)
        except Refused as refused:
            self.l1 = b""
            return self.error(refused.code, refused.data, refused.extended)

    def _whole(self, request, size):
        """Exactly that long, but for what the transport fills up with."""
        need(len(request) in (size, (size + 3) // 4 * 4) and not any(request[size:]))
        return request[:size]

    def _header(self, code, param1=0, param2=0):
        return bytes([self.version, code & 0x7f, param1, param2])

    def _respond_if_ready(self, request):
        request = self._whole(request, 4)
        need(self.pending is not None, UNEXPECTED_REQUEST)
        original, token = self.pending
        need(request[0] == self.version, VERSION_MISMATCH)
        need(request[2] == original[1] and request[3] == token)
        self.pending = None
        return self._answer(original)

    # ---- version, capabilities, algorithms ----

    def _version(self, request):
        request = self._whole(request, 4)
        need(request[0] == 0x10, VERSION_MISMATCH)
        need(request[2:4] == b"\0\0")
        self.reset()
        entries = b"".join(le(VERSIONS.get(v, int(v.replace(".", ""), 16)) << 8, 2) for v in self.config.versions)
        response = bytes([0x10, 0x04, 0, 0, 0, len(self.config.versions)]) + entries
        self.state, self.a = "version", request + response
        return response

    def _capabilities(self, request):
        need(self.state == "version", UNEXPECTED_REQUEST)
        need(request[0] in [VERSIONS[v] for v in self.config.versions if v in VERSIONS], VERSION_MISMATCH)
        self.version = request[0]
        request = self._whole(request, 20 if self.version >= 0x12 else 12)
        need(request[2] & ~(self.version >= 0x13) == 0 and request[3] == 0 and request[4] == 0 and request[5] <= 31 and request[6:8] == b"\0\0")
        flags = int.from_bytes(request[8:12], "little")
        known = 0x1ffc6 | (0x20000 if self.version >= 0x12 else 0) | (0x0ec00000 if self.version >= 0x13 else 0)
        need(flags & ~known == 0)
        session = flags & 0xe00
        need(bool(session) or not flags & 0xe0c0)  # no encryption without sessions
        need(flags & 0x6 != 0x4)  # no challenges to requesters without a certificate
        need(request[2] == 0 or flags & 0x20000)
        if self.version >= 0x12:
            size, largest = int.from_bytes(request[12:16], "little"), int.from_bytes(request[16:20], "little")
            need(42 <= size <= largest and (flags & 0x20000 or size == largest))
            self.peer_size = size
        response = self._header(GET_CAPABILITIES) + bytes([0, 12, 0, 0]) + le(self.config.flags, 4)
        if self.version >= 0x12:
            response += le(self.config.transfer_size, 4) * 2
        self.state, self.a = "capabilities", self.a + request + response
        return response

    def _algorithms(self, request):
        need(self.state == "capabilities", UNEXPECTED_REQUEST)
        need(len(request) >= 32)
        size = int.from_bytes(request[4:6], "little")
        request = self._whole(request, size)
        spec, other = request[6], request[7]
        asym, base_hash = int.from_bytes(request[8:12], "little"), int.from_bytes(request[12:16], "little")
        need(request[3] == 0 and not any(request[16:28]) and request[30] == 0 and (request[31] == 0 or self.version >= 0x13))
        need(spec & ~1 == 0 and size <= 128)
        need(other & ~{0x11: 0, 0x12: 0x3, 0x13: 0x13}[self.version] == 0)
        need(size == 32 + 4 * (request[28] + request[29]) + 4 * request[2])
        for i in range(request[2]):
            table = request[size - 4 * (request[2] - i):][:4]
            need(2 <= table[0] <= 5 and table[1] == 0x20)
        self.hash = next((h for h in self.config.hashes if HASHES[h] & base_hash), None)
        need(self.hash and ASYMS[self.config.asym] & asym)
        self.measurement_hash = self.config.measurement_hash or self.hash
        measures = bool(self.config.flags & MEAS)
        need(not measures or spec == 1)
        self.opaque_format = 2 if self.version >= 0x12 and other & 2 else 0
        response = self._header(NEGOTIATE_ALGORITHMS) + le(36, 2) + bytes([measures, self.opaque_format])
        response += le(MEASUREMENT_HASHES[self.measurement_hash] if measures else 0, 4) + le(ASYMS[self.config.asym], 4) + le(HASHES[self.hash], 4) + bytes(16)
        self.state, self.a = "negotiated", self.a + request + response
        return response

    # ---- certificates ----

    def digest(self, data, name=None):
        return hashlib.new(name or self.hash, data).digest()

    def chain(self, slot):
        return chain_object(self.device.chains[slot][0], self.digest, self.device.fault.chain if self.device.fault else None)

    def slot_mask(self):
        return sum(1 << slot for slot in self.config.slots)

    def _digests(self, request):
        request = self._whole(request, 4)
        need(request[2:4] == b"\0\0")
        response = self._header(GET_DIGESTS, self.slot_mask() if self.version >= 0x13 else 0, self.slot_mask())
        response += b"".join(self.digest(self.chain(slot)) for slot in sorted(self.config.slots))
        self.b = request + response
        return response

    def _certificate(self, request):
        request = self._whole(request, 8)
        slot, offset, size = request[2], int.from_bytes(request[4:6], "little"), int.from_bytes(request[6:8], "little")
        need(slot in self.config.slots and request[3] == 0 and size > 0)
        chain = self.chain(slot)
        need(offset < len(chain))
        part = chain[offset:offset + min(size, self.config.portion)]
        response = self._header(GET_CERTIFICATE, slot) + le(len(part), 2) + le(len(chain) - offset - len(part), 2) + part
        self.b += request + response
        return response

    # ---- signatures ----

    def sign(self, slot, context, transcript):
        hook = self.device.hook("sign")
        if hook:
            transcript = hook(self, context, transcript)
        key, algorithm = self.device.chains[slot][1], {"sha256": hashes.SHA256, "sha384": hashes.SHA384, "sha512": hashes.SHA512}[self.hash]()
        digest = self.digest(transcript)
        if self.version >= 0x12:
            prefix = f"dmtf-spdm-v{self.version >> 4}.{self.version & 15}.*".encode() * 4
            digest = self.digest(prefix + context.encode().rjust(36, b"\0") + digest)
        kind, size = self.config.asym.split("-")
        if isinstance(key, ec.EllipticCurvePrivateKey):
            # A key that is not of the algorithm (there is a fault for that) gives numbers of another size.
            width = COORDINATES[size] if size in COORDINATES else int(size) // 16
            r, s = utils.decode_dss_signature(key.sign(digest, ec.ECDSA(utils.Prehashed(algorithm))))
            return b"".join((n % (1 << 8 * width)).to_bytes(width, "big") for n in (r, s))
        pad = padding.PSS(padding.MGF1(algorithm), algorithm.digest_size) if kind == "rsapss" else padding.PKCS1v15()
        return key.sign(digest, pad, utils.Prehashed(algorithm))

    def _tail(self, context):
        opaque = self.config.opaque
        if self.version >= 0x12 and not opaque and self.opaque_format:
            opaque = bytes(4)  # a table of no elements
        return le(len(opaque), 2) + opaque + context

    def _challenge(self, request):
        need(self.config.flags & CHAL, UNSUPPORTED_REQUEST)
        request = self._whole(request, 44 if self.version >= 0x13 else 36)
        slot, summary = request[2], request[3]
        need(slot in self.config.slots and summary in (0, 1, 0xff))
        need(summary == 0 or self.config.flags & MEAS)
        response = self._header(CHALLENGE, slot, self.slot_mask()) + self.digest(self.chain(slot)) + os.urandom(32)
        if summary:
            digest = self.digest(b"".join(self._block(m, False) for m in self.config.measurements if summary == 0xff or m.get("tcb")))
            hook = self.device.hook("summary")
            response += hook(self, digest) if hook else digest
        response += self._tail(request[36:])
        response += self.sign(slot, "responder-challenge_auth signing", self.a + self.b + request + response)
        self.b, self.authenticated = b"", True
        return response

    # ---- measurements ----

    def _block(self, m, raw):
        data = bytes.fromhex(m["data"])
        raw = raw or m.get("raw", False) or self.measurement_hash == "raw"
        value = data if raw else self.digest(data, self.measurement_hash)
        value = bytes([m["type"] | (0x80 if raw else 0)]) + le(len(value), 2) + value
        return bytes([m["index"], 1]) + le(len(value), 2) + value

    def _measurements(self, request):
        need(self.config.flags & MEAS, UNSUPPORTED_REQUEST)
        if not self.authenticated:
            self.b = b""
        signed, operation = request[2] & 1, request[3]
        request = self._whole(request, 4 + (33 if signed else 0) + (8 if self.version >= 0x13 else 0))
        need(request[2] & ~{0x11: 0x1, 0x12: 0x3, 0x13: 0x7}[self.version] == 0)
        slot = request[36] if signed else 0
        need(not signed or (self.config.flags & MEAS_SIG and slot in self.config.slots))
        chosen = [m for m in self.config.measurements if operation in (m["index"], 0xff)] if operation else []
        need(chosen or not operation)
        record = b"".join(self._block(m, request[2] & 2) for m in chosen)
        response = self._header(GET_MEASUREMENTS, 0 if operation else len(self.config.measurements), slot | 0x20 if signed and self.version >= 0x12 else slot)
        response += bytes([len(chosen)]) + le(len(record), 3) + record + os.urandom(32) + self._tail(request[-8:] if self.version >= 0x13 else b"")
        if self.peer_size and len(response) + (600 if signed else 0) > self.peer_size:
            raise Refused(RESPONSE_TOO_LARGE, 0, le(len(response), 4))
        self.l1 += request + response
        if signed:
            response += self.sign(slot, "responder-measurements signing", (self.a if self.version >= 0x12 else b"") + self.l1)
            self.l1 = b""
        return response
