# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The few calls by which the kit looks at a kernel's files, for the real kernel and for a simulated one. Errors are OSError with
# the kernel's errno in both. Nothing here knows what the files mean.

import fnmatch
import os
import stat

from kit.simclient import SimGone


class OsFiles:
    """The kernel that runs this program."""

    def open(self, path, flags=os.O_RDONLY):
        return os.open(path, flags | os.O_CLOEXEC)

    def close(self, fd):
        os.close(fd)

    def pread(self, fd, size, offset):
        return os.pread(fd, size, offset)

    def pwrite(self, fd, data, offset):
        return os.pwrite(fd, data, offset)

    def readlink(self, path):
        return os.readlink(path)

    def listdir(self, path):
        return os.listdir(path)

    def mode(self, path):
        """st_mode; a link is not followed."""
        return os.lstat(path).st_mode

    def realpath(self, path):
        return os.path.realpath(path)

    def exists(self, path):
        return os.path.exists(path)

    def isdir(self, path):
        return os.path.isdir(path)

    def tree(self, top, enter=lambda name: True):
        """Everything below a folder: (path relative to it, st_mode, target of a link), links not followed; only folders of names to enter."""
        found, stack = [], [""]
        while stack:
            folder = stack.pop()
            try:
                with os.scandir(f"{top}/{folder}") as entries:
                    for entry in entries:
                        path, mode = folder + entry.name, entry.stat(follow_symlinks=False).st_mode
                        if stat.S_ISDIR(mode):
                            if not enter(entry.name):
                                continue
                            stack.append(path + "/")
                        found.append((path, mode, os.readlink(f"{top}/{path}") if stat.S_ISLNK(mode) else None))
            except OSError:
                continue  # it went meanwhile
        return found

    def read_all(self, paths):
        """What read() says of each: the bytes, or the OSError."""
        out = []
        for path in paths:
            try:
                out.append(self.read(path))
            except OSError as error:
                out.append(error)
        return out

    # ---- what is made of them ----

    def read(self, path, size=65536):
        """As much as one read(2) gives: what sysfs has to say."""
        fd = self.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            return self.pread(fd, size, 0)
        finally:
            self.close(fd)

    def write(self, path, data):
        """One write(2), as sysfs takes a value."""
        fd = self.open(path, os.O_WRONLY)
        try:
            self.pwrite(fd, data, 0)
        finally:
            self.close(fd)

    def glob(self, pattern):
        """Paths that match a pattern, whose last components only have wild cards."""
        head, tail = pattern, []
        while any(c in head for c in "*?["):
            head, _, last = head.rpartition("/")
            tail.insert(0, last)
        found = [head]
        for part in tail:
            after = []
            for folder in found:
                try:
                    after += [f"{folder}/{n}" for n in sorted(self.listdir(folder)) if fnmatch.fnmatchcase(n, part)]
                except OSError:
                    pass
            found = after
        return [f for f in found if self.exists(f)]


class SimFiles(OsFiles):
    """A kernel in a process: kit/simclient.py's."""

    LINKS_MAX = 40
    READ_MAX = 500  # paths in one command

    def __init__(self, client):
        self.client = client

    def open(self, path, flags=os.O_RDONLY):
        return self.client.open(path, flags)

    def close(self, fd):
        self.client.close(fd)

    def pread(self, fd, size, offset):
        return self.client.pread(fd, size, offset)

    def pwrite(self, fd, data, offset):
        return self.client.pwrite(fd, data, offset)

    def readlink(self, path):
        return self.client.readlink(path)

    def listdir(self, path):
        return self.client.list(path)

    def mode(self, path):
        return self.client.mode(path)

    def tree(self, top, enter=lambda name: True):
        try:
            entries = self.client.control("tree", path=top)["entries"]
        except SimGone:
            raise
        except OSError:
            return []
        found, stack = [], [("", entries)]
        while stack:
            folder, entries = stack.pop()
            for name, mode, more in entries:
                if stat.S_ISDIR(mode):
                    if not enter(name):
                        continue
                    stack.append((f"{folder}{name}/", more))
                found.append((folder + name, mode, more if stat.S_ISLNK(mode) else None))
        return found

    def read_all(self, paths):
        contents = []
        for i in range(0, len(paths), self.READ_MAX):
            contents += self.client.control("read", paths=paths[i:i + self.READ_MAX])["contents"]
        return [bytes.fromhex(said) if isinstance(said, str) else OSError(-said, os.strerror(-said), path) for path, said in zip(paths, contents)]

    def realpath(self, path):
        """The path without links; what is not there stays as it is, as os.path.realpath() has it."""
        try:
            return self.client.followed(path)[1]
        except SimGone:
            raise
        except OSError:
            pass
        done, left, links = "", [p for p in path.split("/") if p], 0
        while left:
            part = left.pop(0)
            if part in (".", ".."):
                done = done.rpartition("/")[0] if part == ".." else done
                continue
            here = f"{done}/{part}"
            try:
                target = self.readlink(here)
            except OSError:
                done = here
                continue
            links += 1
            if links > self.LINKS_MAX:
                return "/".join([here, *left])
            left[:0] = [p for p in target.split("/") if p]
            done = "" if target.startswith("/") else done
        return done or "/"

    def _followed(self, path):
        try:
            return self.client.followed(path)[0]
        except SimGone:
            raise
        except OSError:
            return 0

    def exists(self, path):
        return self._followed(path) != 0

    def isdir(self, path):
        return stat.S_ISDIR(self._followed(path))
