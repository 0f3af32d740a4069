"""AWS's JSON protocols: each action is a POST of one object, and so is its answer."""

from __future__ import annotations

from ...value import Value
from . import json_text
from .aws import Service
from .aws_signature import Request
from .http import Unanswered
from .stream import protocol_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..url import URL
    from .http import Response


class Reply(Value):
    """An answer of the service: done, or refused for a reason that the caller said it knows."""

    #: The error's code without its namespace; empty when the request was done.
    code: str
    body: dict[str, Any]
    #: The error's text, for people.
    says: str = ""


class JsonService(Service):
    """A service whose requests and replies are JSON objects."""

    def __init__(self, url: URL, name: str, target: str, timeout: float) -> None:
        """`target` is what its actions are called under; see `Service`."""
        super().__init__(url, name, timeout)
        self._target = target

    def call(self, action: str, body: dict[str, Any], deadline: float, known: tuple[str, ...] = ()) -> Reply:
        """Do `action`; return its answer, or an error whose code is `known`. Raises as `ask` does."""
        data = json_text.dumps(body)
        headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"{self._target}.{action}"}
        answer = self.ask(action, Request("POST", "", "", data), headers, deadline, known)
        return Reply(answer.code, answer.content, answer.says)

    def _read(self, response: Response) -> tuple[str, str, dict[str, Any]]:
        body = _object(response)
        if response.status == 200 and body is not None:
            return "", "", body
        if body is None:
            body = {}
            if 200 <= response.status < 500:
                raise protocol_error(self._shown, "AWS", f"status {response.status}", Unanswered)
        code = str(body.get("__type") or body.get("code") or response.headers.get("x-amzn-errortype", ""))
        code = code.rpartition("#")[2].partition(":")[0].rpartition(".")[2] or f"status {response.status}"
        text = body.get("message") or body.get("Message") or ""
        return code[:100], text if isinstance(text, str) else "", body


def _object(response: Response) -> dict[str, Any] | None:
    """Return the JSON object of a reply, or None."""
    try:
        body = json_text.loads(response.body or b"{}")
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None
