"""The kinds of servers that are tortured, one file for each family."""

from __future__ import annotations

from .aws import SQS, DynamoDB
from .base import System
from .etcd import EtcdThree
from .files import Files
from .memcached import Memcached, MemcachedThree
from .redis import RedisAlone, RedisForgetful
from .redis_ha import Cluster, Sentinel
from .sql import Mysql, Postgresql
from .zookeeper import Ensemble

#: All of them, by name.
SYSTEMS: dict[str, type[System]] = {
    system.name: system
    for system in (
        Files,
        RedisAlone,
        RedisForgetful,
        Sentinel,
        Cluster,
        Memcached,
        MemcachedThree,
        Ensemble,
        EtcdThree,
        Postgresql,
        Mysql,
        DynamoDB,
        SQS,
    )
}

__all__ = ["SYSTEMS", "System"]
