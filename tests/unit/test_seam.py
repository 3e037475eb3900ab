# SPDX-License-Identifier: LGPL-2.1-or-later
"""Devices are touched through the seam only: no file of tdid or its workers makes a system call on a path of its own, but for
those listed here, each with the reason; and in libtdi/host one file makes all of them, but for what the other
hosts do.

usage: test_seam.py SOURCE-ROOT
"""
import glob
import os
import re
import sys
import unittest

ROOT = sys.argv[1]

# What reaches files, devices, links and folders by name or by descriptor.
CALLS = """open openat openat2 creat fopen fdopen freopen open_by_handle_at ioctl read readv pread pread64 preadv preadv2 write writev
pwrite pwrite64 pwritev pwritev2 readlink readlinkat realpath canonicalize_file_name opendir fdopendir readdir scandir nftw ftw glob
stat fstat lstat fstatat statx access faccessat eaccess mkdir mkdirat mkfifo mknod rmdir unlink unlinkat remove rename renameat
renameat2 link linkat symlink symlinkat chmod fchmod fchmodat chown fchown lchown fchownat truncate ftruncate mmap mmap64 munmap
sendfile splice copy_file_range syscall system popen execv execve execl execlp execvp fgets fread fwrite fscanf getline getdelim
nl_connect nl_recv nl_socket_alloc getifaddrs if_nametoindex pidfd_getfd pci_init pci_scan_bus pci_get_dev pci_read_byte
pci_read_word pci_read_long pci_write_byte pci_write_word pci_write_long""".split()

