"""Which ports of this host belong to which workload: chosen once, kept with what is prepared.

A conductor's clients find it on the same port after every restart; so ports come from below the
range
that the kernel gives to outgoing connections, where nobody takes one by accident while it
restarts.
"""

import errno
import socket
from collections.abc import Collection
from typing import Final

from hivekeeper.model.errors import TransientError

FIRST: Final = 20_000
LAST: Final = 31_999
"""Linux gives outgoing connections ports from 32768 on (`net.ipv4.ip_local_port_range`)."""


def choose(taken: Collection[int], *, start: float) -> int:
    """Return a port that is free now and that nobody here was given.

    Args:
        taken: Given to workloads of this host, running or not.
        start: In [0, 1): where to begin looking; chance keeps two hosts on one machine apart.

    Raises:
        TransientError: All are taken.
    """
    count = LAST - FIRST + 1
    for step in range(count):
        port = FIRST + (int(start * count) + step) % count
        if port not in taken and is_free(port):
            return port
    raise TransientError(f"cannot choose a port: all of {FIRST} to {LAST} are taken")


def is_free(port: int) -> bool:
    """Return whether nobody listens on `port` of loopback, of either family."""
    return all(_binds(family, port) for family in (socket.AF_INET, socket.AF_INET6))


def _binds(family: socket.AddressFamily, port: int) -> bool:
    address = "127.0.0.1" if family is socket.AF_INET else "::1"
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except OSError as error:
        # On a machine without IPv6 nobody can be there either.
        return family is socket.AF_INET6 and error.errno != errno.EADDRINUSE
    return True
