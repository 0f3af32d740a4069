"""Requests to S3 about a bucket and its objects: one or two in each method."""

from __future__ import annotations

from ...errors import BackendUnavailable, ConfigError
from ...system import os
from ..url import DEFAULT_PREFIX
from ..wire.aws import Service
from ..wire.aws_signature import Request, quote
from ..wire.dated import Missing
from ..wire.http import Unanswered
from ..wire.stream import protocol_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

    from ..url import URL
    from ..wire.aws import Answer
    from ..wire.http import Response

_BUCKET = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-.")
_PREFIX = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_./")
_LONGEST_PREFIX = 200
_NO_KEY, _NO_BUCKET = "NoSuchKey", "NoSuchBucket"
#: The condition does not hold; or something happened to the object at the same time, and nothing was done.
_REFUSED = ("PreconditionFailed", "ConditionalRequestConflict")
_UNKNOWN = "NotImplemented"
#: The object that says that this bucket keeps conditions; no key's has this name. See `Objects.trust`.
PROOF = ".cronlock"
_KEPT = b"This store was seen to keep If-None-Match and If-Match. Do not delete the objects beside this one.\n"
#: An ETag that no object has.
NO_TAG = '"00000000000000000000000000000000"'


class Careless(ConfigError):
    """The store does not keep conditions: it overwrites what they protect."""


def check_bucket(shown: str, name: str) -> None:
    """Raise ConfigError, which `shown` begins, for a name that no bucket can have, or one that cannot be used."""
    if not (3 <= len(name) <= 63 and set(name) <= _BUCKET and name[0] not in "-." and name[-1] not in "-."):
        raise ConfigError(f"{shown}: a bucket's name has 3 to 63 small letters, digits, '-' or '.'")
    if name.endswith("--x-s3"):
        raise ConfigError(
            f"{shown}: a directory bucket (S3 Express One Zone) asks for sessions and lives in one zone, which takes"
            " the keys along when it fails: name a general purpose bucket"
        )
    if name.endswith(".mrap"):
        raise ConfigError(f"{shown}: behind a multi-region access point two regions can grant one key: name a bucket")


def prefix_of(url: URL) -> str:
    """Return what names of objects begin with, its last character a slash; raise ConfigError for a bad path."""
    path = url.path.strip("/") or DEFAULT_PREFIX
    if len(path) > _LONGEST_PREFIX or not set(path) <= _PREFIX or {"", ".", ".."} & set(path.split("/")):
        raise ConfigError(
            f"{url}: the prefix behind the bucket has up to {_LONGEST_PREFIX} letters, digits, '-', '_', '.' or '/'"
        )
    return f"{path}/"


