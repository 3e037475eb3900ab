# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keys and certificate chains of the test responder: good ones as DSP0274 wants them, and ones with a fault."""
import datetime
import os

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

EKU_RESPONDER = ObjectIdentifier("1.3.6.1.4.1.412.274.3")
DMTF_DEVICE_INFO = ObjectIdentifier("1.3.6.1.4.1.412.274.1")
DMTF_SPDM_EXTENSION = ObjectIdentifier("1.3.6.1.4.1.412.274.6")
DICE_TCB_INFO = ObjectIdentifier("2.23.133.5.4.1")
UNKNOWN = ObjectIdentifier("1.3.6.1.4.1.99999.1")
CURVES = {"p256": ec.SECP256R1, "p384": ec.SECP384R1, "p521": ec.SECP521R1}
DAY = datetime.timedelta(days=1)


def tlv(tag, content):
    """One element of DER."""
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    size = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content


def dice_tcb_info(svn=3):
    """DiceTcbInfo (TCG DICE Attestation Architecture): vendor, model, version, svn, one fwid of SHA-384."""
    fwid = tlv(0x30, tlv(0x06, bytes.fromhex("608648016503040202")) + tlv(0x04, bytes(range(48))))
    return tlv(0x30, tlv(0x80, b"ACME") + tlv(0x81, b"Widget") + tlv(0x82, b"1.0") + tlv(0x83, bytes([svn])) + tlv(0xa6, fwid))


class Keys:
    """Private keys by algorithm and role, made once and kept in a folder: RSA-4096 takes seconds."""

    def __init__(self, folder=None):
        self.folder, self.known = folder, {}
        if folder:
            os.makedirs(folder, mode=0o700, exist_ok=True)

    def get(self, algorithm, role):
        # RSA keys serve both paddings.
        name = algorithm.replace("rsapss", "rsa").replace("rsassa", "rsa") + "-" + role
        if name not in self.known:
            self.known[name] = self._load(name, algorithm)
        return self.known[name]

    def _load(self, name, algorithm):
        path = self.folder and os.path.join(self.folder, name + ".pem")
        if path and os.path.exists(path):
            with open(path, "rb") as f:
                return serialization.load_pem_private_key(f.read(), None)
        kind, size = algorithm.split("-")
        key = ec.generate_private_key(CURVES[size]()) if kind == "ecdsa" else rsa.generate_private_key(65537, int(size))
        if path:
            with open(f"{path}.{os.getpid()}", "wb") as f:
                f.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
            os.rename(f"{path}.{os.getpid()}", path)
        return key


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "tdid test"), x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject, issuer, key, fault_times=None):
    now = datetime.datetime.now(datetime.timezone.utc)
    begin, end = fault_times or (now - DAY, now + 3650 * DAY)
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(end))


def _add_ca(builder, path_length, ca=True):
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=path_length if ca else None), critical=True)
    return builder.add_extension(x509.KeyUsage(digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
                                               key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False), critical=True)


def _times(fault):
    now = datetime.datetime.now(datetime.timezone.utc)
    return {"expired": (now - 30 * DAY, now - DAY), "not-yet-valid": (now + DAY, now + 30 * DAY)}.get(fault)


def _leaf(builder, fault, dice):
    usage = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign", "encipher_only", "decipher_only"), False)
    builder = builder.add_extension(x509.BasicConstraints(ca=fault == "leaf-ca", path_length=None), critical=True)
    builder = builder.add_extension(x509.KeyUsage(digital_signature=fault != "leaf-key-usage", key_cert_sign=fault in ("leaf-ca", "leaf-key-usage"), **usage),
                                    critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION] if fault == "leaf-eku" else
                                                          [EKU_RESPONDER, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.OtherName(DMTF_DEVICE_INFO, tlv(0x0c, b"ACME:WIDGET:0123456789"))]), critical=False)
    if fault == "unknown-critical":
        builder = builder.add_extension(x509.UnrecognizedExtension(UNKNOWN, tlv(0x05, b"")), critical=True)
    if fault == "dice-form":
        builder = builder.add_extension(x509.UnrecognizedExtension(DICE_TCB_INFO, tlv(0x30, tlv(0x83, b"\x01") * 2)), critical=False)
    elif dice:
        builder = builder.add_extension(x509.UnrecognizedExtension(DICE_TCB_INFO, dice_tcb_info()), critical=False)
    return builder


