"""`cronlock doctor` in this process, on an engine's real servers."""

from __future__ import annotations

from cronlock.doctor.findings import Finding
from cronlock.doctor.probe import Case, servers
from cronlock.engines.registry import open_backend, open_doctor
from cronlock.engines.url import URL


class Look:
    """One look at the backend of a URL, with a table or the like made first if asked for."""

    def __init__(self, url: str, *, create: bool = False, timeout: float = 20.0) -> None:
        backend = open_backend(url, timeout)
        case = Case(URL(url), backend, timeout=timeout, ttl=60.0, hold=0.0)
        try:
            self.found: list[Finding] = list(servers(case, open_doctor(url), create=create))
        finally:
            backend.close()

    def one(self, name: str) -> Finding:
        """Return the one finding of this name."""
        (found,) = [finding for finding in self.found if finding.name == name]
        return found

    def levels(self) -> dict[str, str]:
        """Return the levels of all, by name."""
        return {finding.name: finding.level for finding in self.found}
