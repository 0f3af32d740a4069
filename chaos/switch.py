"""A network switch in user space, which loses and delays what it is told to. Runs as a process of its own.

Every machine of a torture run has a TAP device on it. netem may be missing in a kernel, and tools to
filter packets as well; this needs /dev/net/tun only, and knows what an operation of a client is.

    python -I -S switch.py         in the network namespace where the devices are to be made

It reads lines of JSON on standard input and answers each with a line ``ok``:

    {"port": NAME}                 make the device NAME, whose frames come from the address `mac(NUMBER)`
    {"rules": [RULE, ...]}         what is done from now on, in place of the rules before

A RULE is {"from": [NAME...], "to": [NAME...], "do": WHAT}; the first that fits a frame counts:

    drop                           lose it
    delay, "seconds": S            pass it on later, in order
    lose, "chance": C, "seed": N   of the connections that `from` opens to `to` or accepts from it, the part C
                                   has one operation, chosen by N, from which on what it says in this
                                   direction is lost: a dropped request if `from` is the client, a dropped reply
                                   if it is the server. Acknowledgements pass.
"""

from __future__ import annotations

import fcntl
import heapq
import json
import os
import random
import select
import struct
import sys
import time

_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_FRAME = 65536
#: A connection of one run has few operations: connect, acquire, some renewals, release.
_OPERATIONS = 4

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def mac(number: int) -> str:
    """Return the hardware address of the machine on port `number`, counted from 1."""
    return f"02:00:00:00:{number // 256:02x}:{number % 256:02x}"


class Losses:
    """Which frames a rule `lose` takes from the connections that it sees."""

    def __init__(self, chance: float, seed: int) -> None:
        self._chance = chance
        self._seed = seed
        #: Addresses and ports -> [which operation is lost, counted down to 1; 0: none], and the end of what passed.
        self._left: dict[bytes, int] = {}
        self._passed: dict[bytes, int] = {}

    def takes(self, frame: bytes) -> bool:
        """Return True if a frame in the rule's direction is lost."""
        segment = _segment(frame)
        if segment is None:
            return False
        connection, end, opens = segment
        if opens or connection not in self._left:
            # By its order, not by its ports, which are other ones each time.
            chosen = random.Random(f"{self._seed} {len(self._left)}")
            self._left[connection] = chosen.randint(1, _OPERATIONS) if chosen.random() < self._chance else 0
            self._passed.pop(connection, None)
        if end is None:
            return False
        passed = self._passed.get(connection)
        if passed is not None and not 0 < (end - passed) % 2**32 < 2**31:
            return False  # A retransmission.
        if self._left[connection] == 1:
            return True
        self._left[connection] = max(0, self._left[connection] - 1)
        self._passed[connection] = end
        return False


def _segment(frame: bytes) -> tuple[bytes, int | None, bool] | None:
    """Return (connection, number behind its last byte of data or None, whether it opens) of a TCP frame."""
    if frame[12:14] != b"\x08\x00" or frame[23] != 6:
        return None
    header = (frame[14] & 15) * 4
    total = int.from_bytes(frame[16:18], "big")
    tcp = 14 + header
    data = total - header - (frame[tcp + 12] >> 4) * 4
    sequence = int.from_bytes(frame[tcp + 4 : tcp + 8], "big")
    connection = frame[26:34] + frame[tcp : tcp + 4]
    return connection, (sequence + data) % 2**32 if data > 0 else None, bool(frame[tcp + 13] & 2)


class Switch:
    """Passes frames on between its ports."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._poll.register(0, select.POLLIN)
        self._names: dict[int, str] = {}
        self._by_mac: dict[bytes, int] = {}
        self._rules: list[dict[str, Any]] = []
        self._late: list[tuple[float, int, int, bytes]] = []
        self._count = 0
        self._said = b""

    def run(self) -> None:
        """Pass frames on until standard input ends."""
        while True:
            wait = None if not self._late else max(0.0, self._late[0][0] - time.monotonic()) * 1000 + 0.5
            for descriptor, _ in self._poll.poll(wait):
                if descriptor:
                    self._pass_all(descriptor)
                elif not self._obey():
                    return
            while self._late and self._late[0][0] <= time.monotonic():
                _, _, port, frame = heapq.heappop(self._late)
                _send(port, frame)

    def _obey(self) -> bool:
        data = os.read(0, 65536)
        *lines, self._said = (self._said + data).split(b"\n")
        for line in lines:
            order = json.loads(line)
            if "port" in order:
                self._open(order["port"])
            else:
                self._rules = order["rules"]
                for rule in self._rules:
                    if rule["do"] == "lose":
                        rule["losses"] = Losses(rule["chance"], rule["seed"])
            os.write(1, b"ok\n")
        return bool(data)

    def _open(self, name: str) -> None:
        port = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(port, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI))
        self._names[port] = name
        self._by_mac[bytes.fromhex(mac(len(self._names)).replace(":", ""))] = port
        self._poll.register(port, select.POLLIN)

    def _pass_all(self, port: int) -> None:
        for _ in range(64):  # Then the others have their turn.
            try:
                frame = os.read(port, _FRAME)
            except OSError:
                return  # Nothing more, or the device is down or gone with its machine.
            to = self._by_mac.get(frame[:6])
            if to is not None:
                self._pass(port, to, frame)
            elif frame[0] & 1:
                for other in self._names:
                    if other != port:
                        self._pass(port, other, frame)

    def _pass(self, port: int, to: int, frame: bytes) -> None:
        source, target = self._names[port], self._names[to]
        for rule in self._rules:
            if source not in rule["from"] or target not in rule["to"]:
                continue
            if rule["do"] == "delay":
                self._count += 1
                heapq.heappush(self._late, (time.monotonic() + rule["seconds"], self._count, to, frame))
                return
            if rule["do"] == "drop" or rule["losses"].takes(frame):
                return
            break
        _send(to, frame)


def _send(port: int, frame: bytes) -> None:
    try:
        os.write(port, frame)
    except OSError:
        pass  # The device is down, gone, or has no room: a network may lose frames.


if __name__ == "__main__":
    Switch().run()
    sys.exit(0)
