"""What etcd's gateway answers, and what lies in etcd."""

from __future__ import annotations

import base64
from typing import Any
from unittest.mock import patch

from cronlock.engines.etcd import api as etcd
from cronlock.engines.etcd import cell as etcd_cell
from cronlock.engines.etcd import held as etcd_held
from cronlock.engines.etcd import names as etcd_names
from cronlock.engines.etcd.messages import KeyValue, text_of
from cronlock.engines.registry import open_backend
from cronlock.errors import ForeignValue

from .data import Data
from .engine import SECRET, expecting
from .http import STATUSES, as_json_text, http_answer, maybe_maimed, read_request
from .operations import KEY, a_record, operate
from .streams import hurrying, served

_ETCD_ERRORS = (
    *("etcdserver: requested lease not found", "etcdserver: lease already exists", "etcdserver: no leader"),
    *("etcdserver: invalid auth token", "etcdserver: user name is empty", "etcdserver: authentication is not enabled"),
    *("etcdserver: permission denied", "etcdserver: mvcc: database space exceeded", "etcdserver: request is too large"),
    *("etcdserver: authentication failed, invalid user ID or password", "context deadline exceeded", "", "a\nb"),
    *("x" * 9000, "\ud800", f"bad password {SECRET}"),
)
_ETCD_URLS = (
    *("etcd://h", "etcd://h,g:1,[::1]/root?prefix=p", f"etcd://u:{SECRET}@h", f"etcd://u:{SECRET}@h,g:1/root"),
)


def an_etcd(data: Data) -> None:
    """A gateway that answers anything gives answers, or the errors of backends."""

    def answer(request: bytes) -> bytes:
        path, _, message = read_request(request)
        if data.chance(10 if path != "/v3/auth/authenticate" else 3):
            # Only who was told the password can repeat it.
            text, code = data.pick(_ETCD_ERRORS if SECRET in url else _ETCD_ERRORS[:-1]), data.below(17)
            failed: dict[str, Any] = {"error": text, "message": text, "code": code}
            if data.chance(4):
                failed = {"error": {"grpc_code": code, "message": text}}
            return http_answer(data, data.pick(STATUSES), as_json_text(data, failed))
        if data.chance(40):
            return http_answer(data, data.pick(STATUSES), data.pick((b"", b"CommonName of client", b"[" * 9999, b"[]")))
        return http_answer(data, 200, as_json_text(data, _etcd_answer(data, path, message)))

    url = data.pick(_ETCD_URLS)
    with served(data, answer), hurrying(data.pick((0.01, 0.01, 0.3))):
        backend = open_backend(url, 5.0)
        with patch.object(etcd, "_PAGE", 2), patch.object(etcd_held, "_LINGERING", 100.0):
            operate(data, backend)


def _etcd_answer(data: Data, path: str, message: Any) -> dict[str, Any]:
    header = {"revision": data.pick(("7", "7", "7", 8))}
    if path == "/v3/kv/txn":
        done = not message["compare"] or not data.chance(3)
        parts = message["success" if done else "failure"]
        return {
            "header": header,
            "responses": [_etcd_part(data, part) for part in parts],
            **({"succeeded": True} if done else {}),
        }
    if path == "/v3/lease/grant":
        return {"ID": message["ID"], "TTL": message["TTL"]}
    if path == "/v3/lease/timetolive":
        return {"ID": message["ID"], "TTL": data.pick(("5", "400", "-1", 0))}
    if path == "/v3/kv/range":
        first = base64.b64decode(message["key"]).rstrip(b"\0")
        start = first[: first.index(b"/record/") + 8]
        names = sorted(data.pick((b"a", b"billing", b"%C3%A4", b"z", b"%", data.blob(5))) for _ in range(data.below(4)))
        return {"kvs": [{"key": text_of(start + name)} for name in names]}
    return {"token": data.pick(("tok.7", "tok.7", "tok.7", "", "a\nb", "\xe4"))} if "auth" in path else {}


def _etcd_part(data: Data, part: dict[str, Any]) -> dict[str, Any]:
    """Return what a part of a transaction is answered."""
    if "request_range" not in part:
        return {"response_put": {}}
    key = base64.b64decode(part["request_range"]["key"])
    found: list[KeyValue] = []
    if b"/record/" in key:
        found += [] if data.chance(4) else [_kept(data, key, maybe_maimed(data, a_record(data)))]
    elif data.chance(2):
        found += _held(data, key)
    return {"response_range": {"kvs": [_as_json(one) for one in found]}} if found else {"response_range": {}}


def _held(data: Data, key: bytes) -> list[KeyValue]:
    """Return what lies below ``held/``."""
    lease, hold = (etcd_held.Held(b"", 0, data.pick((0.0, 45.0, 3000.0)), 1.7e9).text for _ in range(2))
    both = [_kept(data, key + b"lease", maybe_maimed(data, lease)), _kept(data, key + b"hold/x", hold)]
    return data.pick((both, both[:1], both[1:], [_kept(data, key + b"x" * data.pick((0, 9000)), b"")]))


def _kept(data: Data, key: bytes, value: bytes) -> KeyValue:
    return KeyValue(key, value, data.pick((7, 7, 8)), data.pick((77, 77, 77, 0)))


def _as_json(one: KeyValue) -> dict[str, Any]:
    parts = {"key": text_of(one.key), "value": text_of(one.value)}
    return {**parts, "mod_revision": str(one.modified), "lease": one.lease}


def an_etcd_cell(data: Data) -> None:
    """Whatever lies in etcd is a cell, or ForeignValue; what a cell's keys say is read again."""
    names = etcd_names.Names("cronlock", KEY)
    found = [_kept(data, names.record, maybe_maimed(data, a_record(data))), *_held(data, names.held)]
    with expecting(ForeignValue):
        cell = etcd_cell.cell_of(names, found, data.below(1000))
        assert 0 <= cell.lease < 1e15
        assert 0 <= cell.hold < 1e15
        assert (cell.lease > 0, cell.hold > 0) == (cell.lease_key is not None, len(cell.hold_keys) > 0)
        for one in cell.hold_keys:
            assert etcd_held.read(KeyValue(one.key, one.text, one.modified, one.lease)) == one
