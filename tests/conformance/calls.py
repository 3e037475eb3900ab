# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Makes recorded calls on a simulation: descriptors, names and ids of the recording are put into the simulation's. It compares nothing.

import fcntl
import json
import os
import re
import sys

import masks

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "scenario"))

from kit import simclient  # noqa: E402
from kit.simhost import Edu  # noqa: E402

NAMED = re.compile(r"/sys/class/(block|net)/([^/]+)")
VFIO_DEVICE_BIND_IOMMUFD = 0x3B76
# Where in a struct an iommufd object's id is, given or made.
ID_IN = {"VFIO_DEVICE_ATTACH_IOMMUFD_PT": 8, "IOMMU_VFIO_IOAS": 4, "IOMMU_DESTROY": 4, "IOMMU_IOAS_UNMAP": 4, "IOMMU_IOAS_MAP_FILE": 8}
ID_OUT = {"VFIO_DEVICE_BIND_IOMMUFD": 12, "IOMMU_VFIO_IOAS": 4, "IOMMU_IOAS_ALLOC": 8, "VFIO_DEVICE_ATTACH_IOMMUFD_PT": 8}


def reference(new, made):
    """A descriptor of something that is no file of the host."""
    kind = new["new"]
    if kind == "memfd":
        fd = os.memfd_create("conformance", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, new["length"])
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, new["seals"])
        return fd
    if kind == "anon_inode:[eventfd]":
        return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    if kind == "anon_inode:kvm-vm":
        return made()
    return os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)


def capability(config, wanted):
    """Where a capability is in a config space, -1 when it has none."""
    at = config[0x34]
    while at:
        if config[at] == wanted:
            return at
        at = config[at + 1]
    return -1


