"""TLS with servers that prove who they are: contexts, the system's authorities, and why a handshake failed.

Loaded only where a URL asks for TLS. Streams use `.tls_private`, since `ssl` takes as long to import as a bare
interpreter to start; what needs the real thing, or has an interpreter that is not known there, gets that.
"""

from __future__ import annotations

from ...errors import ConfigError
from ...system import os
from .stream import TLS_PARAMS

try:
    from . import tls_private as private
except (ImportError, AttributeError):  # Another interpreter's `_ssl`, or one without TLS, as `ssl` says then.
    private = None  # type: ignore[assignment]

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl

    from ...errors import BackendUnavailable

    Context = private.AnyContext

#: Faults of TLS and their remedies; the last is for any other.
_REMEDIES = (
    ("Hostname mismatch", "name the host as its certificate does"),
    ("IP address mismatch", "name the host as its certificate does"),
    ("has expired", "renew the server's certificate, and see this machine's clock"),
    ("not yet valid", "see this machine's clock"),
    ("certificate verify failed", "name the server's authority by ca="),
    ("", "see that this port speaks TLS, and which certificates it asks for"),
)
# VERIFY_X509_STRICT and CERT_NONE of `ssl`.
_STRICT, _UNVERIFIED = 0x20, 0
#: A directory with so many authorities has all of the system's; one with fewer has only some that were added.
_ALL_AUTHORITIES = 50
#: Contexts that know the directory of the system's authorities, and not yet what may stand in the bundle alone.
_LATE: set[Context] = set()


def make_context(url_text: str, params: dict[str, str], *, late: bool = False, public: bool = False) -> Context:
    """Return a TLS context that verifies the server, from the parameters ca, cert and key.

    Without ca the system's authorities are trusted. `late` is for `Stream.connect_tcp`, the only one that can use the
    context then: it looks up an authority where one is needed. `public` asks for a context of `ssl`, which others than
    streams can use. Raises ConfigError when a file cannot be used.
    """

    def files() -> str:
        return ", ".join(f"{name}={params[name]}" for name in TLS_PARAMS if name in params)

    try:
        directory = _authorities() if late and "ca" not in params else None
        context = _trusting(params.get("ca"), directory, public=public)
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


def _trusting(bundle: str | None, directory: str | None, *, public: bool) -> Context:
    """Return a context that trusts these authorities, or the system's without any."""
    if public or private is None:
        import ssl

        made = ssl.create_default_context(cafile=bundle, capath=directory)
        made.minimum_version = max(made.minimum_version, ssl.TLSVersion.TLSv1_2)
        return made
    context = private.Context()
    if bundle or directory:
        context.load_verify_locations(bundle, directory)
    else:
        context.set_default_verify_paths()
    return context


def unverified() -> Context:
    """Return a context that takes any certificate: nobody listens, but anybody may be the server."""
    if private is None:
        import ssl

        context: Context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    else:
        context = private.Context()
    loosen(context, any_authority=True)
    return context


def start(context: Context, plain: private.Plain, host: str) -> ssl.SSLSocket | private.Secured:
    """Speak TLS on a connected socket with the server `host`; the descriptor is the result's from now on.

    Raises OSError, or ValueError for what is no name of a host.
    """
    if private is not None and isinstance(context, private.Context):
        return context.start(plain, host)
    import socket
    import ssl

    assert isinstance(context, ssl.SSLContext)

    timeout = plain.gettimeout()
    taken = socket.socket(fileno=plain.detach())
    try:
        taken.settimeout(timeout)
        # As bytes, "127.0.0.1" does not have the interpreter import its IDNA codec.
        name: str | bytes = host.encode("ascii") if host.isascii() else host
        return context.wrap_socket(taken, server_hostname=name)
    except BaseException:
        taken.close()
        raise


def loosen(context: Context, *, any_authority: bool) -> None:
    """Let a certificate be good for any name, and be of any authority if that is wished."""
    context.check_hostname = False
    # Certificates that servers make for themselves are not all that the standard asks for.
    context.verify_flags &= ~_STRICT
    if any_authority:
        context.verify_mode = _UNVERIFIED


def _authorities() -> str | None:
    """Return the system's directory of authorities, None where it has none in which one can be looked up.

    To read the bundle instead takes 20 ms or more. It may have others: what this directory does not verify, it may.
    """
    if private is None:
        import ssl

        *_, variable, usual = ssl.get_default_verify_paths()
    else:
        *_, variable, usual = private.get_default_verify_paths()
    directory = os.environ.get(variable, usual)
    names = os.listdir(directory) if os.path.isdir(directory) else []
    # The hash of the authority's name, and a number: see openssl-rehash(1).
    hashed = [name for name in names if len(name) >= 10 and name[8] == "." and name[9:].isdigit()]
    return directory if len(hashed) >= _ALL_AUTHORITIES else None


def has_read_bundle(context: Context, error: BackendUnavailable) -> bool:
    """Read the system's bundle if a certificate was refused without it; tell whether that is worth another attempt."""
    # OpenSSL's reason, which no other error has.
    if context not in _LATE or not hasattr(error.__cause__, "verify_message"):
        return False
    _LATE.remove(context)
    context.set_default_verify_paths()
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
