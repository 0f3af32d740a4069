"""The process in which botocore looks for credentials, region and endpoint; see `aws_credentials`.

It reads what is wished from stdin, as JSON, and writes what it found to stdout, likewise.
"""

from __future__ import annotations

import json
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from botocore.session import Session

#: Exceptions of botocore's that asking again may help with, by name.
_PASSING = (
    *("HTTPClientError", "ConnectionError", "MetadataRetrievalError", "ClientError", "CredentialRetrievalError"),
)


def main() -> None:
    """Answer the request on stdin."""
    request = json.load(sys.stdin)
    try:
        answer = find(request)
    except ModuleNotFoundError as error:
        from ..clients import lacks

        answer = {"error": f"looking for them needs {lacks(error.name or '') or error.name}"}
    except Exception as error:
        # Each provider has exceptions of its own, also of the packages that it uses.
        text = " ".join(str(error).split()) or type(error).__name__
        answer = {"error": text, "passing": any(kind.__name__ in _PASSING for kind in type(error).__mro__)}
    sys.stdout.write(json.dumps(answer))


def find(request: dict[str, Any]) -> dict[str, Any]:
    """Return credentials, region and, where it is not the usual one, the endpoint."""
    import botocore.session
    from botocore.config import Config

    session = botocore.session.Session()
    # For the requests behind credentials, such as AssumeRole: the process itself is ended in time.
    limit = min(float(request["limit"]), 60.0)
    session.set_default_client_config(
        Config(connect_timeout=limit, read_timeout=limit, retries={"total_max_attempts": 1})
    )
    session.set_config_variable("metadata_service_timeout", 1)
    session.set_config_variable("metadata_service_num_attempts", 1)
    region = request.get("region") or session.get_config_variable("region")
    if region:
        session.set_config_variable("region", region)
    credentials = session.get_credentials()
    if credentials is None:
        return {"missing": True}
    frozen = credentials.get_frozen_credentials()
    expiry = getattr(credentials, "_expiry_time", None)
    profile = session.profile
    return {
        "AccessKeyId": frozen.access_key,
        "SecretAccessKey": frozen.secret_key,
        "Token": frozen.token,
        "Expiration": None if expiry is None else expiry.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "source": credentials.method + (f" of profile {profile}" if profile else ""),
        "region": region,
        "endpoint": _endpoint(session, request, region),
    }


def _endpoint(session: Session, request: dict[str, Any], region: str | None) -> str | None:
    """Return the service's endpoint where anything asks for another than the usual one."""
    if request.get("endpoint") or not region:
        return None
    special = any(session.get_config_variable(name) for name in ("use_fips_endpoint", "use_dualstack_endpoint"))
    scoped = session.get_scoped_config()
    if not special and "endpoint_url" not in scoped and "services" not in scoped:
        return None
    # botocore's own rules, by its own client.
    client = session.create_client(request["service"], region_name=region)
    url: str = client.meta.endpoint_url
    return url
