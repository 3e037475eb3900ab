# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A D-Bus client of tdid for scenarios: calls, properties, descriptors, jobs. It blocks, uses no main loop, and gets no
# signals: what changes is polled. Signals are seen through tdictl monitor and dbus-monitor, programs of their own.

import json
import os
import select
import threading
import time

import dbus
import dbus.bus
import dbus.types

from kit.checks import Failure, eventually
from kit.requests import Requests

NAME = "org.tdid1"
ROOT = "/org/tdid1"
PREFIX = "org.tdid1.Error."
# Longer than anything that tdid does in these scenarios; a call that takes that long is a failure of its own.
CALL_TIMEOUT = 180.0

# The type of every option of the contract; what is not here goes out as Python's own type says.
TYPES = {
    "uuid": dbus.String, "owner_uid": dbus.UInt32, "vmm_uid": dbus.UInt32, "vmm_gid": dbus.UInt32, "seclabel": dbus.String,
    "platform": dbus.String, "hotplug": dbus.Boolean, "bind": dbus.String, "await_vmm": dbus.UInt32,
    "functions": dbus.UInt32, "pinned_mib": dbus.UInt32, "maps": dbus.UInt32, "guest_rid": dbus.UInt32, "connect": dbus.String,
    "vf_token": dbus.String, "force": dbus.Boolean, "async": dbus.Boolean, "abandon": dbus.Boolean, "heap": dbus.String,
}


class Refused(RuntimeError):
    """An error reply. `name` is without the prefix where it is one of tdid's."""

    def __init__(self, full, text):
        self.full = full
        self.name = full[len(PREFIX):] if full.startswith(PREFIX) else full
        self.text = text
        super().__init__(f"{self.name}: {text}")


class Lost(RuntimeError):
    """The daemon or the bus went away while we waited for a reply."""


LOST = ("org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Disconnected",
        "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner")


def options(values):
    """A dict as a{sv} with the types of the contract; D-Bus values stay as they are."""
    out = dbus.Dictionary(signature="sv")
    for key, value in values.items():
        key = key.rstrip("_")
        if key == "limits" and isinstance(value, dict) and not isinstance(value, dbus.Dictionary):
            value = options(value)
        elif key in TYPES and type(value) in (int, bool, str):
            value = TYPES[key](value, variant_level=0)
        out[key] = value
    return out


def escape(bdf):
    return bdf.replace(":", "_").replace(".", "_")


