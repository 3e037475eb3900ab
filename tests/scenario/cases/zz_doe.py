# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The DOE mailbox that evidence can come from, without tdid: the same registers, the same responder, on every host.

from kit.checks import check, equal
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
