"""The web configuration file: what it says, compared with what Prometheus' own tool makes of it."""

import ssl
import subprocess
from pathlib import Path

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from authly.monitoring.exporter.access import tls
from authly.monitoring.exporter.access.web_config import CIPHER_SUITES, CURVES, WebConfig, WebConfigError, parse
from tests.certificates import Authority
from tests.instance import REPOSITORY
from tests.prometheus import program

HASH = bcrypt.hashpw(b"x", bcrypt.gensalt(4)).decode()
TLS = "tls_server_config:\n  cert_file: ca-server.pem\n  key_file: ca-server.key\n"
MUTUAL = f"{TLS}  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n"

GOOD = {
    "empty": "",
    "a comment": "# nothing\n",
    "an empty mapping": "{}",
    "empty sections": "tls_server_config:\nbasic_auth_users:\nhttp_server_config:\nrate_limit:\n",
    "null": "basic_auth_users: null\nhttp_server_config: ~\n",
    "users": f"basic_auth_users:\n  prometheus: {HASH}\n  123: {HASH}\n  true: '{HASH}'\n",
    "users of htpasswd": f"basic_auth_users:\n  prometheus: {HASH.replace('$2b$', '$2y$')}\n",
    "tls": TLS,
    "mutual tls": MUTUAL,
    "names of certificates": f"{MUTUAL}  client_allowed_sans:\n    - a.example\n    - 10.0.0.1\n",
    "optional certificates": MUTUAL.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven"),
    "requested certificates": f"{TLS}  client_auth_type: RequestClientCert\n",
    "any certificate": MUTUAL.replace("RequireAndVerifyClientCert", "RequireAnyClientCert"),
    "any certificate, the old name": MUTUAL.replace("RequireAndVerifyClientCert", "RequireClientCert"),
    "no certificate of clients": f'{TLS}  client_auth_type: "NoClientCert"\n',
    "versions": f"{TLS}  min_version: TLS12\n  max_version: TLS13\n",
    "old versions": f"{TLS}  min_version: TLS10\n  max_version: TLS11\n",
    "curves": f"{TLS}  curve_preferences: [CurveP256, CurveP384, CurveP521, X25519]\n",
    "ciphers": TLS + "  cipher_suites:\n" + "".join(f"    - {name}\n" for name in CIPHER_SUITES),
    "the client's order": f"{TLS}  prefer_server_cipher_suites: false\n",
    "http": "http_server_config:\n  http2: false\n",
    "headers": (
        "http_server_config:\n  headers:\n    Strict-Transport-Security: max-age=31536000\n    X-Frame-Options: deny\n"
        "    X-Content-Type-Options: nosniff\n    X-XSS-Protection: 1; mode=block\n"
        "    Content-Security-Policy: default-src 'self'\n"
    ),
    "anchors and merged mappings": f"basic_auth_users: &users\n  a: {HASH}\n",
    "flow style": f'{{"basic_auth_users": {{"a": "{HASH}"}}, "http_server_config": {{"http2": true}}}}',
}
BAD = {
    "no yaml": "{",
    "tabs": "basic_auth_users:\n\ta: b\n",
    "a string": "nonsense",
    "a list": "- a\n",
    "an unknown key": "basic_auth_user:\n  a: b\n",
    "an unknown key in tls": f"{TLS}  cert_fil: x\n",
    "a key twice": f"basic_auth_users:\n  a: {HASH}\n  a: {HASH}\n",
    "a section twice": f"{TLS}{TLS}",
    "a password in the clear": "basic_auth_users:\n  a: secret\n",
    "a short hash": f"basic_auth_users:\n  a: {HASH[:-5]}\n",
    "a hash of another kind": "basic_auth_users:\n  a: $6$rounds=5000$usesomesillystri$D4IrlXatmP7rx3P3InaxBeoomnAih\n",
    "no key": "tls_server_config:\n  cert_file: ca-server.pem\n",
    "no certificate": "tls_server_config:\n  key_file: ca-server.key\n",
    "a certificate that is not there": TLS.replace("ca-server.pem", "nowhere.pem"),
    "a key of another certificate": TLS.replace("ca-server.key", "ca-client.key"),
    "a ca without a policy": f"{TLS}  client_ca_file: ca.pem\n",
    "a ca that is not there": MUTUAL.replace("ca.pem", "nowhere.pem"),
    "an unknown policy": f"{TLS}  client_auth_type: Sometimes\n",
    "an unknown version": f"{TLS}  min_version: TLS111\n",
    "an unknown cipher": f"{TLS}  cipher_suites: [TLS_FOO]\n",
    "an unknown curve": f"{TLS}  curve_preferences: [CurveP7]\n",
    "an unknown header": "http_server_config:\n  headers:\n    X-Powered-By: y\n",
    "a header out of its values": "http_server_config:\n  headers:\n    X-Frame-Options: maybe\n",
    "a boolean that is none": "http_server_config:\n  http2: perhaps\n",
    "users in a list": f"basic_auth_users:\n  - a: {HASH}\n",
}
# What is newer than the tool of Debian, or stricter here than there, on purpose.
ONLY_HERE_BAD = {
    "any certificate, and nobody to verify it": f"{TLS}  client_auth_type: RequireAnyClientCert\n",
    "names without a certificate": f"{TLS}  client_allowed_sans: [a]\n",
    "a limit that lets nobody in": "rate_limit:\n  interval: 1s\n",
    "a duration that is none": "rate_limit:\n  interval: soon\n  burst: 1\n",
    "a burst that is none": "rate_limit:\n  interval: 1s\n  burst: many\n",
    "versions in the wrong order": f"{TLS}  min_version: TLS13\n  max_version: TLS12\n",
    "a header with a line break": 'http_server_config:\n  headers:\n    X-XSS-Protection: "1\\r\\nSet-Cookie: a=b"\n',
    "an object of python": "basic_auth_users: !!python/object/apply:os.system ['false']\n",
    "a certificate that is none": TLS.replace("ca-server.pem", "web.yml"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the certificates that the files above name."""
    folder = tmp_path_factory.mktemp("web")
    authority = Authority(folder)
    authority.issue("server", "localhost", server=True)
    authority.issue("client")
    return folder


def load(text: str, folder: Path) -> WebConfig:
    """Do what the exporter does with a file."""
    config = parse(text, folder)
    if config.tls:
        tls.context_of(config.tls)
    return config


def promtool_accepts(text: str, folder: Path, name: str) -> bool:
    """Tell whether Prometheus' own tool takes a file for a good one."""
    path = folder / f"{name.replace(' ', '-')}.yml"
    path.write_text(text)
    check = subprocess.run([program("promtool"), "check", "web-config", path], capture_output=True, check=False)
    return check.returncode == 0


@pytest.mark.parametrize("name", GOOD)
def test_good_files_are_good(name: str, folder: Path) -> None:
    """What the toolkit takes is taken here."""
    load(GOOD[name], folder)


@pytest.mark.parametrize("name", [*BAD, *ONLY_HERE_BAD])
def test_bad_files_are_bad(name: str, folder: Path) -> None:
    """What the toolkit refuses is refused here, and so is what cannot be done or would keep everybody out."""
    (folder / "web.yml").write_text("nothing")
    with pytest.raises(WebConfigError):
        load({**BAD, **ONLY_HERE_BAD}[name], folder)


# Newer than the tool that Debian has: sections and keys that it does not know, and ciphers that it did not yet refuse.
NEWER = {"empty sections", "names of certificates"}


@pytest.mark.parametrize("name", [name for name in [*GOOD, *BAD] if name not in NEWER])
def test_prometheus_own_tool_says_the_same(name: str, folder: Path) -> None:
    """`promtool check web-config` agrees about each file."""
    assert promtool_accepts({**GOOD, **BAD}[name], folder, name) == (name in GOOD)


def test_the_example_is_one_for_the_toolkit_too(folder: Path) -> None:
    """The shipped example is understood here, and by Prometheus' tool but for certificates that are not there."""
    text = (REPOSITORY / "docker-compose/prometheus/web-config.yml").read_text()
    config = parse(text, folder)
    assert config.protects
    assert config.tls is not None
    for path, named in ((folder / "ca-server.pem", config.tls.cert), (folder / "ca-server.key", config.tls.key)):
        text = text.replace(str(Path(str(named)).relative_to(folder)), path.name)
    assert promtool_accepts(text, folder, "example")


def test_what_a_file_says(folder: Path) -> None:
    """Paths are relative to the file; names are OpenSSL's; what is not said is as in the toolkit."""
    config = parse(
        f"{MUTUAL}  client_allowed_sans: [a.example]\n  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]\n"
        f"  curve_preferences: [X25519]\n  min_version: TLS13\n"
        f"basic_auth_users:\n  1: {HASH}\nrate_limit:\n  interval: 1m30s\n  burst: 7\n"
        "http_server_config:\n  headers:\n    X-XSS-Protection: 0\n    Content-Security-Policy:\n"
        "bearer_tokens_file: tokens\n",
        folder,
    )
    assert config.tls is not None
    assert config.tls.cert == folder / "ca-server.pem"
    assert config.tls.client_auth == "required"
    assert config.tls.allowed_sans == frozenset({"a.example"})
    assert config.tls.ciphers == ("ECDHE-RSA-AES128-GCM-SHA256",)
    assert config.tls.curves == ("X25519",)
    assert (config.tls.min_version, config.tls.max_version) == (0x0304, 0x0304)
    assert config.tls.prefer_server_ciphers
    assert dict(config.users) == {"1": HASH}
    assert (config.interval, config.burst) == (90.0, 7)
    assert config.headers == (("X-XSS-Protection", "0"),)
    assert config.tokens_file == folder / "tokens"
    assert config.files == (folder / "tokens", folder / "ca-server.pem", folder / "ca-server.key", folder / "ca.pem")
    assert not parse(TLS, folder).protects
    assert parse("", folder) == WebConfig()


@pytest.mark.parametrize(
    ("word", "seconds"), [("1s", 1), ("100ms", 0.1), ("1h2m3.5s", 3723.5), ("0", 0), ("1000000000", 1), (".5m", 30)]
)
def test_durations_are_those_of_go(word: str, seconds: float, folder: Path) -> None:
    """A duration has units, several of them; a bare number is of nanoseconds."""
    assert parse(f"rate_limit:\n  interval: {word}\n  burst: 1\n", folder).interval == pytest.approx(seconds)


@pytest.mark.parametrize("name", [name for name in CIPHER_SUITES if CIPHER_SUITES[name]])
def test_openssl_knows_every_cipher(name: str, folder: Path) -> None:
    """Each of Go's names stands for one that OpenSSL has."""
    load(f"{TLS}  cipher_suites: [{name}]\n", folder)


@pytest.mark.parametrize("name", CURVES)
def test_openssl_knows_every_curve(name: str, folder: Path) -> None:
    """Each of Go's names stands for one that OpenSSL has."""
    load(f"{TLS}  curve_preferences: [{name}]\n", folder)


@pytest.mark.parametrize(
    ("names", "chosen"), [("X25519, CurveP384, CurveP256", ["X25519", "secp384r1"]), ("X25519", ["X25519"])]
)
def test_a_python_that_cannot_choose_x25519_takes_the_next(
    names: str, chosen: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first curve that can be chosen is; where there is none, the file is good all the same."""
    tried = []

    def choose(_: ssl.SSLContext, name: str) -> None:
        tried.append(name)
        if name == "X25519":
            raise ssl.SSLError(129, "[EC: UNKNOWN_GROUP] unknown group")

    monkeypatch.setattr(ssl.SSLContext, "set_ecdh_curve", choose)
    load(f"{TLS}  curve_preferences: [{names}]\n", folder)
    assert tried == chosen


def test_no_secret_is_in_a_message(folder: Path) -> None:
    """What is said of a broken file has neither password nor key in it."""
    for text in (
        "basic_auth_users:\n  a: canary-secret\n",
        "basic_auth_users: canary-secret\n",
        "tls_server_config:\n  cert: canary-secret\n  key: canary-secret\n",
        "basic_auth_users:\n  a: 'canary-secret\n",
        "basic_auth_users:\n  a: [canary-secret\n",
        "basic_auth_users:\n  a: {canary-secret: canary-secret}\n",
        "basic_auth_users:\n  a: *canary-secret\n",
    ):
        with pytest.raises(WebConfigError) as caught:
            load(text, folder)
        assert "canary" not in str(caught.value), text


@given(
    text=st.text() | st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)).map(str)
)
def test_anything_is_a_configuration_or_an_error(text: str) -> None:
    """No text makes the parser fail in any other way."""
    try:
        parse(text, Path("/"))
    except WebConfigError:
        return
