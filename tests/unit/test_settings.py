"""Settings: what the environment says, checked, and errors that an operator understands."""

from pathlib import Path

import pytest
from pydantic import SecretBytes, SecretStr, ValidationError

from authly.monitoring.labels import Group
from authly.settings import (
    Settings,
    SettingsError,
    _shown,
    accepts,
    load_settings,
    shown,
    variable_name,
    without_password,
)


def test_everything_has_a_default() -> None:
    """With nothing set, Authly has all it needs."""
    settings = load_settings()
    assert settings.bind == "127.0.0.1:8000"
    assert settings.database_url is None
    assert settings.metrics_directory == Path.cwd() / ".authly/metrics"


def test_every_setting_says_what_it_accepts() -> None:
    """Each setting has words for operators: what it means and what it accepts."""
    for name, field in Settings.model_fields.items():
        assert field.description
        assert accepts(name)


def test_settings_are_frozen() -> None:
    """What was read once does not change."""
    with pytest.raises(ValidationError):
        load_settings().workers = 3


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AUTHLY_WORKERS", "many"),
        ("AUTHLY_WORKERS", "0"),
        ("AUTHLY_WORKERS", "257"),
        ("AUTHLY_BIND", "nonsense"),
        ("AUTHLY_BIND", "host:99999"),
        ("AUTHLY_BIND", "[::1:8000"),
        ("AUTHLY_METRICS_BIND", "unix:/tmp/x"),
        ("AUTHLY_METRICS_BIND", "127.0.0.1:99999"),
        ("AUTHLY_METRICS_ENABLED", "perhaps"),
        ("AUTHLY_METRICS_PATH", "metrics"),
        ("AUTHLY_METRICS_PATH", "/with space"),
        ("AUTHLY_METRICS_PATH", "/{template}"),
        ("AUTHLY_METRICS_PATH", "/health/live"),
        ("AUTHLY_METRICS_COLLECTION_INTERVAL", "0"),
        ("AUTHLY_METRICS_GROUPS", "http,weather"),
        ("AUTHLY_METRICS_GROUPS", ","),
        ("AUTHLY_METRICS_RESOLUTION", "fine"),
        ("AUTHLY_METRICS_RESOLUTION", "0,1"),
        ("AUTHLY_METRICS_RESOLUTION", "1,1"),
        ("AUTHLY_METRICS_RESOLUTION", "1,0.5"),
        ("AUTHLY_METRICS_RESOLUTION", "1,nan"),
        ("AUTHLY_METRICS_RESOLUTION", "1,inf"),
        ("AUTHLY_METRICS_RESOLUTION", ",".join(map(str, range(1, 52)))),
        ("AUTHLY_METRICS_CONST_LABELS", "region"),
        ("AUTHLY_METRICS_CONST_LABELS", "region="),
        ("AUTHLY_METRICS_CONST_LABELS", "a=1,a=2"),
        ("AUTHLY_METRICS_CONST_LABELS", "1a=1"),
        ("AUTHLY_METRICS_CONST_LABELS", "__a=1"),
        ("AUTHLY_METRICS_CONST_LABELS", "endpoint=1"),
        ("AUTHLY_METRICS_CONST_LABELS", "le=1"),
        ("AUTHLY_METRICS_CONST_LABELS", "job=1"),
        ("AUTHLY_METRICS_CONST_LABELS", "a=1\t2"),
        ("AUTHLY_METRICS_CONST_LABELS", f"a={'x' * 129}"),
        ("AUTHLY_METRICS_RATE_LIMIT", "-1"),
        ("AUTHLY_LOG_LEVEL", "loud"),
        ("AUTHLY_LOG_FORMAT", "xml"),
        ("AUTHLY_WORKER_CLASS", "sync"),
        ("AUTHLY_ENVIRONMENT", "a b"),
        ("AUTHLY_TRUSTED_PROXIES", "10.0.0.0/33"),
        ("AUTHLY_TRUSTED_PROXIES", "10.0.0.1/8"),
        ("AUTHLY_TRUSTED_PROXIES", "proxy.example"),
        ("AUTHLY_ADMIN_NETWORKS", "*"),
        ("AUTHLY_ALLOWED_HOSTS", "https://a.example"),
        ("AUTHLY_ALLOWED_HOSTS", "a.example:8000"),
        ("AUTHLY_MAX_BODY_BYTES", "0"),
        ("AUTHLY_CACHE_TTL", "-1"),
        ("AUTHLY_RATE_LIMIT_LOGIN", "10"),
        ("AUTHLY_RATE_LIMIT_LOGIN", "0/minute"),
        ("AUTHLY_RATE_LIMIT_LOGIN", "1001/second"),
        ("AUTHLY_RATE_LIMIT_TOKEN", "10/fortnight"),
        ("AUTHLY_RATE_LIMIT_FAIL_OPEN", "everything"),
        ("AUTHLY_ADMIN_USERNAME", "a b"),
        ("AUTHLY_ADMIN_USERNAME", "-a"),
        ("AUTHLY_PASSWORD_HASH_MEMORY", "7"),
        ("AUTHLY_PASSWORD_MIN_LENGTH", "4"),
        ("AUTHLY_SESSION_LIFETIME", "1"),
        ("AUTHLY_THEME", "/nowhere/theme.css"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """The message names the variable, what it holds and what it accepts."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    message = str(caught.value)
    field = next(name for name in Settings.model_fields if variable_name(name) == variable)
    assert message == f"{variable} holds {value!r}, but accepts {accepts(field)}."


def test_two_wrong_values_are_two_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that is wrong is said at once."""
    monkeypatch.setenv("AUTHLY_WORKERS", "many")
    monkeypatch.setenv("AUTHLY_LOG_LEVEL", "loud")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    lines = str(caught.value).splitlines()
    assert sorted(line.partition(" holds ")[0] for line in lines) == ["AUTHLY_LOG_LEVEL", "AUTHLY_WORKERS"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("mysql://user:hunter2@host/db", "mysql://user:***@host/db"),
        ("mysql://host/db", "mysql://host/db"),
        ("mysql://user:hun/ter2@host/db", "a value that is not shown, since it may hold a password"),
        ("mysql://host/db?user=u&password=hunter2", "a value that is not shown, since it may hold a password"),
        ("host=h user=u password=hunter2", "a value that is not shown, since it may hold a password"),
        ("postgresql://u:hunter2@[h/x", "a value that is not shown, since it may hold a password"),
    ],
)
def test_a_password_is_not_shown(monkeypatch: pytest.MonkeyPatch, value: str, shown: str) -> None:
    """A message about a wrong URL hides the password in it, and all of what may hold one."""
    monkeypatch.setenv("AUTHLY_DATABASE_URL", value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value) == f"AUTHLY_DATABASE_URL holds {shown}, but accepts {accepts('database_url')}."


