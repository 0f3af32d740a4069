"""The kinds of servers that are tortured, one file for each family."""

from __future__ import annotations

from .aws import S3, SQS, DynamoDB, S3OnMoto
from .base import System
from .ensembles import Etcd, ZooKeeper
from .files import Files
from .memcached import Memcached, MemcachedThree
from .redis import Cluster, RedisAlone, RedisInMemory, Sentinel
from .sql import Mysql, Postgresql

_ALL = (
    *(Files, RedisAlone, RedisInMemory, Sentinel, Cluster, Memcached, MemcachedThree),
    *(ZooKeeper, Etcd, Postgresql, Mysql, DynamoDB, S3, S3OnMoto, SQS),
)
#: All of them, by name.
SYSTEMS: dict[str, type[System]] = {system.name: system for system in _ALL}

__all__ = ["SYSTEMS", "System"]
