"""The web configuration file: what it says, in the format of Prometheus' exporter-toolkit, checked and made plain.

Source: "Web configuration" of the exporter-toolkit. Like there, a key that nobody knows is an error: a protection that
was misspelt protects nothing. One key is this project's own: ``bearer_tokens_file``.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

# Names of Go's crypto/tls that the toolkit accepts, and what OpenSSL calls the same. Those of TLS 1.3 cannot be chosen,
# neither there nor here: naming one has no effect.
CIPHER_SUITES: Mapping[str, str] = {
    "TLS_AES_128_GCM_SHA256": "",
    "TLS_AES_256_GCM_SHA384": "",
    "TLS_CHACHA20_POLY1305_SHA256": "",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    # Accepted by the toolkit until Go 1.22 counted them among the insecure.
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
}
CURVES: Mapping[str, str] = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}
# As the ssl module numbers them.
VERSIONS: Mapping[str, int] = {"TLS10": 0x0301, "TLS11": 0x0302, "TLS12": 0x0303, "TLS13": 0x0304}
CLIENT_AUTH_TYPES = (
    "NoClientCert",
    "RequestClientCert",
    "RequireAnyClientCert",
    "RequireClientCert",
    "VerifyClientCertIfGiven",
    "RequireAndVerifyClientCert",
)
HEADERS: Mapping[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
_HASH = re.compile(r"\$2[abxy]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")
_DURATION = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_TRUE = frozenset({"true", "yes", "on", "y"})
_FALSE = frozenset({"false", "no", "off", "n"})


class WebConfigError(Exception):
    """The file cannot be used; the message says why."""


class Tls(NamedTuple):
    """How connections are encrypted, and which certificates are asked for.

    Args:
        cert: the server's certificate chain: a path, or PEM.
        key: its key: a path, or PEM.
        client_ca: who signs the clients' certificates: a path, PEM, or None.
        client_auth: none, if_given or required.
        allowed_sans: alternative names of which a client's certificate must have one; None asks for none.
        min_version: the lowest version, as the ssl module numbers them.
        max_version: the highest version.
        ciphers: OpenSSL's names, for TLS 1.2 and below; empty for OpenSSL's own choice.
        curves: OpenSSL's names; empty for its own choice.
        prefer_server_ciphers: whether the order of the server counts.
    """

    cert: Path | str
    key: Path | str
    client_ca: Path | str | None
    client_auth: str
    allowed_sans: frozenset[str] | None
    min_version: int
    max_version: int
    ciphers: tuple[str, ...]
    curves: tuple[str, ...]
    prefer_server_ciphers: bool


class WebConfig(NamedTuple):
    """What a web configuration file says.

    Args:
        tls: None for unencrypted connections.
        headers: to send with each response.
        users: for each name the bcrypt hash of its password.
        tokens_file: where bearer tokens are; None if there are none.
        interval: seconds between two requests; 0 sets no limit.
        burst: how many may come at once.
        notes: what the file asks for and does not get exactly, in words for the log.
    """

    tls: Tls | None = None
    headers: tuple[tuple[str, str], ...] = ()
    users: Mapping[str, str] = {}
    tokens_file: Path | None = None
    interval: float = 0.0
    burst: int = 0
    notes: tuple[str, ...] = ()

    @property
    def protects(self) -> bool:
        """Whether it keeps anybody out."""
        asks_for_certificate = self.tls is not None and self.tls.client_auth == "required"
        return bool(self.users) or self.tokens_file is not None or asks_for_certificate

    @property
    def files(self) -> tuple[Path, ...]:
        """The files it refers to."""
        named = [self.tokens_file, *((self.tls.cert, self.tls.key, self.tls.client_ca) if self.tls else ())]
        return tuple(path for path in named if isinstance(path, Path))


def parse(text: str, folder: Path) -> WebConfig:
    """Return what a web configuration file says.

    Args:
        text: its content.
        folder: where it is; paths in it are relative to that.

    Raises:
        WebConfigError: it is not YAML, or says something that is not understood.
    """
    top = _Section("", _load(text))
    tls, notes = _tls(top.section("tls_server_config"), folder)
    http = top.section("http_server_config")
    # Both versions are spoken by whoever speaks HTTP/2, and this server speaks HTTP/1.1 alone.
    http.boolean("http2", default=True)
    users = top.strings("basic_auth_users")
    for name, hash_ in users.items():
        if not _HASH.fullmatch(hash_):
            raise WebConfigError(f"the password of the user {name!r} in basic_auth_users is not a bcrypt hash")
    limit = top.section("rate_limit")
    interval, burst = limit.duration("interval"), limit.integer("burst")
    if interval and burst < 1:
        raise WebConfigError("rate_limit has an interval, and lets nobody in: set its burst to 1 or more")
    tokens_file = top.path("bearer_tokens_file", folder)
    config = WebConfig(tls, _headers(http.strings("headers")), users, tokens_file, interval, burst, tuple(notes))
    for section in (http, limit, top):
        section.end()
    return config


def _tls(section: "_Section", folder: Path) -> tuple[Tls | None, list[str]]:
    notes: list[str] = []
    cert = section.path("cert_file", folder) or section.string("cert")
    key = section.path("key_file", folder) or section.string("key")
    client_ca = section.path("client_ca_file", folder) or section.string("client_ca") or None
    auth_type = section.string("client_auth_type")
    for alternative in ("cert", "key", "client_ca"):
        section.string(alternative)  # known, though the file of that name counts
    sans = section.list("client_allowed_sans")
    min_version = section.choice("min_version", VERSIONS, "TLS12")
    max_version = section.choice("max_version", VERSIONS, "TLS13")
    suites = [section.member("cipher_suites", name, CIPHER_SUITES) for name in section.list("cipher_suites") or ()]
    curves = [section.member("curve_preferences", name, CURVES) for name in section.list("curve_preferences") or ()]
    prefer = section.boolean("prefer_server_cipher_suites", default=True)
    section.end()
    if not (cert or key or client_ca or auth_type):
        return None, notes
    for name, value in (("cert", cert), ("key", key)):
        if not value:
            raise WebConfigError(f"tls_server_config has neither {name} nor {name}_file")
    if min_version > max_version:
        raise WebConfigError("tls_server_config has a min_version above its max_version")
    client_auth = _client_auth(auth_type or "NoClientCert", bool(client_ca), sans is not None, notes)
    if len(curves) > 1:
        first = section.list("curve_preferences")[0]
        notes.append(f"of curve_preferences only one is used ({first}, or the next that Python can choose)")
    return Tls(
        cert,
        key,
        client_ca,
        client_auth,
        None if sans is None else frozenset(sans),
        min_version,
        max_version,
        tuple(filter(None, suites)),
        tuple(curves),
        prefer,
    ), notes


def _client_auth(auth_type: str, has_ca: bool, has_sans: bool, notes: list[str]) -> str:
    """Translate Go's ClientAuthType into what OpenSSL can do; where it cannot do the same, into something stricter."""
    if auth_type not in CLIENT_AUTH_TYPES:
        raise WebConfigError(f"client_auth_type {auth_type!r} is none of {', '.join(CLIENT_AUTH_TYPES)}")
    requires = auth_type.startswith("Require")
    if has_ca and auth_type == "NoClientCert":
        raise WebConfigError(
            "a client CA is set, and client_auth_type is NoClientCert: set RequireAndVerifyClientCert, or remove the CA"
        )
    if has_sans and not requires:
        raise WebConfigError(f"client_allowed_sans needs a certificate, and client_auth_type is {auth_type}")
    if requires and not has_ca:
        raise WebConfigError(
            f"client_auth_type is {auth_type}, and there is no client_ca_file to verify certificates with; one that "
            "nobody verifies proves nothing"
        )
    if auth_type in {"RequireAnyClientCert", "RequireClientCert"}:
        notes.append(f"client_auth_type {auth_type} is taken for RequireAndVerifyClientCert")
    if auth_type == "RequestClientCert":
        notes.append("client_auth_type RequestClientCert asks for certificates that nobody verifies, and is not done")
        return "none"
    if auth_type == "VerifyClientCertIfGiven":
        if not has_ca:
            raise WebConfigError("client_auth_type is VerifyClientCertIfGiven, and there is no client_ca_file")
        return "if_given"
    return "required" if requires else "none"


