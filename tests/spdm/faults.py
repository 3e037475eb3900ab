# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the test responder can do wrong, by name. A fault changes a response, comes before it, signs something else, or is in what is signed."""
import os

from device import (BUSY, CHAL, CHALLENGE, CERT, GET_CAPABILITIES, GET_CERTIFICATE, GET_DIGESTS, GET_MEASUREMENTS, GET_VERSION, INVALID_REQUEST, MEAS_NO_SIG, MEAS_SIG,
                    NEGOTIATE_ALGORITHMS, NOT_READY, RESPOND_IF_READY, RESYNCH, le)

FAULTS = {}


class Fault:
    def __init__(self, name, about, before=None, after=None, sign=None, chain=None, summary=None, config=None):
        self.name, self.about, self.before, self.after, self.sign = name, about, before, after, sign
        self.chain, self.summary, self.config = chain, summary, config or {}
        FAULTS[name] = self


def count(connection, name):
    """How often this was reached, from 1."""
    seen = connection.device.seen
    seen[name] = seen.get(name, 0) + 1
    return seen[name]


def after(name, code, about, change, **more):
    """change(connection, request, response) of one code's response, unless that is an ERROR."""
    def hook(connection, request, response):
        if request[1] != code or response is None or response[1] == 0x7f:
            return response
        return change(connection, request, bytearray(response))
    return Fault(name, about, after=hook, **more)


def put(at, *values):
    """Sets bytes."""
    def change(_connection, _request, response):
        response[at:at + len(values)] = bytes(values)
        return response
    return change


def grow(by):
    return lambda c, q, r: r + bytes([0xa5]) * by


# ---- the way ----

Fault("silence", "never answers CHALLENGE (QEMU waits for it, and its VM with it)", after=lambda c, q, r: None if q[1] == CHALLENGE else r)
Fault("hang-up", "closes the connection at GET_CERTIFICATE", after=lambda c, q, r: "close" if q[1] == GET_CERTIFICATE else r)
Fault("object-too-long", "a DOE object of 2^18 double words", after=lambda c, q, r: "too-long" if q[1] == GET_DIGESTS else r)
Fault("frame-type", "a DOE object of another type", after=lambda c, q, r: "other-type" if q[1] == GET_DIGESTS else r)
Fault("endless-busy", "ERROR(Busy) for every GET_DIGESTS", before=lambda c, q: c.error(BUSY) if q[1] == GET_DIGESTS else None)
Fault("busy-later", "ERROR(Busy) for every GET_MEASUREMENTS", before=lambda c, q: c.error(BUSY) if q[1] == GET_MEASUREMENTS else None)


def _not_ready(exponent, code=None, token=0x5a):
    def before(connection, request):
        if request[1] in (CHALLENGE, RESPOND_IF_READY):
            asked = request[1] if request[1] != RESPOND_IF_READY else request[2]
            return connection.error(NOT_READY, 0, bytes([exponent, code if code is not None else asked, token, 2]))
        return None
    return before


Fault("endless-not-ready", "ERROR(ResponseNotReady) for CHALLENGE for ever", before=_not_ready(10))
Fault("rdt-exponent", "ResponseNotReady with RDTExponent 0xff", before=_not_ready(0xff))
Fault("not-ready-code", "ResponseNotReady about another request", before=_not_ready(10, GET_DIGESTS))
Fault("not-ready-short", "ResponseNotReady without its data", before=lambda c, q: c.error(NOT_READY) if q[1] == CHALLENGE else None)
Fault("not-ready-version", "ResponseNotReady for GET_VERSION", before=lambda c, q: c.error(NOT_READY, 0, bytes([10, GET_VERSION, 1, 2])) if q[1] == GET_VERSION else None)
Fault("endless-resynch", "ERROR(RequestResynch) for every GET_DIGESTS", before=lambda c, q: c.error(RESYNCH) if q[1] == GET_DIGESTS else None)
Fault("error", "ERROR(Unspecified) for CHALLENGE", before=lambda c, q: c.error(0x05) if q[1] == CHALLENGE else None)
Fault("error-version", "ERROR(Busy) with a version of no one's", before=lambda c, q: b"\x14\x7f\x03\x00" if q[1] == CHALLENGE else None)

# ---- version and capabilities ----

