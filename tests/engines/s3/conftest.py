"""What the tests on S3 share."""

from __future__ import annotations

import pytest

from ..wire.aws_nodes import use_examples


@pytest.fixture(autouse=True)
def credentials(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client needs in its environment, and nothing of this machine's own, unless it asks AWS."""
    if "kind" not in request.fixturenames or request.getfixturevalue("kind") != "aws":
        use_examples(monkeypatch)
