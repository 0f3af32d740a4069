"""DynamoDB, S3 and SQS, on an emulator: the services themselves neither restart nor forget."""

from __future__ import annotations

from collections.abc import Mapping

from labs.servers.aws import ENVIRON, DynamoDBServer, S3MotoServer, S3Server, SQSServer
from labs.servers.creating import create

from .base import System


class Emulated(System):
    """One emulator, which has its data in memory: it may hang, but does not end."""

    restarts = False

    def start(self) -> None:
        """Start it, and make what runs need."""
        super().start()
        create(self.url(), self.environ())

    def environ(self) -> Mapping[str, str]:
        """Return credentials that are none."""
        return ENVIRON


class DynamoDB(Emulated):
    """A table."""

    name = "dynamodb"
    kind = DynamoDBServer


class S3(Emulated):
    """A bucket."""

    name = "s3"
    kind = S3Server


class S3OnMoto(Emulated):
    """A bucket of another emulator, which serves one request at a time."""

    name = "s3-moto"
    kind = S3MotoServer
    is_slow = True


class SQS(Emulated):
    """A queue for each key."""

    name = "sqs"
    kind = SQSServer
    can_stand_by = False
    late_requests_take = True