after("no-version", GET_VERSION, "offers 1.0 only", lambda c, q, r: bytes.fromhex("100400000001") + b"\x00\x10")
after("future-version", GET_VERSION, "offers 1.4 only", lambda c, q, r: bytes.fromhex("100400000001") + b"\x00\x14")
after("draft-version", GET_VERSION, "offers a draft of 1.3 only", lambda c, q, r: bytes.fromhex("100400000001") + b"\x01\x13")
after("no-versions", GET_VERSION, "VERSION without entries", lambda c, q, r: bytes.fromhex("100400000000"))
after("version-count", GET_VERSION, "VERSION with fewer entries than it says", put(5, 9))
after("version-header", GET_VERSION, "VERSION with 1.1 in its header", put(0, 0x11))
after("version-trailing", GET_VERSION, "VERSION with bytes behind its entries", grow(5))
after("downgrade", GET_VERSION, "somebody on the way takes 1.2 and 1.3 out of VERSION", lambda c, q, r: bytes.fromhex("100400000001") + b"\x00\x11")
after("version-downgrade", GET_CAPABILITIES, "CAPABILITIES with a lower version than it was asked for", lambda c, q, r: b"\x11" + r[1:])


def _resynch_downgrade(connection, request, response):
    if request[1] == GET_DIGESTS and count(connection, "resynch") == 1:
        return connection.error(RESYNCH)
    if request[1] == GET_VERSION and connection.device.seen.get("resynch"):
        return bytes.fromhex("100400000001") + b"\x00\x11"
    return response


Fault("resynch-downgrade", "RequestResynch, and then only 1.1 is left", after=_resynch_downgrade)
after("capabilities-version", GET_CAPABILITIES, "CAPABILITIES with a version of no one's", put(0, 0x14))
after("capabilities-short", GET_CAPABILITIES, "CAPABILITIES in the form of 1.1", lambda c, q, r: r[:12])
after("capabilities-trailing", GET_CAPABILITIES, "CAPABILITIES with eight bytes too many", grow(8))
after("ct-exponent", GET_CAPABILITIES, "CTExponent 0xff", put(5, 0xff))
after("ct-exponent-30", GET_CAPABILITIES, "CTExponent 30: 18 minutes", put(5, 30))
after("flags-reserved", GET_CAPABILITIES, "MEAS_CAP 3", put(8, 0x1e))
after("flags-contradiction", GET_CAPABILITIES, "ENCRYPT_CAP without sessions", put(8, 0x56))
after("flags-keys", GET_CAPABILITIES, "CERT_CAP and PUB_KEY_ID_CAP", put(10, 0x01))
after("flags-multi-key", GET_CAPABILITIES, "only with several keys", put(11, 0x04))
after("transfer-size", GET_CAPABILITIES, "DataTransferSize 16", put(12, 16, 0))
after("message-size", GET_CAPABILITIES, "MaxSPDMmsgSize is another one, without CHUNK_CAP", put(18, 9))
Fault("no-certificates", "no CERT_CAP", config={"flags": MEAS_NO_SIG})
Fault("no-challenge", "no CHAL_CAP", config={"flags": CERT | MEAS_SIG})
Fault("no-measurements", "no MEAS_CAP", config={"flags": CERT | CHAL})
Fault("unsigned-measurements", "MEAS_CAP 1: measurements without signatures", config={"flags": CERT | CHAL | MEAS_NO_SIG})

# ---- algorithms ----

after("several-hashes", NEGOTIATE_ALGORITHMS, "selects two hashes", put(16, 0x06))
after("several-signatures", NEGOTIATE_ALGORITHMS, "selects two signature algorithms", put(12, 0x90))
after("no-hash", NEGOTIATE_ALGORITHMS, "selects no hash", put(16, 0))
after("hash-not-offered", NEGOTIATE_ALGORITHMS, "selects SHA3-256", put(16, 0x08))
after("signature-not-offered", NEGOTIATE_ALGORITHMS, "selects SM2", put(12, 0, 2))
after("measurement-hash", NEGOTIATE_ALGORITHMS, "measures with SHA3-256", put(8, 0x10))
after("measurement-hashes", NEGOTIATE_ALGORITHMS, "measures with two hashes", put(8, 0x0c))
after("no-measurement-specification", NEGOTIATE_ALGORITHMS, "measures to no specification", put(6, 0))
after("opaque-formats", NEGOTIATE_ALGORITHMS, "selects both formats of opaque data", put(7, 3))
after("algorithms-length", NEGOTIATE_ALGORITHMS, "says that it is longer", put(4, 40))
after("algorithms-structures", NEGOTIATE_ALGORITHMS, "has structures that nobody asked for", lambda c, q, r: r[:2] + b"\1" + r[3:4] + b"\x28" + r[5:] + bytes.fromhex("02201000"))
after("extended-algorithm", NEGOTIATE_ALGORITHMS, "selects an extended algorithm", lambda c, q, r: r[:4] + b"\x28" + r[5:32] + b"\1" + r[33:] + bytes(4))

