"""Ports for the servers that tests start: several processes test at once, so that no fixed one is free for all."""

import socket


def free_port() -> int:
    """A port of the loopback address that the system picks."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
