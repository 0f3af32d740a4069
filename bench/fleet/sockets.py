"""The sockets that cronlock's own code gets in a simulated node: they wait in the loop, and are counted.

All of the code above them is the program's: what is said to a server, when, in how many packets,
and what follows from its answers.
"""

from __future__ import annotations

import _socket
import errno
import math
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from greenlet import getcurrent

from .loop import Loop

#: linux/in.h: a port is chosen when connecting, so that one address has all ports for each server.
_BIND_ADDRESS_NO_PORT = 24
_LATER = (errno.EAGAIN, errno.EINPROGRESS)


class Traffic:
    """The network activity of all nodes of a process."""

    def __init__(self) -> None:
        self.open = 0
        self.clear()

    def clear(self) -> None:
        """Count from now on."""
        self.connects = 0
        #: How often something was sent, which is a request of protocols that send each at once.
        self.sends = 0
        self.most_open = self.open
        #: The largest delay of the load generator in seconds.
        self.late = 0.0
        #: Failed connects, sends and receives, by errno.
        self.failures: dict[str, int] = {}

    def begin(self) -> None:
        """Count a connection that is being made."""
        self.connects += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)

    def failed(self, reason: str) -> None:
        """Count a failure."""
        self.failures[reason] = self.failures.get(reason, 0) + 1


class Network:
    """Stands in for the modules ``_socket`` and ``time`` in cronlock's backends and leases."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.traffic = Traffic()
        #: The address of each machine, by the greenlet that is it.
        self._sources: dict[object, str] = {}
        #: When those that have not connected yet will do so, in seconds after the tick.
        self._due: dict[object, float] = {}
        #: How late the load was with those that have: their time limits count from when they did.
        self._late: dict[object, float] = {}
        #: The tick, by the monotonic clock, once it is known.
        self._tick = math.inf

    @contextmanager
    def machine(self, address: str, due: float) -> Iterator[None]:
        """Let the running greenlet be a machine with this address, that connects so long after the tick.

        What goes before that is done ahead of time, since thousands of machines would do it at once.
        """
        me = getcurrent()
        self._sources[me] = address
        self._due[me] = due
        try:
            yield
        finally:
            del self._sources[me]
            self._due.pop(me, None)
            self._late.pop(me, None)

    def fire(self, tick: float) -> None:
        """Let the tick be at monotonic time `tick`: all that wait for it connect when they are due."""
        self._tick = tick
        for machine, due in self._due.items():
            self.loop.wake(machine, tick + due)

    def monotonic(self) -> float:
        """Return the seconds since the tick; before it connects, a machine is always just about to."""
        me = getcurrent()
        due = self._due.get(me)
        return time.monotonic() - self._tick - self._late.get(me, 0.0) if due is None else due

    def wait_until_due(self) -> None:
        """Let it be the time at which the running greenlet connects."""
        me = getcurrent()
        due = self._due.get(me)
        if due is not None:
            self.loop.stand()
            del self._due[me]
            self._late[me] = self.monotonic() - due
            self.traffic.late = max(self.traffic.late, self._late[me])

    def source(self) -> str | None:
        """Return the address of the running greenlet, None for any."""
        return self._sources.get(getcurrent())

    def install(self) -> None:
        """Put itself into all of cronlock's backends that are loaded; for the rest of this process."""
        sockets, times = (
            _Module(_socket, socket=self._socket),
            _Module(time, sleep=self.loop.sleep, monotonic=self.monotonic),
        )
        for name, module in list(sys.modules.items()):
            # The deadlines of requests are made where leases are.
            if name.startswith("cronlock.engines.") or name == "cronlock.lease.leases":
                for attribute, stands_in in (("_socket", sockets), ("time", times)):
                    if isinstance(getattr(module, attribute, None), ModuleType):
                        setattr(module, attribute, stands_in)

    def _socket(self, family: int, kind: int, protocol: int) -> _Socket:
        return _Socket(self, family, kind, protocol)


class _Module:
    """A module with some of its names replaced."""

    def __init__(self, module: ModuleType, **replaced: Callable[..., object]) -> None:
        self._module = module
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class _Socket:
    """The part of ``_socket.socket`` that cronlock uses."""

    def __init__(self, network: Network, family: int, kind: int, protocol: int) -> None:
        self._network = network
        self._loop = network.loop
        self._socket = _socket.socket(family, kind, protocol)
        self._socket.setblocking(False)
        self._timeout: float | None = None
        self._counted = False
        source = network.source()
        if source is not None and family == _socket.AF_INET:
            self._socket.setsockopt(_socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
            self._socket.bind((source, 0))

    def settimeout(self, seconds: float | None) -> None:
        """Set the timeout of operations."""
        self._timeout = seconds

    def setsockopt(self, level: int, name: int, value: int) -> None:
        """Set an option."""
        self._socket.setsockopt(level, name, value)

    def getsockopt(self, level: int, name: int) -> int:
        """Return an option."""
        return self._socket.getsockopt(level, name)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    def connect(self, address: Any) -> None:
        """Connect."""
        self._network.wait_until_due()
        self._network.traffic.begin()
        self._counted = True
        error = self._socket.connect_ex(address)
        self._loop.watch(self._socket.fileno())
        if error == errno.EINPROGRESS:
            # On loopback it is done already, unless the server's queue is full.
            error = self._socket.connect_ex(address)
        if error == errno.EALREADY:
            self._wait(self._deadline())
            error = self._socket.getsockopt(_socket.SOL_SOCKET, _socket.SO_ERROR)
        if error:
            raise self._failure(OSError(error, errno.errorcode.get(error, "")))

    def sendall(self, data: bytes) -> None:
        """Send all of `data`."""
        self._network.traffic.sends += 1
        deadline, left = self._deadline(), memoryview(data)
        while left:
            try:
                left = left[self._socket.send(left) :]
            except BlockingIOError:
                self._wait(deadline)
            except OSError as error:
                raise self._failure(error) from None

    def recv(self, size: int) -> bytes:
        """Return the next bytes, none at the end."""
        deadline = self._deadline()
        while True:
            try:
                data = self._socket.recv(size)
            except BlockingIOError:
                self._wait(deadline)
            except OSError as error:
                raise self._failure(error) from None
            else:
                if not data:
                    self._network.traffic.failed("closed by the server")
                return data

    def close(self) -> None:
        """Close it."""
        if self._counted:
            self._counted = False
            self._network.traffic.open -= 1
        self._socket.close()

    def _deadline(self) -> float | None:
        return None if self._timeout is None else time.monotonic() + self._timeout

    def _wait(self, deadline: float | None) -> None:
        if not self._loop.wait(self._socket.fileno(), deadline):
            raise self._failure(socket.timeout("timed out"))

    def _failure(self, error: OSError) -> OSError:
        known = errno.errorcode.get(error.errno or 0, "timed out")
        self._network.traffic.failed(known)
        return OSError(error.errno, os.strerror(error.errno)) if error.errno else error