# (file, call): (how often, why it is no device)
ALLOWED = {
    ("daemon/audit-out.c", "open"): (1, "the file of the audit"),
    ("daemon/audit-out.c", "write"): (2, "the file of the audit"),
    ("daemon/audit-out.c", "fstat"): (1, "stderr: is it the journal?"),
    ("daemon/pace.c", "open"): (1, "the file of the pace"),
    ("daemon/pace.c", "pread"): (1, "the file of the pace"),
    ("daemon/pace.c", "pwrite"): (1, "the file of the pace"),
    ("daemon/pace.c", "unlink"): (1, "the file of the pace"),
    ("daemon/journal.c", "open"): (3, "journal and lock files, the journal's folder"),
    ("daemon/journal.c", "write"): (1, "journal file"),
    ("daemon/journal.c", "rename"): (1, "journal file"),
    ("daemon/journal.c", "unlink"): (3, "journal files"),
    ("daemon/holder.c", "unlink"): (1, "the socket of a holder that has died"),
    ("daemon/worker.c", "open"): (1, "the program of the workers"),
    ("daemon/worker.c", "readlink"): (1, "/proc/self: the program's name for who executes it"),
    ("daemon/tdid.c", "mkdir"): (1, "the state folder"),
    ("daemon/tdid.c", "open"): (1, "the lock of the state folder"),
    ("daemon/tdid.c", "readlink"): (1, "/proc/self/exe: where tdid-worker is"),
    ("daemon/bus/evidence.c", "fstat"): (1, "a memfd of a worker's"),
    ("daemon/bus/evidence.c", "pread"): (1, "a memfd of a worker's"),
    ("daemon/worker/evidence.c", "write"): (1, "a memfd that it has made"),
    ("daemon/worker/archive.c", "mkdirat"): (1, "the archive's folders"),
    ("daemon/worker/archive.c", "open"): (1, "the archive's folder"),
    ("daemon/worker/archive.c", "openat"): (5, "the archive's folders, lock and files"),
    ("daemon/worker/archive.c", "fstat"): (1, "a file of the archive"),
    ("daemon/worker/archive.c", "read"): (1, "a file of the archive"),
    ("daemon/worker/archive.c", "write"): (1, "a file of the archive"),
    ("daemon/worker/archive.c", "renameat"): (1, "a file of the archive"),
    ("daemon/worker/archive.c", "unlinkat"): (2, "files of the archive"),
    ("daemon/worker/archive.c", "fdopendir"): (1, "the archive's folders"),
    ("daemon/worker/archive.c", "readdir"): (1, "the archive's folders"),
    ("daemon/worker/archive.c", "fstatat"): (2, "files of the archive"),
    ("daemon/worker/export.c", "write"): (1, "the eventfd of an export"),
    ("daemon/worker/buffer.c", "ftruncate"): (1, "a memfd that it has made"),
    ("daemon/worker/buffer.c", "mmap"): (1, "a memfd that it has made"),
    ("daemon/worker/buffer.c", "munmap"): (1, "a memfd that it has made"),
    ("daemon/worker/ide.c", "open"): (1, "the state folder, to lock it"),
    ("daemon/worker/tsm.c", "pread"): (1, "the mark in the function's lock file"),
    ("daemon/worker/tsm.c", "pwrite"): (1, "the mark in the function's lock file"),
    ("daemon/tdid.c", "chmod"): (1, "the state folder"),
    ("daemon/vpci.c", "rmdir"): (2, "folders of vPCI sockets of VMs that are no more"),
    ("daemon/vpci.c", "unlink"): (1, "vPCI sockets of VMs that are no more"),
    ("daemon/worker/confine.c", "syscall"): (2, "its own capabilities"),
    **{("daemon/fault-confine-test.c", call): (count, "what a list of system calls has to refuse, in test builds") for call, count in
       {"execl": 1, "ioctl": 2, "chmod": 1, "chown": 1, "open": 4, "unlink": 1, "rename": 1}.items()},
    ("daemon/worker/peer.c", "pidfd_getfd"): (1, "the VMM's KVM VM, by the name that the kernel gives it"),
    ("daemon/worker/peer.c", "syscall"): (1, "kcmp of two descriptors of its own"),
    ("daemon/worker/vpci.c", "chmod"): (2, "a vPCI socket and its folder"),
    ("daemon/worker/vpci.c", "chown"): (1, "a vPCI socket"),
    ("daemon/worker/vpci.c", "lstat"): (2, "a vPCI socket and its folder"),
    ("daemon/worker/vpci.c", "mkdir"): (1, "the folder of a VM's vPCI sockets"),
    ("daemon/worker/vpci.c", "rename"): (1, "a vPCI socket"),
    ("daemon/worker/vpci.c", "rmdir"): (1, "the folder of a VM's vPCI sockets"),
    ("daemon/worker/vpci.c", "unlink"): (4, "vPCI sockets"),
    ("daemon/worker/worker.c", "opendir"): (1, "the worker's own descriptors"),
    ("daemon/worker/worker.c", "readdir"): (1, "the worker's own descriptors"),
    ("daemon/vm/vpci/irq.c", "write"): (1, "a client's eventfd"),
    ("daemon/vm/vpci/dma-check.c", "fstat"): (1, "a memfd or hugetlbfs file that the VMM has sent"),
    ("daemon/vm/main.c", "unlink"): (1, "the holder's own socket"),
    ("daemon/vm/main.c", "rename"): (1, "the holder's own socket"),
}

# The mmap guard is no device and no interface that a simulated kernel could have: it recognises files by what this machine's own kernel says of
# them, and runs on the host "linux" only (daemon/guard/state.c). It opens no device.
GUARD = "daemon/guard"
GUARD_FORBIDDEN = "ioctl pread pwrite write openat mmap mknod".split()

# In libtdi/host these count too.
SOCKET_CALLS = """socket socketpair connect bind listen accept accept4 send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg
getsockopt setsockopt shutdown poll ppoll select statfs fstatfs""".split()

# libtdi/host: the implementation makes the calls, everything else is on top of it.
IMPLEMENTATION = "libtdi/host/linux.c"
# What others do there. Devices of the real kernel they reach by way of it.
HOSTS = {
    # Speaks to the simulation over sockets, and looks which descriptors are such.
    "libtdi/host/sim.c": {"socket", "socketpair", "connect", "send", "sendmsg", "recv", "recvmsg", "getsockopt", "poll", "fstat", "fstatfs"},
    # Its own log, and the number of the next file that is opened.
    "libtdi/host/trace.c": {"open", "write", "fstat", "ftruncate", "mmap", "munmap"},
}


