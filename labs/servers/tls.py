"""A certificate authority for tests, made once by the openssl command."""

from __future__ import annotations

import atexit
import functools
import shutil
import ssl
import subprocess
import tempfile
from pathlib import Path

from .process import need


class TLS:
    """The files of an authority, of a server on localhost and of a client that it vouches for."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="cl-tls-", dir="/tmp"))
        atexit.register(shutil.rmtree, self._directory, ignore_errors=True)
        self._openssl = need("openssl", "openssl")
        self.ca, self._ca_key = self._authority()
        self.cert, self.key = self.issue("server", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        self.client_cert, self.client_key = self.issue("client", "extendedKeyUsage=clientAuth")
        #: Key and certificate in one file, as ZooKeeper reads them.
        self.chain = self._directory / "server-chain.pem"
        self.chain.write_bytes(self.key.read_bytes() + self.cert.read_bytes())

    def context(self) -> ssl.SSLContext:
        """Return a client's context that trusts the authority and shows the client's certificate."""
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(self.client_cert, self.client_key)
        return context

    def issue(self, name: str, extension: str, days: int = 2) -> tuple[Path, Path]:
        """Return a new certificate and its key; with 0 days it expires at once."""
        cert, key = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        request, extensions = self._directory / f"{name}.csr", self._directory / f"{name}.ext"
        extensions.write_text(extension + "\n")
        self._run("req", *self._new_key(key), "-subj", f"/CN={name}", "-out", str(request))
        authority = ("-CA", str(self.ca), "-CAkey", str(self._ca_key), "-CAcreateserial")
        files = ("-in", str(request), "-extfile", str(extensions), "-out", str(cert))
        self._run("x509", "-req", *authority, *files, "-days", str(days))
        return cert, key

    def params(self, *, client: bool = False) -> dict[str, str]:
        """Return the TLS parameters of a backend's URL, with the client's certificate if asked."""
        params = {"ca": str(self.ca)}
        if client:
            params.update(cert=str(self.client_cert), key=str(self.client_key))
        return params

    def _authority(self) -> tuple[Path, Path]:
        cert, key = self._directory / "ca.pem", self._directory / "ca.key"
        use = ("-subj", "/CN=cronlock tests", "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-days", "2")
        self._run("req", "-x509", *self._new_key(key), *use, "-out", str(cert))
        return cert, key

    def _new_key(self, path: Path) -> tuple[str, ...]:
        return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(path))

    def _run(self, *arguments: str) -> None:
        done = subprocess.run([self._openssl, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@functools.cache
def tls() -> TLS:
    """Return the authority of this test session."""
    return TLS()


def query(params: dict[str, str]) -> str:
    """Return `params` as the end of a backend's URL, empty for none."""
    return "?" + "&".join(f"{name}={value}" for name, value in params.items()) if params else ""