# ---- certificates ----

after("empty-slot", GET_DIGESTS, "no slot has a chain", lambda c, q, r: r[:3] + b"\0")
after("digests-short", GET_DIGESTS, "fewer digests than slots", put(3, 0xff))
after("digests-trailing", GET_DIGESTS, "more digests than slots", lambda c, q, r: r + bytes(48))
after("unexpected-code", GET_DIGESTS, "answers with CERTIFICATE", put(1, 0x02))
after("request-echo", GET_DIGESTS, "answers with a request's code", put(1, 0x81))
after("wrong-header-version", GET_DIGESTS, "answers with another version", put(0, 0x12))
after("short-read", GET_CERTIFICATE, "a header and nothing behind it", lambda c, q, r: r[:4])
after("digest-mismatch", GET_DIGESTS, "the digest is not the chain's", lambda c, q, r: r[:-1] + bytes([r[-1] ^ 1]))
after("certificate-slot", GET_CERTIFICATE, "the answer is about slot 3", put(2, 3))
after("over-long-portion", GET_CERTIFICATE, "a portion longer than what was asked for", lambda c, q, r: r[:4] + le(2000, 2) + b"\0\0" + bytes(2000))
after("portion-length", GET_CERTIFICATE, "a portion shorter than it says", lambda c, q, r: r[:-40])
after("certificate-trailing", GET_CERTIFICATE, "a portion longer than it says", grow(4))
after("empty-chain", GET_CERTIFICATE, "a chain of no bytes", lambda c, q, r: r[:4] + bytes(4))
after("chain-too-long", GET_CERTIFICATE, "a chain of more than 64 KiB", put(6, 0xff, 0xff))


def _portion(number, change):
    """Of the responses, the one of that number, from 1."""
    return lambda c, q, r: change(r) if count(c, "portion") == number else r


SMALL = {"portion": 300}
after("zero-portion", GET_CERTIFICATE, "the second portion is empty", _portion(2, lambda r: r[:4] + b"\0\0" + r[6:8]), config=SMALL)
after("growing-remainder", GET_CERTIFICATE, "more is left after the second portion than after the first", _portion(2, lambda r: r[:6] + le(60000, 2) + r[8:]), config=SMALL)
after("remainder-short", GET_CERTIFICATE, "the last portion is not where it should be", _portion(2, lambda r: r[:6] + b"\0\0" + r[8:]), config=SMALL)
after("byte-portions", GET_CERTIFICATE, "one byte at a time", lambda c, q, r: r, config={"portion": 1})


def _chain_changed(connection, request, response):
    # From the second portion on the device has another leaf.
    if request[1] == GET_CERTIFICATE and count(connection, "certificate") == 1:
        slot = connection.config.slots[0]
        chain, key = connection.device.chains[slot]
        connection.device.chains[slot] = ([*chain[:-1], chain[-1][:-1] + bytes([chain[-1][-1] ^ 1])], key)
    return response


Fault("chain-changed", "another chain between two portions", after=_chain_changed, config=SMALL)


def _digests_later(connection, request, response):
    if request[1] == GET_DIGESTS and count(connection, "digests") > 1:
        return response[:-1] + bytes([response[-1] ^ 1])
    return response


Fault("chain-changed-later", "another chain after the measurements", after=_digests_later)

# ---- CHALLENGE_AUTH ----

