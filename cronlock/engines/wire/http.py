"""HTTP/1.1 with one time limit: one connection, one request at a time.

A client library takes as long to import as all the rest of a run. This client needs no HEAD, no upgrade and no
compression, and is as strict as RFC 9112 allows. It follows no redirect and repeats no request. `wire.stream` does the
I/O and keeps the time limit.
"""

from __future__ import annotations

from ...errors import BackendUnavailable
from ...value import Value, digits
from .stream import ConnectionClosed, Stream, protocol_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from .tls import Context

#: The longest reply, in bytes, head included.
LONGEST = 1 << 20
_LONGEST_HEAD = 1 << 16
#: A chunk's length has so many hexadecimal digits at most, a body's so many decimal ones.
_LONGEST_NUMBER = 16
# RFC 9110: the characters of a token, and those of a header's value, with no control characters but the tab.
_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_VALUE = frozenset((9, *range(0x20, 0x7F), *range(0x80, 0x100)))
_VISIBLE = frozenset(range(0x21, 0x7F))
_SENT = _VALUE & frozenset(range(0x80))
_HEXADECIMAL = frozenset(b"0123456789abcdefABCDEF")
# Informational responses ("100 Continue", "103 Early Hints") precede the reply; so many at most.
_ANNOUNCEMENTS = 8


class Unanswered(BackendUnavailable):
    """The request was sent, and no reply came or a malformed one: it may have been carried out.

    Every other BackendUnavailable of a request says that the server did not get all of it: nothing was done.
    """


class Response(Value):
    """An answer, whatever its status."""

    #: From 200 to 999.
    status: int
    #: Names in small letters; of several with one name the last.
    headers: dict[str, str]
    body: bytes


