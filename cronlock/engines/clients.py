"""The client libraries of engines: what pip and Debian call them, for messages about a missing one."""

from __future__ import annotations

import sys

# By the name that Python imports, or of the library: for pip, as a shell reads it, and for distributions.
_CLIENTS = {
    "botocore": ("botocore", "python3-botocore"),
    "cryptography": ("cryptography", "python3-cryptography"),
    "kazoo": ("kazoo", "python3-kazoo"),
    "libpq": ("'psycopg[binary]'", "libpq5 (Red Hat: libpq)"),
    "pynacl": ("PyNaCl", "python3-nacl (Red Hat: python3-pynacl)"),
    "redis": ("redis", "python3-redis"),
}


def see_installed() -> bool:
    """Let what is installed on this machine be imported; return False if it could be before.

    Packages of cronlock start without the `site` module: they carry what every run may need, and leave the clients of
    engines to the distribution.
    """
    if "site" in sys.modules:
        return False
    import site

    site.main()
    return True


def lacks(client: str) -> str | None:
    """Return the message and remedy for the missing package or library `client`; None if no engine needs it."""
    if client not in _CLIENTS:
        return None
    pip, package = _CLIENTS[client]
    kind = "PostgreSQL's library" if client == "libpq" else "the Python package"
    if sys.prefix != sys.base_prefix:
        # A virtual environment does not see what the distribution has.
        return f"{kind} {client}: {sys.prefix}/bin/pip install {pip}"
    return f"{kind} {client}: install your distribution's {package}; for a Python of your own, pip install {pip}"
