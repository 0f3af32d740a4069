"""What AWS has in front of its services and the emulators have not: it looks at signatures, clocks and policies.

The signature is worked out by botocore, which knows nothing of how cronlock does it.
"""

from __future__ import annotations

import calendar
import html
import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from .process import HOST

#: How far AWS lets a request's time be off, in seconds.
_BEARS = 300.0


class Gate:
    """Stands before the server on port `target`, and lets pass what AWS would."""

    def __init__(
        self,
        target: int,
        secret: str,
        *,
        region: str = "eu-west-1",
        service: str = "dynamodb",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.target = target
        self.region = region
        self.service = service
        #: The secrets of the keys that are known; and the session tokens that they need.
        self.secret = secret
        self.token: str | None = None
        #: What was asked for, in the order in which it came, let through or not.
        self.actions: list[str] = []
        self.bodies: list[Any] = []
        #: What may be done; None: all.
        self.allowed: set[str] | None = None
        #: Answers for the requests to come, in place of the service's: (status, body).
        self.answers: list[tuple[int, bytes]] = []
        #: The same for the next requests of one action.
        self.answers_to: dict[str, list[tuple[int, bytes]]] = {}
        #: True if answers say the time, as all of AWS's do.
        self.dated = True
        #: The methods whose conditions do not reach the service, as it is with imitations that ignore them.
        self.careless: tuple[str, ...] = ()
        #: Those conditions.
        self.lost: tuple[str, ...] = ("if-match", "if-none-match")
        self._server = ThreadingHTTPServer((HOST, 0), self._handler())
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> Gate:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def endpoint(self) -> str:
        """The URL that clients are to ask."""
        return f"http://{HOST}:{self.port}"

    def refuse(self, code: str, text: str = "", *, status: int = 400, times: int = 1) -> None:
        """Answer the next requests with an error."""
        self.answers += [(status, self._error(code, text))] * times

    def answer(
        self, method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of the answer to a request."""
        fields = {name.lower(): value for name, value in headers}
        action = self._action(method, target, fields)
        self.actions.append(action)
        self.bodies.append(body if self.service == "s3" else json.loads(body))
        if self.answers:
            return _plain(*self.answers.pop(0))
        if self.answers_to.get(action):
            return _plain(*self.answers_to[action].pop(0))
        fault = self._fault(action, method, target, fields, body)
        if fault is not None:
            return _plain(403 if self.service == "s3" else 400, self._error(*fault))
        connection = http.client.HTTPConnection(HOST, self.target, timeout=30)
        try:
            if method in self.careless:
                fields = {name: value for name, value in fields.items() if name not in self.lost}
            connection.request(method, target, body, fields)
            response = connection.getresponse()
            tag = response.getheader("ETag")
            return response.status, {"ETag": tag} if tag else {}, response.read()
        finally:
            connection.close()

    def _action(self, method: str, target: str, fields: dict[str, str]) -> str:
        """Return what policies call a request."""
        if self.service != "s3":
            return fields["x-amz-target"].rpartition(".")[2]
        path, _, query = target.partition("?")
        if "/" in path.strip("/"):
            return {"GET": "GetObject", "PUT": "PutObject", "DELETE": "DeleteObject"}[method]
        known = {"versioning=": "GetBucketVersioning", "lifecycle=": "GetLifecycleConfiguration"}
        return "CreateBucket" if method == "PUT" else known.get(query, "ListBucket")

    def _error(self, code: str, text: str) -> bytes:
        if self.service == "s3":
            return f"<Error><Code>{code}</Code><Message>{html.escape(text)}</Message></Error>".encode()
        return json.dumps({"__type": f"com.amazonaws.{self.service}#{code}", "message": text}).encode()

    def _fault(
        self, action: str, method: str, target: str, fields: dict[str, str], body: bytes
    ) -> tuple[str, str] | None:
        """Return what AWS would find wrong with a request: (code, text)."""
        moment = fields.get("x-amz-date", "")
        sent, now = calendar.timegm(time.strptime(moment, "%Y%m%dT%H%M%SZ")), time.time()
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        if self.service == "s3" and abs(sent - now) > _BEARS:
            return "RequestTimeTooSkewed", "The difference between the request time and the current time is too large."
        if sent < now - _BEARS:
            return "InvalidSignatureException", f"Signature expired: {moment} is now earlier than {stamp} (- 5 min.)"
        if sent > now + _BEARS:
            return "InvalidSignatureException", f"Signature not yet current: {moment} is still later than {stamp}"
        if self.token is not None and fields.get("x-amz-security-token") != self.token:
            return "ExpiredTokenException", "The security token included in the request is expired"
        if fields["authorization"] != self.signature(method, target, fields, body):
            return (
                "InvalidSignatureException",
                "The request signature we calculated does not match the signature you provided. The Canonical String"
                f" for this request should have been {fields!r}",
            )
        if self.allowed is not None and action not in self.allowed:
            return (
                "AccessDeniedException",
                f"User: arn:aws:iam::123456789012:user/cron is not authorized to perform: {self.service}:{action} on"
                f" resource: * because no identity-based policy allows the {self.service}:{action} action",
            )
        return None

    def signature(self, method: str, target: str, fields: dict[str, str], body: bytes) -> str:
        """Return what the header Authorization has to be, by botocore."""
        scheme, _, rest = fields["authorization"].partition(" ")
        parts = dict(part.strip().split("=", 1) for part in rest.split(","))
        access_key = parts["Credential"].partition("/")[0]
        names = parts["SignedHeaders"].split(";")
        request = AWSRequest(method, f"http://{fields['host']}{target}", {name: fields[name] for name in names}, body)
        request.context["timestamp"] = fields["x-amz-date"]
        kind = S3SigV4Auth if self.service == "s3" else SigV4Auth
        auth = kind(Credentials(access_key, self.secret, self.token), self.service, self.region)
        text = auth.string_to_sign(request, auth.canonical_request(request))
        signature = auth.signature(text, request)
        return (
            f"{scheme} Credential={auth.scope(request)}, SignedHeaders={';'.join(sorted(names))}, Signature={signature}"
        )

    def _handler(gate) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, headers, data = gate.answer(self.command, self.path, self.headers.items(), body)
                self.send_response_only(status)
                for header in headers.items():
                    self.send_header(*header)
                if gate.dated:
                    self.send_header("Date", self.date_time_string())
                self.send_header("Content-Type", "application/x-amz-json-1.0")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = do_DELETE = do_POST

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        return Handler


def _plain(status: int, body: bytes) -> tuple[int, dict[str, str], bytes]:
    return status, {}, body
