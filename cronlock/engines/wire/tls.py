"""TLS with servers that prove who they are: contexts, the system's authorities, and why a handshake failed.

Loaded only where a URL asks for TLS: `ssl` takes longer to import than a run on Redis takes.
"""

from __future__ import annotations

import os
import ssl

from ...errors import ConfigError
from .stream import TLS_PARAMS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...errors import BackendUnavailable

#: Faults of TLS and their remedies; the last is for any other.
_REMEDIES = (
    ("Hostname mismatch", "name the host as its certificate does"),
    ("IP address mismatch", "name the host as its certificate does"),
    ("has expired", "renew the server's certificate, and see this machine's clock"),
    ("not yet valid", "see this machine's clock"),
    ("certificate verify failed", "name the server's authority by ca="),
    ("", "see that this port speaks TLS, and which certificates it asks for"),
)
#: A directory with so many authorities has all of the system's; one with fewer has only some that were added.
_ALL_AUTHORITIES = 50
#: Contexts that know the directory of the system's authorities, and not yet what may stand in the bundle alone.
_LATE: set[ssl.SSLContext] = set()


def make_context(url_text: str, params: dict[str, str], *, late: bool = False) -> ssl.SSLContext:
    """Return a TLS context that verifies the server, from the parameters ca, cert and key.

    Without ca the system's authorities are trusted. `late` leaves them to `Stream.connect_tcp`, the only one that can
    use the context then: it looks up an authority where one is needed. Raises ConfigError when a file cannot be used.
    """

    def files() -> str:
        return ", ".join(f"{name}={params[name]}" for name in TLS_PARAMS if name in params)

    try:
        directory = _authorities() if late and "ca" not in params else None
        context = ssl.create_default_context(cafile=params.get("ca"), capath=directory)
        if directory is not None:
            _LATE.add(context)
        if "cert" in params or "key" in params:
            if "cert" not in params:
                raise ConfigError(f"{url_text}: key= is given without cert=")

            def ask() -> str:
                # Without it, OpenSSL prompts at the terminal.
                raise ConfigError(f"{url_text}: the key of {files()} is encrypted: use one without a pass phrase")

            context.load_cert_chain(params["cert"], params.get("key"), password=ask)
    except (OSError, ValueError) as error:
        # ssl.SSLError is an OSError; its text names no file.
        text = f"{url_text}: cannot use the TLS files ({files()}): {_without_source(error)}"
        raise ConfigError(f"{text}; they must be PEM files, and key= must belong to cert=") from error
    return context


def _authorities() -> str | None:
    """Return the system's directory of authorities, None where it has none in which one can be looked up.

    To read the bundle instead takes 20 ms or more. It may have others: what this directory does not verify, it may.
    """
    directory = ssl.get_default_verify_paths().capath
    names = os.listdir(directory) if directory is not None else []
    # The hash of the authority's name, and a number: see openssl-rehash(1).
    hashed = [name for name in names if len(name) >= 10 and name[8] == "." and name[9:].isdigit()]
    return directory if len(hashed) >= _ALL_AUTHORITIES else None


def has_read_bundle(context: ssl.SSLContext, error: BackendUnavailable) -> bool:
    """Read the system's bundle if a certificate was refused without it; tell whether that is worth another attempt."""
    if context not in _LATE or not isinstance(error.__cause__, ssl.SSLCertVerificationError):
        return False
    _LATE.remove(context)
    context.load_default_certs()
    return True


def reason(error: Exception) -> str:
    """Return why there is no TLS, and what to do about it."""
    text = _without_source(error)
    return f"{text}; {next(remedy for sign, remedy in _REMEDIES if sign in text)}"


def _without_source(error: Exception) -> str:
    """Return the text of an error of OpenSSL without the line of C that it comes from."""
    text = str(error).partition(" (_ssl.c")[0]
    if text.startswith("_ssl.c:"):
        text = text.partition(": ")[2]
    return getattr(error, "strerror", None) or text if text.startswith("[Errno") else text
