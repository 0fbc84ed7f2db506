"""From the rules for encryption to an ``ssl.SSLContext``. Importing this costs 6 MB."""

import os
import ssl
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from authly.monitoring.exporter.access.web_config import Tls, WebConfigError


def context_of(rules: Tls) -> ssl.SSLContext:
    """Return a context for the server's side.

    Raises:
        WebConfigError: a certificate, key or cipher cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    with warnings.catch_warnings():
        # TLS 1.0 and 1.1 are asked for by name; OpenSSL refuses them in its own way.
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion(rules.min_version)
        context.maximum_version = ssl.TLSVersion(rules.max_version)
    # A resumed session would bring back a certificate that was accepted before; and a handshake is wanted once an hour.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    if not rules.prefer_server_ciphers:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    try:
        if rules.ciphers:
            context.set_ciphers(":".join(rules.ciphers))
    except (ssl.SSLError, ValueError) as error:
        raise WebConfigError(f"this OpenSSL has none of the ciphers ({error})") from error
    _choose_curve(context, rules.curves)
    _load_certificate(context, rules)
    if rules.client_ca is not None:
        _load_client_ca(context, rules.client_ca)
    context.verify_mode = {"none": ssl.CERT_NONE, "if_given": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}[
        rules.client_auth
    ]
    # As in Go: what is in the file is trusted, a root or not.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _choose_curve(context: ssl.SSLContext, curves: Iterable[str]) -> None:
    """Use one curve alone: the first that can be chosen.

    Not every Python can choose X25519 (Debian's 3.11.2 cannot). Where it is the only one, OpenSSL's own choice stays,
    which prefers it.
    """
    for curve in curves:
        with suppress(ssl.SSLError, ValueError):
            context.set_ecdh_curve(curve)
            return


def _load_certificate(context: ssl.SSLContext, rules: Tls) -> None:
    with _readable(rules.cert, "cert") as cert, _readable(rules.key, "key") as key:
        try:
            # Without a password OpenSSL would ask for one at the terminal.
            context.load_cert_chain(cert, key, password="")
        except (OSError, ValueError) as error:
            raise WebConfigError(f"certificate and key cannot be used ({_words(error)})") from error


def _load_client_ca(context: ssl.SSLContext, client_ca: Path | str) -> None:
    with _readable(client_ca, "client_ca") as path:
        try:
            context.load_verify_locations(path)
        except OSError as error:
            raise WebConfigError(f"the client CA cannot be used ({_words(error)})") from error


@contextmanager
def _readable(source: Path | str, name: str) -> Iterator[str]:
    """Give a path of a file, or of memory that holds what the configuration has in place of one."""
    if isinstance(source, Path):
        try:
            os.close(os.open(source, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            raise WebConfigError(f"{name}_file {source} cannot be read ({error.strerror})") from error
        yield str(source)
        return
    fd = os.memfd_create(name)
    try:
        os.write(fd, source.encode())
        yield f"/proc/self/fd/{fd}"
    finally:
        os.close(fd)


def _words(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return str(reason).lower().replace("_", " ")