class Client:
    def __init__(self, address):
        self.address = address
        self.bus = dbus.bus.BusConnection(address)
        self.bus.set_exit_on_disconnect(False)

    def close(self):
        self.bus.close()

    def call(self, path, interface, member, signature="", *args, timeout=CALL_TIMEOUT, destination=NAME):
        try:
            return self.bus.call_blocking(destination, path, interface, member, signature, args, timeout=timeout)
        except dbus.DBusException as error:
            name = error.get_dbus_name() or ""
            if name in LOST:
                raise Lost(f"{member}: {name}: {error.get_dbus_message()}") from None
            raise Refused(name, error.get_dbus_message() or "") from None

    # ---- the bus itself ----

    def owner_pid(self):
        """The process that owns tdid's name, or None."""
        try:
            return int(self.call("/org/freedesktop/DBus", "org.freedesktop.DBus", "GetConnectionUnixProcessID", "s", NAME,
                                 destination="org.freedesktop.DBus"))
        except (Lost, Refused):
            return None

    # ---- properties ----

    def get(self, path, interface, name):
        return self.call(path, "org.freedesktop.DBus.Properties", "Get", "ss", f"{NAME}.{interface}", name)

    def get_all(self, path, interface):
        return self.call(path, "org.freedesktop.DBus.Properties", "GetAll", "s", f"{NAME}.{interface}")

    def objects(self):
        return self.call(ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")

    def ping(self):
        """A property that costs nothing: tdid's loop answers."""
        return str(self.get(ROOT, "Manager", "Version"))

    # ---- objects ----

    def manager(self, member, signature="", *args, **kw):
        return self.call(ROOT, f"{NAME}.Manager", member, signature, *args, **kw)

    def create_vm(self, vm_name, /, **opts):
        path, lease = self.manager("CreateVM", "sa{sv}", vm_name, options(opts))
        return VM(self, str(path), Lease(lease.take()))

    def find_vm(self, name):
        return VM(self, str(self.manager("GetVM", "s", name)), None)

    def device(self, bdf):
        return Device(self, f"{ROOT}/device/{escape(bdf)}", bdf)

    def tdi(self, bdf):
        return TDI(self, f"{ROOT}/tdi/{escape(bdf)}", bdf)

    def tsm(self, name):
        return self.get_all(f"{ROOT}/tsm/{name}", "TSM")

    def jobs(self, *states):
        """Paths and properties of the jobs that are visible, those in the given states only when there are any."""
        found = {str(p): i[f"{NAME}.Job"] for p, i in self.objects().items() if f"{NAME}.Job" in i}
        return {p: j for p, j in found.items() if not states or str(j["State"]) in states}

    def vms(self):
        return [str(p) for p, i in self.objects().items() if f"{NAME}.VM" in i]


class Lease:
    """One end of a lease, ours to close."""

    def __init__(self, fd):
        self.fd = fd

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def take(self):
        fd, self.fd = self.fd, -1
        return fd

    def hung_up(self):
        """Whether tdid's side is gone, which is how the holder of a lease learns that the VM is."""
        import select
        poller = select.poll()
        poller.register(self.fd, 0)
        return any(event & select.POLLHUP for _, event in poller.poll(0))


class Job:
    def __init__(self, client, path):
        self.client = client
        self.path = str(path)

    def props(self):
        return self.client.get_all(self.path, "Job")

    def state(self):
        return str(self.client.get(self.path, "Job", "State"))

    def step(self):
        return str(self.client.get(self.path, "Job", "Step"))

    def cancel(self):
        self.client.call(self.path, f"{NAME}.Job", "Cancel")

    def wait(self, *wanted, timeout=CALL_TIMEOUT):
        """Waits for the end of the job; its state, which must be one of those given (default: done)."""
        state = eventually(lambda: (s := self.state()) not in ("running", "stuck") and s, f"end of {self.path}", timeout)
        if state not in (wanted or ("done",)):
            raise Failure(f"{self.path} ended as {state!r}, not {wanted or 'done'}")
        return state


class VM:
    def __init__(self, client, path, lease):
        self.client = client
        self.path = path
        self.lease = lease

    def call(self, member, signature="", *args, **kw):
        return self.client.call(self.path, f"{NAME}.VM", member, signature, *args, **kw)

    def get(self, name):
        return self.client.get(self.path, "VM", name)

    def phase(self):
        return str(self.get("Phase"))

    def alive(self):
        """Whether the object is there: one property costs far less than the list of all objects."""
        try:
            self.get("Name")
            return True
        except Refused as error:
            if ".Unknown" in error.full:
                return False
            raise

    def describe(self):
        doc = json.loads(str(self.call("Describe")))
        if doc.get("schema") != "tdid/1":
            raise Failure(f"Describe: schema is {doc.get('schema')!r}")
        # In which order they stand is not promised.
        doc["vm"]["tdis"].sort(key=lambda tdi: tdi["bdf"])
        return doc["vm"]

    def served(self):
        """Describe(), when every function is prepared in the holder: that goes on after the attach, and its parts come to the description one by one."""
        def served():
            doc = self.describe()
            return doc if all("config" in (tdi["vpci"] or {}) for tdi in doc["tdis"]) else None
        return eventually(served, "all functions are prepared for a VMM")

    def holder_pid(self):
        return int(self.describe()["holder"]["pid"])

    def attach(self, *functions, async_=False, timeout=CALL_TIMEOUT):
        """Attaches BDFs or (BDF, {options}); returns the TDI paths and the job."""
        array = dbus.Array(signature="(sa{sv})")
        for function in functions:
            bdf, opts = function if isinstance(function, tuple) else (function, {})
            array.append(dbus.Struct((bdf, options(opts)), signature="sa{sv}"))
        tdis, job = self.call("Attach", "a(sa{sv})a{sv}", array, options({"async": True} if async_ else {}), timeout=timeout)
        return [str(t) for t in tdis], Job(self.client, job)

    def _job(self, member, opts, timeout=CALL_TIMEOUT):
        return Job(self.client, self.call(member, "a{sv}", options(opts), timeout=timeout))

    def seal(self, **opts):
        return self._job("Seal", opts)

    def destroy(self, **opts):
        return self._job("Destroy", opts)

    def hold(self, label=""):
        return Lease(self.call("Hold", "s", label).take())

    def shared_buffer(self, size, **opts):
        """(memfd, dma-buf), both the caller's; of a heap both are the dma-buf."""
        memfd, dmabuf = self.call("CreateSharedBuffer", "ta{sv}", dbus.UInt64(size), options(opts))
        return memfd.take(), dmabuf.take()

    def dmabufs(self):
        return sorted(self.describe()["dmabufs"], key=lambda d: d["id"])

    def set_kvm(self, fd):
        self.call("SetKVM", "h", dbus.types.UnixFd(fd))

    def set_pidfd(self, fd):
        self.call("SetPidfd", "h", dbus.types.UnixFd(fd))


class TDI:
    def __init__(self, client, path, bdf):
        self.client = client
        self.path = path
        self.bdf = bdf

    def get(self, name):
        return self.client.get(self.path, "TDI", name)

    def state(self):
        return str(self.get("State"))

    def detach(self, **opts):
        return Job(self.client, self.client.call(self.path, f"{NAME}.TDI", "Detach", "a{sv}", options(opts)))

    def bind(self, **opts):
        return Job(self.client, self.client.call(self.path, f"{NAME}.TDI", "Bind", "a{sv}", options(opts)))

    def unbind(self, **opts):
        return Job(self.client, self.client.call(self.path, f"{NAME}.TDI", "Unbind", "a{sv}", options(opts)))

    def handoff(self):
        """Copies of ours of the VM's iommufd and of the device."""
        iommufd, device = self.client.call(self.path, f"{NAME}.TDI", "Handoff")
        return iommufd.take(), device.take()

    def requests(self):
        """A socket for requests of the guest; the caller closes it."""
        return Requests(self.client.call(self.path, f"{NAME}.TDI", "OpenRequests").take())

    def request(self, kind, data):
        """(answer, the TSM's code)"""
        answer, code = self.client.call(self.path, f"{NAME}.TDI", "GuestRequest", "say", kind, dbus.ByteArray(data))
        return bytes(answer), int(code)

    def export(self, region, offset, size, importer="kvm", accept=()):
        answer = self.client.call(self.path, f"{NAME}.TDI", "ExportDmabuf", "uttsas", dbus.UInt32(region), dbus.UInt64(offset), dbus.UInt64(size),
                                  importer, dbus.Array(accept, signature="s"))
        return Export(*answer)


class Export:
    """A dma-buf that tdid gave out, with its eventfd: both ours."""

    def __init__(self, dmabuf, event, class_, description):
        self.fd = dmabuf.take()
        self.event = event.take()
        self.dmabuf_class = str(class_)
        self.description = description
        self.id = int(description["id"])
        self.state = str(description["state"])

    def events(self, wanted=0, timeout=10.0):
        """How many have been since the last call; waits for so many."""
        seen, end = 0, time.monotonic() + timeout
        poller = select.poll()
        poller.register(self.event, select.POLLIN)
        while True:
            try:
                seen += int.from_bytes(os.read(self.event, 8), "little")
            except BlockingIOError:
                pass
            left = end - time.monotonic()
            if seen >= wanted or left <= 0:
                return seen
            poller.poll(left * 1000)

    def close(self):
        for name in ("fd", "event"):
            if getattr(self, name) >= 0:
                os.close(getattr(self, name))
                setattr(self, name, -1)


class Device:
    def __init__(self, client, path, bdf):
        self.client = client
        self.path = path
        self.bdf = bdf

    def get(self, name):
        return self.client.get(self.path, "Device", name)

    def text(self, name):
        return str(self.get(name))

    def props(self):
        return self.client.get_all(self.path, "Device")

    def _job(self, member, signature, *args):
        return Job(self.client, self.client.call(self.path, f"{NAME}.Device", member, signature, *args))

    def connect(self, tsm="", **opts):
        return self._job("Connect", "sa{sv}", tsm, options(opts))

    def disconnect(self, **opts):
        return self._job("Disconnect", "a{sv}", options(opts))

    def restore(self, **opts):
        return self._job("Restore", "a{sv}", options(opts))


class Background:
    """Runs a call with a connection of its own in a thread, so that the scenario can do other things meanwhile."""

    def __init__(self, address, func):
        self.result = None
        self.error = None
        self.thread = threading.Thread(target=self._run, args=(address, func), daemon=True)
        self.thread.start()

    def _run(self, address, func):
        try:
            client = Client(address)
            try:
                self.result = func(client)
            finally:
                client.close()
        except Exception as error:  # noqa: BLE001 - handed to the scenario by wait()
            self.error = error

    def done(self):
        return not self.thread.is_alive()

    def wait(self, timeout=CALL_TIMEOUT):
        self.thread.join(timeout)
        if self.thread.is_alive():
            raise Failure(f"a call in the background did not return within {timeout:g} s")
        if self.error:
            raise self.error
        return self.result


def refused(names, func, *args, **kw):
    """Calls func, which must be refused with one of tdid's errors of these names; returns the text of the error."""
    names = (names,) if isinstance(names, str) else names
    try:
        result = func(*args, **kw)
    except Refused as error:
        if error.name not in names:
            raise Failure(f"{args} {kw or ''} was refused with {error.name} ({error.text!r}), wanted {' or '.join(names)}") from None
        if not error.text:
            raise Failure(f"{error.name} without a text")
        return error.text
    raise Failure(f"{args} {kw or ''} was accepted ({result!r}), wanted {' or '.join(names)}")
