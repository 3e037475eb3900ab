# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The audit: what a VM goes through is in it, in order and with its fields; who asked for what, and what was refused; a tdid that is
# restarted neither repeats nor loses; and what a client calls itself is one value of one entry. That no entry of any scenario has an
# address or a control character the runner looks at (Journal.problems()).

import errno
import json
import os
import pwd
import signal
import subprocess

from kit.checks import check, contains, equal, eventually
from kit.client import NAME, refused
from kit.daemon import process_state
from kit.peer import DENIED, call_as
from kit.registry import scenario

ALICE = pwd.getpwnam("daemon").pw_uid
ME = os.geteuid()


def job(journal, kind, **fields):
    """The one job of a kind: its beginning and its end, which name the same function, VM and caller."""
    begin = journal.one("job-started", kind=kind, **fields)
    end = [e for e in journal.of("job-done", "job-failed", kind=kind) if e["TDID_JOB"] == begin["TDID_JOB"]]
    equal(len(end), 1, f"ends of the {kind}")
    for key in ("TDID_CALLER", "TDID_VM", "TDID_BDF"):
        equal(end[0].get(key), begin.get(key), f"{key} of the {kind}")
    equal(begin["TDID_CALLER"], str(ME), f"caller of the {kind}")
    return end[0]


def in_order(journal, *wanted):
    """These are among the entries, in this order: (event, {field: value})."""
    entries, at = journal.entries(), 0
    for event, fields in wanted:
        while at < len(entries) and not (entries[at]["TDID_EVENT"] == event and
                                         all(entries[at].get("TDID_" + k.upper()) == str(v) for k, v in fields.items())):
            at += 1
        check(at < len(entries), f"{event} {fields} does not come in its place:", json.dumps([(e["TDID_EVENT"], e["MESSAGE"]) for e in entries], indent=1))
        at += 1


@scenario("nvme", "edu", tsm=("nvme",), tags=("quick",))
def audit_main_job(t):
    """A VM from its creation to its end, with a tdid that dies in the middle."""
    nvme, edu = t.host.bdf("nvme"), t.host.bdf("edu")
    vm = t.vm("web")
    uuid = str(vm.get("UUID"))
    vm.attach(nvme, edu)
    lease = vm.hold("a label = TDID_VM=other")
    vm.seal()
    before = t.journal.entries()
    equal(t.journal.problems(), [], "entries")
    in_order(t.journal, ("started", {}), ("vm-created", {"vm": "web", "vm_id": uuid, "owner": 0, "caller": ME}),
             ("job-started", {"kind": "attach", "vm": "web"}), ("job-done", {"kind": "attach"}),
             ("keeper-added", {"kind": "lease", "label": "a label = TDID_VM=other", "caller": ME}),
             ("vm-phase", {"old": "preparing", "new": "sealed"}), ("job-done", {"kind": "seal"}))
    equal(t.journal.one("vm-created")["TDID_HOLDER"], vm.path.rpartition("/")[2], "number of the VM")
    equal(sorted(job(t.journal, "attach")["TDID_BDF"]), sorted([nvme, edu]), "functions of the attach")
    for bdf in (nvme, edu):
        equal(t.journal.changes("tdi-state", bdf=bdf, vm="web"), ["attaching → prepared"], f"states of {bdf}")
        steps = t.journal.changes("custody", bdf=bdf, vm="web")
        equal((steps[0].split()[0], steps[-1].split()[-1]), ("none", "prepare"), f"custody of {bdf}")
        equal([s.split()[2] for s in steps[:-1]], [s.split()[0] for s in steps[1:]], f"custody of {bdf} goes step by step")
    connected = t.journal.one("tsm-connected", dsm=t.host.dsm(nvme))
    equal((connected["TDID_TSM"], connected["TDID_BDF"], connected["TDID_VM_ID"]), (t.tsm_name, nvme, uuid), "the connect")

    t.daemon.restart()
    t.drop_client()
    equal(t.journal.entries()[:len(before)], before, "entries of the tdid that was killed")
    new = t.journal.entries()[len(before):]
    equal([e["TDID_EVENT"] for e in new], ["started", "tdi-recovered", "tdi-recovered", "vm-recovered"], "entries of the next one")
    equal([e.get("TDID_NEW") for e in new], [None, "prepared", "prepared", "sealed"], "states that it tells")
    equal(new[-1]["TDID_VM_ID"], uuid, "the VM that it has taken up")

    lease.close()
    eventually(lambda: t.journal.of("keeper-ended", label="a label = TDID_VM=other"), "the end of the keeper")
    again = t.client.find_vm("web")
    equal(again.destroy().state(), "done", "job of the destroy")
    t.free(nvme, edu)
    in_order(t.journal, ("vm-recovered", {}), ("vm-closing", {"vm": "web", "reason": "it was destroyed"}), ("vm-phase", {"old": "sealed", "new": "closing"}),
             ("tsm-disconnected", {"dsm": t.host.dsm(nvme)}), ("vm-phase", {"old": "closing", "new": "gone"}), ("job-done", {"kind": "destroy"}))
    job(t.journal, "destroy", vm="web")
    t.journal.one("vm-gone", vm_id=uuid)
    for bdf in (nvme, edu):
        equal(t.journal.changes("tdi-state", bdf=bdf)[1:], ["prepared → detaching", "detaching → gone"], f"states of {bdf} at the end")
        t.journal.one("custody-over", bdf=bdf)
        equal(t.journal.changes("custody", bdf=bdf)[-1].split()[-1], "none", f"custody of {bdf} at the end")
    equal(t.daemon.stop(), 0, "exit code")
    in_order(t.journal, ("vm-gone", {}), ("stopping", {"count": 0}), ("ended", {"result": 0}))


