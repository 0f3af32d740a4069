"""S3 and clocks that are wrong."""

from __future__ import annotations

from typing import ClassVar

from cronlock.engines.s3.store import decode, encode
from labs.servers.aws import AwsServer

from ..wire.clocks import Clocks
from .s3_nodes import content, make_bucket, overwrite


class TestClocks(Clocks):
    """A bucket."""

    service: ClassVar[str] = "s3"
    look: ClassVar[str] = "GetObject"
    too_late: ClassVar[tuple[str, str]] = ("RequestTimeTooSkewed", "The difference is too large.")

    def make(self, server: AwsServer) -> None:
        """Make the bucket."""
        make_bucket(server.bucket_url())

    def url(self, endpoint: str) -> str:
        """Return the bucket's URL."""
        return f"s3://cronlock?endpoint={endpoint}"

    def ends(self, server: AwsServer, key: str) -> tuple[float, float]:
        """Look into the object."""
        cell = decode(content(server.bucket_url(), key) or b"", "tag")
        return cell.lapses_at, cell.hold_until

    def set_hold(self, server: AwsServer, key: str, end: float) -> None:
        """Write the object anew."""
        cell = decode(content(server.bucket_url(), key) or b"", "another")
        cell.hold_until = end
        overwrite(server.bucket_url(), key, encode(cell))
