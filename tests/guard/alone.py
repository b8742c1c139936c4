"""Runs a command on a machine without any network but its loopback: `python alone.py REPORT COMMAND ...`.

Linux only: a network namespace of its own. Its kernel counts every packet that found no way out, whatever program or
language sent it; REPORT, a JSON file, says how many. Where the system allows no namespace the command runs without, and
REPORT says why.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import re
import socket
import struct
import subprocess
import sys
from pathlib import Path

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1


def enter_namespace() -> None:
    """A new network for this process and its children; its loopback is up.

    Raises:
        OSError: the system does not allow it.
    """
    user, group = os.geteuid(), os.getegid()
    _unshare(CLONE_NEWNET | (CLONE_NEWUSER if user else 0))  # who is not root may do so as root of a user namespace
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as anything:
        fcntl.ioctl(anything, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


def _unshare(flags: int) -> None:
    try:
        failed = ctypes.CDLL(None, use_errno=True).unshare(flags)
    except AttributeError:
        raise OSError("no Linux") from None
    if failed:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def packets_without_a_way_out() -> int:
    """Over IPv4, where name look-ups are counted too, and IPv6."""
    names, values = re.findall(r"^Ip: (.*)$", Path("/proc/net/snmp").read_text(), re.MULTILINE)
    counted = int(dict(zip(names.split(), values.split(), strict=True))["OutNoRoutes"])
    with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
        counted += int(re.findall(r"Ip6OutNoRoutes\s+(\d+)", Path("/proc/net/snmp6").read_text())[0])
    return counted


def main(report: Path, command: list[str]) -> int:
    try:
        enter_namespace()
    except OSError as error:
        report.write_text(json.dumps({"refused": str(error)}))
        return subprocess.run(command, check=False).returncode
    code = subprocess.run(command, check=False).returncode
    report.write_text(json.dumps({"packets": packets_without_a_way_out()}))
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
