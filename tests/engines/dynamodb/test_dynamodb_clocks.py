"""DynamoDB and clocks that are wrong."""

from __future__ import annotations

from typing import ClassVar

from labs.servers.aws import AwsServer

from ..wire.aws_suite import Suite
from ..wire.clocks import Clocks
from .dynamodb_nodes import DynamoDBSuite, item, put


class TestClocks(Clocks):
    """A table."""

    suite: ClassVar[type[Suite]] = DynamoDBSuite
    look: ClassVar[str] = "GetItem"

    def ends(self, server: AwsServer, key: str) -> tuple[float, float]:
        """Look at the item."""
        found = item(self.suite.url(server.endpoint), key)
        return float(found["lapse"]["N"]), float(found["hold"]["N"])

    def set_hold(self, server: AwsServer, key: str, end: float) -> None:
        """Write into the item."""
        put(self.suite.url(server.endpoint), key, hold=end)
