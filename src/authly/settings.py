"""Settings: read once from the environment, checked, frozen.

Owns every ``AUTHLY_*`` variable and ``PROMETHEUS_MULTIPROC_DIR``: name, type, default, and the words that tell an
operator what a variable accepts. Does not act on any of them.
"""

import importlib.util
import ipaddress
import os
import re
from functools import cached_property
from operator import lt
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import urlsplit, urlunsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretBytes, SecretStr, ValidationError, ValidationInfo
from pydantic.config import JsonDict
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from authly.monitoring.labels import LABEL_NAMES, RESERVED_LABEL_NAMES, Group
from authly.monitoring.resolution import Resolution

_HOST_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+):(?P<port>[0-9]{1,5})")
_HOST_NAME = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]")
_RATE = re.compile(r"([1-9][0-9]{0,6})/(second|minute|hour|day)")
_PERIODS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
# The one environment in which Authly makes up what it was not told.
DEVELOPMENT = "development"
# Not a setting, but where settings are: containers, systemd and Kubernetes hand secrets over as files.
SECRETS_DIRECTORY = "AUTHLY_SECRETS_DIR"
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
# No path: metadata is found below the host (RFC 8414, section 3), and clients compare issuers character by character.
_ORIGIN = re.compile(r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::(?P<port>[0-9]{1,5}))?")
_IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
_LABEL_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)


Network = ipaddress.IPv4Network | ipaddress.IPv6Network | Literal["unix"]
Label = tuple[str, str]


class SettingsError(ValueError):
    """A setting holds something it does not accept; the message is one line for each such variable."""


def _host_and_port(value: str) -> str:
    match = _HOST_PORT.fullmatch(value)
    if match is None or int(match["port"]) > 65535:
        raise ValueError("not HOST:PORT")
    if match["host"].startswith("["):
        ipaddress.IPv6Address(match["host"][1:-1])
    return value


def _listen_address(value: str) -> str:
    return value if value.startswith("unix:/") else _host_and_port(value)


def _metrics_path(value: str) -> str:
    # Route templates ("{x}") and anything a URL would have to escape are refused: this is one fixed address.
    if not re.fullmatch(r"/[A-Za-z0-9._~/-]+", value) or "//" in value or value.startswith("/health/"):
        raise ValueError("not a plain absolute path")
    return value


def _import_paths(value: str | tuple[str, ...]) -> tuple[str, ...]:
    paths = tuple(path.strip() for path in (value.split(",") if isinstance(value, str) else value) if path.strip())
    for path in paths:
        if not _IMPORT_PATH.fullmatch(path):
            raise ValueError(f"{path} is not package.module:name")
    return paths


def _groups(value: str | tuple[Group, ...]) -> tuple[Group, ...]:
    groups = tuple(dict.fromkeys(map(Group, _words(value))))
    if not groups:
        raise ValueError("no group")
    return groups


def _resolution(value: str | tuple[float, ...]) -> str | tuple[float, ...]:
    if isinstance(value, str) and value.strip().lower() in {"low", "normal", "high"}:
        return value.strip().lower()
    edges = tuple(map(float, value.split(",") if isinstance(value, str) else value))
    # Not a number is in no order.
    if not (1 <= len(edges) <= 50 and all(map(lt, (0.0, *edges), (*edges, 3600.001)))):
        raise ValueError("not rising edges")
    return edges


def _constant_labels(value: str | tuple[Label, ...]) -> tuple[Label, ...]:
    if not isinstance(value, str):
        return value
    labels = []
    for pair in value.split(","):
        name, equals, held = (part.strip() for part in pair.partition("="))
        if not equals or not _LABEL_NAME.fullmatch(name) or name in LABEL_NAMES | RESERVED_LABEL_NAMES:
            raise ValueError(f"{name} cannot be the name of a constant label")
        if not 1 <= len(held) <= 128 or not held.isprintable():
            raise ValueError(f"{name} has no value that can be shown")
        labels.append((name, held))
    if len(labels) > 16 or len(dict(labels)) != len(labels):
        raise ValueError("too many labels, or one twice")
    return tuple(labels)


