# SPDX-License-Identifier: LGPL-2.1-or-later
#
# The list of scenarios: what registers one, and how all of them are found. It runs none.

import importlib
import pkgutil
from dataclasses import dataclass
from typing import Callable

SCENARIOS = []


@dataclass
class Scenario:
    name: str
    func: Callable
    # Roles of the topology that must be there: "nvme", or "edu:16" for sixteen of them.
    roles: tuple
    # "quick": worth running first. "full": only with TDID_FULL. "systemd": against the installed units.
    tags: frozenset
    # What the host must have besides devices: "kvm", "tsm", "bind_module", "fuse", "machines" (others beside it), …; see Host.has().
    needs: frozenset
    # Devices whose functions are marked TEE-capable before the daemon starts; the test TSM is there while it runs.
    tsm: tuple
    # Environment of the first daemon; None: the scenario starts it by itself.
    env: dict
    # Kernel messages that are no failure here, as regular expressions.
    kernel_ok: tuple
    # The longest that it may take before the runner gives it up.
    timeout: float


def scenario(*roles, tags=(), needs=(), tsm=(), env=None, start=True, kernel_ok=(), name=None, timeout=300.0):
    """Registers a function of one argument (the Context) as a scenario; its name is the function's unless given."""
    def register(func):
        need = set(needs) | ({"tsm"} if tsm else set())
        SCENARIOS.append(Scenario(name or func.__name__, func, tuple(roles), frozenset(tags), frozenset(need), tuple(tsm),
                                  dict(env or {}) if start else None, tuple(kernel_ok), timeout))
        return func
    return register


def load_all():
    """Imports every module of `cases`; returns the scenarios, in the order of the files and in them."""
    import cases
    for module in sorted(pkgutil.iter_modules(cases.__path__), key=lambda m: m.name):
        importlib.import_module("cases." + module.name)
    names = [s.name for s in SCENARIOS]
    double = {n for n in names if names.count(n) > 1}
    if double:
        raise SystemExit("scenarios with the same name: " + ", ".join(sorted(double)))
    return SCENARIOS