@scenario("nvme", tsm=("nvme",), needs=("bind_module",), tags=("quick",))
def audit_bind(t):
    """A TDI is bound, unbound and detached: who asked, and what came of it."""
    bdf = t.host.bdf("nvme")
    t.load_bind_module()
    vm = t.vm("tee", bind="late")
    vm.attach((bdf, {"guest_rid": 0x100}))
    contains(refused("InvalidState", t.client.tdi(bdf).bind), "seal", "the refusal")
    one = t.journal.one("refused", method="Bind", bdf=bdf, vm="tee", error="InvalidState")
    equal(one["TDID_CALLER"], str(ME), "who was refused")
    vm.seal()
    fd = t.host.kvm_vm()
    vm.set_kvm(fd)
    t.host.close(fd)
    t.journal.one("kvm-set", vm="tee", caller=ME)
    t.client.tdi(bdf).bind()
    t.client.tdi(bdf).unbind()
    t.client.tdi(bdf).detach()
    t.free(bdf)
    for kind in ("bind", "unbind", "detach"):
        equal(job(t.journal, kind, vm="tee", bdf=bdf)["TDID_RESULT"], "done", f"result of the {kind}")
    equal(t.journal.changes("tdi-state", bdf=bdf), ["attaching → prepared", "prepared → bound", "bound → prepared", "prepared → detaching", "detaching → gone"],
          "states")
    check("prepare → bind" in t.journal.changes("custody", bdf=bdf), "the step to bind is not in the audit")
    vm.lease.close()
    t.gone(vm)
    contains(t.journal.one("vm-closing", vm="tee")["TDID_REASON"], "keeper", "why it closed")


