"""The hash of one key: its fields, the script that swaps them, and how replies become cells.

``version`` is a random token, new in each swap, ``record`` the bytes, and ``lease`` and ``hold`` are the ends of both
in microseconds of the server's clock.
"""

from __future__ import annotations

from ...errors import ForeignValue
from ...lease.store import Cell
from ...value import digits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .resp import Reply

#: The fields of a hash, in this order. The unreleased layout had a field of the first name.
FIELDS = (b"cronlock", b"version", b"record", b"lease", b"hold")

#: Returns 1, the time and the ends of lease and hold after a swap, else 0, the time, whether the key exists, and
#: `FIELDS`. Arguments: the database; the version seen ('' for no key) and the new one; the record; for lease and for
#: hold the end to keep and the length from now; for how many milliseconds the key outlives both.
#: SELECT is inside, lest a refused one let it run in database 0. Lua writes numbers above 2^46 with an exponent.
SWAP = b"""
if ARGV[1] ~= '0' then redis.call('SELECT', ARGV[1]) end
local clock, exists = redis.call('TIME'), redis.call('EXISTS', KEYS[1])
local there = redis.call('HMGET', KEYS[1], 'cronlock', 'version', 'record', 'lease', 'hold')
if (there[2] or '') ~= ARGV[2] or exists ~= (ARGV[2] == '' and 0 or 1) then return {0, clock, exists, there} end
local now = clock[1] * 1000000 + clock[2]
local function text(number) return string.format('%.0f', number) end
local function last(stays, length)
  return length == '0' and tonumber(stays) or math.max(tonumber(stays), now + tonumber(length))
end
local lease, hold = last(ARGV[5], ARGV[6]), last(ARGV[7], ARGV[8])
redis.call('HSET', KEYS[1], 'version', ARGV[3], 'record', ARGV[4], 'lease', text(lease), 'hold', text(hold))
redis.call('PEXPIRE', KEYS[1], text(tonumber(ARGV[9]) + math.max(lease - now, hold - now, 0) / 1000))
return {1, clock, text(lease), text(hold)}
"""

#: Expires the key at once, since the ACL rule does not allow DEL. Returns 0 if the key has another version, else 1.
#: Arguments: the database, the version seen ('' for no key).
REMOVE = b"""
if ARGV[1] ~= '0' then redis.call('SELECT', ARGV[1]) end
if (redis.call('HMGET', KEYS[1], 'version')[1] or '') ~= ARGV[2] then return 0 end
redis.call('PEXPIRE', KEYS[1], '0')
return 1
"""


class RedisCell(Cell):
    """A hash as read, with the ends of lease and hold in microseconds of the server's clock; 0 if they were over."""

    lease_until: int = 0
    hold_until: int = 0


def decode(clock: Reply, exists: Reply, fields: Reply) -> RedisCell:
    """Return the cell that a server showed at the time `clock`.

    Raises ForeignValue, without the key, for a foreign hash, and ValueError for a malformed reply.
    """
    if not isinstance(clock, list) or not isinstance(fields, list) or len(fields) != len(FIELDS):
        raise ValueError("no answer")
    seconds, rest = map(whole, clock)
    now = seconds * 1_000_000 + rest
    if has_no_fields(fields):
        if exists == 1:
            raise ForeignValue("not a record of cronlock")
        return RedisCell(floor=now, time=now / 1e6)
    layout, version, record, *ends = fields
    if layout == b"1":
        raise ForeignValue("a record of an older, unreleased layout of cronlock")
    if not (version and isinstance(version, bytes) and isinstance(record, bytes)):
        raise ForeignValue("not a record of cronlock")
    try:
        lease, hold = map(whole, ends)
    except ValueError:
        raise ForeignValue("a record with a malformed end of lease or hold") from None
    return RedisCell(
        data=record,
        version=version,
        lease=max(0, lease - now) / 1e6,
        hold=max(0, hold - now) / 1e6,
        floor=now,
        time=now / 1e6,
        lease_until=lease if lease > now else 0,
        hold_until=hold if hold > now else 0,
    )


def has_no_fields(fields: Reply) -> bool:
    """Return True if a hash has none of `FIELDS`: it does not exist, or is foreign."""
    return fields == [None] * len(FIELDS)


def whole(word: Reply) -> int:
    """Return the number in a string; raise ValueError for any other, and for one that Lua cannot represent exactly."""
    number = digits(word, 16) if isinstance(word, bytes) else None
    if number is None:
        raise ValueError("not a number")
    return number