class Objects(Service):
    """The objects below one prefix of one bucket. Of each method, see `Service.ask`."""

    def __init__(self, url: URL, bucket: str, prefix: str, timeout: float) -> None:
        """`prefix` ends with a slash. Raises ConfigError for a bad region or endpoint in the URL."""
        super().__init__(url, "s3", timeout)
        self.bucket = bucket
        self.prefix = prefix
        self._trusted = False

    def get(self, name: str, deadline: float) -> tuple[bytes, str] | None:
        """Return the content of an object and its ETag, or None."""
        answer = self._object("GetObject", "GET", name, {}, b"", deadline, (_NO_KEY,))
        return None if answer.code else (answer.response.body, self._tag(answer))

    def put(self, name: str, content: bytes, tag: object, deadline: float) -> str | None:
        """Put `content` in the place of the object whose ETag is `tag`, None: of none.

        Return its new ETag; None if there is another object, or none.
        """
        condition = {"If-None-Match": "*"} if tag is None else {"If-Match": str(tag)}
        headers = {**condition, "Content-Type": "text/plain"}
        answer = self._object("PutObject", "PUT", name, headers, content, deadline, (*_REFUSED, _NO_KEY, _UNKNOWN))
        if answer.code == _UNKNOWN:
            raise self._careless("does not know")
        return None if answer.code else self._tag(answer)

    def delete(self, name: str, tag: object, deadline: float) -> bool:
        """Delete the object whose ETag is `tag`; False if there is another one, or none."""
        headers = {} if tag is None else {"If-Match": str(tag)}
        return not self._object("DeleteObject", "DELETE", name, headers, b"", deadline, (*_REFUSED, _NO_KEY)).code

    def create(self, deadline: float) -> bool:
        """Make the bucket, with what AWS gives new ones (nothing public); False if it is ours already."""
        region, body = self.region, b""
        if region != "us-east-1":
            body = f"<CreateBucketConfiguration><LocationConstraint>{region}</LocationConstraint>".encode()
            body += b"</CreateBucketConfiguration>"
        known = ("BucketAlreadyOwnedByYou", "OperationAborted")
        return not self._bucket("CreateBucket", "PUT", "", body, deadline, known).code

    def names(self) -> Iterator[str]:
        """List the names below the prefix, without those that begin with a dot or are deeper."""
        token = None
        while True:
            query = f"delimiter=%2F&list-type=2&prefix={quote(self.prefix)}"
            if token is not None:
                query = f"continuation-token={quote(token)}&{query}"
            page = self.xml(self._bucket("ListBucket", "GET", query, b"", self.deadline()).response)
            for one in page.iter():
                if _local(one) == "Key" and (one.text or "").startswith(self.prefix):
                    name = (one.text or "")[len(self.prefix) :]
                    if not name.startswith("."):
                        yield name
            behind = self.field(page, "NextContinuationToken")
            if not behind:
                return
            if behind == token:
                raise self._protocol_error("a list that has no end")  # It would go on for ever.
            token = behind

    def trust(self, deadline: float) -> None:
        """See that this store keeps conditions, before the first object of a key is made; raise Careless if not.

        It is tried once for a prefix, and noted there: AWS's S3 keeps them, of its imitations not all do.
        """
        if self._trusted:
            return
        found = self.get(PROOF, deadline)
        if found is None or found[0] != _KEPT:
            tag = self.prove(PROOF, deadline)
            self.put(PROOF, _KEPT, tag, deadline)  # Refused: another node has done it.
        self._trusted = True

    def prove(self, name: str, deadline: float) -> str | None:
        """Try on the object `name` whether conditions are kept, and return its ETag if it was made by that.

        Raises Careless if they are not.
        """
        made = self.put(name, f"Conditional writes are tried. {os.urandom(8).hex()}\n".encode(), None, deadline)
        for tag, condition in ((None, "If-None-Match"), (NO_TAG, "If-Match")):
            if self.put(name, b"A condition was not kept.\n", tag, deadline) is not None:
                raise self._careless(f"ignores {condition} in")
        return made or (self.get(name, deadline) or (b"", None))[1]

    def deletes_with_care(self, deadline: float) -> bool:
        """Whether this store keeps conditions of deletes. Tried on the object of `trust`, which then makes another."""
        self._trusted = False
        self.trust(deadline)
        self._trusted = not self.delete(PROOF, NO_TAG, deadline)
        return self._trusted

    def ask_about_bucket(self, action: str, what: str, deadline: float, known: tuple[str, ...] = ()) -> Answer:
        """Return a setting of the bucket, the subresource `what`."""
        return self._bucket(action, "GET", f"{what}=", b"", deadline, known)

    def xml(self, response: Response) -> Element:
        """Return the root of an answer."""
        from xml.etree import ElementTree

        if b"<!" in response.body or b"\0" in response.body:
            raise self._protocol_error("XML with a declaration")
        try:
            return ElementTree.fromstring(response.body)
        except (ElementTree.ParseError, ValueError, LookupError):
            raise self._protocol_error("no XML") from None

    @staticmethod
    def field(root: Element, name: str) -> str:
        """Return the text of the first element `name`, or empty text."""
        return next((one.text or "" for one in root.iter() if _local(one) == name), "")

    def locate(self, host: str, root: str) -> tuple[str, str]:
        """Return the bucket's own host on AWS, unless no certificate would be its; else the bucket is in the path."""
        if host.startswith("s3") and ".amazonaws." in host and "." not in self.bucket:
            return f"{self.bucket}.{host}", root
        return host, f"{root.rstrip('/')}/{self.bucket}"

    def path_of(self, name: str) -> str:
        """Return the path of the object `name` below the bucket."""
        return f"/{quote(self.prefix + name, '/')}"

    def _object(
        self,
        action: str,
        method: str,
        name: str,
        headers: dict[str, str],
        body: bytes,
        deadline: float,
        known: tuple[str, ...],
    ) -> Answer:
        request = Request(method, self.path_of(name), "", body)
        return self._known(self.ask(action, request, headers, deadline, (*known, _NO_BUCKET)))

    def _bucket(
        self, action: str, method: str, query: str, body: bytes, deadline: float, known: tuple[str, ...] = ()
    ) -> Answer:
        return self._known(self.ask(action, Request(method, "", query, body), {}, deadline, (*known, _NO_BUCKET)))

    def _known(self, answer: Answer) -> Answer:
        if answer.code == _NO_BUCKET:
            raise Missing(self._shown, f"bucket {self.bucket}", self)
        return answer

    def _tag(self, answer: Answer) -> str:
        tag = answer.response.headers.get("etag", "")
        if not tag or not tag.isascii() or not tag.isprintable():
            raise self._protocol_error("no ETag")
        return tag

    def _read(self, response: Response) -> tuple[str, str, None]:
        if 200 <= response.status < 300:
            return "", "", None
        if response.status == 412:
            return _REFUSED[0], "", None
        if response.status in (301, 307):
            region = response.headers.get("x-amz-bucket-region")
            where = (
                f"in {region}: add ?region={region} to the URL" if region else "elsewhere: see region= and endpoint="
            )
            raise ConfigError(f"{self._shown}: the bucket is {where}")
        code, text = (_between(response.body, name) for name in (b"Code", b"Message"))
        if not code and response.status < 500:
            raise self._protocol_error(f"status {response.status}")
        return code[:100] or f"status {response.status}", text, None

    def _careless(self, does: str) -> Careless:
        return Careless(
            f"{self._shown}: this store {does} conditional writes, so two nodes could be granted one key: use AWS's S3,"
            " or a store that keeps them"
        )

    def _protocol_error(self, what: str) -> BackendUnavailable:
        return protocol_error(self._shown, "S3", what, Unanswered)


def _local(element: Element) -> str:
    """Return an element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def _between(body: bytes, name: bytes) -> str:
    """Return the text of an element of an error: one needs no parser, which would take longer than the request."""
    return body.partition(b"<%b>" % name)[2].partition(b"</%b>" % name)[0].decode("utf-8", "replace")
