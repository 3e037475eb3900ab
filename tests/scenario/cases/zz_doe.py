# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The DOE mailbox that evidence can come from, without tdid: the same registers, the same responder, on every host.

import json
import os
import shutil
import subprocess

from kit.checks import check, equal
from kit.paths import TESTS
from kit.registry import scenario
from kit.spdm import Mailbox

GET_VERSION = bytes([0x10, 0x84, 0, 0])
VERSION = bytes([0x10, 0x04, 0, 0])
TAINTED = "/proc/sys/kernel/tainted"


def versions(mailbox):
    """What the responder offers, most significant byte first."""
    answer = mailbox.spdm(GET_VERSION)
    equal(answer[:4], VERSION, "header of VERSION")
    return [int.from_bytes(answer[6 + 2 * i:8 + 2 * i], "little") for i in range(answer[5])]


def tainted(t):
    return t.host.files.read(TAINTED) if t.host.files.exists(TAINTED) else None


@scenario("spdm", needs=("spdm",), start=False, tags=("quick",))
def evidence_doe_raw(t):
    """Discovery is answered by the mailbox, GET_VERSION by the responder that was chosen last; what is wrong is dropped or an error, and cleared."""
    bdf = t.host.bdf("spdm")
    before = tainted(t)
    responder = t.spdm(bdf, version="1.2")
    mailbox = Mailbox(t.host, bdf)
    t.defer(mailbox.close)
    mailbox.abort()
    equal(mailbox.status(), 0, "status of an idle mailbox")
    equal(mailbox.discover(), [(1, 0), (1, 1), (1, 2)], "discovery")
    equal(sorted(t.host.files.listdir(t.host.path(bdf, "doe_features"))), ["0001:01", "0001:02", "doe_discovery"], "what the kernel found")
    equal(versions(mailbox), [0x1200], "versions")
    responder.set(versions="1.1,1.3")
    equal(sorted(versions(mailbox)), [0x1100, 0x1300], "versions of the next responder")
    responder.fault("future-version")
    equal(versions(mailbox), [0x1400], "versions of one with a fault")
    check(responder.anchor and open(responder.anchor, "rb").read().startswith(b"-----BEGIN CERTIFICATE-----"), "no trust anchor")
    # A length that is not so, an object that nobody knows: dropped without a word.
    mailbox.send(1, 4, 0)
    equal((mailbox.status(), mailbox.get(Mailbox.READ)), (0, 0), "after an object that is cut short")
    mailbox.send(1 | 3 << 16, 3, 0)
    equal(mailbox.status(), 0, "after an object of an unknown type")
    # Taking what is not there is an error, after which nothing is done until an abort.
    mailbox.put(Mailbox.READ, 0)
    equal(mailbox.status(), Mailbox.ERROR, "after reading too much")
    mailbox.send(1, 3, 0)
    equal(mailbox.status(), Mailbox.ERROR, "an error stays")
    mailbox.abort()
    equal(mailbox.status(), 0, "after an abort")
    # A responder that says nothing.
    responder.silence()
    equal((mailbox.spdm(GET_VERSION), mailbox.status()), (b"", 0), "without a responder")
    responder.fault(None)
    equal(sorted(versions(mailbox)), [0x1100, 0x1300], "versions in the end")
    equal(tainted(t), before, "whether the kernel says that user space did what it should not")


# ---- the requester by itself, over the mailbox: the rows of the test over TCP ----

# Of each kind some, in every run; all of them in the whole one.
SAMPLE, ALWAYS = 6, ("ct-exponent", "bad-signature", "wrong-nonce", "expired")


def faults(t):
    """(kind, fault, reason, arguments of spdm-ask), all of them or some; how many there are."""
    with open(os.path.join(TESTS, "unit/data/spdm/faults.json"), encoding="utf-8") as file:
        table = json.load(file)
    rows = [("asked", name, table["doe"].get(name, reason), arguments) for name, reason, *arguments in table["faults"]]
    rows += [("judged", name, reason, []) for name, reason in table["judged"]]
    if t.full:
        return rows
    chosen = [row for row in rows if row[1] in ALWAYS] + t.rng.sample(rows, SAMPLE)
    return [row for row in rows if row in chosen]


def told(t, bdf, out, *arguments):
    """What spdm-ask says of the function, and finds in it."""
    shutil.rmtree(out, ignore_errors=True)
    os.mkdir(out)
    done = subprocess.run([os.path.join(t.paths.unit, "spdm-ask"), "--host", t.host.spec, "--config", t.host.path(bdf, "config"), "--out", out, "--challenge",
                           "--all", "--sign", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False)
    equal(done.returncode, 0, f"exit code of spdm-ask: {done.stdout}")
    return json.loads(done.stdout)


def judged(t, out, anchor):
    done = subprocess.run([os.path.join(t.paths.unit, "evidence-judge"), out, anchor], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
                          check=False)
    equal(done.returncode, 0, f"exit code of evidence-judge: {done.stdout}")
    return json.loads(done.stdout)


@scenario("spdm", needs=("spdm", "programs"), start=False, timeout=1200)
def evidence_doe_faults(t):
    """Every fault of the responder is refused over the mailbox too, each with its own reason; and one without is believed before, after and between them."""
    bdf = t.host.bdf("spdm")
    responder = t.spdm(bdf, chain_length=4)
    out, anchor = os.path.join(t.folder, "out"), os.path.join(t.folder, "good.pem")
    shutil.copy(responder.anchor, anchor)
    rows, texts, wrong = faults(t), set(), []
    for i, (kind, name, reason, arguments) in enumerate(rows):
        if i % 20 == 0:
            responder.fault(None)
            equal(told(t, bdf, out)["reason"], "ok", f"a device without a fault, before {name}")
            equal(judged(t, out, anchor)["reason"], "ok", "its evidence")
        responder.fault(name)
        answer = told(t, bdf, out, *arguments)
        if kind == "judged" and answer["reason"] == "ok":
            # Where the root itself is wrong it is one that is trusted.
            answer = judged(t, out, responder.anchor if name == "name-constraint" else anchor)
        if answer["reason"] != reason or len(answer["text"]) < 16:
            wrong.append(f"{name} {' '.join(arguments)}: {answer['reason']}: {answer['text']}, expected {reason}")
        texts.add(answer["text"])
    responder.fault(None)
    equal(told(t, bdf, out)["reason"], "ok", "a device without a fault, after all of them")
    t.value("faults", f"{len(rows)}, {len({row[1] for row in rows})} of them different, {len({row[2] for row in rows})} reasons, {len(texts)} texts")
    equal(wrong, [], "faults that are refused otherwise, or not at all")
    check(not t.full or len({row[1] for row in rows}) >= 100, f"only {len(rows)} faults")