after("bad-signature", CHALLENGE, "a bit of the signature is wrong", lambda c, q, r: r[:-1] + bytes([r[-1] ^ 1]))
after("zero-signature", CHALLENGE, "a signature of zeros", lambda c, q, r: r[:-96] + bytes(96))
after("no-signature", CHALLENGE, "ends before the signature", lambda c, q, r: r[:-96])
after("short-signature", CHALLENGE, "ends within the signature", lambda c, q, r: r[:-40])
after("challenge-slot", CHALLENGE, "the answer is about slot 2", put(2, 2))
after("challenge-mask", CHALLENGE, "the slot has no chain all of a sudden", put(3, 0))
after("chain-hash", CHALLENGE, "the hash of another chain", put(4, 1, 2, 3, 4))
after("challenge-trailing", CHALLENGE, "bytes behind the signature", grow(7))
after("challenge-version", CHALLENGE, "signs with 1.1 in the header", put(0, 0x11))
after("challenge-context", CHALLENGE, "the context of another request", lambda c, q, r: r[:-104] + bytes(8) + r[-96:])


def _opaque(offset, value):
    def change(connection, _request, response):
        at = offset(connection, response)
        response[at:at + 2] = le(value, 2)
        return response
    return change


after("opaque-length", CHALLENGE, "opaque data longer than the message", _opaque(lambda c, r: 4 + len(c.digest(b"")) + 32, 1000))
after("opaque-over-limit", CHALLENGE, "opaque data of 64 KiB", _opaque(lambda c, r: 4 + len(c.digest(b"")) + 32, 0xffff))
after("opaque-into-signature", CHALLENGE, "opaque data that reaches into the signature", _opaque(lambda c, r: 4 + len(c.digest(b"")) + 32, 20))


def _sign_over(what, replace):
    return lambda c, context, transcript: replace(c, transcript) if what in context else transcript


def _other_nonce(connection, transcript):
    # The requester's nonce stands in the last request: any other is another transcript.
    at = transcript.rfind(bytes([connection.version, GET_MEASUREMENTS, 0x01])) + 4
    return transcript[:at] + bytes(32) + transcript[at + 32:]


Fault("signed-other-nonce", "measurements signed for another nonce", sign=_sign_over("measurements", _other_nonce))
Fault("signed-without-vca", "CHALLENGE_AUTH signed without VERSION and so on", sign=_sign_over("challenge", lambda c, t: t[len(c.a):]))
Fault("signed-measurements-vca", "measurements signed as if of the other kind of version",
      sign=_sign_over("measurements", lambda c, t: t[len(c.a):] if c.version >= 0x12 else c.a + t))
Fault("signed-as-challenge", "measurements signed with the text for challenges", sign=_sign_over("measurements", lambda c, t: t + b"\0"))


after("wrong-nonce", GET_MEASUREMENTS, "an answer that was recorded for another request", lambda c, q, r: r[:-104] + os.urandom(8) + r[-96:])

# ---- MEASUREMENTS ----

M = GET_MEASUREMENTS
after("measurement-signature", M, "a bit of the signature is wrong", lambda c, q, r: r[:-1] + bytes([r[-1] ^ 1]))
after("measurement-no-signature", M, "ends before the signature", lambda c, q, r: r[:-96])
after("measurement-value", M, "a value was changed on the way", lambda c, q, r: r[:15] + bytes([r[15] ^ 1]) + r[16:])
after("measurement-slot", M, "signed for slot 5", lambda c, q, r: r[:3] + bytes([(r[3] & 0xf0) | 5]) + r[4:])
after("content-changed", M, "says that they changed meanwhile", lambda c, q, r: r[:3] + bytes([(r[3] & 0x0f) | 0x10]) + r[4:])
after("block-count", M, "says one block more", lambda c, q, r: r[:4] + bytes([r[4] + 1]) + r[5:])
after("block-count-zero", M, "says no blocks", put(4, 0))
after("record-length", M, "says a byte more of record", lambda c, q, r: r[:5] + bytes([r[5] + 1]) + r[6:])
after("record-length-huge", M, "says 16 MiB of record", put(5, 0xff, 0xff, 0xff))
after("record-length-short", M, "says fewer blocks than are there", lambda c, q, r: r[:4] + bytes([r[4] - 1]) + r[5:])
after("index-zero", M, "a block with the index 0", put(8, 0))
after("index-255", M, "a block with the index 255", put(8, 255))
after("index-twice", M, "two blocks with the same index", put(8, 2))
after("index-other", M, "answers with another index", lambda c, q, r: r[:8] + bytes([77]) + r[9:] if q[3] not in (0, 0xff) else r)
after("index-count", M, "says that it has one more", lambda c, q, r: r[:2] + bytes([r[2] + 1]) + r[3:] if q[3] == 0 else r)
after("index-none", M, "says that it has none", lambda c, q, r: r[:2] + b"\0" + r[3:] if q[3] == 0 else r)
after("block-specification", M, "a block that is not DMTF's", put(9, 2))
after("block-size", M, "a block that is longer than its value", put(13, 0x11))
after("block-size-huge", M, "a block of 64 KiB", put(10, 0xff, 0xff))


