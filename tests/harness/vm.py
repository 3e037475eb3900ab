# SPDX-License-Identifier: LGPL-2.1-or-later
"""The VM suites: one boot each, many scenarios a boot. The runner in the guest reports each scenario in a line, and what
it says is counted one by one; besides, each boot has tests of its own: the machine is the one described (topology),
the kernel did not complain (kernel-log), and no sanitizer did (sanitizers)."""

import fnmatch
import random
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import child
from builds import ASAN, DEFAULT

RESULT = re.compile(r"(ok|not ok|skip) (\S+)(?: (.*))?$")
KERNEL_COMPLAINT = re.compile(r"WARNING:|BUG:|Oops|general protection fault|rcu: INFO: .* stall|refcount_t:|"
                              r"list_(add|del) corruption")
GUEST_RUNNER = "tests/scenario/run"
# What nothing in a guest may cause: an assertion of QEMU's own, as iotlb_to_section's in its memory code, and an emulated processor
# that has lost its timer.
QEMU_CRASH = re.compile(r"QEMU ended with code -6:|Assertion `.*' failed|boot: the guest stood still:")
STALL = re.compile(r"rcu: INFO: .* stall")
QEMU_RETRIES = 3
ASAN_SCENARIOS = ("main_job_destroy", "main_job_both_killed", "failing_do", "tsm_counted", "group_whole", "vu_edu")

# Where tdid and tdictl talk to each other, or to files of their own, and the kernel has little part, and of what takes its time. The
# simulation runs all of them every time; here one in twenty-five, chosen by the seed. All of them with --full.
SAMPLED_SCENARIOS = ("main_job_pidfd", "main_job_stop", "main_job_holder_*", "cycles", "sixteen_at_once", "all_in_one_transaction", "await_vmm",
                     "tsm_read_by_others", "tsm_foreign", "access_*", "bad_*", "journal_*", "names_*", "tdictl_*", "second_daemon", "usage", "strange_state", "unknown_things",
                     "closed_vm", "seal_empty", "async_jobs", "vu_*", "p2p_*", "dmabuf_*", "run_*", "handoff_*", "socket_*", "connection_*", "holder_*",
                     "killed_*", "stopped_*", "peer_*", "pinned_*", "describe_*", "kvm_of_peer_several", "guest_*", "qemu_*",
                     "tdid_killed_under_load", "in_use_*", "force_*", "all_or_none_*", "stuck_*", "quarantine*", "workers_*", "many_vms",
                     "limits", "keepers", "lease_*", "told_to_all", "churn", "absent_function", "newer_*", "restore_unplugged", "replugged", "bind_*", "viommu_*", "request_*", "vf_*", "association_*",
                     "tdisp_*",
                     "kill_points_*", "failing_undo", "cycles_nvme", "tsm_slow", "group_left_behind", "group_member_*",
                     "tsm_two_slow", "stop_*", "version_*", "confined_*", "bus_gone", "ide_*", "policy_*", "evidence_*", "audit_*", "guard_*", "event_*", "full_run", "short_*", "watchdog", "thousand_idle", "never_reads", "bus_returns", "bus_table", "bus_random", "check_*", "clock_jumps")
# But these always: what only the kernel can say of functions that are served.
ALWAYS = ("vu_edu", "vu_irqs", "vu_stuck_close", "p2p_edu", "peer_memory", "dmabuf_decode", "guest_drives_edu", "bind_late", "bind_end_both",
          "bind_module_errors", "bind_matrix", "viommu_prepared", "viommu_events", "tdisp_states", "association_made", "policy_reload", "evidence_gate",
          "evidence_netlink_objects", "guard_mmap", "guard_writes", "guard_legacy", "check_real", "event_wanted", "event_error", "evidence_kernel", "evidence_doe_faults")


