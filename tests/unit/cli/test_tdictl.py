# SPDX-License-Identifier: LGPL-2.1-or-later
"""tdictl as a program, against fake-tdid over a private bus: output, exit codes, signals, held commands.

usage: test_tdictl.py TDICTL FAKE-TDID MAN-PAGE
"""
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import unittest

from private_bus import PrivateBus

try:
    import json_schema
except ModuleNotFoundError:
    json_schema = None

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
import manual

TDICTL, FAKE, MAN = (os.path.abspath(a) for a in sys.argv[1:4])


class Case(unittest.TestCase):
    """Each case has a bus and a daemon of its own."""

    def setUp(self):
        self.bus = PrivateBus().__enter__()
        self.addCleanup(self.bus.__exit__)
        self.fake = None
        self.start_fake()

    def start_fake(self):
        self.fake = subprocess.Popen([FAKE], env=self.bus.environment, stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.stop, self.fake)
        self.assertEqual(self.fake.stdout.readline(), "ready\n")

    @staticmethod
    def stop(process):
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in process.stdout, process.stderr:
            if stream:
                stream.close()

    def start(self, *arguments, **more):
        more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        p = subprocess.Popen([TDICTL, *arguments], env=self.bus.environment, text=True, **more)
        self.addCleanup(self.stop, p)
        return p

    def run_tdictl(self, *arguments, expect=0):
        r = subprocess.run([TDICTL, *arguments], env=self.bus.environment, capture_output=True, text=True, timeout=20, check=False)
        self.assertEqual(r.returncode, expect, (arguments, r.stdout, r.stderr))
        return r

    def json(self, *arguments, expect=0):
        r = self.run_tdictl("--json", *arguments, expect=expect)
        self.assertEqual(r.stderr, "")
        self.assertEqual(r.stdout.count("\n"), 1)
        o = json.loads(r.stdout)
        self.assertEqual(o["schema"], "tdid/1")
        self.check_schema(o, arguments)
        return o

    def check_schema(self, o, arguments):
        """Whatever it prints, the schema has it. What fake-tdid adds to VMs for tests is not tdid's."""
        # fake-tdid's host has a few members only.
        if not json_schema or "host" in o:
            return
        theirs = json.loads(json.dumps(o))
        for vm in theirs.get("vms", []):
            for key in "options", "seen":
                vm.pop(key, None)
        name = "error" if "error" in o else "plan" if "--dry-run" in arguments else json_schema.verb_of(arguments, json_schema.VERBS)
        self.assertEqual(json_schema.problems(theirs, name), [], arguments)

    def error(self, *arguments, expect, name):
        """The same failure as text on stderr and as JSON on stdout."""
        r = self.run_tdictl(*arguments, expect=expect)
        self.assertEqual(r.stdout, "")
        self.assertTrue(r.stderr.startswith("tdictl: "))
        o = self.json(*arguments, expect=expect)
        self.assertEqual(set(o), {"schema", "error"})
        self.assertEqual((o["error"]["name"], o["error"]["exit"]), (name, expect))
        return o["error"]["text"]

    def vms(self):
        return [vm["name"] for vm in self.json("vm", "list")["vms"]]

    def wait_until(self, condition):
        end = time.monotonic() + 5
        while not condition():
            self.assertLess(time.monotonic(), end, "waited in vain")
            time.sleep(0.02)