class Answer:
    """The parser of one reply, fed as bytes come. Raises ValueError, with the fault, for a malformed reply."""

    def __init__(self) -> None:
        self._data = bytearray()
        #: How much of the data was looked through for the end of a line.
        self._searched = 0
        #: The next step of the parser, which returns whether it read something.
        self._step = self._read_head
        self._announced = 0
        self._status = 0
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        #: How much of the body, or of a chunk of it, is still to come.
        self._left = 0
        self._until_closed = False
        self._keep = False
        self._complete = False

    def feed(self, data: bytes) -> Response | None:
        """Return the answer once it is there; `data` are the bytes that came."""
        self._data += data
        while not self._complete and self._step():
            pass
        return self._response() if self._complete else None

    @property
    def size(self) -> int:
        """Bytes that were fed and not taken."""
        return len(self._data) + len(self._body)

    def take_line(self) -> bytes | None:
        """Take the next line of the body, of an answer that comes over time; None if it has not come."""
        line, end, rest = self._body.partition(b"\n")
        if not end:
            return None
        self._body = rest
        return bytes(line)

    def end(self) -> Response | None:
        """Return the answer if the connection's end is its end."""
        return self._response() if self._until_closed else None

    @property
    def keeps_connection(self) -> bool:
        """Whether the connection is good for another request: nothing followed, and the server does not close it."""
        return self._keep and not self._data

    def _response(self) -> Response:
        return Response(self._status, self._headers, bytes(self._body))

    def _line(self) -> bytes | None:
        """Take the next line, without its end, None if it has not come yet."""
        end = self._data.find(b"\r\n", max(self._searched - 1, 0))
        if end < 0:
            self._searched = len(self._data)
            return None
        self._searched = 0
        line = bytes(self._data[:end])
        del self._data[: end + 2]
        return line

    def _read_head(self) -> bool:
        end = self._data.find(b"\r\n\r\n", max(self._searched - 3, 0))
        if max(end, len(self._data) if end < 0 else 0) > _LONGEST_HEAD:
            raise ValueError("its head is too long")
        # Do not wait for more of a reply that cannot be HTTP.
        if not b"HTTP/1.".startswith(self._data[:7]):
            raise ValueError("bad status line")
        if end < 0:
            self._searched = len(self._data)
            return False
        self._searched = 0
        first, *lines = bytes(self._data[:end]).split(b"\r\n")
        del self._data[: end + 4]
        version, code, reason = first[:9], first[9:12], first[12:]
        if version not in (b"HTTP/1.1 ", b"HTTP/1.0 ") or not (code.isdigit() and code[:1] != b"0" and len(code) == 3):
            raise ValueError("bad status line")
        if reason[:1] not in (b"", b" ") or not _VALUE.issuperset(reason):
            raise ValueError("bad status line")
        self._status = int(code)
        fields = [_header(line) for line in lines]
        length, chunked = _framing(fields, current=version == b"HTTP/1.1 ")
        if self._status < 200:
            self._announced += 1
            if self._status == 101 or self._announced > _ANNOUNCEMENTS:
                raise ValueError("announces its answer, and gives none")
            return True
        self._headers = dict(fields)
        options = {word.strip().lower() for name, value in fields if name == "connection" for word in value.split(",")}
        self._keep = version == b"HTTP/1.1 " and "close" not in options
        if self._status in (204, 304):
            length, chunked = 0, False
        if chunked:
            self._step = self._read_length_of_chunk
        elif length is not None:
            self._left = length
            self._complete = not length
            self._step = self._read_body
        else:
            self._until_closed, self._keep = True, False
            self._step = self._read_rest
        return True

    def _take(self) -> None:
        """Move what there is of the body, or of the chunk, into the body."""
        piece = self._data[: self._left]
        self._body += piece
        del self._data[: len(piece)]
        self._left -= len(piece)

    def _read_body(self) -> bool:
        self._take()
        self._complete = not self._left
        return False

    def _read_rest(self) -> bool:
        self._left = len(self._data)
        self._take()
        return False

    def _read_length_of_chunk(self) -> bool:
        line = self._line()
        if line is None:
            return False
        digits, _, extension = line.partition(b";")
        number = digits.rstrip(b" ")
        if not (
            0 < len(number) <= _LONGEST_NUMBER and _HEXADECIMAL.issuperset(number) and _VALUE.issuperset(extension)
        ):
            raise ValueError("bad length of a chunk")
        self._left = int(number, 16)
        self._step = self._read_chunk if self._left else self._read_trailer
        return True

    def _read_chunk(self) -> bool:
        self._take()
        if self._left or len(self._data) < 2:
            return False
        if self._data[:2] != b"\r\n":
            raise ValueError("bad end of a chunk")
        del self._data[:2]
        self._step = self._read_length_of_chunk
        return True

    def _read_trailer(self) -> bool:
        line = self._line()
        if line:
            _framing([_header(line)], current=True)  # Of no use, but it has to be a header.
        self._complete = line == b""
        return line is not None


def _framing(fields: list[tuple[str, str]], *, current: bool) -> tuple[int | None, bool]:
    """Return the length of the body, if its head says one, and whether it comes in chunks; raises ValueError.

    `current` is whether it is of HTTP/1.1: before, there were no chunks.
    """
    lengths = {value for name, value in fields if name == "content-length"}
    for text in lengths:
        if len(lengths) > 1 or digits(text, _LONGEST_NUMBER) is None:
            raise ValueError("bad Content-Length")
    codings = [value.lower() for name, value in fields if name == "transfer-encoding"]
    if codings and (codings != ["chunked"] or lengths or not current):
        raise ValueError("bad Transfer-Encoding")
    return int(lengths.pop()) if lengths else None, bool(codings)


def _header(line: bytes) -> tuple[str, str]:
    """Return the name, in small letters, and the value of a header's line; raises ValueError."""
    name, colon, value = line.partition(b":")
    # A leading space would continue the line before (obs-fold), which RFC 9112 forbids servers to send.
    if not (name and colon and _TOKEN.issuperset(name) and _VALUE.issuperset(value)):
        raise ValueError("bad header")
    return name.decode("ascii").lower(), value.strip(b" \t").decode("latin-1")


