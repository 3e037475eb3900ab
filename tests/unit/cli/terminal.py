# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program on a terminal of its own."""
import fcntl
import os
import pty
import struct
import subprocess
import termios

COLUMNS = 80


def run(command, environment):
    """What it writes to a terminal of 80 columns, and its exit code. Lines end as it ends them."""
    leader, follower = pty.openpty()
    mode = termios.tcgetattr(follower)
    mode[1] &= ~termios.OPOST
    termios.tcsetattr(follower, termios.TCSANOW, mode)
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    p = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=follower, stderr=follower)
    os.close(follower)
    out = b""
    while True:
        try:
            data = os.read(leader, 65536)
        except OSError:
            break
        if not data:
            break
        out += data
    os.close(leader)
    return out.decode(), p.wait()
