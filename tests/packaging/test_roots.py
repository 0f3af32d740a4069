"""Install, run, upgrade, remove and purge the packages by their own tools, in a clean Debian.

All tests share one Debian, and each keeps its changes to itself. It has no network: a package may need only
python3, which is in apt's cache.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from labs.debian import clean_system
from labs.machines import Fleet
from labs.servers.process import eventually, need

from .support import Build, Root, run

_LIBRARY = "/usr/lib/cronlock"
_APT = "apt-get -q -y --no-install-recommends -o Dpkg::Options::=--force-confold"
_OLD = "0.0.9"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Root]:
    """Give a machine with a clean Debian."""
    with Fleet(tmp_path / "fleet") as fleet:
        yield Root(fleet.machine("debian"), clean_system())


@pytest.fixture(scope="session")
def old(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give packages of an earlier version, with another configuration and one more module."""
    directory = tmp_path_factory.mktemp("old")
    earlier = Build(directory)
    earlier.make_sources(build.sources)
    configuration = earlier.sources / "packaging/cronlock.conf"
    configuration.write_text("# The configuration of an earlier version.\n" + configuration.read_text())
    (earlier.sources / "cronlock/earlier.py").write_text("")
    for kind in ("deb", "rpm"):
        earlier.make(kind, directory, "--version", _OLD)
    return directory


def _version(root: Root) -> str:
    return root.run("cronlock", "--version").split()[1]


def _byte_code(root: Root) -> set[str]:
    return {path for path in root.files(_LIBRARY) if path.endswith(".pyc")}


def _check_byte_code(root: Root) -> None:
    """Check that the installed interpreter compiled every module, and that a run compiles nothing again."""
    tag = root.run("/usr/bin/python3", "-c", "import sys; print(sys.implementation.cache_tag)").strip()
    compiled = _byte_code(root)
    assert compiled
    assert all(path.endswith(f".{tag}.pyc") for path in compiled)
    assert len(compiled) == len([path for path in root.files(_LIBRARY) if path.endswith(".py")])
    told = root.sh("/usr/bin/python3 -ISv /usr/bin/cronlock run --key told --min-hold 0 -- true")
    assert "import 'cronlock.config.arguments' # <cronlock.bundle.Bundle " in told
    times = root.sh(f"find {_LIBRARY} -name '*.pyc' -printf '%p %T@\\n' | sort")
    assert root.run("cronlock", "run", "--key", "compiled", "--min-hold", "0", "--", "echo", "ran") == "ran\n"
    assert root.sh(f"find {_LIBRARY} -name '*.pyc' -printf '%p %T@\\n' | sort") == times


class TestDeb:
    """The Debian package, with apt and dpkg."""

    def test_from_install_to_purge(self, root: Root, build: Build) -> None:
        """One command installs the program on a clean Debian, and a purge leaves nothing behind."""
        package = root.copy(build.deb)
        root.sh(f"{_APT} install python3")
        before = root.files("/etc", "/usr", "/var/lib")
        said = root.sh(f"{_APT} install {package}")
        assert "The following NEW packages will be installed:\n  cronlock\n" in said
        _check_byte_code(root)
        assert root.run("stat", "-c", "%a %U:%G", "/etc/cronlock.conf", "/var/lib/cronlock").split("\n")[:2] == [
            "640 root:root",
            "700 root:root",
        ]
        assert root.run("dpkg", "--verify", "cronlock") == ""

        root.sh(f"{_APT} remove cronlock")
        assert root.has("/etc/cronlock.conf")
        assert root.has("/var/lib/cronlock/compiled.lock")
        assert not root.has(_LIBRARY)
        assert not root.has("/usr/bin/cronlock")
        root.sh(f"{_APT} purge cronlock")
        left = root.files("/etc", "/usr", "/var/lib") - before
        # dpkg and apt keep these for themselves.
        assert {path for path in left if not path.startswith(("/var/lib/dpkg/", "/var/lib/apt/"))} == set()

    def test_apt_brings_python_and_nothing_else(self, root: Root, build: Build) -> None:
        """On a Debian without Python, apt installs Python with the package, and nothing else."""
        package = root.copy(build.deb)
        for_python = _new_packages(root.sh(f"{_APT} --simulate install python3"))
        assert _new_packages(root.sh(f"{_APT} install {package}")) == for_python | {"cronlock"}
        _check_byte_code(root)

    def test_upgrade(self, root: Root, build: Build, old: Path) -> None:
        """An upgrade keeps a changed configuration, and removes everything else of the earlier version."""
        root.sh(f"{_APT} install {root.copy(old / f'cronlock_{_OLD}_all.deb')}")
        assert _version(root) == _OLD
        root.sh("echo CRONLOCK_TTL=61 >>/etc/cronlock.conf; chmod 604 /etc/cronlock.conf")
        root.run("cronlock", "run", "--key", "kept", "--", "true")
        root.sh(f"{_APT} install {root.copy(build.deb)}")
        assert _version(root) != _OLD
        assert root.run("head", "-1", "/etc/cronlock.conf") == "# The configuration of an earlier version.\n"
        assert "CRONLOCK_TTL=61" in root.run("cat", "/etc/cronlock.conf")
        assert root.run("stat", "-c", "%a", "/etc/cronlock.conf") == "604\n"
        assert root.has("/var/lib/cronlock/kept.lock")
        assert not [path for path in root.files(_LIBRARY) if "earlier" in path]
        _check_byte_code(root)

    def test_upgrade_with_unchanged_configuration(self, root: Root, build: Build, old: Path) -> None:
        """An upgrade replaces an unchanged configuration without asking."""
        root.sh(f"{_APT} install {root.copy(old / f'cronlock_{_OLD}_all.deb')}")
        root.sh(f"apt-get -q -y install {root.copy(build.deb)}")
        assert "earlier" not in root.run("cat", "/etc/cronlock.conf")

    def test_another_python(self, root: Root, build: Build) -> None:
        """When the distribution's python3 changes, everything is compiled again."""
        root.sh(f"{_APT} install {root.copy(build.deb)}")
        root.sh(f"find {_LIBRARY} -name __pycache__ -exec rm -r {{}} +")
        root.sh("dpkg -i /var/cache/apt/archives/python3-minimal_*.deb")
        _check_byte_code(root)

    def test_byte_code_that_cannot_be_written(self, root: Root, build: Build) -> None:
        """The installation succeeds without byte code, and warns that starts take longer."""
        root.sh(f"{_APT} install python3; mkdir -p {_LIBRARY}/click; : >{_LIBRARY}/click/__pycache__")
        said = root.sh(f"{_APT} install {root.copy(build.deb)}")
        assert "cronlock: byte code could not be written to /usr/lib/cronlock; each start takes longer" in said
        assert "--min-hold" in root.run("cronlock", "run", "--help")

    def test_a_run_outlives_the_package(self, root: Root, build: Build) -> None:
        """A job that runs while the package is removed ends normally, and frees its key."""
        root.sh(f"{_APT} install {root.copy(build.deb)}; mkfifo /root/go")
        job = "echo started >>/root/said; read word </root/go"
        line = f"cronlock run --key job --min-hold 0 --ttl 12 -- sh -c '{job}'; echo $? >>/root/said"
        process = root.start("sh", "-c", line)
        eventually(lambda: root.has("/root/said"), "the job runs")
        root.sh(f"{_APT} remove cronlock")
        # Longer than until the next renewal.
        root.run("sleep", "6")
        root.run("sh", "-c", "echo word >/root/go")
        process.wait(60)
        assert (root.run("cat", "/root/said"), root.machine.output()) == ("started\n0\n", "")
        root.sh(f"{_APT} install /root/{build.deb.name}")
        assert root.run("cronlock", "run", "--key", "job", "--", "echo", "free") == "free\n"


