"""Who may look at an exporter that is measured: everybody, or whoever has a certificate's trust and a password."""

import base64
import http.client
import ssl
from pathlib import Path

import bcrypt
import yaml

from tests.certificates import Authority

_USER, _PASSWORD = "prometheus", "correct horse battery staple"
# What the exporter-toolkit's documentation makes hashes with.
_BCRYPT_ROUNDS = 10


def write_web_config(folder: Path) -> Path:
    """Write a web config file that asks for TLS and a password, and what it names; return its path."""
    authority = Authority(folder)
    pair = authority.issue("exporter", "127.0.0.1", server=True)
    path = folder / "web.yml"
    path.write_text(
        yaml.safe_dump(
            {
                "tls_server_config": {"cert_file": str(pair.cert), "key_file": str(pair.key)},
                "basic_auth_users": {_USER: bcrypt.hashpw(_PASSWORD.encode(), bcrypt.gensalt(_BCRYPT_ROUNDS)).decode()},
            }
        )
    )
    return path


def connect(address: str, folder: Path | None = None) -> http.client.HTTPConnection:
    """Return a connection to an exporter.

    Args:
        address: host and port.
        folder: where its web config file was written; None where it has none.
    """
    if folder is None:
        return http.client.HTTPConnection(address, timeout=30)
    return http.client.HTTPSConnection(
        address, timeout=30, context=ssl.create_default_context(cafile=str(folder / "ca.pem"))
    )


def credentials(folder: Path | None = None) -> dict[str, str]:
    """Return the headers that let a scrape through."""
    if folder is None:
        return {}
    return {"authorization": "Basic " + base64.b64encode(f"{_USER}:{_PASSWORD}".encode()).decode()}