def _digest_size(connection, _request, response):
    # The first block is a digest: cut to 20 bytes, with all lengths right.
    size = int.from_bytes(response[13:15], "little")
    record = int.from_bytes(response[5:8], "little") - size + 20
    return response[:5] + le(record, 3) + response[8:10] + le(23, 2) + response[12:13] + le(20, 2) + response[15:35] + response[15 + size:]


after("digest-size", M, "a digest of 20 bytes", _digest_size)
after("measurement-opaque", M, "opaque data longer than the message",
      lambda c, q, r: r[:8 + int.from_bytes(r[5:8], "little") + 32] + le(900, 2) + r[8 + int.from_bytes(r[5:8], "little") + 34:])
after("measurement-trailing", M, "bytes behind the signature", grow(9))
after("measurement-short", M, "ends within the nonce", lambda c, q, r: r[:8 + int.from_bytes(r[5:8], "little") + 10])
Fault("measurement-refused", "ERROR(InvalidRequest) for every GET_MEASUREMENTS", before=lambda c, q: c.error(INVALID_REQUEST) if q[1] == M else None)

# ---- for the verifier ----

Fault("measurement-summary", "CHALLENGE_AUTH has a summary of other measurements, well signed", summary=lambda c, digest: bytes(len(digest)))

for _name, _about in {
    "expired": "the leaf was valid until yesterday",
    "not-yet-valid": "the leaf is valid from tomorrow on",
    "foreign-root": "another root, of the same name",
    "rsa-1024": "the last CA has a key of RSA-1024",
    "not-a-ca": "the last CA is none",
    "path-length": "a CA below one that may have none",
    "chain-signature": "the last CA's certificate has a wrong signature",
    "unknown-critical": "the leaf has a critical extension of nobody's",
    "weak-hash": "the last CA's certificate is signed with SHA-1",
    "root-hash": "the hash in the chain's header is not the root's",
    "chain-form": "the chain's header says that it is longer",
    "certificate-form": "the leaf is no certificate",
    "too-many-certificates": "40 of them",
    "name-constraint": "the root may only sign for somebody else",
    "leaf-eku": "the leaf is for e-mail",
    "leaf-key-usage": "the leaf is not for signatures",
    "leaf-ca": "the leaf is a CA",
    "wrong-key": "the leaf's key is of another algorithm than was negotiated",
    "dice-form": "DiceTcbInfo that cannot be decoded",
}.items():
    Fault(_name, _about, chain=_name)

# ---- no faults: what a device may do, and the requester has to bear ----


def _later(connection, request):
    if request[1] not in (GET_DIGESTS, GET_CERTIFICATE, CHALLENGE, GET_MEASUREMENTS):
        return None
    if count(connection, "later") % 2 == 0:
        return None
    connection.pending = (bytes(request), 0x21)
    return connection.error(NOT_READY, 0, bytes([8, request[1], 0x21, 2]))


def _busy_once(connection, request):
    # An ERROR ends L1/L2 here, as it does in DMTF's own responder.
    if request[1] not in (CHALLENGE, GET_MEASUREMENTS, GET_CERTIFICATE) or count(connection, "busy") not in (1, 3, 6):
        return None
    connection.l1 = b""
    return connection.error(BUSY)


Fault("fine-busy", "ERROR(Busy) now and then", before=_busy_once)
Fault("fine-not-ready", "ERROR(ResponseNotReady) before every other answer", before=_later)
Fault("fine-resynch", "RequestResynch once", before=lambda c, q: c.error(RESYNCH) if q[1] == CHALLENGE and count(c, "once") == 1 else None)
Fault("fine-small", "small portions", config={"portion": 37})
