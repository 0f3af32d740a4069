"""What backends, faults and moments are called where people read of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

#: Name of a system -> what it is, in the order in which they are shown.
BACKENDS = {
    "file": "file",
    "redis": "Redis, every write synced to disk",
    "redis-memory": "Redis, without persistence",
    "redis-sentinel": "Redis, two replicas and three Sentinels",
    "redis-cluster": "Redis Cluster",
    "memcached": "memcached",
    "memcached-three": "memcached, three servers",
    "zookeeper": "ZooKeeper, three servers",
    "etcd": "etcd, three servers",
    "postgresql": "PostgreSQL",
    "mysql": "MariaDB",
    "dynamodb": "DynamoDB, an emulator",
    "s3": "S3, on MiniStack",
    "s3-moto": "S3, on moto",
    "sqs": "SQS, an emulator",
}
#: Name of a fault -> what it does.
FAULTS = {
    "no fault": "nothing",
    "busy": "a machine with too much to do",
    "kill-anytime": "a process killed at a random moment",
    "kill-wrapper": "wrapper killed",
    "kill-guard": "guard killed",
    "kill-both": "wrapper and guard killed",
    "kill-command": "command killed",
    "stop-wrapper-shortly": "wrapper stopped, shorter than the ttl",
    "stop-wrapper-long": "wrapper stopped, longer than the ttl",
    "stop-guard-shortly": "guard stopped, shorter than the ttl",
    "stop-guard-long": "guard stopped, longer than the ttl",
    "stop-command-shortly": "command stopped, shorter than the ttl",
    "stop-command-long": "command stopped, longer than the ttl",
    "stop-both-shortly": "wrapper and guard stopped, shorter than the ttl",
    "stop-both-long": "wrapper and guard stopped, longer than the ttl",
    "cut": "node cut off from the servers",
    "cut-requests": "what a node sends is dropped",
    "cut-replies": "what a node is sent is dropped",
    "slow": "a slow link",
    "slow-then-cut": "a slow link, then none",
    "lose-requests": "single requests dropped",
    "lose-replies": "single replies dropped",
    "node-clock": "a node's clock set by two minutes",
    "few-descriptors": "too few file descriptors",
    "few-processes": "too few processes",
    "disk-full": "disk full",
    "disk-read-only": "disk read-only",
    "server-kill": "server killed and restarted",
    "server-restart": "server restarted",
    "server-restart-empty": "server restarted without its data",
    "server-stop-shortly": "server stopped, shorter than the ttl",
    "server-stop-long": "server stopped, longer than the ttl",
    "leader-kill": "leader or master killed",
    "leader-stop": "leader or master stopped",
    "isolate-leader": "leader or master cut off from all",
    "isolate-server": "another server cut off from all",
    "failover": "failover asked for",
    "flush": "everything flushed",
    "evict": "leases evicted for want of memory",
    "server-clock": "the server's clock set by two minutes",
}
#: Name of a target of `fuzz` -> what is read there.
READ = {
    "a_command_line": "command lines of `cronlock run`, beside click",
    "a_configuration": "bytes of a configuration file",
    "a_crontab": "crontabs that are wrapped",
    "a_date": "dates of HTTP",
    "a_duration": "durations",
    "a_dynamodb": "DynamoDB's answers",
    "a_key": "keys",
    "a_keys_file": "files of the file backend",
    "a_memcached": "memcached's items, in whole operations",
    "a_message": "messages of SQS",
    "a_mysql": "MySQL's protocol",
    "a_name": "names of keys in a server",
    "a_postgresql": "PostgreSQL's protocol",
    "a_redis": "Redis's hashes, in whole operations",
    "a_state": "records",
    "a_url": "URLs of backends",
    "a_watermark": "watermarks",
    "a_zookeeper": "ZooKeeper's protocol",
    "an_etcd": "etcd's answers",
    "an_etcd_cell": "etcd's cells",
    "an_http_answer": "answers of HTTP",
    "an_item": "DynamoDB's items",
    "an_object": "S3's objects",
    "an_s3": "S3's answers",
    "an_sqs": "SQS's answers",
    "some_commands": "messages from wrapper to guard",
    "some_credentials": "answers of AWS's credential services",
    "some_items": "memcached's meta protocol",
    "some_mounts": "the kernel's table of mounts",
    "some_names": "ZooKeeper's paths",
    "some_processes": "the kernel's files about processes",
    "some_replies": "Redis's protocol",
    "some_reports": "messages from guard to wrapper",
    "some_settings": "settings of file, environment and command line",
    "some_slots": "a Redis Cluster's map of slots",
}
#: When in a run's life a process was killed.
MOMENTS = ("before the command", "during the run", "during release")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
