"""Which keys there are on servers of Redis, in pages of about a hundred."""

from __future__ import annotations

from ..wire.stream import protocol_error
from .resp import PRODUCT, ReplyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .resp import Command, Server

# So that a listing ends whatever the server replies.
_MOST_PAGES = 1_000_000


def names(
    servers: list[Server], select: list[Command], prefix: bytes, deadline: Callable[[], float]
) -> Iterator[bytes]:
    """List the names of hashes that begin with `prefix`, each once; `deadline` returns each page's.

    `select` goes before each request. Raises BackendUnavailable.
    """
    listed: set[bytes] = set()
    for server in servers:
        cursor = b"0"
        for _ in range(_MOST_PAGES):
            before = cursor
            cursor, page = _page(server, cursor, select, prefix, deadline())
            for name in page:
                if name not in listed:  # SCAN may show a name twice.
                    listed.add(name)
                    yield name
            if cursor == b"0":
                break
            if cursor == before:
                raise protocol_error(server.name, PRODUCT)


def _page(
    server: Server, cursor: bytes, select: list[Command], prefix: bytes, deadline: float
) -> tuple[bytes, list[bytes]]:
    scan = [b"SCAN", cursor, b"MATCH", prefix + b"*", b"COUNT", b"100", b"TYPE", b"hash"]
    answers = server.ask([*select, scan], deadline)
    for answer in answers:
        if isinstance(answer, ReplyError):
            raise answer.refusal(server.name)
    page = answers[-1]
    if not (isinstance(page, list) and len(page) == 2 and isinstance(page[0], bytes) and isinstance(page[1], list)):
        raise protocol_error(server.name, PRODUCT)
    following, found = page[0], page[1]
    return following, [name for name in found if isinstance(name, bytes) and name.startswith(prefix)]