def _new_packages(said: str) -> set[str]:
    _, _, rest = said.partition("The following NEW packages will be installed:\n")
    return set(rest.partition("\n0 upgraded")[0].split())


class TestRpm:
    """The RPM package, in the same Debian, whose shell and Python rpm does not know of."""

    @pytest.fixture
    def rpm_root(self, root: Root) -> Root:
        """Give the Debian with Python."""
        need("rpm", "rpm")
        root.sh(f"{_APT} install python3")
        return root

    def test_from_install_to_erase(self, rpm_root: Root, build: Build, old: Path) -> None:
        """Erasing after an upgrade leaves the changed configuration and nothing else."""
        before = rpm_root.files("/etc", "/usr")
        _rpm(rpm_root, "-i", old / f"cronlock-{_OLD}-1.noarch.rpm")
        assert _version(rpm_root) == _OLD
        _check_byte_code(rpm_root)
        rpm_root.sh("echo CRONLOCK_TTL=61 >>/etc/cronlock.conf")
        _rpm(rpm_root, "-U", build.rpm)
        assert _version(rpm_root) != _OLD
        _check_byte_code(rpm_root)
        assert not [path for path in rpm_root.files(_LIBRARY) if "earlier" in path]
        assert "CRONLOCK_TTL=61" in rpm_root.run("cat", "/etc/cronlock.conf")
        # Only the configuration differs from the package.
        verified = _rpm(rpm_root, "-V", "cronlock")
        assert [line.split()[-1] for line in verified.splitlines() if "Unsatisfied" not in line] in (
            ["/etc/cronlock.conf"],
            ["python3", "/etc/cronlock.conf"],
        )
        _rpm(rpm_root, "-e", "cronlock")
        left = rpm_root.files("/etc", "/usr") - before
        assert left == {"/etc/cronlock.conf.rpmnew", "/etc/cronlock.conf.rpmsave"} & left
        assert "/etc/cronlock.conf.rpmsave" in left


def _rpm(root: Root, *words: str | Path) -> str:
    """Run the machine's rpm on the root, which has no rpm itself."""
    checks = [] if words[0] == "-e" else ["--nodeps"]
    script = 'exec 2>&1; "$@" || [ "$4" = -V ]'
    return root.machine.run("sh", "-c", script, "sh", "rpm", "--root", root.path, *map(str, words), *checks)


def test_make_install(root: Root, build: Build, tmp_path: Path) -> None:
    """`make install` into an image makes a program that runs there, on the image's Python."""
    root.sh(f"{_APT} install python3")
    script = ["packaging/install.py", "install", "--python", "/usr/bin/python3", "--destdir", str(tmp_path / "image")]
    run(shutil.which("python3") or "python3", *script, cwd=build.sources)
    root.machine.run("cp", "-a", f"{tmp_path}/image/.", root.path)
    assert root.run("cronlock", "run", "--key", "k", "--", "echo", "ran") == "ran\n"
