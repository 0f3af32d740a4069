"""Discovery: sentinels and seed nodes, which know where the masters are.

A discovery node that is down or hangs costs its share of the request's time.
"""

from __future__ import annotations

import time

from ...errors import BackendUnavailable
from ..wire.stream import protocol_error
from .resp import PRODUCT, ReplyError, Server

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from ..url import URL
    from ..wire.tls import Context
    from .resp import Command, Reply

    Credentials = tuple[str | None, str] | None
    Address = tuple[str, int]
    Found = TypeVar("Found")
    #: Takes a server's name, its address and its reply. Raises BackendUnavailable, or ValueError for a malformed one.
    Reading = Callable[[str, Address, list[Reply]], Found]

#: Bytes of one reply: a cluster whose slots were moved often has thousands of ranges.
_LONGEST_REPLY = 8 * 1024 * 1024


class Discovery:
    """Servers that know the addresses of others, asked one after the other until one replies."""

    def __init__(self, url: URL, kind: str, addresses: list[Address], login: Credentials, tls: Context | None) -> None:
        self._name = f"{url}: {kind}"
        self._addresses = addresses
        self._login = login
        self._tls = tls

    def ask(self, command: Command, read: Reading[Found], deadline: float) -> Found:
        """Return what `read` makes of the first useful reply to `command`. Raises BackendUnavailable.

        Each server may take an equal share of the time that is left; one more share is for the
        request itself.
        """
        failure = BackendUnavailable(f"{self._name}: no answer in time")
        for position, address in enumerate(self._addresses):
            now = time.monotonic()
            share = (deadline - now) / (len(self._addresses) - position + 1)
            if share <= 0:
                break
            name = f"{self._name} {address[0]}:{address[1]}"
            server = Server(name, address, credentials=self._login, tls=self._tls, longest_reply=_LONGEST_REPLY)
            try:
                (reply,) = server.ask([command], now + share)
                if isinstance(reply, ReplyError):
                    raise _refusal(name, reply)
                if not isinstance(reply, list):
                    raise protocol_error(name, PRODUCT)
                return read(name, address, reply)
            except BackendUnavailable as error:
                failure = error
            except ValueError:
                failure = protocol_error(name, PRODUCT)
            finally:
                server.close()
        raise failure


def _refusal(name: str, error: ReplyError) -> BackendUnavailable:
    # "ERR unknown command 'SENTINEL', with args beginning with: ..."
    if "unknown command" in error.text and "SENTINEL" in error.text.partition(",")[0]:
        return BackendUnavailable(f"{name}: not a Sentinel; use redis://, or check the port")
    return error.refusal(name)
