# SPDX-License-Identifier: LGPL-2.1-or-later
#
# polkit on a scenario's private bus: one of ours, which answers what a scenario wants, or not at all; and the real polkitd, with a rule file of the scenario's.

import ctypes
import os
import pwd
import shutil
import subprocess

import dbus

from kit.checks import Failure, eventually
from kit.daemon import die_with_us
from kit.service import Service

NAME = "org.freedesktop.PolicyKit1"
PATH = "/org/freedesktop/PolicyKit1/Authority"
INTERFACE = NAME + ".Authority"
POLKITD = "/usr/lib/polkit-1/polkitd"
# (is_authorized, is_challenge, details)
ANSWERS = {"yes": (1, 0, ()), "no": (0, 0, ()), "challenge": (0, 1, ()), "dismissed": (0, 0, ("polkit.dismissed", "true"))}


class Question:
    """A call of CheckAuthorization as it came."""

    def __init__(self, kind, name, action, details, flags, cancellation):
        self.kind, self.name, self.action = kind, name, action
        self.details, self.flags, self.cancellation = details, flags, cancellation


class Polkit(Service):
    """
    Owns the name until it is closed. `answers` is by action: a key of ANSWERS, "hang" (until release()), "error", or what is no answer: "garbage"
    (another type), "empty". What is not in it gets `default`.
    """

    name = NAME

    def __init__(self, address, answers=None, default="no"):
        self.answers = answers or {}
        self.default = default
        self.asked = []
        self.cancelled = []
        self._hanging = []
        self._release = None
        super().__init__(address)

    def release(self, word):
        """Answers all that hang."""
        self._release = word
        eventually(lambda: self._release is None, "the answers that hung")

    def hanging(self):
        return len(self._hanging)

    def last(self, action):
        """The last question about an action."""
        found = [q for q in self.asked if q.action == action]
        if not found:
            raise Failure(f"polkit was not asked about {action}, but about {[q.action for q in self.asked]}")
        return found[-1]

    # ---- the thread ----

    def methods(self):
        return {(INTERFACE, "CheckAuthorization"): self._check, (INTERFACE, "CancelCheckAuthorization"): self._cancel}

    def tick(self, lib):
        if self._release is None:
            return
        for held in self._hanging:
            self._answer(lib, held, self._release)
            lib.sd_bus_message_unref(held)
        self._hanging = []
        self._release = None

    def ends(self, lib):
        for held in self._hanging:
            lib.sd_bus_message_unref(held)
        self._hanging = []

    def _cancel(self, lib, message):
        self.cancelled.append(self.text(lib, message))
        lib.sd_bus_reply_method_return(message, None)

    def _check(self, lib, message):
        def text():
            return self.text(lib, message)

        enter, leave = lib.sd_bus_message_enter_container, lib.sd_bus_message_exit_container
        kind, key, name = (ctypes.c_char_p() for _ in range(3))
        lib.sd_bus_message_read(message, b"(sa{sv})", ctypes.byref(kind), ctypes.c_uint(1), ctypes.byref(key), b"s", ctypes.byref(name))
        action, details = text(), {}
        enter(message, ctypes.c_char(b"a"), b"{ss}")
        while enter(message, ctypes.c_char(b"e"), b"ss") > 0:
            word = text()
            details[word] = text()
            leave(message)
        leave(message)
        flags = ctypes.c_uint32()
        lib.sd_bus_message_read(message, b"u", ctypes.byref(flags))
        question = Question(kind.value.decode(), name.value.decode() if key.value == b"name" else None, action, details, flags.value, text())
        word = self.answers.get(action, self.default)
        if word == "hang":
            self._hanging.append(ctypes.c_void_p(lib.sd_bus_message_ref(message)))
        self.asked.append(question)
        if word != "hang":
            self._answer(lib, message, word)

    @staticmethod
    def _answer(lib, message, word):
        if word == "error":
            lib.sd_bus_reply_method_errorf(message, NAME.encode() + b".Error.Failed", b"%s", b"a rule is broken")
        elif word == "empty":
            lib.sd_bus_reply_method_return(message, None)
        elif word == "garbage":
            lib.sd_bus_reply_method_return(message, b"bb", ctypes.c_int(1), ctypes.c_int(0))
        else:
            yes, challenge, details = ANSWERS[word]
            pairs = [w.encode() for w in details]
            lib.sd_bus_reply_method_return(message, b"(bba{ss})", ctypes.c_int(yes), ctypes.c_int(challenge), ctypes.c_uint(len(pairs) // 2), *pairs)


class RealPolkit:
    """
    polkitd itself. It knows no other folders than the host's: it has a mount namespace of its own, in which those hold our actions and these
    rules and nothing else.
    """

    def __init__(self, folder, address, actions, rules):
        if os.geteuid() or not os.access(POLKITD, os.X_OK) or not shutil.which("unshare"):
            raise Failure("polkitd cannot run here: ask why_not() first")
        self.folder = os.path.join(folder, "polkit")
        places = {"actions": "/usr/share/polkit-1/actions", "rules": "/etc/polkit-1/rules.d", "none": "/usr/share/polkit-1/rules.d"}
        os.mkdir(self.folder, 0o755)
        for name in places:
            os.mkdir(os.path.join(self.folder, name), 0o755)
        shutil.copy(actions, os.path.join(self.folder, "actions"))
        with open(os.path.join(self.folder, "rules", "10-scenario.rules"), "w", encoding="utf-8") as file:
            file.write(rules)
        for base, _, files in os.walk(self.folder):
            for name in files:
                os.chmod(os.path.join(base, name), 0o644)
        mounts = " && ".join(f"mount --bind {self.folder}/{name} {place}" for name, place in places.items())
        self.log = os.path.join(folder, "polkitd.log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sh", "-c", f"{mounts} && exec {POLKITD}"],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_us,
                                            env={"PATH": os.environ["PATH"], "DBUS_SYSTEM_BUS_ADDRESS": address, "G_MESSAGES_DEBUG": "all"})

    @staticmethod
    def why_not():
        """The reason why it cannot run on this machine, or None."""
        if not os.access(POLKITD, os.X_OK):
            return f"there is no {POLKITD} (package polkitd)"
        try:
            pwd.getpwnam("polkitd")
        except KeyError:
            return "there is no user polkitd"
        if subprocess.run(["unshare", "--mount", "--propagation", "private", "true"], capture_output=True, check=False).returncode:
            return "no mount namespace can be made"
        return None

    def wait(self, client):
        """Until it serves."""
        def there():
            if self.process.poll() is not None:
                with open(self.log, encoding="utf-8", errors="replace") as file:
                    raise Failure(f"polkitd ended with {self.process.returncode}: {file.read()[-600:]}")
            return client.bus.name_has_owner(NAME)
        eventually(there, "polkitd on the bus", 20)
        return str(client.call(PATH, "org.freedesktop.DBus.Properties", "Get", "ss", INTERFACE, "BackendVersion", destination=NAME))

    def actions(self, client):
        """Its names of tdid's actions."""
        found = client.call(PATH, INTERFACE, "EnumerateActions", "s", dbus.String(""), destination=NAME)
        return {str(a[0]): tuple(int(x) for x in a[6:9]) for a in found}

    def close(self):
        self.process.terminate()
        self.process.wait(10)