@scenario("edu:2", tags=("quick",))
def audit_failures(t):
    """What is refused, and a holder that is killed."""
    bdf, other = t.host.bdfs("edu", 2)
    vm = t.vm("first")
    vm.attach(bdf)
    second = t.vm("second")
    text = refused(("InUse", "Exists"), second.attach, bdf)
    one = t.journal.one("refused", method="Attach", vm="second", caller=ME)
    equal(one["TDID_REASON"], text, "the reason")
    check(one["TDID_ERROR"] in ("InUse", "Exists"), "the name of the error:", one)
    # Names that would be more than a name.
    for name in ("a\nTDID_VM=first", "x=y", "n" * 65, "\x1b[2Jclear"):
        refused("InvalidArgument", t.client.create_vm, name)
    equal(len(t.journal.of("refused", method="CreateVM", error="InvalidArgument")), 4, "VMs with such names")
    refused("InvalidArgument", vm.hold, "line\nbreak")
    refused("InvalidArgument", vm.hold, "x" * 65)
    equal(len(t.journal.of("refused", method="Hold", vm="first")), 2, "labels")
    refused("InvalidArgument", vm.attach, ("0x" + "f" * 300))
    equal(t.journal.problems(), [], "entries")
    # Reading what is not there is no decision.
    refused("NotFound", t.client.find_vm, "nobody")
    equal(t.journal.of("refused", method="GetVM"), [], "a look")

    holder = vm.holder_pid()
    os.kill(holder, signal.SIGKILL)
    t.gone(vm)
    eventually(lambda: process_state(holder) in ("", "Z"), "end of the holder")
    equal(t.journal.one("holder-died", vm="first")["TDID_PID"], str(holder), "the holder that died")
    in_order(t.journal, ("holder-died", {"vm": "first"}), ("vm-closing", {"vm": "first", "reason": "its holder died"}), ("vm-gone", {"vm": "first"}))
    t.free(bdf, other)
    t.journal.one("custody-over", bdf=bdf)


@scenario("edu", needs=("root",), tags=("quick",))
def audit_denied(t):
    """Somebody else's VM: who asked for what, also when it is the first that tdid hears of this caller."""
    bdf = t.host.bdf("edu")
    vm = t.vm("mine")
    vm.attach(bdf)
    for path, interface, member, signature, *args in ((vm.path, "VM", "Seal", "a{sv}", {}), (vm.path, "VM", "Describe", ""),
                                                      (t.client.tdi(bdf).path, "TDI", "Detach", "a{sv}", {}), (t.device(bdf).path, "Device", "Restore", "a{sv}", {}),
                                                      ("/org/tdid1", "Manager", "CreateVM", "sa{sv}", "hers", {})):
        names = []
        try:
            call_as(ALICE, t.bus.address, path, f"{NAME}.{interface}", member, signature, *args)
        except Exception as error:  # noqa: BLE001 - which one is looked at
            names.append(getattr(error, "name", str(error)))
        check(names and names[0] in DENIED, f"{member} as another user: {names}")
        one = t.journal.one("denied", method=member)
        equal(one["TDID_CALLER"], str(ALICE), f"caller of {member}")
        equal(one.get("TDID_VM"), None if member == "CreateVM" else "mine", f"VM of {member}")
        equal(one.get("TDID_BDF"), bdf if interface in ("TDI", "Device") else None, f"function of {member}")
    equal(t.journal.of("job-started", caller=ALICE), [], "jobs of somebody who may not")


@scenario("edu", start=False, tags=("quick",))
def audit_quarantine(t):
    """A function that cannot be given back, across a restart, until it can."""
    bdf = t.host.bdf("edu")
    t.start({"TDID_TEST_FAIL": f"claim.override:undo:{errno.EIO}"})
    vm = t.vm("unlucky")
    vm.attach(bdf)
    vm.lease.close()
    t.gone(vm)
    eventually(lambda: t.device(bdf).text("Quarantine") or t.device(bdf).text("Custody") == "none", "the end of the custody")
    if t.device(bdf).text("Custody") == "none":
        t.skip("this build has no kill points")
    one = t.journal.of("quarantined", bdf=bdf)[0]
    contains(one["TDID_REASON"], "EIO", "the reason")
    equal(one["TDID_STEP"], "claim", "the step")
    equal(one["PRIORITY"], "3", "its priority")
    text = refused("Quarantined", t.device(bdf).restore)
    told = t.journal.of("quarantined", bdf=bdf)
    failed = t.journal.one("job-failed", kind="restore", bdf=bdf, error="Quarantined", result="failed", caller=ME)
    equal(failed["TDID_REASON"], text, "why the restore failed")
    t.daemon.restart()
    t.drop_client()
    check(t.device(bdf).text("Quarantine"), "the quarantine has not outlived tdid")
    equal(t.journal.of("quarantined", bdf=bdf), told, "the quarantine is told of again")
    t.device(bdf).restore()
    t.free(bdf)
    # It is so with every try, and was quarantined again by the first.
    equal(len(t.journal.of("restored", bdf=bdf)), len(told), "tries")
    equal(t.journal.one("job-done", kind="restore", bdf=bdf)["TDID_RESULT"], "done", "result of the restore")
    in_order(t.journal, ("quarantined", {}), ("started", {}), ("restored", {}), ("custody-over", {"bdf": bdf}))