class Calls:
    def __init__(self, host, sequence, machine):
        self.host = host
        self.client = host.client
        self.sequence = sequence
        self.files = {}     # number: descriptor
        self.paths = {}     # number: what was opened
        self.bound = {}     # number of a VFIO file: number of its iommufd
        self.differences = []
        self.compared = 0
        self.masked = {}
        self.running = {}   # steps under way: thread, result
        self.events = []
        self.event_at = {}  # per process: how many events it has read
        self.tsm = self.stick = None
        self.busy = {}
        self.names = {}     # disks and interfaces: the kernel's, the simulation's
        self.ids = {}       # of iommufd objects: (file, the kernel's): the simulation's
        self.waiting = []   # events that the simulation has not sent yet
        self.nodes = {}     # VFIO nodes: the functions that they were last seen at
        self.groups = {}    # numbers of IOMMU groups: the kernel's, the simulation's
        self.functions = {f["bdf"] for f in host.topology["functions"]} | {p["bdf"] for p in host.topology["ports"]}
        self.described = {f["bdf"] for f in machine["functions"] if "config" in f}
        self.msi = {f["bdf"]: capability(bytes.fromhex(f["config"]), 5) for f in machine["functions"] if "config" in f}
        self.uevents = self.client.uevents()
        os.set_blocking(self.uevents, False)

    # ---- who is who ----

    def bdf_of(self, path):
        """The function that a file of sysfs, or a VFIO node, is of."""
        if path.startswith("/dev/vfio/devices/"):
            return self.nodes.get(path)
        found = masks.BDF.findall(path)
        return found[-1] if found else None

    def is_generated(self, bdf):
        """Whether the config space of a function is the description's work, not the VM's."""
        return bdf is not None and bdf not in self.described

    def has_model(self, path):
        bdf = self.bdf_of(path)
        return any(f["bdf"] == bdf and f["role"].rstrip("0123456789") in ("edu", "group-edu", "ivshmem") for f in self.host.topology["functions"])

    def translated(self, step):
        """
        The step in the simulation's names. Disks, interfaces and VFIO nodes are numbered as their drivers come, which is a race where several
        processes bind, and on the VM's two processors: who is who shows in the links of /sys/class, and in vfio-dev.
        """
        path = step.get("path", "")
        if path.startswith("/dev/vfio/devices/"):
            return {**step, "path": "/dev/vfio/devices/" + self.names.get(os.path.basename(path), os.path.basename(path))}
        if step["op"] == "address":
            return {**step, "path": self.names.get(path, path)}
        match = NAMED.match(path)
        if not match:
            return step
        kind, name = match[1], match[2]
        target = step.get("text", "") if step["op"] == "readlink" else ""
        if masks.BDF.search(target):
            folder = target[:target.rindex("/" + ("net" if kind == "net" else "nvme") + "/")] if "/net/" in target or "/nvme/" in target else target
            for other in self.client.list("/sys/class/" + kind):
                if self.client.readlink(f"/sys/class/{kind}/{other}").startswith(folder + "/"):
                    self.names[name] = other
        return {**step, "path": path.replace(name, self.names.get(name, name))}

    # ---- descriptors ----

    def descriptor(self, ref):
        """A descriptor for a reference, None for one that is not open."""
        number = ref.get("f")
        if number is None:
            return None
        if number not in self.files and "new" in ref:
            self.files[number] = reference(ref, self.host.kvm_vm)
            self.paths[number] = ref["new"]
        return self.files.get(number)

    # ---- the calls ----

    def perform(self, step):
        """What the simulation answers, in the form of a step: r and what else is compared."""
        try:
            return getattr(self, "do_" + step["op"].replace("-", "_"))(self.translated(step))
        except simclient.SimGone:
            raise
        except OSError as error:
            if error.errno is None:
                raise
            return {"r": -error.errno, "answer": getattr(error, "answer", b"")}

    def do_open(self, step):
        fd = self.client.open(step["path"], step["flags"])
        if "f" in step:
            self.files[step["f"]] = fd
            self.paths[step["f"]] = step["path"]
        else:
            self.client.close(fd)
        return {"r": 0}

    def do_close(self, step):
        fd = self.files.get(step["f"])
        if fd is None:
            return {"r": -9}
        if not step["last"]:
            self.client.close(os.dup(fd))
            return {"r": 0}
        del self.files[step["f"]]
        if self.paths.get(step["f"]) in ("memfd", "anon_inode:[eventfd]"):
            os.close(fd)
        else:
            self.client.close(fd)
        return {"r": 0}

    def do_release(self, step):
        self.do_close({"f": step["f"], "last": True})
        return {}

    @staticmethod
    def bytes_of(step):
        return step["text"].encode("latin-1") if "text" in step else bytes.fromhex(step.get("data", ""))

    def do_pread(self, step):
        fd = self.descriptor(step["file"])
        if fd is None:
            return {"r": -9}
        data = self.read(fd, step["size"], step["offset"])
        return {"r": len(data), "bytes": data[:4096]}

    def read(self, fd, size, offset):
        """A read of nothing is a call as well."""
        return self.client.pread(fd, size, offset) if size else self.client._call(simclient.PREAD, offset, 0, fd=fd)[1]

    def do_pwrite(self, step):
        fd = self.descriptor(step["file"])
        if fd is None:
            return {"r": -9}
        return {"r": self.client.pwrite(fd, self.bytes_of(step), step["offset"])}

    def do_file_write(self, step):
        return self.do_file_read(step)

    def do_file_read(self, step):
        fd = self.client.open(step["path"], step["flags"])
        calls = []
        try:
            for call in step["calls"]:
                try:
                    if call["op"] == "pread":
                        data = self.read(fd, call["size"], call["offset"])
                        calls.append({"r": len(data), "bytes": data[:4096]})
                    else:
                        calls.append({"r": self.client.pwrite(fd, self.bytes_of(call), call["offset"])})
                except simclient.SimGone:
                    raise
                except OSError as error:
                    calls.append({"r": -error.errno})
        finally:
            self.client.close(fd)
        return {"r": 0, "calls": calls}

    def do_readlink(self, step):
        target = self.client.readlink(step["path"])
        return {"r": len(target), "bytes": target.encode()}

    def do_list(self, step):
        names = sorted(self.client.list(step["path"]))
        if step["path"].endswith("/vfio-dev"):
            self.nodes.update({"/dev/vfio/devices/" + n: self.bdf_of(step["path"]) for n in names})
            if self.sequence["kind"] == "scenario":
                self.names.update(zip(step["names"] or (), names))
        return {"r": 0, "names": names}

    def do_address(self, step):
        return {"r": int(self.client.address_present(step["path"]))}

    def do_write(self, step):
        if step["path"].endswith("/driver_override") and step["text"].strip() == "tdid_test_stick":
            self.host.stick_users.add(self.bdf_of(step["path"]))
        self.host.write_file(step["path"], step["text"])
        return {"r": 0}

    def do_ioctl(self, step):
        # What the client's own side refuses never reaches the simulation.
        if "pack" in step:
            return {"r": step["pack"]}
        fd = self.descriptor(step["file"])
        fds = [self.descriptor(ref) for ref in step["fds"]]
        if fd is None or None in fds:
            return {"r": -9}
        payload = self.with_our_ids(step)
        result, answer, new = self.client._call(simclient.IOCTL, step["request"], step.get("value", 0), payload, fds, fd)
        if new:
            if "f" in step:
                self.files[step["f"]] = new[0]
                self.paths[step["f"]] = step["name"]
            else:
                os.close(new[0])
            if "made_at" not in step:
                result = 0
        if step["request"] == VFIO_DEVICE_BIND_IOMMUFD and step["fds"]:
            self.bound[step["file"]["f"]] = step["fds"][0]["f"]
        self.learn_id(step, answer)
        return {"r": result, "answer": answer}

    # ---- ids ----

    def id_space(self, step):
        """The iommufd whose ids a call speaks of."""
        number = step["file"]["f"]
        return self.bound.get(number, number)

    def with_our_ids(self, step):
        """What goes in, with the simulation's ids. Calls of several processes at once get theirs in whatever order; one process alone does not."""
        payload = bytearray(bytes.fromhex(step.get("in", "")))
        at = ID_IN.get(step["name"])
        if self.sequence["kind"] == "scenario" and at and len(payload) >= 4 + at + 4:
            ours = self.ids.get((self.id_space(step), bytes(payload[4 + at:8 + at])))
            if ours:
                payload[4 + at:8 + at] = ours
        return bytes(payload)

    def learn_id(self, step, answer):
        at = ID_OUT.get(step["name"])
        if self.sequence["kind"] == "scenario" and at and "out" in step and len(answer) >= 8 + at:
            kernel = bytes.fromhex(step["out"])[4 + at:8 + at]
            self.ids[self.id_space(step), kernel] = answer[4 + at:8 + at]

    # ---- what scenarios do by themselves ----

    def do_act(self, step):
        what, args, kwargs = step["what"], step["args"], step.get("kwargs", {})
        room, _, name = what.partition(".")
        if room == "tsm":
            self.tsm = self.tsm or self.host.new_tsm()
            getattr(self.tsm, name)(*args, **kwargs)
            if name == "unload":
                self.tsm = None
        elif room == "stick":
            self.stick = self.stick or self.host.new_stick()
            getattr(self.stick, name)(*args, **kwargs)
        elif room == "busy":
            name, _, way = name.partition(".")
            key = json.dumps([name, args])
            args = [self.busy_name(a) if isinstance(a, str) else a for a in args]
            if way == "enter":
                self.busy[key] = getattr(self.host.busy, name)(*args)
                self.busy[key].__enter__()
            elif key in self.busy:
                self.busy.pop(key).__exit__(None, None, None)
        elif what == "dma":
            pid, bdf, ioas = args
            device = next(f for f in reversed(self.bound) if f in self.files and self.paths[f] == self.host.vfio_node(bdf))
            Edu(self.client, self.files[device], self.files[self.bound[device]]).prove(ioas, pid)
        elif what == "start_remove":
            self.host.start_remove(*args)
        elif what == "open_vfio":
            self.files[step["f"]] = self.host.open_vfio(args[0])
        else:
            raise ValueError(f"what is {what}?")
        return {"r": 0}

    def busy_name(self, argument):
        """A disk or an interface that a scenario named, in the simulation's names: who that is, the next look at it tells."""
        name = os.path.basename(argument)
        for step in self.sequence["steps"]:
            match = NAMED.match(step.get("path", ""))
            if match and match[2] == name and step["op"] == "readlink" and step["r"] > 0:
                self.translated(step)
                return argument.replace(name, self.names.get(name, name))
        return argument