def _request(method: str, target: str, fields: list[tuple[str, str]], body: bytes) -> bytes:
    """Return the bytes of a request; raises ValueError where they would be none or more than one."""
    if not _TOKEN.issuperset(method.encode()):
        raise ValueError("bad method")
    if not target or not _VISIBLE.issuperset(target.encode()):
        raise ValueError("bad target")
    for name, value in fields:
        if not name or not _TOKEN.issuperset(name.encode()) or not _SENT.issuperset(value.encode()):
            raise ValueError("bad header")
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


class Connection:
    """The way to one server, which is connected to when it is first asked and kept for what follows."""

    def __init__(self, name: str, host: str, port: int, tls: Context | None = None, *, longest: int = LONGEST) -> None:
        """`name` begins every error; `longest` bounds each answer, in bytes. Asks nothing yet."""
        self._name = name
        self._host = host
        self._port = port
        self._tls = tls
        self._longest = longest
        usual = port == (80 if tls is None else 443)
        #: The server as the header Host has it.
        self.authority = (f"[{host}]" if ":" in host else host) + ("" if usual else f":{port}")
        self._stream: Stream | None = None
        #: Whether anything was asked on the connection yet.
        self._asked = False

    def request(self, method: str, target: str, headers: Mapping[str, str], body: bytes, deadline: float) -> Response:
        """Return the server's answer; there is one by monotonic time `deadline`, or BackendUnavailable.

        `target` is the path with the query. The headers Host and Content-Length are added where they are not
        given. Raises Unanswered once all of the request was sent.
        """
        stream = self.send(method, target, headers, body, deadline)
        try:
            return self._answer(stream)
        except BackendUnavailable as error:
            self.close()
            raise Unanswered(str(error)) from error
        except ValueError as error:
            self.close()
            raise protocol_error(self._name, "an HTTP server", str(error), Unanswered) from error

    def send(self, method: str, target: str, headers: Mapping[str, str], body: bytes, deadline: float) -> Stream:
        """Send a request as `request` does; return where the answer comes, for one that comes in lines (`Answer`)."""
        lines = {"Host": self.authority, "Content-Length": str(len(body)), "Accept-Encoding": "identity"}
        given = {name.lower() for name in headers}
        fields = [(name, value) for name, value in lines.items() if name.lower() not in given]
        stream = self._connected(deadline)
        self._asked = True
        try:
            stream.send(_request(method, target, [*fields, *headers.items()], body))
        except ValueError as error:
            self.close()
            # A UnicodeEncodeError would quote what is not to be shown.
            what = "bad character" if isinstance(error, UnicodeError) else error
            raise BackendUnavailable(f"{self._name}: cannot be sent by HTTP: {what}") from error
        except BackendUnavailable:
            self.close()
            raise
        return stream

    def connect(self, deadline: float) -> None:
        """Connect now, unless the connection stands: what comes next is the request alone."""
        self._connected(deadline)

    def close(self) -> None:
        """Close the connection; raises nothing. The next request makes another."""
        if self._stream is not None:
            self._stream.close()
        self._stream = None

    def quiet(self) -> bool:
        """Whether there is a connection, and the server neither closed it nor said a word unasked."""
        return self._stream is not None and self._stream.quiet()

    def _connected(self, deadline: float) -> Stream:
        # A connection that the server closed while idle, or sent unexpected bytes on, is replaced. On a new
        # one it may still end the handshake: TLS 1.3 has session tickets for later.
        if self._stream is not None and (not self._asked or self.quiet()):
            self._stream.limit(deadline)
            return self._stream
        self.close()
        self._stream = Stream.connect_tcp(self._name, self._host, self._port, deadline, self._tls)
        self._asked = False
        return self._stream

    def _answer(self, stream: Stream) -> Response:
        answer = Answer()
        received = 0
        while True:
            try:
                data = stream.receive()
            except ConnectionClosed as error:
                # A reset ends nothing.
                response = None if error.__cause__ is not None else answer.end()
                if response is None:
                    raise
                self.close()
                return response
            received += len(data)
            if received > self._longest:
                raise BackendUnavailable(f"{self._name}: the answer is longer than {self._longest} bytes")
            response = answer.feed(data)
            if response is not None:
                if not answer.keeps_connection:
                    self.close()
                return response
