"""The packages' content, the distributions' own checks of it, and that builds are reproducible."""

from __future__ import annotations

import filecmp
import importlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from labs.installation import ROOT
from labs.servers.process import need
from tests.docs.markdown import links

from .support import Build, attempt, run, unpack_deb, unpack_rpm

sys.path.insert(0, str(ROOT / "packaging"))
vendor = importlib.import_module("vendor")
source = importlib.import_module("source")

_LIBRARY = "usr/lib/cronlock"
_PROJECT = ("CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "SECURITY.md")


@pytest.fixture(scope="module")
def deb(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the unpacked files of the Debian package."""
    return unpack_deb(build.deb, tmp_path_factory.mktemp("deb") / "root")


@pytest.fixture(scope="module")
def rpm(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the unpacked files of the RPM package."""
    need("rpmbuild", "rpm")
    return unpack_rpm(build.rpm, tmp_path_factory.mktemp("rpm") / "root")


@pytest.fixture(params=["deb", "rpm"])
def payload(request: pytest.FixtureRequest) -> Path:
    """Give the unpacked files of each package."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Path)
    return found


def _files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


def _modules_of_checkout(build: Build) -> set[str]:
    return {str(path.relative_to(build.sources)) for path in (build.sources / "cronlock").rglob("*.py")}


class TestContents:
    """Files, owners and modes."""

    def test_carries_the_program_and_all_that_is_pinned(self, payload: Path, build: Build) -> None:
        """It contains every module but cronlock.testing, every dependency with its licence, and no byte code."""
        files = _files(payload)
        modules = {name for name in _modules_of_checkout(build) if not name.startswith("cronlock/testing/")}
        assert {f"{_LIBRARY}/{name}" for name in modules} <= files
        for pin in vendor.pins():
            about = f"{_LIBRARY}/{pin.name.replace('-', '_')}-{pin.version}.dist-info/"
            assert any(name.startswith(about) and "LICENSE" in name for name in files), pin.name
        assert not [name for name in files if name.endswith((".pyc", ".so", "RECORD")) or "/tests/" in name]
        assert not [name for name in files if "/cronlock/testing/" in name]

    def test_manual_pages_and_completions(self, payload: Path, build: Build) -> None:
        """It contains every manual page, compressed, and every completion, where the system looks for them."""
        pages = sorted((build.sources / "man").glob("*.[1-9]"))
        assert pages
        for page in pages:
            packed = payload / f"usr/share/man/man{page.suffix[1:]}/{page.name}.gz"
            assert run("gzip", "-cd", packed) == page.read_text()
            # No name, no time, and the best compression.
            assert packed.read_bytes()[3:9] == b"\0\0\0\0\0\x02"
        kinds = {_shell(path.name) for path in (build.sources / "completions").glob("*")}
        assert {
            _shell(name)
            for name in _files(payload / "usr/share")
            if "/complet" in name or "zsh" in name or "fish" in name
        } == kinds

    def test_documents(self, payload: Path) -> None:
        """Links lead to installed documents or to sources; the files that the manual names are installed."""
        place = payload / "usr/share/doc/cronlock"
        pages = sorted(place.rglob("*.md"))
        assert {"README.md", "faq.md", "recipes.md"} <= {page.name for page in pages}
        for page in pages:
            for link in links(page):
                target = page.parent / urlsplit(link).path
                is_source = target.suffix == ".py" and (ROOT / link.removeprefix("../")).exists()
                assert urlsplit(link).scheme or is_source or target.exists(), f"{page.name}: {link}"
        manual = "".join(path.read_text() for path in (ROOT / "man").glob("*.in"))
        named = set(re.findall(r"^\.Pa ([\w-]+\.(?:schema\.json|md))", manual, re.MULTILINE))
        assert len(named) == 3
        assert named <= {path.name for path in (place / "docs").iterdir()}

    def test_configuration_is_private_and_all_comments(self, payload: Path) -> None:
        """Only root can read the configuration, since it may contain a password. As installed it sets nothing."""
        configuration = payload / "etc/cronlock.conf"
        assert configuration.stat().st_mode & 0o7777 == 0o640
        assert all(line.startswith("#") for line in configuration.read_text().splitlines() if line)

    def test_state_directory_has_the_mode_that_the_program_gives_it(self, payload: Path) -> None:
        """Only root can read the state directory."""
        assert (payload / "var/lib/cronlock").stat().st_mode & 0o7777 == 0o700

    def test_nothing_else(self, payload: Path) -> None:
        """It contains no file in another directory."""
        places = ("etc/cronlock.conf", "usr/bin/cronlock", f"{_LIBRARY}/", "usr/share/")
        assert [name for name in _files(payload) if not name.startswith(places)] == []

    def test_deb_depends_on_python_alone(self, build: Build) -> None:
        """It depends on Python only, on any architecture, and declares its configuration file."""
        fields = run("dpkg-deb", "-f", build.deb, "Package", "Architecture", "Depends", "Pre-Depends", "Recommends")
        assert fields == "Package: cronlock\nArchitecture: all\nDepends: python3 (>= 3.9)\n"
        assert run("dpkg-deb", "-I", build.deb, "conffiles") == "/etc/cronlock.conf\n"
        owners = {line.split()[1] for line in run("dpkg-deb", "-c", build.deb).splitlines()}
        assert owners == {"root/root"}

    def test_rpm_depends_on_python_alone(self, build: Build) -> None:
        """It requires Python only, provides only itself, and never replaces a configuration."""
        need("rpm", "rpm")
        wanted = set(run("rpm", "-qp", "--requires", build.rpm).splitlines())
        assert {each for each in wanted if not each.startswith("rpmlib(")} == {"/bin/sh", "python3 >= 3.9"}
        provided = run("rpm", "-qp", "--provides", build.rpm).split()
        assert provided[0] == "cronlock"
        assert len(provided) == 3
        flags = run("rpm", "-qp", "--queryformat", "[%{FILENAMES} %{FILEFLAGS:fflags} %{FILEUSERNAME}\n]", build.rpm)
        assert "/etc/cronlock.conf cn root" in flags
        assert {line.split()[-1] for line in flags.splitlines()} == {"root"}

    def test_wheel_has_every_module(self, build: Build) -> None:
        """pyproject.toml lists every package and manual page, and the source archive contains the tests."""
        with zipfile.ZipFile(build.wheel) as wheel:
            names = set(wheel.namelist())
        assert {name for name in names if name.endswith(".py")} == _modules_of_checkout(build)
        assert {"cronlock/py.typed", "cronlock/run.bundle"} <= names
        shared = {name.partition(".data/data/share/man/")[2] for name in names}
        pages = {f"man{page.suffix[1:]}/{page.name}" for page in (build.sources / "man").glob("*.[1-9]")}
        assert shared - {""} == pages
        assert {name for name in names if name.endswith(".data/data/share/doc/cronlock/docs/status.schema.json")}
        archived = run("tar", "-tzf", build.sdist).splitlines()
        for needed in ("cronlock/py.typed", "tests/packaging/test_packages.py", *_PROJECT):
            assert any(name.partition("/")[2] == needed for name in archived), needed


def _shell(name: str) -> str:
    if "fish" in name:
        return "fish"
    return "zsh" if Path(name).name.startswith("_") or "zsh" in name else "bash"


class TestPins:
    """The pinned dependencies."""

    def test_every_dependency_is_pinned(self, build: Build) -> None:
        """pip can install the wheel from the pinned dependencies only."""
        options = ["--dry-run", "--quiet", "--ignore-installed", "--no-index", "--find-links", str(vendor.WHEELS)]
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install"]
        status, said = attempt(*pip, *options, build.wheel)
        assert status == 0, f"{said}\npackaging/requirements.txt is stale: make lock"

    def test_a_wheel_that_is_not_the_pinned_one_is_refused(self, build: Build, tmp_path: Path) -> None:
        """A wheel with one flipped bit is fetched again, and the package does not change."""
        # Others build from the shared sources meanwhile.
        own = Build(tmp_path)
        own.make_sources(build.sources)
        (wheel,) = (own.sources / "build/wheels").glob("click-*.whl")
        good = wheel.read_bytes()
        wheel.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        assert own.deb.exists()
        assert wheel.read_bytes() == good


class TestConfiguration:
    """The configuration file of the packages."""

    def test_every_line_works_when_it_is_taken(self, tmp_path: Path) -> None:
        """The program accepts each setting of the file when it is uncommented."""
        lines = re.findall(r"^#(CRONLOCK_[A-Z_]+=.*)$", (ROOT / "packaging/cronlock.conf").read_text(), re.MULTILINE)
        assert len(lines) > 5
        for line in lines:
            configuration = tmp_path / "cronlock.conf"
            configuration.write_text(line + "\n")
            status, said = attempt(
                *(sys.executable, "-m", "cronlock", "run", "--key", "k", "--backend", f"file://{tmp_path}/leases"),
                *("--config", configuration, "--", "echo", "ran"),
            )
            assert (status, said) == (0, "ran\n"), line
            for each in (tmp_path / "leases").iterdir():
                each.unlink()


class TestLint:
    """The distributions' own checks."""

    def test_lintian(self, build: Build) -> None:
        """lintian finds neither errors nor warnings."""
        need("lintian", "lintian")
        assert run("lintian", "--allow-root", "--fail-on", "error,warning", build.deb).strip() == ""

    def test_rpmlint(self, build: Build) -> None:
        """rpmlint finds no errors; packaging/rpm/rpmlint.toml has the exceptions, with reasons."""
        need("rpmlint", "rpmlint")
        said = run("rpmlint", "--config", ROOT / "packaging/rpm/rpmlint.toml", build.rpm)
        assert re.search(r" 0 errors,", said), said

    def test_maintainer_scripts(self, build: Build, tmp_path: Path) -> None:
        """shellcheck accepts every script of the packages."""
        need("shellcheck", "shellcheck")
        scripts = sorted((build.sources / "packaging/deb").glob("p*"))
        scripts += [build.sources / "packaging/pyz/start.sh", build.sources / "packaging/rpm/compile"]
        assert len(scripts) == 5
        run("shellcheck", "--shell", "sh", *scripts)


class TestReproducible:
    """Two builds of one commit give the same bytes."""

    @pytest.mark.parametrize("kind", ["deb", "rpm", "pyz"])
    def test_elsewhere_and_otherwise(self, build: Build, other_build: Build, kind: str) -> None:
        """Directory, umask, time zone, locale, hash seed and times of files do not matter."""
        for path in (other_build.sources / "cronlock").rglob("*.py"):
            path.touch()
        one, other = getattr(build, kind), getattr(other_build, kind)
        assert one != other
        assert filecmp.cmp(one, other, shallow=False)

    def test_time_is_that_of_the_commit(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """The time is SOURCE_DATE_EPOCH, else that of the last commit, else that of pyproject.toml."""
        need("git", "git")
        (tmp_path / "pyproject.toml").write_text("")
        monkeypatch.setattr(source, "ROOT", tmp_path)
        monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
        assert source.epoch() == int((tmp_path / "pyproject.toml").stat().st_mtime)
        author = {"GIT_COMMITTER_DATE": "@1234567890 +0000", "GIT_CONFIG_GLOBAL": "/dev/null", "PATH": "/usr/bin:/bin"}
        names = ["-c", "user.name=test", "-c", "user.email=test@invalid"]
        run("git", "init", "--quiet", cwd=tmp_path, environ=author)
        assert source.epoch() == int((tmp_path / "pyproject.toml").stat().st_mtime)
        run("git", *names, "commit", "--quiet", "--allow-empty", "--message", "x", cwd=tmp_path, environ=author)
        assert source.epoch() == 1234567890
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "7")
        assert source.epoch() == 7


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("VERSION", "bad version", "version 'bad version': write digits first"),
        ("VERSION", "1.0-1", "version '1.0-1': write digits first"),
        ("MAINTAINER", "O'Brien", 'maintainer "O\'Brien": write it as'),
    ],
)
def test_what_cannot_be_packaged_is_refused(build: Build, name: str, value: str, said: str) -> None:
    """The script refuses a version or a maintainer that dpkg or rpm would not accept, in one line."""
    rules = f"BIN := {Path(sys.executable).parent}\nVENV := v\nv/installed v/tools:\ninclude packaging/targets.mk\n"
    (build.sources / "refuse.mk").write_text(rules)
    line = ["make", "-f", "refuse.mk", "deb", f"{name}={value}"]
    done = subprocess.run(line, cwd=build.sources, capture_output=True, text=True)
    complaint, *rest = done.stderr.splitlines()
    assert complaint.startswith(said)
    assert [text for text in rest if not re.match(r"make(\[\d+\])?: ", text)] == []


@pytest.mark.parametrize("target", ["demo", "deb", "rpm", "pyz", "dist", "install", "uninstall"])
def test_a_machine_without_python_gets_it_first(target: str, tmp_path: Path) -> None:
    """Each target first installs what creates a virtual environment."""
    planned = run("make", "-n", f"VENV={tmp_path}/venv", target, cwd=ROOT)
    assert -1 < planned.find("tools/install-deps.sh venv") < planned.find(f"-m venv {tmp_path}/venv")


def test_missing_tool_is_named(build: Build, tmp_path: Path) -> None:
    """A build without its tool names the package to install, in one line."""
    line = [sys.executable, str(build.sources / "packaging/rpm.py"), "--output", str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, env={"PATH": str(tmp_path)})
    assert (done.returncode, done.stderr) == (1, "rpmbuild is missing: apt-get install rpm\n")