class Lines:
    """Turns the guest's lines into results: a result's indented lines belong to it."""

    def __init__(self, report, suite):
        self.report = report
        self.suite = suite
        self.pending = None
        self.detail = []
        self.seen = self.failed = 0
        self.names = set()

    def flush(self):
        if not self.pending:
            return
        verdict, name, rest = self.pending
        self.pending = None
        if verdict == "skip":
            self.report.skipped(name, rest)
            return
        seconds = re.match(r"[0-9.]+", rest)
        seconds = float(seconds.group()) if seconds else 0.0
        if verdict == "ok":
            self.report.passed(name, seconds)
        else:
            self.failed += 1
            self.report.failed(name, seconds, "\n".join(self.detail) or "(it gave no reason)")

    def line(self, text):
        match = RESULT.match(text)
        if match:
            self.flush()
            self.pending = match.group(1), match.group(2), match.group(3) or ""
            self.detail = []
            self.seen += 1
            self.names.add(match.group(2))
        elif text[:1].isspace() and self.pending:
            self.detail.append(text)
        else:
            self.flush()
            if text.strip():
                self.report.say(f"        {self.suite}: {text}")


def scenarios(root, systemd, tag=None):
    """Names of the scenarios that fit a boot, as the guest's runner lists them; those with a tag alone. With a libvirtd they are a suite."""
    listed = subprocess.run([root / GUEST_RUNNER, "--list"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    names = []
    for line in listed.stdout.split("\n"):
        name, _, tags = line.partition(" tags: ")
        if name.strip() and ("systemd" in tags.split()) == systemd and (tag in tags.split() if tag else "libvirt" not in tags.split()):
            names.append(name.split()[0])
    return names


def matching(names, patterns):
    """Those that fit one of the patterns, each of which must fit one: a scenario with a new name is not to drop out unseen."""
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise ValueError(f"no scenario is called like '{pattern}': see the lists in tests/harness/vm.py and sim.py")
    return [n for n in names if any(fnmatch.fnmatch(n, p) for p in patterns)]


def _some(names, variant, seed):
    """The scenarios of a CI run."""
    if variant is ASAN:
        # On the simulation the sanitizers see every kind of scenario; here, what only a real kernel answers.
        return matching(names, ASAN_SCENARIOS)
    sampled = [n for n in matching(names, SAMPLED_SCENARIOS) if n not in ALWAYS]
    left_out = set(sampled) - set(random.Random(seed).sample(sampled, len(sampled) // 25))
    # The same run has these on the same kernel, with sanitizers; the main job also as it is installed.
    left_out |= set(matching(names, ASAN_SCENARIOS)) - {"main_job_destroy"}
    return [n for n in names if n not in left_out]


def _guest_script(report, suite, seed, names, some):
    """The shell commands to run in the guest, names being all scenarios or some; none when nothing there is wanted."""
    selection = report.selection
    script = []
    if selection.wants(suite, "topology"):
        script.append("out=$(vm/check-topology 2>&1) && echo 'ok topology 0' || "
                      "{ echo 'not ok topology 0'; echo \"$out\" | sed 's/^/  /'; }")
    if selection.whole:
        script.append(f"exec scenario/run --seed {seed} {' '.join(names) if some else ''}")
    elif any(selection.wants(suite, name) for name in names):
        script.append(f"exec scenario/run --seed {seed} '{selection.test}'")
    return script


def _complaints(console, ended):
    """What the kernel of a boot complained of, and where: one that stands still says so itself."""
    text = console.read_text(errors="replace").split("\n") if console.exists() else ["BUG: there is no console log"]
    if QEMU_CRASH.search(ended.output):
        text = [line for line in text if not STALL.search(line)]
    bad = [i for i, line in enumerate(text) if KERNEL_COMPLAINT.search(line)]
    return [("\n".join(text[bad[0]:bad[0] + 40]), console)] if bad else []


def run_vm(report, builds, full, seed, suite, variant, systemd=False, timeout=1100):
    root = builds.root
    if not builds.possible:
        report.skipped("*", "there is no meson.build in the tree")
        return
    if not (root / GUEST_RUNNER).exists():
        report.skipped("*", f"there is no {GUEST_RUNNER} in the tree")
        return
    names = scenarios(root, systemd)
    some = not full and report.selection.whole and not systemd
    left_out = []
    if some:
        everything, names = names, _some(names, variant, seed)
        left_out = [n for n in everything if n not in names]
    script = _guest_script(report, suite, seed, names, some)
    if not script:
        return
    if left_out:
        report.say(f"        {suite}: left to --full and the simulation: {' '.join(left_out)}")
    ended, log = builds.compile(variant)
    if ended.code != 0:
        report.failed("*", 0, f"not run: {builds.folder(variant)} does not build", log)
        return

    log = builds.logs / f"{suite}.log"
    builds.logs.mkdir(parents=True, exist_ok=True)
    for old in builds.logs.glob(f"{suite}-console*.log"):
        old.unlink()
    timeout *= 6 if full else 1
    share = Path(tempfile.mkdtemp(prefix="tdid-reports-", dir="/var/tmp"))
    share.chmod(0o1777)
    try:
        command = [root / "tests/vm/boot", "--build", builds.folder(variant), "--timeout", timeout, "--share", share]
        env = {k: f"{v}:log_path=/mnt/share/{suite}" for k, v in variant.env.items()}
        if full:
            env["TDID_FULL"] = "1"
        for pair in env.items():
            command += ["--env", "=".join(pair)]
        if systemd:
            command.append("--systemd")
        lines = Lines(report, suite)
        complaints = []
        for boot in range(QEMU_RETRIES + 1):
            console = builds.logs / f"{suite}-console{boot or ''}.log"
            ended = child.run([*command, "--console", console, "--", "/bin/sh", "-c", "\n".join(script)], log, timeout=timeout + 120,
                              on_line=lines.line)
            lines.flush()
            complaints += _complaints(console, ended)
            left = [n for n in names if report.selection.wants(suite, n) and n not in lines.names]
            if not QEMU_CRASH.search(ended.output) or not left:
                break
            # Its emulation of two processors at once has a race of its own; what has reported stands, the rest is run again.
            report.say(f"        {suite}: QEMU itself crashed after {lines.seen} results: going on in a new boot with the other {len(left)}")
            script = [f"exec scenario/run --seed {seed} {' '.join(left)}"]
        if ended.code not in (0, 1) or (ended.code == 1 and not lines.failed):
            report.failed("boot", ended.seconds, f"the VM, or the runner in it, ended with code {ended.code} after {lines.seen}"
                          f" results\n{ended.tail(80)}", log)
        elif not lines.seen:
            report.failed("boot", ended.seconds, f"no scenario has reported\n{ended.tail()}", log)

        if report.selection.wants(suite, "kernel-log"):
            if complaints:
                report.failed("kernel-log", 0, *complaints[0])
            else:
                report.passed("kernel-log", 0)
        if variant is ASAN and report.selection.wants(suite, "sanitizers"):
            reports = sorted(share.iterdir())
            if reports:
                kept = builds.logs / f"{suite}-sanitizers"
                shutil.rmtree(kept, ignore_errors=True)
                shutil.copytree(share, kept)
                report.failed("sanitizers", 0, reports[0].read_text(errors="replace")[:6000], kept)
            else:
                report.passed("sanitizers", 0)
    finally:
        shutil.rmtree(share, ignore_errors=True)


def run_plain(report, builds, full, seed, **_):
    run_vm(report, builds, full, seed, "vm", DEFAULT)


def run_asan(report, builds, full, seed, **_):
    run_vm(report, builds, full, seed, "vm-asan", ASAN, timeout=1500)


def run_systemd(report, builds, full, seed, **_):
    run_vm(report, builds, full, seed, "vm-systemd", DEFAULT, systemd=True)


def run_modules(report, builds, **_):
    if not (builds.root / "tests/kmod/Kbuild").exists():
        report.skipped("*", "there is no tests/kmod/Kbuild in the tree")
        return
    if not report.selection.wants("modules", "build"):
        return
    log = builds.logs / "modules.log"
    report.result("build", child.run([builds.root / "tests/vm/build-modules"], log), log)


def run_guest(report, builds, **_):
    """The guest that drives functions through tdid, against the same device without tdid: a failure here is no fault of tdid's."""
    if not report.selection.whole and report.selection.suite == "*":
        return
    log = builds.logs / "guest.log"
    lines = Lines(report, "guest")
    ended = child.run([builds.root / "tests/vm/check-guest"], log, timeout=600, on_line=lines.line)
    lines.flush()
    if ended.code != 0 and not lines.failed or not lines.seen:
        report.failed("run", ended.seconds, f"check-guest ended with code {ended.code} after {lines.seen} results\n{ended.tail()}", log)