def _headers(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    for name, value in headers.items():
        if name not in HEADERS:
            raise WebConfigError(f"the header {name!r} cannot be set; those that can are {', '.join(HEADERS)}")
        if HEADERS[name] and value not in HEADERS[name]:
            raise WebConfigError(f"the header {name} is none of {', '.join(HEADERS[name])}")
        if not value.isascii() or not value.isprintable():
            raise WebConfigError(f"the header {name} has characters that a header must not have")
    return tuple((name, value) for name, value in headers.items() if value)


class _Section:
    """A mapping of the file, and which of its keys have been understood."""

    def __init__(self, name: str, content: object) -> None:
        if content is None or content == "":
            content = {}
        if not isinstance(content, dict):
            raise WebConfigError(f"{name or 'the file'} is not a mapping")
        self._name = name
        self._content: dict[str, Any] = content
        self._known: set[str] = set()

    def end(self) -> None:
        """Complain of keys that nobody asked for."""
        unknown = [key for key in self._content if key not in self._known]
        if unknown:
            where = f" in {self._name}" if self._name else ""
            raise WebConfigError(f"nobody knows the key {unknown[0]!r}{where}")

    def _get(self, key: str) -> Any:
        self._known.add(key)
        value = self._content.get(key)
        # The words for nothing in YAML.
        return None if isinstance(value, str) and value in {"", "~", "null", "Null", "NULL"} else value

    def section(self, key: str) -> "_Section":
        return _Section(key, self._get(key))

    def string(self, key: str) -> str:
        value = self._get(key)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise WebConfigError(f"{key} is not a string")
        return value

    def path(self, key: str, folder: Path) -> Path | None:
        value = self.string(key)
        return folder / value if value else None

    def list(self, key: str) -> Any:
        value = self._get(key)
        if value is not None and not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            raise WebConfigError(f"{key} is not a list of strings")
        return value

    def strings(self, key: str) -> dict[str, str]:
        value = _Section(key, self._get(key))._content
        if not all(isinstance(item, str) for pair in value.items() for item in pair):
            raise WebConfigError(f"{key} is not a mapping of strings")
        return value

    def boolean(self, key: str, *, default: bool) -> bool:
        word = self.string(key).lower()
        if word not in {"", *_TRUE, *_FALSE}:
            raise WebConfigError(f"{key} is {word!r}, and neither true nor false")
        return word in _TRUE if word else default

    def integer(self, key: str) -> int:
        word = self.string(key) or "0"
        if not re.fullmatch(r"[+-]?[0-9]{1,9}", word):
            raise WebConfigError(f"{key} is {word!r}, and not a whole number")
        return int(word)

    def duration(self, key: str) -> float:
        """Return seconds; as in Go, a number without a unit is of nanoseconds."""
        word = self.string(key) or "0"
        if re.fullmatch(r"[0-9]{1,18}", word):
            return int(word) * 1e-9
        seconds, position = 0.0, 0
        for match in _DURATION.finditer(word):
            if match.start() != position or match[0][0] in "+-":
                break
            seconds += float(match[0].removesuffix(match[1])) * _SECONDS[match[1]]
            position = match.end()
        if position != len(word):
            raise WebConfigError(f"{key} is {word!r}, and not a duration such as 1s")
        return seconds

    def choice(self, key: str, values: Mapping[str, int], default: str) -> int:
        word = self.string(key) or default
        if word not in values:
            raise WebConfigError(f"{key} is {word!r}, and none of {', '.join(values)}")
        return values[word]

    def member(self, key: str, word: str, values: Mapping[str, str]) -> str:
        if word not in values:
            raise WebConfigError(f"{key} has {word!r}, which is none of {', '.join(values)}")
        return values[word]


def _load(text: str) -> object:
    """Read YAML as strings, lists and mappings; what a string means is for the key to say."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Takes every scalar for a string, as a user named 123 wants it, and no key twice."""

        # All but the merging of mappings.
        yaml_implicit_resolvers = {"<": yaml.SafeLoader.yaml_implicit_resolvers["<"]}  # noqa: RUF012

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            keys = [key.value for key, _ in node.value]
            twice = next((key for key in keys if keys.count(key) > 1), None)
            if twice is not None:
                raise WebConfigError(f"the key {twice!r} is there twice")
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)  # noqa: S506 - a safe loader, and less than that
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        # Not in the words of the error: what it quotes may be a password.
        raise WebConfigError(f"it is not YAML{where}") from None
    except (RecursionError, TypeError, ValueError):
        raise WebConfigError("it is not YAML that can be understood") from None