def code(path):
    """The text without comments and without what stands in quotes."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    text = re.sub(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', '""', text)
    return re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.S)


def sources(*folders):
    found = []
    for folder in folders:
        found += glob.glob(os.path.join(ROOT, folder, "**", "*.[ch]"), recursive=True)
    return sorted(os.path.relpath(p, ROOT) for p in found)


def calls(path, names=CALLS):
    """{call: how often}, as a call of the function itself: not of a member, not a declaration of one."""
    pattern = r"(?<![\w.])(?<!->)(" + "|".join(names) + r")\s*\("
    found = {}
    for name in re.findall(pattern, code(os.path.join(ROOT, path))):
        found[name] = found.get(name, 0) + 1
    return found


class Seam(unittest.TestCase):
    def test_daemon(self):
        seen = {}
        self.assertGreater(len(sources("daemon")), 30)
        for path in sources("daemon"):
            if os.path.dirname(path) == GUARD:
                continue
            for call, count in calls(path).items():
                with self.subTest(file=path, call=call):
                    self.assertIn((path, call), ALLOWED, f"{path} calls {call}() past the seam")
                    self.assertEqual(count, ALLOWED[path, call][0], f"{path} calls {call}() {count} times")
                    seen[path, call] = count
        # What is allowed and not done any more goes from the list.
        self.assertEqual(set(ALLOWED) - set(seen), set())

    def test_host(self):
        for path in sources("libtdi/host"):
            if path != IMPLEMENTATION:
                with self.subTest(file=path):
                    self.assertEqual(set(calls(path, CALLS + SOCKET_CALLS)), HOSTS.get(path, set()))

    def test_check(self):
        """tdictl looks at a host with the same code as a worker of tdid."""
        self.assertGreater(len(sources("libtdi/check")), 5)
        for path in sources("libtdi/check"):
            with self.subTest(file=path):
                self.assertEqual(calls(path), {})

    def test_this_test(self):
        found = calls(IMPLEMENTATION)
        for name in "open", "ioctl", "pread", "pwrite", "readlink", "opendir", "getifaddrs", "nl_connect":
            self.assertIn(name, found)

    def test_guard(self):
        self.assertGreater(len(sources(GUARD)), 5)
        for path in sources(GUARD):
            with self.subTest(file=path):
                found = set(calls(path))
                if path == f"{GUARD}/set.c":
                    # The note that the programs were loaded once.
                    found -= {"pwrite"}
                self.assertEqual(found & set(GUARD_FORBIDDEN), set())
                with open(os.path.join(ROOT, path), encoding="utf-8") as f:
                    self.assertNotIn('"/dev/', re.sub(r"/\*.*?\*/", " ", f.read(), flags=re.S).replace('"/dev/mem"', ""))

    def test_device_paths(self):
        """A path below /sys, /dev or /proc is written down where a host_…() call takes it, or for people to read."""
        for path in sources("daemon"):
            if os.path.dirname(path) == GUARD:
                continue
            with open(os.path.join(ROOT, path), encoding="utf-8") as f:
                text = re.sub(r"/\*.*?\*/", " ", f.read(), flags=re.S)
            # What a process asks about itself is no device.
            text = re.sub(r'"/proc/self(?=[/"])', '"', text)
            if path == "daemon/worker.c":
                # The program of the workers, by a name that it keeps.
                text = text.replace('"/proc/%s/fd/%d"', '""')
            if re.search(r'"/(?:sys|dev|proc)/', text):
                with self.subTest(file=path):
                    self.assertRegex(text, r"\bhost_\w+\(|WORK_SYSFS_PCI")

    def test_worker_has_a_host(self):
        """Every worker file that acts does it by way of the host."""
        for path in sources("daemon/worker"):
            # Memory has no device; cgroups, the archive and what a process may call are this machine's whatever host the devices are on, and a VM's
            # holder is asked by its socket. What is looked at for people libtdi/check looks at.
            if path.endswith(".c") and not path.endswith(("worker.c", "cgroup.c", "archive.c", "check.c", "evidence-archived.c", "confine.c", "evidence-tsm.c")):
                with self.subTest(file=path):
                    # A cgroup is of the machine that the processes are on, which is another host on the simulation.
                    if path == "daemon/worker/cgroup.c":
                        self.assertRegex(code(os.path.join(ROOT, path)), r"\bhost_\w+\(machine")
                        continue
                    self.assertRegex(code(os.path.join(ROOT, path)), r"\bhost_\w+\(w->host|\bhost_\w+\(u->w->host")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