class Rate(NamedTuple):
    """So many requests in a period of so many seconds."""

    requests: int
    period: int

    def __str__(self) -> str:
        return f"{self.requests}/{next(name for name, seconds in _PERIODS.items() if seconds == self.period)}"


def _rate(value: str | Rate | None) -> Rate | None:
    if not isinstance(value, str):
        return value
    match = _RATE.fullmatch(value)
    if match is not None:
        rate = Rate(int(match[1]), _PERIODS[match[2]])
        if rate.requests <= 1000 * rate.period:
            return rate
    elif value == "off":
        return None
    raise ValueError("not N/second, N/minute, N/hour, N/day or off")


def _words(value: str | tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the words of a list, in lower case; what is a list already is one."""
    if not isinstance(value, str):
        return value
    return tuple(word.strip().lower() for word in value.split(",") if word.strip())


def _networks(value: str | tuple[Network, ...]) -> tuple[Network, ...]:
    """Parse networks, addresses and the word unix, for whoever comes over a Unix socket."""
    return tuple("unix" if word == "unix" else ipaddress.ip_network(word) for word in _words(value))


def _host_names(value: str | tuple[str, ...]) -> tuple[str, ...]:
    names = _words(value)
    for name in names:
        if not _HOST_NAME.fullmatch(name):
            raise ValueError(f"{name} is not a host name")
    return names


def _policies(value: str | tuple[str, ...]) -> tuple[str, ...]:
    names = _words(value)
    if names == ("none",):
        return ()
    if unknown := set(names) - {"login", "token", "introspect", "default"}:
        raise ValueError(f"{unknown} are not policies")
    return names


def _redis_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"redis", "rediss", "unix"}:
        raise ValueError("not a URL of Valkey or Redis")
    if (parts.scheme == "unix" and not parts.path) or (parts.scheme != "unix" and not parts.hostname):
        raise ValueError("the URL does not say where")
    if parts.port == 0:  # asked for, it raises where it is no number
        raise ValueError("not a port")
    return value


def _username(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}", value):
        raise ValueError("not a username")
    return value


def _readable_file(value: Path) -> Path:
    if not value.is_file() or not os.access(value, os.R_OK):
        raise ValueError("not a file that can be read")
    return value.absolute()


def _database_url(value: str) -> str:
    if urlsplit(value).scheme not in {"postgresql", "postgres"}:
        raise ValueError("not a PostgreSQL URL")
    return value


def _secret_key(value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
    if value is None and _is_demanding(info):
        raise ValueError("demanded")
    if value is not None and len(value.get_secret_value()) < 32:
        raise ValueError("too short")
    return value


def _issuer(value: str | None, info: ValidationInfo) -> str | None:
    if value is None:
        if _is_demanding(info):
            raise ValueError("demanded")
        return None
    match = _ORIGIN.fullmatch(value)
    if match is None or not 0 < int(match["port"] or 443) <= 65535:
        raise ValueError("not a URL of scheme and host alone")
    # Tokens and passwords in the open are for the loopback interface, and for whoever develops.
    if match["scheme"] == "http" and _is_demanding(info) and match["host"] not in _LOOPBACK_NAMES:
        raise ValueError("not https")
    return value


def _is_demanding(info: ValidationInfo) -> bool:
    """Tell whether this is a deployment that has to be safe, rather than one that has to start."""
    return bool(info.data.get("environment", DEVELOPMENT) != DEVELOPMENT)


def _default_workers() -> int:
    return len(os.sched_getaffinity(0)) + 1


def _setting(default: Any, accepts: str, description: str, **constraints: Any) -> Any:
    """Declare a setting together with what an operator is told about it."""
    extra: JsonDict = {"accepts": accepts}
    if callable(default):
        return Field(default_factory=default, description=description, json_schema_extra=extra, **constraints)
    return Field(default=default, description=description, json_schema_extra=extra, **constraints)


class Settings(BaseSettings):
    """Everything an operator can choose, read from the environment and frozen."""

    model_config = SettingsConfigDict(env_prefix="AUTHLY_", frozen=True, extra="ignore", env_ignore_empty=True)

    bind: Annotated[str, AfterValidator(_listen_address)] = _setting(
        "127.0.0.1:8000", "HOST:PORT, [IPv6]:PORT or unix:/PATH", "Where Authly answers its clients."
    )
    workers: int = _setting(
        _default_workers,
        "a whole number from 1 to 256",
        "Worker processes. The default is one more than the CPUs this process may use.",
        ge=1,
        le=256,
    )
    worker_class: Literal["uvicorn", "asgi"] = _setting(
        "uvicorn",
        "uvicorn or asgi",
        "The kind of Gunicorn worker: `uvicorn_worker.UvicornWorker` or Gunicorn's own `asgi`.",
    )
    max_requests: int = _setting(
        20_000,
        "a whole number from 0 to 100000000",
        "A worker is replaced after this many requests, give or take a tenth; 0 never replaces it.",
        ge=0,
        le=100_000_000,
    )
    graceful_timeout: int = _setting(
        30,
        "a whole number of seconds from 1 to 3600",
        "How long a worker that has been told to end may finish its requests.",
        ge=1,
        le=3600,
    )
    environment: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,32}$")] = _setting(
        "development",
        "1 to 32 letters, digits, dots, dashes and underscores",
        "The name of this deployment, shown in `authly_application_info`.",
    )
    issuer: Annotated[str | None, AfterValidator(_issuer)] = _setting(
        None,
        "https://HOST or https://HOST:PORT in lower case, without a path; http on the loopback interface, or where "
        "AUTHLY_ENVIRONMENT is development. It has to be set where AUTHLY_ENVIRONMENT is not development",
        "The URL by which clients know Authly: `iss` of all tokens. Unset: AUTHLY_BIND, for development.",
        validate_default=True,
    )
    secret_key: Annotated[SecretStr | None, AfterValidator(_secret_key)] = _setting(
        None,
        "at least 32 characters. It has to be set where AUTHLY_ENVIRONMENT is not development",
        "What all keys are derived from; the same for all instances on one database. Unset: made once and kept in the "
        "state directory, for development.",
        validate_default=True,
    )
    authorization_code_ttl: int = _setting(
        60, "a whole number of seconds from 1 to 600", "How long an authorization code is valid.", ge=1, le=600
    )
    access_token_ttl: int = _setting(
        600,
        "a whole number of seconds from 1 to 86400",
        "How long an access token is valid, of clients for which nothing else is set.",
        ge=1,
        le=86_400,
    )
    access_token_algorithm: Literal["RS256", "ES256", "EdDSA"] = _setting(
        "RS256", "RS256, ES256 or EdDSA", "With what access tokens are signed. Any resource server can verify RS256."
    )
    id_token_ttl: int = _setting(
        600, "a whole number of seconds from 1 to 86400", "How long an ID token is valid.", ge=1, le=86_400
    )
    jwks_max_age: int = _setting(
        300,
        "a whole number of seconds from 1 to 86400",
        "How long verifiers may cache the keys of `/jwks`. A new key is published for longer before it signs.",
        ge=1,
        le=86_400,
    )
    signing_key_days: int = _setting(
        90,
        "a whole number of days from 0 to 3650",
        "How long a key signs before a new one takes its place by itself; 0 leaves that to operators.",
        ge=0,
        le=3650,
    )
    refresh_token_ttl: int = _setting(
        2_592_000,
        "a whole number of seconds from 60 to 31536000",
        "How long a refresh token is valid that nobody uses; each use yields a new one.",
        ge=60,
        le=31_536_000,
    )
    refresh_token_grace: int = _setting(
        10,
        "a whole number of seconds from 0 to 60",
        "How long after its use a client may repeat a refresh whose answer it missed, and gets the same refresh token "
        "again. 0 takes any repetition for theft.",
        ge=0,
        le=60,
    )
    state_dir: Path = _setting(
        Path(".authly"),
        "a directory",
        "Where Authly keeps what must outlive it: the embedded database and, unless set elsewhere, the metrics.",
    )
    database_url: Annotated[str, AfterValidator(_database_url)] | None = _setting(
        None,
        "a postgresql:// URL, or nothing for the embedded PostgreSQL",
        "The PostgreSQL to use. Unset: Authly starts one of its own in the state directory.",
    )
    database_pool_size: int = _setting(
        8, "a whole number from 1 to 100", "Connections to PostgreSQL at most, for each worker.", ge=1, le=100
    )
    database_timeout: float = _setting(
        5.0,
        "a number of seconds from 0.1 to 300",
        "How long PostgreSQL may take for a query or a transaction.",
        ge=0.1,
        le=300,
    )
    redis_url: Annotated[str, AfterValidator(_redis_url)] | None = _setting(
        None,
        "a redis://, rediss:// or unix:// URL, or nothing for PostgreSQL",
        "The Valkey or Redis that counts rate limits and tells workers what changed. Unset: PostgreSQL does both.",
    )
    cache_ttl: float = _setting(
        30.0,
        "a number of seconds from 0 to 3600",
        "How long a worker that is not told of a change may go on with what it knows of clients, scopes and keys.",
        ge=0,
        le=3600,
    )
    cleanup_interval: float = _setting(
        300.0,
        "a number of seconds from 1 to 86400",
        "How often expired codes, tokens and sessions, and rows that count nothing any more, are deleted.",
        ge=1,
        le=86_400,
    )
    audit_retention_days: int = _setting(
        365,
        "a whole number of days from 0 to 36500",
        "How long entries of the audit log are kept; 0 keeps them for ever.",
        ge=0,
        le=36_500,
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_host_names)] = _setting(
        (),
        "host names without ports, such as login.example.com or *.example.com, separated by commas",
        "The host names that Authly answers to. None: any.",
    )
    max_body_bytes: int = _setting(
        65_536,
        "a whole number of bytes from 1024 to 16777216",
        "How long the body of a request may be.",
        ge=1024,
        le=1 << 24,
    )
    admin_networks: Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)] = _setting(
        _networks("127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,::1,fc00::/7"),
        "networks such as 10.0.0.0/8, addresses, and unix, separated by commas",
        "Where requests to the administration interface may come from.",
    )
    rate_limit_login: Annotated[Rate | None, NoDecode, BeforeValidator(_rate)] = _setting(
        "10/minute",
        "N/second, N/minute, N/hour, N/day (at most 1000 a second) or off",
        "Passwords that one client address may send: to log in, to sign up, and to change one.",
    )
    rate_limit_token: Annotated[Rate | None, NoDecode, BeforeValidator(_rate)] = _setting(
        "1200/minute",
        "N/second, N/minute, N/hour, N/day (at most 1000 a second) or off",
        "Requests to the endpoints that clients authenticate at, of one client address.",
    )
    rate_limit_introspect: Annotated[Rate | None, NoDecode, BeforeValidator(_rate)] = _setting(
        "6000/minute",
        "N/second, N/minute, N/hour, N/day (at most 1000 a second) or off",
        "Introspections that one client address may ask for.",
    )
    rate_limit_default: Annotated[Rate | None, NoDecode, BeforeValidator(_rate)] = _setting(
        "600/minute",
        "N/second, N/minute, N/hour, N/day (at most 1000 a second) or off",
        "All other requests of one client address.",
    )
    rate_limit_fail_open: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_policies)] = _setting(
        "token,introspect,default",
        "login, token, introspect, default, several of them separated by commas, or none",
        "The limits that each worker keeps by itself while nobody counts for all. Requests under the others get 503.",
    )
    session_lifetime: int = _setting(
        43_200,
        "a whole number of seconds from 60 to 31536000",
        "How long a session lasts from the login, however much it is used.",
        ge=60,
        le=31_536_000,
    )
    session_idle_timeout: int = _setting(
        3600,
        "a whole number of seconds from 60 to 31536000",
        "How long a session lasts from its last use.",
        ge=60,
        le=31_536_000,
    )
    sign_up_enabled: bool = _setting(False, "true or false", "Let anybody create an account.")
    admin_username: Annotated[str, AfterValidator(_username)] = _setting(
        "admin",
        "1 to 64 letters, digits and . _ @ + -, the first a letter or a digit",
        "The administrator that the first start on an empty database creates.",
    )
    admin_password: SecretStr | None = _setting(
        None,
        "a password of at least 12 characters, or nothing for a generated one",
        "That administrator's password. Unset: one is generated, and shown once in the log.",
        min_length=12,
        max_length=1024,
    )
    password_min_length: int = _setting(
        12, "a whole number from 8 to 64", "Characters that a new password has at least.", ge=8, le=64
    )
    password_hash_time: int = _setting(
        3, "a whole number from 1 to 100", "Argon2id: passes over the memory, for each hash.", ge=1, le=100
    )
    password_hash_memory: int = _setting(
        65_536,
        "a whole number of KiB from 8 to 4194304",
        "Argon2id: memory of each hash.",
        ge=8,
        le=4 << 20,
    )
    password_hash_parallelism: int = _setting(
        1, "a whole number from 1 to 64", "Argon2id: lanes, each a thread of its own, for each hash.", ge=1, le=64
    )
    password_hash_threads: int = _setting(
        1, "a whole number from 1 to 64", "Passwords that each worker hashes at once.", ge=1, le=64
    )
    password_hash_queue: int = _setting(
        64,
        "a whole number from 0 to 10000",
        "Passwords that may wait for it in each worker; whoever comes then is asked to come again.",
        ge=0,
        le=10_000,
    )
    login_free_failures: int = _setting(
        5,
        "a whole number from 1 to 1000",
        "Failed logins to one account from one network, or from a device known to it, before delays begin.",
        ge=1,
        le=1000,
    )
    login_longest_delay: int = _setting(
        900,
        "a whole number of seconds from 1 to 86400",
        "What these delays, doubled by each failure, grow to.",
        ge=1,
        le=86_400,
    )
    login_account_free_failures: int = _setting(
        20,
        "a whole number from 1 to 100000",
        "Failed logins to one account from anywhere, known devices apart, before delays begin.",
        ge=1,
        le=100_000,
    )
    login_account_longest_delay: int = _setting(
        60,
        "a whole number of seconds from 1 to 3600",
        "What these delays, doubled by each failure, grow to. Others can cause them: keep them short.",
        ge=1,
        le=3600,
    )
    theme: Annotated[Path, AfterValidator(_readable_file)] | None = _setting(
        None,
        "a CSS file that can be read",
        "A stylesheet for the pages, which comes after Authly's own and may set its variables.",
    )
    log_level: Literal["debug", "info", "warning", "error", "critical"] = _setting(
        "info", "debug, info, warning, error or critical", "The least important log lines to write."
    )
    log_format: Literal["json", "console"] = _setting(
        "json", "json or console", "One JSON object a line, or text for people."
    )
    metrics_enabled: bool = _setting(
        True,
        "true or false",
        "Measure. When false: no middleware, no files, no exporter, and the metrics path answers 404.",
    )
    metrics_groups: Annotated[tuple[Group, ...], NoDecode, BeforeValidator(_groups)] = _setting(
        tuple(Group),
        f"{', '.join(list(Group)[:-1])} or {list(Group)[-1]}, several of them separated by commas",
        "The layers that are measured. Of the others nothing is recorded.",
    )
    metrics_resolution: Annotated[Resolution, NoDecode, BeforeValidator(_resolution)] = _setting(
        "normal",
        "low, normal, high, or 1 to 50 rising numbers of seconds up to 3600, separated by commas",
        "How finely histograms tell durations apart: half the buckets, the usual ones, twice as many, or these edges. "
        "0.25 and 1 are always among them.",
    )
    metrics_const_labels: Annotated[tuple[Label, ...], NoDecode, BeforeValidator(_constant_labels)] = _setting(
        (),
        "up to 16 pairs name=value, separated by commas: names of letters, digits and underscores, not of labels that "
        "metrics have, and not job, instance, le, quantile or any that begin with two underscores; values of 1 to 128 "
        "printable characters",
        "Labels that everything in the exposition has.",
    )
    metrics_path: Annotated[str, AfterValidator(_metrics_path)] = _setting(
        "/metrics",
        "an absolute path of letters, digits and . _ ~ / -, such as /metrics",
        "Where the exposition is found, on the exporter and on the application port.",
    )
    metrics_bind: Annotated[str, AfterValidator(_host_and_port)] = _setting(
        "127.0.0.1:9464", "HOST:PORT or [IPv6]:PORT", "Where the exporter answers Prometheus."
    )
    metrics_rate_limit: int = _setting(
        120,
        "a whole number from 0 to 1000000",
        "Scrapes a minute that one client address may make on the application port; 0 sets no limit.",
        ge=0,
        le=1_000_000,
    )
    metrics_web_config_file: Path | None = _setting(
        None,
        "a file",
        "Who may look at the exporter, in the format of Prometheus' exporter-toolkit. Unset: everybody who reaches it.",
    )
    metrics_allowed_networks: Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)] = _setting(
        (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")),
        "networks such as 10.0.0.0/8, addresses, and unix, separated by commas",
        "From where the metrics on the application port may be read.",
    )
    metrics_token_file: Path | None = _setting(
        None,
        "a file of tokens, one a line",
        "Who reads the metrics on the application port must present one of these as a bearer token.",
    )
    metrics_access_tokens: bool = _setting(
        False,
        "true or false",
        "Whether an access token with the scope metrics:read lets its client read the metrics on the application port.",
    )
    trusted_proxies: Annotated[tuple[Network, ...], NoDecode, BeforeValidator(_networks)] = _setting(
        (),
        "networks such as 10.0.0.0/8, addresses, and unix, separated by commas",
        "Proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.",
    )
    metrics_collection_interval: float = _setting(
        30.0,
        "a number of seconds from 0.1 to 3600",
        "How often levels (pool, sessions, tokens) are sampled.",
        ge=0.1,
        le=3600,
    )
    metrics_max_bytes: int = _setting(
        64 << 20,
        "a whole number of bytes from 0 to 1099511627776",
        "Bytes of metric files that each worker may take; series beyond are counted and not kept. 0 sets no limit.",
        ge=0,
        le=1 << 40,
    )
    metrics_series_ttl: float = _setting(
        0.0,
        "a number of seconds from 0 to 31536000",
        "Series that nobody updated for so long disappear from the exposition; 0 keeps them.",
        ge=0,
        le=31_536_000,
    )
    metrics_collectors: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_import_paths)] = _setting(
        (),
        "package.module:name, several of them separated by commas",
        "Custom collectors that the exporter loads: classes, functions or objects with `collect()`.",
    )
    metrics_include_client_ids: bool = _setting(
        False,
        "true or false",
        "Tell clients apart in metrics, by a keyed hash of the client id, 200 of them at most. Off: the label stays "
        "empty. `authly metrics client` tells how a client is called.",
    )
    prometheus_multiproc_dir: Path | None = _setting(
        None,
        "a directory of the user that runs Authly, which nobody else may write to",
        "Where the workers' metric files are. Unset: `metrics` below the state directory, created with mode 0700.",
        validation_alias="PROMETHEUS_MULTIPROC_DIR",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read what the environment does not have from the directory of secrets, if it names one."""
        directory = os.environ.get(SECRETS_DIRECTORY)
        if not directory:
            return init_settings, env_settings
        if not os.access(directory, os.R_OK | os.X_OK):
            raise SettingsError(f"{SECRETS_DIRECTORY} holds {directory!r}, but accepts a directory that can be read.")
        return init_settings, env_settings, SecretsSettingsSource(settings_cls, directory)

    @cached_property
    def state_path(self) -> Path:
        """The state directory as an absolute path."""
        return self.state_dir.expanduser().absolute()

    @cached_property
    def measured(self) -> frozenset[Group]:
        """The layers that are measured; none where metrics are off."""
        return frozenset(self.metrics_groups if self.metrics_enabled else ())

    @cached_property
    def metrics_web_config_path(self) -> Path | None:
        """The web configuration file as an absolute path."""
        configured = self.metrics_web_config_file
        return configured.expanduser().absolute() if configured else None

    @cached_property
    def metrics_token_path(self) -> Path | None:
        """The file of the application port's tokens as an absolute path."""
        return self.metrics_token_file.expanduser().absolute() if self.metrics_token_file else None

    @cached_property
    def issuer_url(self) -> str:
        """The issuer, or where clients on this machine find Authly if there is none."""
        if self.issuer is not None:
            return self.issuer
        if self.bind.startswith("unix:"):
            return "http://localhost"
        host, _, port = self.bind.lower().rpartition(":")
        return f"http://{'localhost' if host in {'0.0.0.0', '[::]'} else host}:{port}"  # noqa: S104 - not bound to

    @cached_property
    def metrics_directory(self) -> Path:
        """The directory of the metric files as an absolute path."""
        configured = self.prometheus_multiproc_dir
        return (configured.expanduser() if configured else self.state_path / "metrics").absolute()


def variable_name(field: str) -> str:
    """Return the environment variable of a field of :class:`Settings`."""
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else f"AUTHLY_{field.upper()}"


def accepts(field: str) -> str:
    """Return what a field of :class:`Settings` accepts, in words."""
    extra = Settings.model_fields[field].json_schema_extra
    if not isinstance(extra, dict):
        raise TypeError(f"Settings.{field} does not say what it accepts")
    return str(extra["accepts"])


def without_password(url: str) -> str:
    """Return a URL with its password, if it has one, replaced by three asterisks.

    What cannot be taken apart with certainty is not shown at all.
    """
    hidden = "a value that is not shown, since it may hold a password"
    try:
        parts = urlsplit(url)
    except ValueError:
        return hidden
    rest = f"{parts.path}?{parts.query}#{parts.fragment}"
    if not parts.scheme or not parts.netloc or "@" in rest or "pass" in rest.lower():
        return hidden
    if "@" not in parts.netloc:
        return url
    user, _, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    return urlunsplit(parts._replace(netloc=f"{name}{colon and ':***'}@{host}"))


def shown(settings: Settings) -> tuple[tuple[str, str, str], ...]:
    """Return each setting as people may see it: the variable, its value, and where it comes from.

    Secrets are not shown, and neither is text of a setting whose name suggests one, whatever its type.
    """
    return tuple(
        (variable_name(field), _shown(field, getattr(settings, field)), origin)
        for field in Settings.model_fields
        for origin in ["environment" if field in settings.model_fields_set else "default"]
    )


def _shown(field: str, value: object) -> str:
    if value is None or value == ():
        return "not set"
    if field == "metrics_const_labels":
        return ", ".join(map("=".join, value))  # type: ignore[call-overload]
    if isinstance(value, (SecretStr, SecretBytes)):
        return "set, and not shown"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float, Path, Rate)):
        return str(value)
    if field.endswith("_url"):
        return without_password(str(value))
    if re.search(r"password|secret|token|key", field):
        return "set, and not shown"
    return ", ".join(map(str, value)) if isinstance(value, (tuple, list, frozenset)) else str(value)


