"""DynamoDB and clocks that are wrong."""

from __future__ import annotations

from typing import ClassVar

from labs.servers.aws import AwsServer

from ..wire.clocks import Clocks
from .dynamodb_nodes import item, make_table, put


class TestClocks(Clocks):
    """A table."""

    service: ClassVar[str] = "dynamodb"
    look: ClassVar[str] = "GetItem"

    def make(self, server: AwsServer) -> None:
        """Make the table."""
        make_table(server.url())

    def url(self, endpoint: str) -> str:
        """Return the table's URL."""
        return f"dynamodb://cronlock?endpoint={endpoint}"

    def ends(self, server: AwsServer, key: str) -> tuple[float, float]:
        """Look at the item."""
        found = item(server.url(), key)
        return float(found["lapse"]["N"]), float(found["hold"]["N"])

    def set_hold(self, server: AwsServer, key: str, end: float) -> None:
        """Write into the item."""
        put(server.url(), key, hold=end)
