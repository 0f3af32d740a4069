"""How the server of each backend that has one is made, for tests that run on every backend."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from .aws import DynamoDBServer, S3MotoServer, S3Server, SQSServer
from .etcd import EtcdServer
from .mariadb import MariadbServer
from .memcached import MemcachedServer
from .postgresql import PostgresqlServer
from .redis import RedisServer
from .zookeeper import ZooKeeperServer

#: By the name of the backend; each takes the options of its server, such as its site.
MAKERS: dict[str, Callable[..., Any]] = {
    "redis": partial(RedisServer, persistent=True),
    "memcached": MemcachedServer,
    "zookeeper": ZooKeeperServer,
    "etcd": EtcdServer,
    "postgresql": PostgresqlServer,
    "mysql": partial(MariadbServer, settings={"innodb-flush-log-at-trx-commit": "2"}),
    "dynamodb": DynamoDBServer,
    "s3": S3MotoServer if os.environ.get("CRONLOCK_TEST_EMULATOR") == "moto" else S3Server,
    "sqs": SQSServer,
}
#: Those where something has to be there before the first run; see `creating`.
CREATED = ("dynamodb", "s3", "sqs")