def _held(field: str, held: Any) -> str:
    if held is None:
        return "nothing"
    if field == "admin_password":
        return f"a password of {len(str(held))} characters"
    if field == "secret_key":
        return "a value that is not shown, since it is secret"
    return without_password(str(held)) if field in {"database_url", "redis_url"} else repr(str(held))


def load_settings() -> Settings:
    """Read the settings from the environment, and what it does not have from the directory of secrets.

    Raises:
        SettingsError: a variable holds something it does not accept, or asks for a package that is not installed.
            The message has one line for each: the variable, what it holds, what it accepts.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        names = {variable_name(field): field for field in Settings.model_fields}
        lines = []
        for problem in error.errors():
            # pydantic names a field by its alias where it has one, else by its own name.
            place = str(problem["loc"][0])
            field = names.get(place, place)
            shown = _held(field, problem["input"])
            lines.append(f"{variable_name(field)} holds {shown}, but accepts {accepts(field)}.")
        raise SettingsError("\n".join(dict.fromkeys(lines))) from error
    # Here, where it is one line; in a worker it would be a traceback, and the end of the service.
    if settings.redis_url is not None and importlib.util.find_spec("redis") is None:
        raise SettingsError(
            "AUTHLY_REDIS_URL is set, but the package that speaks with Valkey and Redis is not installed. Install "
            "authly[redis], or unset the variable: PostgreSQL does the same."
        )
    return settings
