"""A swap as one transaction: record and lease's node change if the record is still as `seen`."""

from __future__ import annotations

import time

from ...lease.store import Cell
from ...system import os
from ..wire.stream import protocol_error
from .cell import NodeCell, to_text
from .messages import CheckVersion, Create, Delete, Request, SetData, Stat, Transaction
from .session import BAD_VERSION, FRESH, NO_NODE, NODE_EXISTS, NOT_TRIED, OK, ROLLED_BACK, Reply
from .tree import ANY_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...lease.store import Hold
    from .session import Session
    from .tree import Tree

_EPHEMERAL = 1


def put(
    tree: Tree, session: Session, key: str, seen: NodeCell, data: bytes, *, lease: float | None, hold: Hold
) -> NodeCell | None:
    """Replace the cell `seen` by `data`, with a lease of `session`. Return None if the cell has changed.

    The lease's node has a unique name, so if it still exists, the key's node is the one that was seen. Without a lease,
    the number of writes of the key's node proves that, unless the node can have been deleted and recreated since: a
    new node counts from 0.
    """
    path, there = tree.path(key), bool(seen.lease)
    sure = there or seen.node is None or time.monotonic() - seen.seen_at < FRESH
    until = seen.hold_until
    if isinstance(hold, Cell):
        until, hold = (hold.hold_until if isinstance(hold, NodeCell) else 0), 0.0
    while sure or tree.is_same_node(session, key, seen):
        renews = there and seen.is_of(session)
        name, owner, timeout = seen.lease_name, seen.session, seen.timeout
        if lease is not None:
            name, owner, timeout = "", "", 0.0
        if lease:
            name = seen.lease_name if renews else os.urandom(8).hex()
            owner, timeout = session.label, session.timeout
        text = to_text(name, owner, timeout, until, hold, data)
        # Created and then written, since only a write returns the leader's time.
        parts: list[Request] = [Create(path, b"", tree.acl, 0)] if seen.node is None else []
        parts.append(SetData(path, text, seen.node[1] if seen.node else 0))
        record = len(parts) - 1
        node = tree.lease_path(key, seen.lease_name)
        if there and lease is None:
            parts.append(CheckVersion(node, ANY_VERSION))
        elif there:
            parts.append(SetData(node, b"", ANY_VERSION) if lease and renews else Delete(node, ANY_VERSION))
        if lease and not renews:
            parts.append(Create(tree.lease_path(key, name), b"", tree.acl, _EPHEMERAL))
        reply = session.ask(Transaction(parts))[0]
        failed, code = _failure(reply)
        if code == OK:
            stat = _stat(tree, reply, record)
            cell = NodeCell(
                data=data,
                version=(stat.czxid, stat.version),
                lease=timeout if lease else seen.lease if lease is None and there else 0.0,
                floor=reply.zxid + 1,
                time=stat.mtime / 1000,
                lease_name=name,
                session=owner,
                timeout=timeout,
                hold_until=max(until, stat.mtime - int(-hold * 1000 // 1)) if hold else until,
                leader_time=stat.mtime,
                seen_at=time.monotonic(),
            )
            return cell.but(hold=cell.hold_left(stat.mtime))
        if code == NO_NODE and failed > record and there:
            there = sure = False  # The lease had lapsed.
        elif code == NO_NODE and seen.node is None and failed == 0:
            tree.make_parents(session)
        elif code in (NO_NODE, BAD_VERSION, NODE_EXISTS) and failed <= record:
            break
        else:
            reply.code = code
            tree.value(reply, path)
    return None


def _failure(reply: Reply) -> tuple[int, int]:
    """Return which part of a transaction failed, and the server's code for it; OK if none did."""
    if reply.code == OK:
        # If one part fails, those before it say "rolled back" and those after it "not tried".
        for index, result in enumerate(reply.value):
            if result.code not in (OK, ROLLED_BACK, NOT_TRIED):
                return index, result.code
    return 0, reply.code


def _stat(tree: Tree, reply: Reply, index: int) -> Stat:
    stat: Stat | None = reply.value[index].value if index < len(reply.value) else None
    if stat is None:
        raise protocol_error(tree.name, "ZooKeeper")
    return stat