@scenario("edu", tags=("quick",))
def audit_exports(t):
    """dma-bufs: that they are made, for whom, and closed; nothing of where they are."""
    bdf = t.host.bdf("edu")
    vm = t.vm("gpu")
    vm.attach(bdf)
    x = t.client.tdi(bdf).export(0, 8192, 4096)
    t.defer(x.close)
    made = t.journal.one("export-made", vm="gpu", bdf=bdf)
    equal((made["TDID_KIND"], made["TDID_REGION"], made["TDID_IMPORTER"], made["TDID_CALLER"], made["TDID_EXPORT"]),
          ("export", "0", "kvm", str(ME), str(x.id)), "the export")
    vm.destroy()
    equal(t.journal.changes("export-state", vm="gpu", export=x.id)[-1].split()[-1], "closed", "its end")
    check(not any("8192" in str(v) or "4096" in str(v) for e in t.journal.of("export-made", "export-state") for v in e.values()), "its place is told")


@scenario("edu", start=False, tags=("quick",))
def audit_nowhere(t):
    """Arguments: none, a folder that is not there, a disk that is full; tdid works without its audit, and says so once."""
    bdf = t.host.bdf("edu")
    for where in ("syslog", "/no/such/folder/audit"):
        t.daemon.start(wait=False, arguments=("--audit=" + where,))
        equal(t.daemon.wait_exit(), 1, f"exit code with --audit={where}")
        contains("\n".join(t.daemon.log()), f"--audit={where}: ", "the log")
    t.daemon.start(arguments=("--audit=/dev/full",))
    vm = t.vm("deaf")
    vm.attach(bdf)
    t.attached(vm, bdf)
    vm.destroy()
    equal(t.daemon.stop(), 0, "exit code")
    equal(sum("the audit goes nowhere" in line for line in t.daemon.log()), 1, "lines about it")
    check(any(" entries of the audit were lost" in line for line in t.daemon.log()), "how many were lost is not told")
    t.daemon.start(arguments=("--audit=none",))
    t.drop_client()
    vm = t.vm("none")
    vm.destroy()
    equal(t.journal.entries(), [], "entries")


@scenario("edu", tags=("systemd",), start=False)
def audit_journal(t):
    """The real journal: an entry is found by its MESSAGE_ID, with its fields, and once."""
    bdf = t.host.bdf("edu")
    t.unit.start()
    vm = t.vm("inhouse")
    vm.attach(bdf)

    def find(*matches):
        done = subprocess.run(["journalctl", "--no-pager", "-o", "json", *matches], capture_output=True, text=True, check=False)
        return [json.loads(line) for line in done.stdout.splitlines()]

    # Of vm-created: tdid.journal-fields(7).
    created = eventually(lambda: find("MESSAGE_ID=a172cbd1168a4e02a34c358bae69b755", "TDID_VM=inhouse"), "the entry of the VM")
    equal(len(created), 1, "entries")
    equal(created[0]["TDID_VM_ID"], str(vm.get("UUID")), "its UUID")
    equal(created[0]["_SYSTEMD_UNIT"], t.unit.name, "its unit")
    equal(created[0]["SYSLOG_IDENTIFIER"], "tdid", "its identifier")
    # stderr is the journal, too: what is an entry is not also a line.
    equal(find("MESSAGE=" + created[0]["MESSAGE"]), created, "entries with that text")
    states = eventually(lambda: find("TDID_EVENT=tdi-state", f"TDID_BDF={bdf}", "TDID_NEW=prepared"), "the entry of the function")
    equal(states[-1]["TDID_VM"], "inhouse", "its VM")
    vm.lease.close()
    t.gone(vm)
    eventually(lambda: find("TDID_EVENT=custody-over", f"TDID_BDF={bdf}"), "the end of the custody")