@pytest.mark.parametrize("value", ["http://:hunter2@h", "redis://:hunter2@", "redis://:hunter2@h:port", "unix://"])
def test_a_password_of_valkey_is_not_shown(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A URL of Valkey that is wrong is named without its password too."""
    monkeypatch.setenv("AUTHLY_REDIS_URL", value)
    with pytest.raises(SettingsError, match=r"^AUTHLY_REDIS_URL holds") as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


def test_the_administrators_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that is refused, nor one that is accepted."""
    monkeypatch.setenv("AUTHLY_ADMIN_PASSWORD", "hunter2")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)
    assert str(caught.value).startswith("AUTHLY_ADMIN_PASSWORD holds a password of 7 characters, but accepts")
    monkeypatch.setenv("AUTHLY_ADMIN_PASSWORD", "hunter2hunter2")
    assert "hunter2" not in repr(load_settings())


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:p%40x@h:1/d?a=b", "postgresql://u:***@h:1/d?a=b"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql://h/d", "postgresql://h/d"),
        ("postgresql://u:a@b@h/d", "postgresql://u:***@h/d"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    """Everything but the password stays."""
    assert without_password(url) == shown


def test_limits_and_networks_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates, networks and lists become what they mean."""
    monkeypatch.setenv("AUTHLY_RATE_LIMIT_TOKEN", "5/hour")
    monkeypatch.setenv("AUTHLY_RATE_LIMIT_DEFAULT", "off")
    monkeypatch.setenv("AUTHLY_RATE_LIMIT_FAIL_OPEN", "none")
    monkeypatch.setenv("AUTHLY_TRUSTED_PROXIES", " 10.0.0.0/8, 2001:db8::1,")
    monkeypatch.setenv("AUTHLY_ALLOWED_HOSTS", "Login.Example.com,*.example.org,[::1]")
    settings = load_settings()
    assert settings.rate_limit_login == (10, 60)
    assert settings.rate_limit_token == (5, 3600)
    assert settings.rate_limit_default is None
    assert settings.rate_limit_fail_open == ()
    assert list(map(str, settings.trusted_proxies)) == ["10.0.0.0/8", "2001:db8::1/128"]
    assert settings.allowed_hosts == ("login.example.com", "*.example.org", "[::1]")


def test_what_is_measured_and_how(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups, edges and constant labels are lists; without metrics nothing is measured."""
    everything = load_settings()
    assert everything.measured == frozenset(Group)
    assert everything.metrics_resolution == "normal"
    monkeypatch.setenv("AUTHLY_METRICS_GROUPS", "http, Database,http")
    monkeypatch.setenv("AUTHLY_METRICS_RESOLUTION", "0.1, 2")
    monkeypatch.setenv("AUTHLY_METRICS_CONST_LABELS", "region=eu west, tier=a=b")
    settings = load_settings()
    assert settings.measured == {Group.HTTP, Group.DATABASE}
    assert settings.metrics_resolution == (0.1, 2.0)
    assert settings.metrics_const_labels == (("region", "eu west"), ("tier", "a=b"))
    seen = {variable: value for variable, value, _ in shown(settings)}
    assert seen["AUTHLY_METRICS_CONST_LABELS"] == "region=eu west, tier=a=b"
    assert seen["AUTHLY_METRICS_RESOLUTION"] == "0.1, 2.0"
    monkeypatch.setenv("AUTHLY_METRICS_RESOLUTION", " High")
    assert load_settings().metrics_resolution == "high"
    monkeypatch.setenv("AUTHLY_METRICS_ENABLED", "false")
    assert load_settings().measured == frozenset()


def test_the_metrics_directory_follows_prometheus_own_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """PROMETHEUS_MULTIPROC_DIR decides, and not a variable of Authly's."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/run/somewhere")
    monkeypatch.setenv("AUTHLY_PROMETHEUS_MULTIPROC_DIR", "/run/nowhere")
    assert load_settings().metrics_directory == Path("/run/somewhere")


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files and units leave empty what they do not set."""
    monkeypatch.setenv("AUTHLY_DATABASE_URL", "")
    assert load_settings().database_url is None


def test_settings_are_shown_with_their_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them once, by its variable; what the environment says is told from defaults."""
    monkeypatch.setenv("AUTHLY_WORKERS", "7")
    listed = shown(load_settings())
    assert {name for name, _, _ in listed} == {variable_name(field) for field in Settings.model_fields}
    assert ("AUTHLY_WORKERS", "7", "environment") in listed
    assert ("AUTHLY_METRICS_ENABLED", "true", "default") in listed
    assert ("AUTHLY_METRICS_COLLECTORS", "not set", "default") in listed


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("admin_password", SecretStr("hunter2"), "set, and not shown"),
        ("anything", SecretBytes(b"hunter2"), "set, and not shown"),
        ("metrics_secret", "hunter2", "set, and not shown"),
        ("api_tokens", ("hunter2",), "set, and not shown"),
        ("signing_key", None, "not set"),
        ("metrics_token_file", Path("/etc/tokens"), "/etc/tokens"),
        ("cache_url", "redis://:hunter2@host/0", "redis://:***@host/0"),
        ("password_min_length", 12, "12"),
        ("metrics_enabled", False, "false"),
        ("metrics_collectors", ("a:b", "c:d"), "a:b, c:d"),
    ],
)
def test_secrets_are_not_shown(field: str, value: object, expected: str) -> None:
    """By their type, and text by the name of the setting too; files of secrets and numbers about them are."""
    assert _shown(field, value) == expected


def test_secrets_may_be_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file holds the value of the variable it is named after; the variable itself comes first."""
    (tmp_path / "AUTHLY_SECRET_KEY").write_text("k" * 40 + "\n")
    (tmp_path / "AUTHLY_DATABASE_URL").write_text("postgresql://u:from-a-file@host/db\n")
    (tmp_path / "another").write_text("of somebody else")
    monkeypatch.setenv("AUTHLY_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("AUTHLY_DATABASE_URL", "postgresql://u:from-the-environment@host/db")
    settings = load_settings()
    assert settings.secret_key is not None
    assert settings.secret_key.get_secret_value() == "k" * 40
    assert settings.database_url == "postgresql://u:from-the-environment@host/db"


def test_a_wrong_secret_in_a_file_is_named_like_a_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is wrong is said in the same words, and the secret is not shown."""
    (tmp_path / "AUTHLY_SECRET_KEY").write_text("hunter2")
    monkeypatch.setenv("AUTHLY_SECRETS_DIR", str(tmp_path))
    with pytest.raises(SettingsError, match=r"^AUTHLY_SECRET_KEY holds a value that is not shown"):
        load_settings()


def test_a_directory_of_secrets_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without it, Authly would start with secrets that nobody chose."""
    monkeypatch.setenv("AUTHLY_SECRETS_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(SettingsError, match=r"^AUTHLY_SECRETS_DIR holds '.*nowhere'"):
        load_settings()


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Valkey without its client is an error of the settings, not of a worker."""
    monkeypatch.setenv("AUTHLY_REDIS_URL", "redis://127.0.0.1/0")
    assert load_settings().redis_url == "redis://127.0.0.1/0"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"Install authly\[redis\]"):
        load_settings()
