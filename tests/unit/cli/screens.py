# SPDX-License-Identifier: LGPL-2.1-or-later
"""The screens that are pinned: on which machine, by which command, with which exit code. A name is that of a file in screens/.

A row without a name is run for its JSON: it has to be as the schema says. Each verb of tdictl is in a row of both kinds, but for those of
NO_SCREEN and NO_JSON, which say why not.
"""

NVME, GPU, AUDIO, SYSTEM, EDU = "05:00.0", "01:00.0", "01:00.1", "04:00.0", "20:00.0"

# Verbs that print nothing of their own when all is well.
NO_SCREEN = {
    "vm destroy": "prints nothing",
    "dmabuf export": "becomes the command",
    "completion": "prints a script, which test_words.py runs",
    "policy suggest": "prints a policy",
    "check": "test_check.py has its screens",
    "metrics": "prints what is counted, which test_fleet.py reads",
    "nfd": "prints features, which test_fleet.py reads",
    "cdi": "prints a specification, which test_fleet.py reads",
}
NO_JSON = {
    "dmabuf export": "becomes the command; its errors are here",
}

# (name, exit code, arguments)
TDX = (
    ("help", 0, "--help"),
    ("help-group", 0, "device --help"),
    ("help-attach", 0, "attach --help"),
    ("help-run", 0, "run --help"),
    ("status-idle", 0, ""),
    ("device-list", 0, "device list"),
    ("device-list-tee", 0, "device list --tee-io --state=free 10de:2330 144d:a80a"),
    ("device-show-free", 0, f"device show {GPU}"),
    ("tsm-list", 0, "tsm list"),
    ("tsm-show", 0, "tsm show"),
    (None, 0, "check"),
    (None, 0, "check --list"),
    (None, 0, "metrics"),
    (None, 0, "nfd"),
    ("error-cdi", 3, "cdi"),
    ("vm-list-none", 0, "vm list"),
    ("vm-create", 0, "vm create guest1 --await-vmm=600"),
    ("error-group", 2, f"attach guest1 {GPU}"),
    ("error-in-use", 5, f"attach guest1 {SYSTEM}"),
    ("attach-dry-run", 0, f"attach guest1 {GPU} {AUDIO} --dry-run"),
    ("attach", 0, f"attach guest1 {GPU} {AUDIO}"),
    (None, 0, f"attach guest1 {NVME} --guest-rid=0x100 --bind=early"),
    ("device-show-attached", 0, f"device show {NVME}"),
    ("status", 0, "status"),
    (None, 0, "cdi"),
    ("vm-list", 0, "vm list"),
    ("vm-show", 0, "vm show guest1"),
    ("detach-dry-run", 0, f"detach {NVME} --dry-run"),
    ("vm-destroy-dry-run", 0, "vm destroy guest1 --dry-run"),
    ("error-bind", 5, f"bind {NVME}"),
    ("vm-seal", 0, "vm seal guest1"),
    ("error-bind-kvm", 5, f"bind {NVME}"),
    ("error-unbind", 5, f"unbind {NVME}"),
    ("error-hotplug", 5, f"attach guest1 {EDU}"),
    ("dmabuf-list", 0, "dmabuf list"),
    ("detach", 0, f"detach {NVME}"),
    ("device-connect", 0, f"device connect {EDU}"),
    ("device-disconnect", 0, f"device disconnect {EDU}"),
    ("error-restore", 5, f"device restore {EDU}"),
    ("error-evidence", 4, f"device evidence {EDU}"),
    ("policy-show", 0, "policy show"),
    ("policy-explain", 0, f"policy explain --device={NVME} --vm=guest1 --owner=1000"),
    ("policy-check", 2, "policy check /dev/null/none"),
    ("run-dry-run", 0, f"run --device={EDU} --name=guest2 --guest-rid=8 --dry-run -- qemu"),
    ("run-in-use", 5, f"run --device={SYSTEM} -- true"),
    ("run-no-device", 2, "run -- true"),
    ("run-no-command", 2, f"run --device={EDU}"),
    ("run-placeholder", 2, f"run --device={EDU} -- qemu @sokcet:{EDU}@"),
    ("run-not-there", 127, f"run --device={EDU} -- /nonexistent/qemu"),
    ("error-verb", 2, "atach guest1 05:00.0"),
    ("error-option", 2, "attach guest1 05:00.0 --gest-rid=1"),
    ("error-value", 2, "vm create x --await-vmm=900"),
    ("error-bdf", 2, "device show 5:0.0"),
    ("error-no-function", 3, "device show 0f:00.0"),
    ("error-ids", 2, "attach guest1 1234:11e8"),
    ("error-no-vm", 3, "vm show guest7"),
    ("error-no-keeper", 2, "vm create x"),
)

# What differs by platform.
OTHER = (
    ("status", 0, ""),
    ("tsm-show", 0, "tsm show"),
    (None, 0, "vm create guest1 --await-vmm=600"),
    ("attach-dry-run", 0, "attach guest1 05:00.0 --guest-rid=0x100 --dry-run"),
    ("attach", 0, "attach guest1 05:00.0 --guest-rid=0x100"),
    ("vm-show", 0, "vm show guest1"),
)

MACHINES = {"tdx": TDX, "sev-snp": OTHER, "cca": OTHER, "plain": OTHER}

# For JSON alone, on the machine tdx: what has no screen above, and errors of every kind that can be had there. After what is above.
JSON = (
    (0, "--version"),
    (0, "vm --help"),
    (5, "vm seal guest1 --dry-run"),
    (0, f"run --device={EDU} --dry-run -- true"),
    (0, "vm create x --await-vmm=1 --dry-run"),
    (0, "completion bash"),
    (0, "completion words -- vm show gu"),
    (0, f"policy suggest {EDU} --no-evidence"),
    (0, "policy show"),
    (0, f"policy explain --files --device={EDU}"),
    (2, "dmabuf export 01:00.0 0 0 4K -- true"),
    (0, "vm destroy guest1 --dry-run"),
    (0, "vm destroy guest1"),
    (3, "vm destroy guest1"),
    (12, "--bus=unix:path=/nonexistent status"),
)

# Verbs that change nothing, and may be asked twice.
LOOKING = ("status", "tsm list", "tsm show", "device list", "device show", "vm list", "vm show", "dmabuf list", "policy check", "policy show", "policy explain")
# Refused for people alone.
NOT_REFUSED_JSON = ()
