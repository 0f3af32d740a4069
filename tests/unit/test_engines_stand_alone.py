"""An engine is its folder: all else works without it. test_layers.py checks that nothing imports it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import cronlock.engines
from cronlock.engines.registry import SCHEMES
from labs.installation import copy_with_byte_code

_PACKAGE = Path(cronlock.engines.__path__[0]).parent
#: Engine -> what serves its URLs.
_ENGINES = {path.parent.name: path for name in ("store", "backend") for path in _PACKAGE.glob(f"engines/*/{name}.py")}
#: Opens a backend of each scheme without a request.
_URLS = {
    "file": "file:///nowhere/locks",
    "redis": "redis://host",
    "rediss": "rediss://host",
    "redis+unix": "redis+unix:///nowhere/socket",
    "redis+sentinel": "redis+sentinel://one,two/name",
    "redis+cluster": "redis+cluster://one,two",
    "memcached": "memcached://one,two",
    "memcacheds": "memcacheds://host",
    "zookeeper": "zookeeper://one,two",
    "zookeepers": "zookeepers://host",
    "etcd": "etcd://one,two",
    "etcds": "etcds://host",
    "dynamodb": "dynamodb://table?region=eu-west-1",
    "s3": "s3://bucket?region=eu-west-1",
    "sqs": "sqs://queues?region=eu-west-1",
    "postgresql": "postgresql://user@host/db",
    "postgres": "postgres://user@host/db",
    "mysql": "mysql://user@host/db",
    "mariadb": "mariadb://user@host/db",
}
_PROGRAM = """
import pkgutil, sys
import cronlock
assert cronlock.__file__.startswith(sys.argv[1]), cronlock.__file__
from cronlock.engines.registry import open_backend, open_doctor
from cronlock.errors import ConfigError
for module in pkgutil.walk_packages(cronlock.__path__, "cronlock."):
    if module.name != "cronlock.__main__":
        __import__(module.name)
for url in sys.argv[2:]:
    try:
        open_backend(url, 1.0).close()
        assert open_doctor(url) is not None
    except ConfigError as error:
        print(error)
"""


def test_every_scheme_is_tried() -> None:
    """No scheme is forgotten here, nor an engine by the registry."""
    assert set(_URLS) == set(SCHEMES)
    assert {name.split(".")[2] for name in SCHEMES.values()} == set(_ENGINES)


@pytest.mark.parametrize("engine", sorted(_ENGINES))
def test_all_else_works_without_it(engine: str, tmp_path: Path) -> None:
    """Every other module is there, every other URL opens, a command runs; its own URLs are refused in one line."""
    copy_with_byte_code(_PACKAGE, tmp_path / "cronlock")
    shutil.rmtree(tmp_path / "cronlock" / "engines" / engine)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CRONLOCK_")}
    environment |= {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1", "CRONLOCK_CONFIG": os.devnull}
    tried = [sys.executable, "-c", _PROGRAM, str(tmp_path), *_URLS.values()]
    done = subprocess.run(tried, cwd=tmp_path, env=environment, capture_output=True, text=True)
    schemes = [scheme for scheme, name in SCHEMES.items() if name.startswith(f"cronlock.engines.{engine}.")]
    said = [f"{one}:// needs cronlock's engine {engine}, which is not installed: install it again" for one in schemes]
    assert (done.stdout.splitlines(), done.stderr) == (said, "")
    words = ["run", "--backend", f"file://{tmp_path}/locks", "--key", "x", "echo", "hi"]
    line = [sys.executable, "-m", "cronlock", *words]
    ran = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == ((0, "hi\n") if engine != "file" else (78, "")), ran.stderr
