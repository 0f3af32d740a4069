"""Servers that talk PostgreSQL's protocol, well or badly."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from labs.impostors import listening
from labs.servers.process import HOST


def message(kind: bytes, body: bytes = b"") -> bytes:
    """Return a message."""
    return kind + struct.pack("!I", len(body) + 4) + body


def one_row(*values: bytes) -> bytes:
    """Return the answer to a statement that yields one row."""
    columns = b"".join(b"c\0" + struct.pack("!IHIHIH", 0, 0, 25, 0xFFFF, 0xFFFFFFFF, 0) for _ in values)
    fields = b"".join(struct.pack("!I", len(value)) + value for value in values)
    count = struct.pack("!H", len(values))
    return message(b"T", count + columns) + message(b"D", count + fields) + DONE


#: The end of an answer.
DONE = message(b"C", b"SELECT 1\0") + message(b"Z", b"I")


#: What the server tells of itself once somebody is logged in.
STATES = {b"server_version": b"15.0", b"default_transaction_read_only": b"off", b"in_hot_standby": b"off"}
#: The number of a process, and that statements may come.
READY = message(b"K", bytes(8)) + message(b"Z", b"I")


def states(told: dict[bytes, bytes] = STATES) -> bytes:
    """Return the messages that tell so."""
    return b"".join(message(b"S", b"%b\0%b\0" % pair) for pair in told.items())


def greeted(client: socket.socket) -> bytes:
    """Offer a client neither TLS nor Kerberos, and return what it then begins with."""
    while (head := client.recv(8, socket.MSG_WAITALL))[4:] != (196608).to_bytes(4, "big"):
        if len(head) < 8:
            raise ConnectionError("the client has hung up")  # Its time is over.
        client.sendall(b"N")
    return client.recv(65536)


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that lets everybody in, and gives one answer to every statement; the URL of it."""

    def talk(client: socket.socket) -> None:
        greeted(client)
        client.sendall(message(b"R", bytes(4)) + states() + READY)
        while client.recv(65536):
            client.sendall(message(b"1") + message(b"2") + answer)

    with listening(talk) as port:
        yield f"postgresql://u@{HOST}:{port}/db"