def _weak(der, key):
    """The certificate signed anew, with SHA-1: not every library still wants to. The key is an EC one."""
    body = _inner(der)
    tbs, rest = _first(body)
    # The algorithm stands inside and outside of what is signed, in the same number of bytes.
    good, bad = bytes.fromhex("06082a8648ce3d0403"), bytes.fromhex("06072a8648ce3d0401")
    algorithm = _first(rest)[0]
    new = tlv(0x30, bad)
    fields = _inner(tbs).replace(algorithm, new, 1)
    assert good in algorithm
    tbs = tlv(0x30, fields)
    return tlv(0x30, tbs + new + tlv(0x03, b"\0" + key.sign(tbs, ec.ECDSA(hashes.SHA1()))))


def _first(der):
    size, at = der[1], 2
    if size & 0x80:
        at += size & 0x7f
        size = int.from_bytes(der[2:at], "big")
    return der[:at + size], der[at + size:]


def _inner(der):
    at = 2 + (der[1] & 0x7f if der[1] & 0x80 else 0)
    return der[at:]


def make_chain(keys, algorithm, count, slot, issuer_algorithm="ecdsa-p384", fault=None, dice=False):
    """count certificates, DER, the root first; and the leaf's key."""
    leaf_key = keys.get(algorithm, f"leaf{slot}")
    if fault == "wrong-key":
        leaf_key = keys.get("ecdsa-p256" if algorithm != "ecdsa-p256" else "ecdsa-p384", f"leaf{slot}")
    if fault == "too-many-certificates":
        count = 40
    if count == 1:
        builder = _leaf(_builder(_name(f"device {slot}"), _name(f"device {slot}"), leaf_key, _times(fault)), fault, dice)
        return [builder.sign(leaf_key, hashes.SHA384()).public_bytes(serialization.Encoding.DER)], leaf_key
    # A stranger's root has the same name and another key.
    issuer_key, issuer = keys.get(issuer_algorithm, "foreign" if fault == "foreign-root" else "root"), _name("root")
    builder = _add_ca(_builder(issuer, issuer, issuer_key), None)
    if fault == "name-constraint":
        constraints = x509.NameConstraints([x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "somebody else")]))], None)
        builder = builder.add_extension(constraints, critical=True)
    chain = [builder.sign(issuer_key, hashes.SHA384()).public_bytes(serialization.Encoding.DER)]
    for i in range(1, count - 1):
        last = i == count - 2
        key = keys.get("rsa-1024" if fault == "rsa-1024" and last else issuer_algorithm, f"ca{min(i, 4)}")
        subject = _name(f"intermediate {i}")
        path_length = 0 if fault == "path-length" and i == 1 else None
        builder = _add_ca(_builder(subject, issuer, key), path_length, ca=not (fault == "not-a-ca" and last))
        der = builder.sign(issuer_key, hashes.SHA384()).public_bytes(serialization.Encoding.DER)
        if fault == "weak-hash" and last:
            der = _weak(der, issuer_key)
        if fault == "chain-signature" and last:
            der = der[:-1] + bytes([der[-1] ^ 1])
        chain.append(der)
        issuer_key, issuer = key, subject
    builder = _leaf(_builder(_name(f"device {slot}"), issuer, leaf_key, _times(fault)), fault, dice)
    chain.append(builder.sign(issuer_key, hashes.SHA384()).public_bytes(serialization.Encoding.DER))
    if fault == "certificate-form":
        chain[-1] = tlv(0x30, chain[-1][8:])
    return chain, leaf_key


def chain_object(chain, digest, fault=None):
    """As SPDM has it: length, two reserved bytes, the hash of the root, the certificates."""
    body = digest(chain[0]) + b"".join(chain)
    if fault == "root-hash":
        body = bytes([body[0] ^ 1]) + body[1:]
    size = len(body) + 4
    if fault == "chain-form":
        size += 100
    return size.to_bytes(2, "little") + b"\0\0" + body