class Looking(Case):
    def test_status(self):
        o = self.json()
        self.assertEqual(list(o), ["schema", "tdid", "devices", "vms", "tsms", "jobs"])
        self.assertEqual(o, self.json("status"))
        self.assertEqual(o["tdid"]["host"], "sim")
        self.assertEqual([d["iommu_group"] for d in o["devices"]][:3], [1, None, 3])
        self.assertIsNone(o["devices"][1]["driver"])
        self.assertEqual(o["devices"][2]["quarantine"], "undo of open failed")
        text = self.run_tdictl().stdout
        self.assertIn("guard: none: this is a test", text)
        self.assertIn("No VMs.", text)
        self.assertIn("0000:03:00.0", text)
        self.assertNotIn("0000:01:00.0", text)

    def test_keys_are_documented(self):
        self.json("vm", "create", "web", "--await-vmm=600")
        self.json("attach", "web", "01:00.0")
        o = self.json()
        described = manual.read(MAN)["JSON"].entries
        for name in "tdid", "devices", "vms", "tsms", "jobs":
            words = set(re.findall(r"[a-z_]+", described[name]))
            one = o[name] if name == "tdid" else o[name][0]
            self.assertEqual(set(one) - words, set(), name)
        tdi = o["vms"][0]["tdis"][0]
        self.assertEqual(set(tdi), {"bdf", "state", "custody", "guest_rid", "tdisp"})

    def test_lists(self):
        self.assertEqual(len(self.json("device", "list")["devices"]), 12)
        self.assertEqual(self.json("tsm", "list")["tsms"][0]["name"], "tsm0")
        self.assertEqual(self.json("vm", "list"), {"schema": "tdid/1", "vms": []})
        self.assertEqual(self.run_tdictl("vm", "list").stdout, "No VMs.\n")
        self.assertEqual(self.run_tdictl("vm", "list", "--no-legend").stdout, "")
        self.assertEqual(len(self.run_tdictl("device", "list", "--no-legend").stdout.splitlines()), 12)
        self.assertTrue(self.run_tdictl("device", "list").stdout.startswith("BDF "))

    def test_show(self):
        for form in "0000:01:00.0", "01:00.0", "pci_0000_01_00_0":
            self.assertEqual(self.json("device", "show", form)["devices"][0]["bdf"], "0000:01:00.0")
        self.assertEqual(len(self.json("device", "show", "1:00.0".zfill(7), "02:00.0")["devices"]), 2)
        self.assertIn("driver: nvme", self.run_tdictl("device", "show", "01:00.0").stdout)
        # The whole reason where tdid tells it, the one for everybody in lists.
        self.assertIn("process 7 (nosy)", self.json("device", "show", "03:00.0")["devices"][0]["quarantine"])
        self.assertEqual([d["quarantine"] for d in self.json("device", "list")["devices"] if d["quarantine"]], ["undo of open failed"])
        self.assertEqual([d["bdf"] for d in self.json("device", "list")["devices"] if not d["present"]], ["0000:0c:00.0"])
        o = self.json("tsm", "show", "tsm0")
        self.assertEqual((list(o), o["tsms"][0]["parent"]), (["schema", "host", "tsms"], "0000:00:01.0"))
        # Without a name of all TSMs: the platform is explained in any case.
        self.assertEqual(self.json("tsm", "show"), o)
        self.assertEqual([x["what"] for x in o["host"]["lacks"]], ["a TSM"])
        text = self.run_tdictl("tsm", "show").stdout
        for words in "recognised_by: nothing else, really", "Bind provider", "without_it: no test", "parent: 0000:00:01.0":
            self.assertIn(words, text)
        self.error("device", "show", "7f:00.0", expect=3, name="NotFound")
        self.error("device", "show", "1:0", expect=2, name="InvalidArgument")
        self.error("tsm", "show", "tsm7", expect=3, name="NotFound")
        self.error("vm", "show", "nobody", expect=3, name="NotFound")

    def test_usage(self):
        self.assertIn("Did you mean 'attach'?", self.error("atach", expect=2, name="Usage"))
        self.assertIn("Too few", self.error("attach", "x", expect=2, name="Usage"))
        self.assertRegex(self.run_tdictl("--version").stdout, r"^tdictl \d+\.\d+\.\d+\n$")
        self.assertIn("version", self.json("--version"))

    def test_full_disk(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            p = self.start("device", "list", stdout=full)
            self.assertIn("cannot write", p.communicate()[1])
            self.assertEqual(p.returncode, 1)

    def test_no_daemon(self):
        self.stop(self.fake)
        text = self.error("status", expect=12, name="Unreachable")
        self.assertIn("systemctl start tdid", text)
        self.assertIn(self.bus.address, text)
        self.error("attach", "web", "01:00.0", expect=12, name="Unreachable")
        text = self.error("--bus=unix:path=/nonexistent/bus", "vm", "list", expect=12, name="Unreachable")
        self.assertIn("/nonexistent/bus", text)
        self.error("--bus=sytem", "vm", "list", expect=2, name="InvalidArgument")

    def test_check(self):
        """tdid's word is shown as it is; one that does not come, or that is no word of checks, is told; without tdid tdictl looks itself."""
        found = {"checks": [{"id": "vfio.pci", "group": "VFIO", "title": "vfio-pci", "verdict": "fail", "reason": "is\x1b not there", "remedy": "Load it.",
                             "functions": [{"bdf": "0000:01:00.0", "verdict": "warn", "reason": "odd"}], "details": ["process 1"]}],
                 "summary": {"verdict": "fail", "pass": 0, "warn": 0, "fail": 1, "skip": 0}, "platform": "plain"}
        self.assertIn("has not come back", self.error("check", expect=9, name="Timeout"))
        for answer, expect in (({"check": found}, 6), ({"check": {"checks": 1}}, 1), ({}, 1)):
            self.stop(self.fake)
            self.bus.environment["FAKE_CHECK"] = json.dumps({"schema": "tdid/1", **answer})
            self.start_fake()
            if expect == 1:
                self.assertIn("understand", self.error("check", expect=1, name="Failed"))
                continue
            self.assertEqual(self.json("check", expect=6), {"schema": "tdid/1", **found, "looked_by": "tdid"})
            text = self.run_tdictl("check", expect=6).stdout
            for words in ("FAIL  vfio-pci         is? not there", "- odd: 0000:01:00.0", "- process 1", "→ Load it.", "This is what tdid sees."):
                self.assertIn(words, text)
        self.stop(self.fake)
        o = json.loads(self.start("--json", "check").communicate(timeout=60)[0])
        self.assertEqual((o["schema"], o["looked_by"]), ("tdid/1", "tdictl"))
        self.error("--bus=sytem", "check", expect=2, name="InvalidArgument")

    def test_monitor(self):
        p = self.start("--json", "monitor")
        time.sleep(0.5)
        self.json("vm", "create", "web", "--await-vmm=600")
        self.json("attach", "web", "01:00.0")
        seen = []
        while not seen or seen[-1]["kind"] != "notice":
            o = json.loads(p.stdout.readline())
            self.assertEqual(list(o), ["schema", "event"])
            seen.append(o["event"])
        self.assertEqual(seen[0]["type"], "vm")
        self.assertEqual(seen[0]["value"]["name"], "web")
        self.assertEqual(seen[-1], {**seen[-1], "type": "job", "key": "finished", "value": {"error": "", "text": ""}})
        p.send_signal(signal.SIGINT)
        self.assertEqual(p.wait(), -signal.SIGINT)

        p = self.start("monitor")
        self.assertIn("Watching", p.stderr.readline())
        self.stop(self.fake)
        self.assertRegex(p.stdout.readline(), r"^\d\d:\d\d:\d\d\.\d{3} daemon  tdid running=no\n$")
        self.start_fake()
        self.assertIn("running=yes", p.stdout.readline())


class Acting(Case):
    def test_vm(self):
        o = self.json("vm", "create", "web", "--await-vmm", "600")
        self.assertEqual([o["vms"][0][k] for k in ("id", "name", "phase")], ["1", "web", "preparing"])
        self.assertIn("web", self.run_tdictl("vm", "list").stdout)
        self.error("vm", "create", "web", "--await-vmm", "600", expect=5, name="Exists")

        vm = self.json("vm", "show", "web")["vms"][0]
        self.assertIs(vm["described"], True)
        self.assertEqual(vm["options"], "await_vmm=u:600;")
        self.assertEqual(vm["keepers"][0]["kind"], "await")
        self.json("attach", "web", "01:00.0")
        tdi = self.json("vm", "show", o["vms"][0]["uuid"])["vms"][0]["tdis"][0]
        self.assertEqual((tdi["tdisp"], tdi["ioas"], tdi["bind"]), ("unknown", 3, "late"))
        text = self.run_tdictl("vm", "show", "1").stdout
        self.assertRegex(text, r"(?m)^keepers:$")

        self.assertEqual(self.json("vm", "seal", "web")["vms"][0]["phase"], "sealed")
        self.assertEqual(self.json("vm", "destroy", "web"), {"schema": "tdid/1", "destroyed": {"id": "1"}})
        self.assertEqual(self.vms(), [])
        self.error("vm", "destroy", "web", expect=3, name="NotFound")

        self.json("vm", "create", "secret", "--await-vmm", "600")
        vm = self.json("vm", "show", "secret")["vms"][0]
        self.assertIs(vm["described"], False)
        self.assertNotIn("keepers", vm)

    def test_create_needs_a_keeper(self):
        self.assertIn("--await-vmm", self.error("vm", "create", "a", expect=2, name="Usage"))
        self.error("vm", "create", "a", "--await-vmm=0", expect=2, name="Usage")
        self.error("vm", "create", "a", "--hold", expect=2, name="Usage")
        self.error("vm", "create", "a", "--hold", "--", expect=2, name="Usage")
        self.error("vm", "create", "a", "--await-vmm=5", "--", "true", expect=2, name="Usage")
        self.error("vm", "create", "a", "--await-vmm=5", "--no-inherit", expect=2, name="Usage")
        self.assertEqual(self.vms(), [])

    def test_attach(self):
        self.json("vm", "create", "web", "--await-vmm=600")
        o = self.json("attach", "web", "pci_0000_02_00_0", "01:00.0", "--guest-rid=8", "--guest-rid=0x10", "--force", "--bind=late", "--no-connect")
        self.assertEqual(o["tdis"][0], {"bdf": "0000:02:00.0", "state": "prepared", "guest_rid": 8, "tdisp": "unknown", "custody": "prepare",
                                        "vm": "web", "vm_id": "1"})
        self.assertEqual(o["tdis"][1]["bdf"], "0000:01:00.0")
        self.assertEqual(self.json("vm", "show", "web")["vms"][0]["seen"],
                         "0000:02:00.0:guest_rid=u:8;bind=s:late;connect=s:no;force=b:1;0000:01:00.0:guest_rid=u:16;bind=s:late;connect=s:no;force=b:1;")
        self.assertEqual(self.json("device", "show", "01:00.0")["devices"][0]["vm"], "web")
        self.assertIn("0000:01:00.0 web prepared prepare", self.run_tdictl("bind", "01:00.0").stdout)
        o = self.json("detach", "01:00.0", "02:00.0")
        self.assertEqual([(d["custody"], d["vm"]) for d in o["devices"]], [("none", None)] * 2)
        self.error("detach", "01:00.0", expect=3, name="NotFound")

        self.assertIn("is withheld", self.error("attach", "web", "03:00.0", expect=7, name="Quarantined"))
        self.assertIn("mounted on /data", self.error("attach", "web", "06:00.0", expect=5, name="InUse"))
        self.error("attach", "web", "20:00.0", expect=3, name="NotFound")
        self.error("attach", "nobody", "01:00.0", expect=3, name="NotFound")
        self.error("attach", "web", "01:00", expect=2, name="InvalidArgument")
        self.error("attach", "web", "01:00.0", "02:00.0", "--guest-rid=8", expect=2, name="Usage")
        token = "--vf-token=6ba7b810-9dad-11d1-80b4-00c04fd430c8"
        self.json("attach", "web", "01:00.0", "02:00.0", token)
        self.assertEqual(self.json("vm", "show", "web")["vms"][0]["seen"].count("vf_token"), 2)
        self.error("attach", "web", "1:0.0", token, token, expect=2, name="Usage")

    def test_devices(self):
        self.assertEqual(self.json("device", "connect", "01:00.0", "--tsm=tsm0")["devices"][0]["tsm"], "tsm0")
        self.assertIsNone(self.json("device", "disconnect", "01:00.0")["devices"][0]["tsm"])
        text = self.error("device", "connect", "01:00.0", "20:00.0", expect=3, name="NotFound")
        self.assertIn("The first 1 of 2 are done, up to 0000:01:00.0.", text)
        self.error("device", "connect", "01:00.0", "--tsm=tsm9", expect=3, name="NotFound")
        self.error("device", "restore", "01:00.0", expect=4, name="Denied")
        self.error("unbind", "01:00.0", expect=3, name="NotFound")

    def test_daemon_goes(self):
        self.json("vm", "create", "web", "--await-vmm=600")
        text = json.loads(self.run_tdictl("--json", "attach", "web", "05:00.0", expect=12).stdout)["error"]["text"]
        self.assertIn("tdid went away", text)
        self.assertIn("look with 'tdictl status'", text)

    def running(self):
        return [j for j in self.json()["jobs"] if j["state"] == "running"]

    def test_interrupt(self):
        self.json("vm", "create", "web", "--await-vmm=600")
        p = self.start("attach", "web", "04:00.0")
        self.wait_until(self.running)
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=5)
        self.assertEqual((p.returncode, out), (10, ""))
        self.assertIn("Cancelling job", err)
        self.assertIn("cancelled and undone", err)
        self.assertEqual(self.running(), [])

        p = self.start("--json", "attach", "web", "04:00.0")
        self.wait_until(self.running)
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=5)
        self.assertEqual((json.loads(out)["error"]["name"], err), ("Cancelled", ""))

    def test_interrupt_twice(self):
        self.json("vm", "create", "web", "--await-vmm=600")
        p = self.start("attach", "web", "0c:00.0")
        self.wait_until(self.running)
        p.send_signal(signal.SIGINT)
        self.wait_until(lambda: self.running()[0]["step"] == "undo")
        p.send_signal(signal.SIGINT)
        _, err = p.communicate(timeout=5)
        self.assertEqual(p.returncode, 1)
        self.assertIn("which goes on", err)
        self.assertEqual(len(self.running()), 1)

    def test_ignored_interrupt(self):
        self.json("vm", "create", "web", "--await-vmm=600")
        p = self.start("attach", "web", "02:00.0", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
        self.wait_until(self.running)
        p.send_signal(signal.SIGINT)
        p.communicate(timeout=5)
        self.assertEqual(p.returncode, 0)

    def test_progress(self):
        self.json("vm", "create", "web", "--await-vmm=600")
        master, slave = pty.openpty()
        p = self.start("attach", "web", "04:00.0", stderr=slave)
        os.close(slave)
        seen = b""
        end = time.monotonic() + 6
        while b"attach: claim, 1 s" not in seen:
            self.assertLess(time.monotonic(), end, seen)
            if select.select([master], [], [], 1)[0]:
                seen += os.read(master, 1024)
        p.send_signal(signal.SIGINT)
        self.assertEqual(p.wait(), 10)
        os.close(master)


class Dmabufs(Case):
    def setUp(self):
        super().setUp()
        self.run_tdictl("vm", "create", "web", "--await-vmm=600")
        self.run_tdictl("attach", "web", "01:00.0")

    def export(self, bar, *command, options=("--importer=kvm",), expect=0):
        return self.run_tdictl("dmabuf", "export", "01:00.0", str(bar), "4K", "0x2000", *options, "--", *command, expect=expect)

    def test_usage(self):
        self.error("dmabuf", "export", "01:00.0", "0", "0", "4K", "--importer=kvm", expect=2, name="Usage")
        for words in (["0", "0", "4K", "--importer=kvm", "--"], ["0", "0", "4K", "--", "true"], ["0", "0", "--importer=kvm", "--", "true"],
                      ["0", "0", "4K", "--importer=vfio", "--", "true"], ["0", "0", "4K", "--importer=any", "--", "true"],
                      ["6", "0", "4K", "--importer=kvm", "--", "true"], ["0", "x", "4K", "--importer=kvm", "--", "true"]):
            self.run_tdictl("dmabuf", "export", "01:00.0", *words, expect=2)
        for size in "", "K", "4k", "4KB", "+4", " 4", "0x", "17179869184G", "18446744073709551616", "4,096":
            r = self.run_tdictl("dmabuf", "export", "01:00.0", "0", "0", size, "--importer=kvm", "--", "true", expect=2)
            self.assertIn("SIZE is a number of bytes", r.stderr)
        for accept in "pinne", "pinnedx", "pinned,,dynamic", ",pinned", "PINNED":
            r = self.run_tdictl("dmabuf", "export", "01:00.0", "0", "0", "4K", "--importer=any", "--accept=" + accept, "--", "true", expect=2)
            self.assertIn("--accept takes", r.stderr)

    def test_command(self):
        out = self.export(0, "sh", "-c", "readlink /proc/$$/fd/$TDID_DMABUF_FD /proc/$$/fd/$TDID_DMABUF_EVENT_FD; echo $TDID_DMABUF_FD $TDID_DMABUF_EVENT_FD "
                                         "$TDID_DMABUF_CLASS $TDID_DMABUF_ID @dmabuf@,x@event@@dmabuf@; ls /proc/$$/fd; true").stdout.splitlines()
        self.assertIn("/memfd:dmabuf", out[0])
        self.assertIn("eventfd", out[1])
        dmabuf, event, *rest = out[2].split()
        self.assertEqual(rest, ["revocable", "7", f"{dmabuf},x{event}{dmabuf}"])
        # Nothing else: no connection to the bus. Without a pipe, of which the shell has an end for a moment.
        self.assertEqual(len(out[3:]), 5, out)

    def test_exit_codes(self):
        for command, code in (("exit 0", 0), ("exit 42", 42)):
            self.export(0, "sh", "-c", command, expect=code)
        r = self.export(0, "/nonexistent/importer", expect=127)
        self.assertIn("Could not run '/nonexistent/importer'", r.stderr)
        self.export(0, "/dev/null", expect=126)
        r = self.export(5, "true", options=("--importer=any", "--accept=dynamic,pinned"), expect=6)
        self.assertIn("4096 8192 any pinned dynamic", r.stderr)
        r = self.run_tdictl("dmabuf", "export", "02:00.0", "0", "0", "1G", "--importer=kvm", "--", "true", expect=3)
        self.assertIn("0000:02:00.0", r.stderr)

    def test_list(self):
        self.run_tdictl("vm", "create", "secret", "--await-vmm=600")
        dmabufs = self.json("dmabuf", "list")["dmabufs"]
        self.assertEqual([(d["vm"], d["id"], d["kind"]) for d in dmabufs], [("web", 7, "bar"), ("web", 8, "memory")])
        out = self.run_tdictl("dmabuf", "list").stdout.splitlines()
        self.assertEqual(out[0].split(), ["VM", "ID", "KIND", "BDF", "BAR", "OFFSET", "SIZE", "CLASS", "IMPORTER", "STATE"])
        self.assertEqual(out[1].split(), ["web", "7", "bar", "0000:01:00.0", "0", "4096", "8192", "revocable", "kvm", "exported"])
        self.run_tdictl("vm", "destroy", "web")
        self.assertEqual(self.json("dmabuf", "list")["dmabufs"], [])
        self.assertEqual(self.run_tdictl("dmabuf", "list").stdout, "No dma-bufs.\n")


class Holding(Case):
    def hold(self, *command, options=(), **more):
        return self.start("vm", "create", "web", *options, "--hold", "--", *command, **more)

    def test_exit_code(self):
        for command, code in (("exit 0", 0), ("exit 42", 42), ("kill -KILL $$", 137), ("kill -TERM $$", 143)):
            p = self.hold("sh", "-c", command)
            self.assertEqual(p.communicate(timeout=10), ("", ""))
            self.assertEqual(p.returncode, code, command)
            self.wait_until(lambda: self.vms() == [])

    def test_not_run(self):
        p = self.hold("/nonexistent/vmm")
        _, err = p.communicate(timeout=10)
        self.assertEqual(p.returncode, 127)
        self.assertIn("Could not run '/nonexistent/vmm'", err)
        p = self.hold("/dev/null")
        p.communicate(timeout=10)
        self.assertEqual(p.returncode, 126)
        self.wait_until(lambda: self.vms() == [])

    def hold_shell(self, *options):
        """A shell that tells its environment, then waits for a line; and its descriptors, as {number: what it is}."""
        p = self.hold("sh", "-c", "echo $$ ${TDID_LEASE_FD-none} $TDID_VM $TDID_VM_NAME $TDID_VM_UUID; read x", options=options, stdin=subprocess.PIPE)
        self.addCleanup(p.stdin.close)
        pid, *said = p.stdout.readline().split()
        self.assertEqual(said[1:], ["1", "web", "00000000-0000-4000-8000-000000000001"])
        return p, int(pid), said[0]

    @staticmethod
    def descriptors(pid):
        # A shell may have some of its own from 10 on.
        return {n: os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd") if int(n) < 10}

    def test_inherited(self):
        p, pid, lease = self.hold_shell()
        fds = self.descriptors(pid)
        self.assertEqual(sorted(fds), ["0", "1", "2", lease])
        self.assertTrue(fds[lease].startswith("socket:"))
        self.wait_until(lambda: fds[lease] not in self.descriptors(p.pid).values())
        # The lease is the command's: tdictl may die.
        p.kill()
        p.wait()
        self.assertEqual(self.vms(), ["web"])
        os.kill(pid, signal.SIGKILL)
        self.wait_until(lambda: self.vms() == [])

    def test_not_inherited(self):
        p, pid, lease = self.hold_shell("--no-inherit")
        self.assertEqual(lease, "none")
        self.assertEqual(sorted(self.descriptors(pid)), ["0", "1", "2"])
        self.assertEqual(self.vms(), ["web"])
        p.kill()
        p.wait()
        self.wait_until(lambda: self.vms() == [])
        os.kill(pid, signal.SIGKILL)

    def test_signals(self):
        for number in signal.SIGTERM, signal.SIGINT, signal.SIGHUP:
            p = self.hold("sh", "-c", f"trap 'exit {number + 20}' {number.name[3:]}; echo; while :; do sleep 0.05; done")
            p.stdout.readline()
            p.send_signal(number)
            p.communicate(timeout=5)
            self.assertEqual(p.returncode, number + 20)
            self.wait_until(lambda: self.vms() == [])

    def test_ignored_child_signal(self):
        p = self.hold("sh", "-c", "exit 5", preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
        p.communicate(timeout=5)
        self.assertEqual(p.returncode, 5)


class Running(Case):
    """`tdictl run`: what a VMM is told, and that nothing is left of what does not come about."""

    def start_vmm(self, *words, options=("--device=01:00.0",), **more):
        return self.start("run", *options, "--", *words, **more)

    def vmm(self, *words, options=("--device=01:00.0",), expect=0):
        p = self.start_vmm(*words, options=options)
        out, err = p.communicate(timeout=20)
        self.assertEqual(p.returncode, expect, (out, err))
        return out, err

    def all_over(self):
        self.wait_until(lambda: self.vms() == [])

    def test_sockets(self):
        out, _ = self.vmm("echo", "@socket:01:00.0@", "-s", "x=@socket:0000:01:00.0@,y", "@socket:pci_0000_08_00_0@", "me@host", "@@iommufd@@",
                          options=("--device=pci_0000_01_00_0", "--device=08:00.0"))
        uuid = "00000000-0000-4000-8000-000000000001"
        self.assertEqual(out, f"/state/vm/{uuid}/0000:01:00.0 -s x=/state/vm/{uuid}/0000:01:00.0,y /state/vm/{uuid}/0000:08:00.0 me@host @iommufd@\n")
        self.all_over()

    def test_options(self):
        out, _ = self.vmm("sh", "-c", 'echo $TDID_VM_NAME; exec "$0" --json vm show "$TDID_VM"', TDICTL,
                          options=("--device=01:00.0", "--device=02:00.0", "--name=web", "--vmm-uid=7", "--vmm-gid=8", "--bind=late", "--hotplug",
                                   "--await-vmm=3", "--guest-rid=1", "--guest-rid=2", "--force", "--no-connect"))
        name, shown = out.split("\n", 1)
        vm = json.loads(shown)["vms"][0]
        self.assertEqual((name, vm["name"], vm["phase"]), ("web", "web", "sealed"))
        self.assertEqual(vm["options"], "bind=s:late;vmm_uid=u:7;vmm_gid=u:8;hotplug=b:1;await_vmm=u:3;")
        self.assertEqual(vm["seen"], "0000:01:00.0:guest_rid=u:1;bind=s:late;connect=s:no;force=b:1;"
                                     "0000:02:00.0:guest_rid=u:2;bind=s:late;connect=s:no;force=b:1;")

    def test_descriptors(self):
        """Only what is asked for is handed off; the VMM has it and its lease, and tdictl keeps nothing."""
        p = self.start_vmm("sh", "-c", 'echo $$ $TDID_LEASE_FD "$@"; exec cat', "vmm", "@vfio:01:00.0@", "@iommufd@", "@vfio:03:00.0@", "@vfio:01:00.0@",
                           options=("--device=01:00.0", "--device=03:00.0", "--device=07:00.0"), stdin=subprocess.PIPE)
        self.addCleanup(p.stdin.close)
        pid, lease, first, iommufd, third, again = p.stdout.readline().split()
        self.assertEqual(first, again)
        self.wait_until(lambda: "cat" in os.readlink(f"/proc/{pid}/exe"))
        fds = {n: os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")}
        self.assertEqual(sorted(fds), sorted(["0", "1", "2", lease, first, iommufd, third]))
        self.assertIn("0000:01:00.0", fds[first])
        self.assertIn("0000:03:00.0", fds[third])
        self.assertIn("eventfd", fds[iommufd])
        mine = {os.readlink(f"/proc/{p.pid}/fd/{n}") for n in os.listdir(f"/proc/{p.pid}/fd")}
        self.assertEqual([m for m in mine if "0000:" in m or "eventfd" in m or m == fds[lease]], [])
        p.stdin.close()
        self.assertEqual(p.wait(10), 0)
        self.all_over()

    def test_no_inherit(self):
        p = self.start_vmm("sh", "-c", 'echo ${TDID_LEASE_FD-none}; read x', options=("--device=01:00.0", "--no-inherit"), stdin=subprocess.PIPE)
        self.addCleanup(p.stdin.close)
        self.assertEqual(p.stdout.readline(), "none\n")
        p.kill()
        p.wait()
        self.all_over()

    def test_exit_code(self):
        for command, code in (("exit 0", 0), ("exit 42", 42), ("kill -TERM $$", 143)):
            self.assertEqual(self.vmm("sh", "-c", command, expect=code), ("", ""))
        # Also with --await-vmm, nothing is left of a VM whose VMM could not be run.
        _, err = self.vmm("/nonexistent/vmm", options=("--device=01:00.0", "--await-vmm=600"), expect=127)
        self.assertIn("Could not run '/nonexistent/vmm'", err)
        self.assertEqual(self.vms(), [])
        self.vmm("/dev/null", options=("--device=01:00.0", "--await-vmm=600"), expect=126)
        self.assertEqual(self.vms(), [])

    def test_nothing_left(self):
        keep = "--await-vmm=600"
        for device, code, name in (("03:00.0", 7, "Quarantined"), ("06:00.0", 5, "InUse"), ("20:00.0", 3, "NotFound")):
            self.error("run", "--device=01:00.0", "--device=" + device, keep, "--", "true", expect=code, name=name)
            self.assertEqual(self.vms(), [])
        text = self.error("run", "--device=01:00.0", "--device=02:00.0", keep, "--", "true", "@vfio:01:00.0@", "@vfio:02:00.0@", expect=4, name="Policy")
        self.assertIn("tdid.conf", text)
        self.assertEqual(self.vms(), [])
        self.error("run", "--device=07:00.0", keep, "--", "true", "@socket:07:00.0@", expect=5, name="InvalidState")
        self.assertEqual(self.vms(), [])
        self.json("vm", "create", "taken", keep)
        self.error("run", "--device=01:00.0", "--name=taken", keep, "--", "true", expect=5, name="Exists")
        self.assertEqual(self.vms(), ["taken"])

    def test_usage(self):
        """Found before anything is made: tdid is not even asked."""
        self.stop(self.fake)
        for words, text in ((("@nothing@",), "no placeholder"), (("@socket:01:00.0",), "not closed"), (("@socket:02:00.0@",), "no --device names it"),
                            (("@iommufd@",), "@vfio:BDF@ only"), (("@socket:01:00.0@", "@vfio:01:00.0@"), "one driver")):
            self.assertIn(text, self.error("run", "--device=01:00.0", "--", "true", *words, expect=2, name="Usage"))
        self.error("run", "--", "true", expect=2, name="Usage")
        self.error("run", "--device=01:00.0", expect=2, name="Usage")
        self.error("run", "--device=01:00.0", "--device=02:00.0", "--guest-rid=1", "--", "true", expect=2, name="Usage")
        self.error("run", "--device=1", "--", "true", expect=2, name="InvalidArgument")
        self.error("run", "--device=01:00.0", "--", "true", expect=12, name="Unreachable")

    def test_interrupt(self):
        """Ctrl-C while functions are attached: cancelled, the VM closed, the VMM never run."""
        p = self.start_vmm("echo", "it ran", options=("--device=04:00.0", "--await-vmm=600"))
        self.wait_until(lambda: [j for j in self.json()["jobs"] if j["state"] == "running"])
        p.send_signal(signal.SIGINT)
        out, err = p.communicate(timeout=10)
        self.assertEqual((p.returncode, out), (10, ""))
        self.assertIn("Cancelling job", err)
        self.assertEqual(self.vms(), [])

    def test_late_interrupt(self):
        """Ctrl-C when everything is attached already is not lost: it cancels as well, or is the command's if that runs already."""
        p = self.start_vmm("sleep", "60", options=("--device=02:00.0", "--await-vmm=600"))
        self.wait_until(lambda: [j for j in self.json()["jobs"] if j["kind"] == "seal"])
        p.send_signal(signal.SIGINT)
        p.communicate(timeout=10)
        self.assertIn(p.returncode, (10, 128 + signal.SIGINT))
        # A command that has run was not the VMM that the VM waits for: whoever gave --await-vmm has it wait on.
        if p.returncode == 10:
            self.assertEqual(self.vms(), [])

    def test_signals(self):
        p = self.start_vmm("sh", "-c", "trap 'exit 9' TERM; echo; while :; do sleep 0.05; done")
        p.stdout.readline()
        p.send_signal(signal.SIGTERM)
        p.communicate(timeout=5)
        self.assertEqual(p.returncode, 9)
        self.all_over()


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
