# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The commands that README and the guides show are run, one after the other as a reader would, on the machine that the page names; what a page
# says that they print is compared. Which blocks are not run, and why, stands in the page; tests/unit/test_guides.py looks at those.

import os
import re
import subprocess
from types import SimpleNamespace

from kit import guides
from kit.checks import check, equal, eventually
from kit.daemon import Bus, Daemon, children, die_with_us
from kit.files import SimFiles
from kit.paths import TESTS
from kit.registry import scenario
from kit.simhost import Simulation

ROOT = os.path.dirname(TESTS)

# The host's files are the simulated kernel's, and there is no service manager: the unit's reload is the call that it makes.
PREAMBLE = """
kernel() { "{root}/tests/scenario/sim" "{socket}" "$@"; }
for program in cat ls readlink; do
        eval "$program() { case \\"\\$1\\" in /sys/*) kernel $program \\"\\$@\\" ;; *) command $program \\"\\$@\\" ;; esac; }"
done
systemctl() {
        [ "$*" = "reload tdid" ] || { echo "systemctl $*: not here"; return 1; }
        dbus-send --bus="$DBUS_SYSTEM_BUS_ADDRESS" --type=method_call --print-reply --dest=org.tdid1 /org/tdid1 org.tdid1.Manager.Reload
}
"""


class Machine:
    """One of the example machines, with a tdid on it."""

    def __init__(self, t, name, folder):
        os.mkdir(folder, 0o755)
        self.folder = folder
        self.simulation = Simulation(t.paths.sim, os.path.join(ROOT, f"libtdi/sim/examples/{name}.json"), folder)
        self.simulation.start()
        self.bus = Bus(folder, t.paths.policy)
        host = SimpleNamespace(spec="sim:" + self.simulation.socket, files=SimFiles(self.simulation.client))
        self.daemon = Daemon(t.paths.tdid, folder, self.bus, host)
        self.daemon.start()
        self.path = ":".join(os.path.dirname(p) for p in (t.paths.tdictl, t.paths.sim, t.paths.tdid)) + ":" + os.environ["PATH"]

    def run(self, commands):
        """What each printed, and its exit code."""
        script = PREAMBLE.replace("{root}", ROOT).replace("{socket}", self.simulation.socket)
        for number, command in enumerate(commands):
            text = command.text.replace("/etc/tdid/policy.d", self.daemon.policy).replace("/etc/tdid", self.folder)
            script += f"{{ {text}\n}} 2>&1; printf '\\n@@%s %s\\n' {number} $?\n"
        env = {**self.daemon.environment(None), "PATH": self.path, "DBUS_SYSTEM_BUS_ADDRESS": self.bus.address}
        done = subprocess.run(["bash", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=200, check=False, cwd=self.folder, env=env, preexec_fn=die_with_us)
        ended = re.findall(r"(.*?)\n@@(\d+) (\d+)\n", done.stdout, flags=re.S)
        equal([int(e[1]) for e in ended], list(range(len(commands))), f"commands that came to an end: {done.stdout[-600:]}")
        return [(out, int(code)) for out, _, code in ended]

    def stop(self):
        workers = children(self.daemon.pid)
        code = self.daemon.stop()
        # A worker that reads on ends when it finds nobody to tell.
        eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in workers), "tdid's workers have ended", 30)
        self.bus.stop()
        problems = self.simulation.stop()
        check(code == 0 and not problems, f"tdid ended with {code}", *problems)


def is_as_shown(shown, printed):
    """Lines in this order; "…" stands for anything, and for any number of lines where it is one by itself."""
    pattern = ""
    for line in shown:
        pattern += r"(?:.*\n)*" if line.strip() == "…" else re.escape(line).replace("…", ".*") + r"\n"
    return re.fullmatch(pattern, printed if printed.endswith("\n") or not printed else printed + "\n")


def blocks():
    """{(file, machine): [blocks that are run]}, in the order of the files and in them."""
    found = {}
    for name in guides.documents(ROOT)[0]:
        for block in guides.markdown(os.path.join(ROOT, name), name)[0]:
            if block.language == "console" and not block.not_run:
                found.setdefault((name, block.machine), []).append(block)
    return found


@scenario(needs=("machines",), start=False)
def guides_run(t):
    if not os.path.isdir(os.path.join(ROOT, "docs")):
        t.skip("the documents are not here")
    count = 0
    for number, ((name, machine), some) in enumerate(blocks().items()):
        m = Machine(t, machine, os.path.join(t.folder, f"guide{number}"))
        t.defer(m.daemon.kill)
        commands = [c for block in some for c in block.commands()]
        for command, (printed, code) in zip(commands, m.run(commands)):
            equal(code, 0, f"{name}:{command.line}: exit code of '{command.text}', which printed {printed!r}")
            if command.output:
                check(is_as_shown(command.output, printed), f"{name}:{command.line}: '{command.text}' printed {printed!r}, not {command.output!r}")
            count += 1
        m.stop()
    t.value("commands", count)
    check(count > 40, f"only {count} commands are run")
