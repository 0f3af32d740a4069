"""What must be there before the first run, made as a user makes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping

_LIMIT = 120


def create(url: str, environ: Mapping[str, str] | None = None) -> None:
    """Have ``cronlock doctor --create`` make the table or the queue of the backend at `url`.

    `environ` is what its clients need in their environment. Fails when the doctor finds anything that is bad.
    """
    with tempfile.TemporaryDirectory(prefix="cl-") as state:
        known = {name: value for name, value in os.environ.items() if not name.startswith("CRONLOCK_")}
        own = {"CRONLOCK_CONFIG": os.devnull, "CRONLOCK_STATE_DIR": state}
        done = subprocess.run(
            [sys.executable, "-m", "cronlock", "doctor", "--create", "--json", f"--backend={url}"],
            env={**known, **own, **(environ or {})},
            capture_output=True,
            text=True,
            timeout=_LIMIT,
        )
    assert not done.stderr, done.stderr
    bad = [finding for finding in json.loads(done.stdout)["findings"] if finding["level"] == "bad"]
    assert not bad, bad
