# SPDX-License-Identifier: LGPL-2.1-or-later
"""A message bus of the test's own, on which everybody may own and say everything. Nothing of the machine's bus is touched.

As a program: private_bus.py COMMAND ARG... runs COMMAND with DBUS_SYSTEM_BUS_ADDRESS naming such a bus.
"""
import os
import shutil
import subprocess
import sys
import tempfile

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>test</type>
  <listen>unix:path={folder}/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow receive_sender="*"/>
    <allow own="*"/>
    <deny send_destination="org.tdid1" send_interface="org.tdid1.Device" send_member="Restore"/>
  </policy>
</busconfig>
"""


class PrivateBus:
    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="tdid-bus-")
        config = os.path.join(self.folder, "bus.conf")
        with open(config, "w", encoding="utf-8") as f:
            f.write(CONFIG.format(folder=self.folder))
        self.daemon = subprocess.Popen(
            ["dbus-daemon", "--config-file=" + config, "--nofork", "--nopidfile", "--print-address"],
            stdout=subprocess.PIPE, text=True)
        # With its GUID the address is right for this bus only.
        self.address = self.daemon.stdout.readline().strip()
        if not self.address:
            raise RuntimeError("dbus-daemon did not start")
        self.environment = dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=self.address)
        return self

    def __exit__(self, *_):
        self.daemon.terminate()
        self.daemon.wait()
        self.daemon.stdout.close()
        shutil.rmtree(self.folder)


if __name__ == "__main__":
    with PrivateBus() as bus:
        code = subprocess.call(sys.argv[1:], env=bus.environment)
    sys.exit(code if code >= 0 else 1)
