"""HTTP/1.1 with one time limit, for the servers that are asked by it: one connection, one request at a time.

h11 knows the protocol and does no I/O; `wire.stream` does the I/O and knows the limit. Nothing is
followed (redirects), undone (compression) or tried again here.
"""

from __future__ import annotations

import h11

from ...errors import BackendUnavailable
from ...value import Value
from .stream import HungUp, Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

#: What of an answer is read at most, in bytes, head included.
LONGEST = 1 << 20
_LONGEST_HEAD = 1 << 16
# A server may announce its answer ("100 Continue", "103 Early Hints"); one that only announces is none.
_ANNOUNCEMENTS = 8


class Unanswered(BackendUnavailable):
    """The request was sent, and no answer came or one that makes no sense: it may have been done.

    Every other BackendUnavailable of a request says that the server did not get all of it: nothing was done.
    """


class Response(Value):
    """An answer, whatever its status."""

    #: From 200 to 999.
    status: int
    #: Names in small letters; of several with one name the last.
    headers: dict[str, str]
    body: bytes


class Connection:
    """The way to one server, which is connected to when it is first asked and kept for what follows."""

    def __init__(
        self, name: str, host: str, port: int, tls: ssl.SSLContext | None = None, *, longest: int = LONGEST
    ) -> None:
        """`name` begins every error; `longest` bounds each answer, in bytes. Asks nothing yet."""
        self._name = name
        self._host = host
        self._port = port
        self._tls = tls
        self._longest = longest
        usual = port == (80 if tls is None else 443)
        #: The server as the header Host has it.
        self.place = (f"[{host}]" if ":" in host else host) + ("" if usual else f":{port}")
        self._stream: Stream | None = None
        self._protocol: h11.Connection | None = None
        #: Whether anything was asked on the connection yet.
        self._asked = False

    def request(self, method: str, target: str, headers: Mapping[str, str], body: bytes, deadline: float) -> Response:
        """Return the server's answer; there is one by monotonic time `deadline`, or BackendUnavailable.

        `target` is the path with the query. The headers Host and Content-Length are added where they are not
        given. Raises Unanswered once all of the request was sent.
        """
        lines = {"Host": self.place, "Content-Length": str(len(body)), "Accept-Encoding": "identity"}
        given = {name.lower() for name in headers}
        fields = [(name, value) for name, value in lines.items() if name.lower() not in given]
        stream, protocol = self._connected(deadline)
        self._asked = True
        try:
            head = h11.Request(method=method, target=target, headers=[*fields, *headers.items()])
            events = (head, h11.Data(data=body), h11.EndOfMessage())
            stream.send(b"".join([protocol.send(event) or b"" for event in events]))
        except (h11.LocalProtocolError, UnicodeEncodeError) as error:
            self.close()
            raise BackendUnavailable(f"{self._name}: what is to be sent is no HTTP: {_short(error)}") from error
        except BackendUnavailable:
            self.close()
            raise
        try:
            response = self._answer(stream, protocol)
        except BackendUnavailable as error:
            self.close()
            raise Unanswered(str(error)) from error
        except (h11.RemoteProtocolError, ValueError) as error:
            # A ValueError is what a length of thousands of digits gives.
            self.close()
            raise Unanswered(f"{self._name}: does not answer as an HTTP server does: {_short(error)}") from error
        self._go_on(protocol)
        return response

    def connect(self, deadline: float) -> None:
        """Connect now, unless the connection stands: what comes next is the request alone."""
        self._connected(deadline)

    def close(self) -> None:
        """Close the connection; raises nothing. The next request makes another."""
        if self._stream is not None:
            self._stream.close()
        self._stream = self._protocol = None

    def quiet(self) -> bool:
        """Whether there is a connection, and the server neither closed it nor said a word unasked."""
        return self._stream is not None and self._stream.quiet()

    def _connected(self, deadline: float) -> tuple[Stream, h11.Connection]:
        # A server that closed the idle connection, or says what it was not asked, is connected to anew. On a new
        # one it may still end the handshake: TLS 1.3 has session tickets for later.
        if self._stream is not None and self._protocol is not None and (not self._asked or self.quiet()):
            self._stream.limit(deadline)
            return self._stream, self._protocol
        self.close()
        self._stream = Stream.connect_tcp(self._name, self._host, self._port, deadline, self._tls)
        self._protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=_LONGEST_HEAD)
        self._asked = False
        return self._stream, self._protocol

    def _answer(self, stream: Stream, protocol: h11.Connection) -> Response:
        head: h11.Response | None = None
        body = bytearray()
        received = announced = 0
        while True:
            event = protocol.next_event()
            if event is h11.NEED_DATA:
                data = self._more(stream, begun=head is not None)
                received += len(data)
                if received > self._longest:
                    raise BackendUnavailable(f"{self._name}: the answer is longer than {self._longest} bytes")
                protocol.receive_data(data)
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.InformationalResponse) and event.status_code != 101:
                announced += 1
                if announced > _ANNOUNCEMENTS:
                    raise BackendUnavailable(f"{self._name}: announces its answer, and gives none")
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
                return Response(head.status_code, headers, bytes(body))
            else:
                raise BackendUnavailable(f"{self._name}: does not answer as an HTTP server does")

    @staticmethod
    def _more(stream: Stream, *, begun: bool) -> bytes:
        """Return the next bytes, none at the end of the stream: an answer that has `begun` may end so."""
        try:
            return stream.receive()
        except HungUp as error:
            if error.__cause__ is not None or not begun:
                raise  # A reset ends nothing.
            return b""

    def _go_on(self, protocol: h11.Connection) -> None:
        """Keep the connection for the next request where both sides agree on that."""
        done = protocol.our_state is h11.DONE and protocol.their_state is h11.DONE
        if not done or protocol.trailing_data != (b"", False):
            self.close()
            return
        protocol.start_next_cycle()


def _short(error: Exception) -> str:
    """Return an error's text, which may quote a whole head."""
    text = str(error)
    # What is quoted behind may be a secret: a header's value, or some of the answer.
    for quote in (" b'", ' b"', " bytearray("):
        text = text.partition(quote)[0]
    return text[:100]
