"""Watches every Python process that has this folder on PYTHONPATH: what leaves the machine or unpickles is refused.

Python imports a module of this name before anything else, and child processes inherit the path. An audit hook sees what
libraries cannot replace: look-ups, connections, datagrams and binds at a host that is not this machine's loopback, and
unpickling that names a class or function, which is what lets a pickle run code. Each attempt is a line of the file that
GUARD_ATTEMPTS names. Code that is not Python is watched by `alone.py`.
"""

import errno
import ipaddress
import os
import sys

ATTEMPTS = "GUARD_ATTEMPTS"
LOCAL_NAMES = ("", "localhost", "localhost.localdomain")

# Who may unpickle: what a process of the study hands to another, or what it wrote itself a moment ago. No file is read.
MAY_UNPICKLE = (
    "multiprocessing.",  # arguments and results of Python's own worker processes, through pipes
    "concurrent.futures.process",  # the same
    "distributed.",  # the same on the workers of a Dask cluster, through sockets
    "ray.",  # the same on those of a Ray cluster
    "docket.",  # what Prefect's server hands to itself, in memory
    "dask.tokenize",  # tries whether the bytes that it names a thing by would give the thing back
)


def watch(event: str, arguments: tuple) -> None:
    if event == "pickle.find_class":
        reader = _reader()
        if not reader.startswith(MAY_UNPICKLE):
            _refuse(f"pickle: {reader} names {'.'.join(arguments)}")
    elif event in HOST_OF and not is_loopback(HOST_OF[event](arguments)):
        _refuse(f"network: {event} {HOST_OF[event](arguments)}")


def _host_of_address(arguments: tuple) -> object:
    """None where the address is that of a Unix socket, or of the socket's earlier connection."""
    address = arguments[1]
    return address[0] if isinstance(address, tuple) and isinstance(address[0], str | bytes) else None


def _host_bound(arguments: tuple) -> object:
    host = _host_of_address(arguments)
    return "every interface" if host == "" else host


HOST_OF = {
    "socket.connect": _host_of_address,
    "socket.sendto": _host_of_address,
    "socket.sendmsg": _host_of_address,
    "socket.bind": _host_bound,
    "socket.getaddrinfo": lambda arguments: arguments[0],
    "socket.gethostbyname": lambda arguments: arguments[0],
    "socket.gethostbyaddr": lambda arguments: arguments[0],
}


def is_loopback(host: object) -> bool:
    """None, no host, counts as one of this machine."""
    name = host.decode(errors="replace") if isinstance(host, bytes) else str(host or "")
    if name in LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _reader() -> str:
    """The module that unpickles: the innermost one that is not the pickle module itself."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__") == "pickle":
        frame = frame.f_back
    return "?" if frame is None else str(frame.f_globals.get("__name__"))


def _refuse(attempt: str) -> None:
    with open(os.environ[ATTEMPTS], "a", encoding="utf-8") as file:
        file.write(f"{attempt} | {' '.join(sys.orig_argv)} | {_stack()}\n")
    raise OSError(errno.ENETUNREACH, f"refused by the tests' guard: {attempt}")


def _stack() -> str:
    """The modules and lines that led here, innermost first."""
    frame, lines = sys._getframe(2), []
    while frame is not None and len(lines) < 12:
        lines.append(f"{frame.f_globals.get('__name__')}:{frame.f_lineno}")
        frame = frame.f_back
    return " < ".join(lines)


if ATTEMPTS in os.environ:
    sys.addaudithook(watch)
