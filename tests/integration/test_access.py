"""Who may look at a real instance: at the exporter, at the application port, and what can never be seen."""

import base64
import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import bcrypt
import pytest

from tests.certificates import Authority, Pair
from tests.instance import Instance, free_port, get, parse, total
from tests.processes import kill, wait_until
from tests.prometheus import Prometheus, program

MakeInstance = Callable[..., Instance]

PASSWORD = "correct horse"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(6)).decode()
TOKEN = "0123456789abcdefghij"
EVENTS = "authly_security_events_total"
both_worker_classes = pytest.mark.parametrize("worker_class", ["uvicorn", "asgi"])


def basic(name: str = "prometheus", password: str = PASSWORD) -> dict[str, str]:
    """Return the header of HTTP Basic."""
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


class Protected:
    """The files that protect an exporter with TLS, certificates and a password."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.server = self.authority.issue("localhost", "localhost", "127.0.0.1", server=True)
        self.client = self.authority.issue("prometheus", "prometheus.example")
        self.stranger = Authority(folder, "other").issue("prometheus")
        self.file = folder / "web.yml"
        self.file.write_text(
            f"tls_server_config:\n  cert_file: {self.server.cert.name}\n  key_file: {self.server.key.name}\n"
            f"  client_ca_file: {self.authority.cert.name}\n  client_auth_type: RequireAndVerifyClientCert\n"
            f"basic_auth_users:\n  prometheus: {HASH}\n"
        )

    def context(self, pair: Pair | None) -> ssl.SSLContext:
        """Return what a client is set up with."""
        context = ssl.create_default_context(cafile=str(self.authority.cert))
        if pair:
            context.load_cert_chain(pair.cert, pair.key)
        return context

    def ask(self, address: str, path: str, pair: Pair | None = None, headers: dict[str, str] | None = None) -> bytes:
        """Ask over TLS; return the raw answer, nothing if there was no handshake."""
        host, port = address.split(":")
        lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        answer = b""
        with (
            contextlib.suppress(ssl.SSLError, ConnectionError),
            socket.create_connection((host, int(port)), 20) as plain,
            self.context(pair).wrap_socket(plain, server_hostname="localhost") as sock,
        ):
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{lines}\r\n".encode())
            while piece := sock.recv(65536):
                answer += piece
        return answer


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Protected:
    """Make certificates, once."""
    return Protected(tmp_path_factory.mktemp("protected"))


def status(answer: bytes) -> int:
    """Return the status of a raw answer; 0 if there is none."""
    return int(answer[9:12]) if answer else 0


MATRIX = [("none", {}), ("none", basic()), ("stranger", basic()), ("client", {}), ("client", basic(password="x"))]


# The exporter


def test_prometheus_scrapes_through_a_file_of_the_toolkit(
    make_instance: MakeInstance, protected: Protected, tmp_path: Path
) -> None:
    """A real Prometheus gets in with certificate and password; the same file keeps the same people out of both."""
    binary = program("prometheus")
    instance = make_instance(AUTHLY_WORKERS="1", AUTHLY_METRICS_WEB_CONFIG_FILE=str(protected.file))
    instance.start(exporter=False)
    prometheus = Prometheus(
        tmp_path,
        instance.metrics_address,
        "    scheme: https\n"
        f"    tls_config:\n      ca_file: {protected.authority.cert}\n      server_name: localhost\n"
        f"      cert_file: {protected.client.cert}\n      key_file: {protected.client.key}\n"
        f"    basic_auth:\n      username: prometheus\n      password: {PASSWORD}\n",
        # A scrape that takes longer was not answered.
        interval="2s",
    )
    theirs = f"127.0.0.1:{free_port()}"
    (tmp_path / "empty.yml").write_text("global: {}\n")
    command = [binary, f"--config.file={tmp_path}/empty.yml", f"--storage.tsdb.path={tmp_path}/other"]
    command += [f"--web.listen-address={theirs}", f"--web.config.file={protected.file}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as other:
        try:
            wait_until(lambda: prometheus.value("up") == 1)
            wait_until(lambda: (prometheus.value("sum(authly_http_requests_total)") or 0) >= 1)
            wait_until(lambda: status(protected.ask(theirs, "/-/ready", protected.client, basic())) == 200, 20)
            pairs = {"none": None, "stranger": protected.stranger, "client": protected.client}
            for who, headers in [*MATRIX, ("client", basic())]:
                ours = protected.ask(instance.metrics_address, "/metrics", pairs[who], headers)
                assert status(ours) == status(protected.ask(theirs, "/metrics", pairs[who], headers)), (who, headers)
                assert (b"authly_" in ours) == ((who, headers) == ("client", basic()))
            assert prometheus.value("min_over_time(up[1m])") == 1
        finally:
            other.kill()
            prometheus.stop()


def test_denials_of_exporters_and_workers_are_one_counter(make_instance: MakeInstance, tmp_path: Path) -> None:
    """Denials at both ports add up in one family, and survive the exporter that counted them and its whole master."""
    web = tmp_path / "web.yml"
    web.write_text(f"basic_auth_users:\n  prometheus: {HASH}\n")
    instance = make_instance(AUTHLY_WORKERS="2", AUTHLY_METRICS_WEB_CONFIG_FILE=str(web)).start(exporter=False)
    url = f"http://{instance.metrics_address}/metrics"
    wait_until(lambda: Instance.answers(f"http://{instance.address}/metrics"))

    def denied() -> dict[str, float]:
        answer = get(url, basic())
        assert answer[0] == 200
        body = answer[2].decode()
        assert body.count(f"# TYPE {EVENTS} ") == 1
        return {
            severity: total(parse(body), EVENTS, event_type="metrics_denied", severity=severity)
            for severity in ("low", "medium")
        }

    wait_until(lambda: len(instance.exporters()) == 1)
    assert denied() == {"low": 0, "medium": 0}
    assert get(url)[0] == 401
    assert get(url, basic(password="wrong"))[0] == 401
    for _ in range(3):
        assert instance.get("/metrics", {"X-Forwarded-For": "127.0.0.1"})[0] == 403
    assert denied() == {"low": 1, "medium": 4}
    kill(instance.exporters()[0])
    assert denied() == {"low": 1, "medium": 4}
    assert get(url)[0] == 401
    os.kill(instance.master, signal.SIGUSR2)
    wait_until(lambda: instance.log().count("Booting exporter") == 3, 20)
    os.kill(instance.master, signal.SIGTERM)
    instance.process.wait(20)
    wait_until(lambda: Instance.answers(f"http://{instance.metrics_address}/-/healthy") or get(url)[0] == 401)
    assert denied()["low"] >= 2


def test_a_broken_file_is_said_once_and_seen(make_instance: MakeInstance, tmp_path: Path) -> None:
    """An instance whose file is broken serves and says so; a worker still asks for the metrics, which say it too."""
    web = tmp_path / "web.yml"
    web.write_text("basic_auth_user: {}\n")
    instance = make_instance(AUTHLY_WORKERS="1", AUTHLY_METRICS_WEB_CONFIG_FILE=str(web)).start(exporter=False)
    url = f"http://{instance.metrics_address}/metrics"
    wait_until(lambda: "cannot be used" in instance.log())
    assert get(url)[0] == 503
    valid = "authly_exporter_web_config_valid"
    assert total(parse(instance.get("/metrics")[2].decode()), valid) == 0
    web.write_text(f"basic_auth_users:\n  prometheus: {HASH}\n")
    wait_until(lambda: get(url)[0] == 401)
    assert total(parse(get(url, basic())[2].decode()), valid) == 1
    lines = [json.loads(line) for line in instance.log().splitlines() if "cannot be used" in line]
    assert [line["logger"] for line in lines] == ["authly.exporter"]


@pytest.mark.parametrize("protection", [False, True])
def test_an_open_exporter_is_warned_about(make_instance: MakeInstance, protection: bool, tmp_path: Path) -> None:
    """Bound elsewhere than to loopback, without any protection, the exporter says what to do."""
    (tmp_path / "web.yml").write_text(f"basic_auth_users:\n  prometheus: {HASH}\n")
    settings = {"AUTHLY_METRICS_WEB_CONFIG_FILE": str(tmp_path / "web.yml")} if protection else {}
    instance = make_instance(AUTHLY_WORKERS="1", **settings)
    port = instance.metrics_address.rpartition(":")[2]
    instance.environment["AUTHLY_METRICS_BIND"] = f"0.0.0.0:{port}"
    instance.start(exporter=False)

    def answers() -> bool:
        with contextlib.suppress(OSError):
            return get(f"http://127.0.0.1:{port}/-/healthy")[0] in {200, 401}
        return False

    wait_until(answers)
    assert ("can read the metrics" in instance.log()) != protection


# The application port


def raw(instance: Instance, target: str, *lines: str, method: str = "GET") -> bytes:
    """Ask a worker for a target as it is written."""
    host, port = instance.address.split(":")
    with socket.create_connection((host, int(port)), 20) as sock:
        head = [f"{method} {target} HTTP/1.1", "Host: x", "Connection: close", *lines]
        sock.sendall(("\r\n".join(head) + "\r\n\r\n").encode("latin-1"))
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := sock.recv(65536):
                answer += piece
        return answer


@both_worker_classes
def test_the_application_port_has_a_token_of_its_own(
    worker_class: str, make_instance: MakeInstance, tmp_path: Path
) -> None:
    """With a token the metrics are shown; without, however the request is written, no sample is."""
    (tmp_path / "tokens").write_text(TOKEN)
    instance = make_instance(
        AUTHLY_WORKER_CLASS=worker_class, AUTHLY_WORKERS="1", AUTHLY_METRICS_TOKEN_FILE=str(tmp_path / "tokens")
    ).start()
    assert b"authly_http_requests_total" in raw(instance, "/metrics", f"Authorization: Bearer {TOKEN}")
    denied = 0
    targets = ["/metrics", "/metrics/", "//metrics", "/%6detrics", "/metrics?token=" + TOKEN, "/./metrics", "/METRICS"]
    targets += ["/health/../metrics", "/metrics%00", "/metrics;x", "http://x/metrics", "/metrics%2f", "/metrics#x", "*"]
    for target in targets:
        for method in ("GET", "HEAD", "POST", "OPTIONS", "TRACE", "get"):
            for lines in ([], ["Authorization: Bearer wrong"], ["X-Forwarded-For: 127.0.0.1"]):
                answer = raw(instance, target, *lines, method=method)
                assert b"authly_" not in answer, (method, target, lines)
                assert not answer.startswith(b"HTTP/1.1 200"), (method, target, lines)
                denied += answer[9:12] in {b"401", b"403"}
    assert denied >= 3 * 2
    answer = raw(instance, "/metrics")
    assert b"\r\nwww-authenticate: bearer realm=" in answer.lower()
    series = instance.series()
    assert total(series, EVENTS, event_type="metrics_denied") == denied + 1
    assert "X" * 20000 not in instance.log()
    assert b"authly_" not in raw(instance, "/metrics", "X-Long: " + "X" * 100_000)
    assert b"authly_http_requests_total" in raw(instance, "/metrics", f"Authorization: Bearer {TOKEN}")


@both_worker_classes
def test_the_application_port_believes_only_its_proxies(worker_class: str, make_instance: MakeInstance) -> None:
    """From a configured proxy the address it was asked by counts; without one a forwarded header is refused."""
    instance = make_instance(
        AUTHLY_WORKER_CLASS=worker_class,
        AUTHLY_WORKERS="1",
        AUTHLY_METRICS_ALLOWED_NETWORKS="192.0.2.0/24,127.0.0.2",
        AUTHLY_TRUSTED_PROXIES="127.0.0.1",
        AUTHLY_METRICS_RATE_LIMIT="3",
    ).start()

    def ask(*forwarded: str, source: str = "127.0.0.1") -> int:
        host, port = instance.address.split(":")
        with socket.create_connection((host, int(port)), 20, (source, 0)) as sock:
            lines = "".join(f"X-Forwarded-For: {value}\r\n" for value in forwarded)
            sock.sendall(f"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n".encode())
            return int(sock.recv(12, socket.MSG_WAITALL)[9:])

    assert ask("192.0.2.1") == 200
    assert ask("127.0.0.1, 192.0.2.1") == 200
    assert ask("192.0.2.1, 198.51.100.1") == 403
    assert ask() == 403
    assert ask("127.0.0.1") == 403
    assert ask(source="127.0.0.2") == 200
    assert ask("192.0.2.1", source="127.0.0.2") == 403
    assert ask("192.0.2.1", source="127.0.0.3") == 403
    # The limit to the rate is the client's, not the proxy's.
    assert [ask("192.0.2.1"), ask("192.0.2.1")] == [200, 429]
    assert ask("192.0.2.2") == 200


# What is never seen


class Canaries:
    """Words that are nowhere but where this test writes them; each tells where that was."""

    def __init__(self) -> None:
        self.planted: list[bytes] = []

    def __call__(self, place: str) -> str:
        """Return a word to plant."""
        word = f"canary{len(self.planted)}{place}{os.urandom(4).hex()}"
        self.planted.append(word.encode())
        return word


@both_worker_classes
def test_nothing_that_clients_write_is_ever_shown(
    worker_class: str, make_instance: MakeInstance, protected: Protected, tmp_path: Path
) -> None:
    """Words planted wherever a client, or an operator with a secret, can write are in no exposition, page or file."""
    canary = Canaries()
    secrets = {name: canary(name) for name in ("password", "apptoken", "exportertoken", "database")}
    folder = tmp_path / "web"
    folder.mkdir()
    hash_ = bcrypt.hashpw(secrets["password"].encode(), bcrypt.gensalt(4)).decode()
    user = canary("knownuser")
    (folder / "tokens").write_text(secrets["exportertoken"])
    (folder / "apptokens").write_text(secrets["apptoken"])
    (folder / "web.yml").write_text(
        f"tls_server_config:\n  cert_file: {protected.server.cert}\n  key_file: {protected.server.key}\n"
        f"basic_auth_users:\n  {user}: {hash_}\nbearer_tokens_file: tokens\n"
    )
    canary.planted += [hash_.encode(), protected.server.key.read_bytes().splitlines()[1]]
    instance = make_instance(
        AUTHLY_WORKER_CLASS=worker_class,
        AUTHLY_WORKERS="2",
        AUTHLY_METRICS_WEB_CONFIG_FILE=str(folder / "web.yml"),
        AUTHLY_METRICS_TOKEN_FILE=str(folder / "apptokens"),
        AUTHLY_DATABASE_URL=f"postgresql://authly:{secrets['database']}@127.0.0.1:9/none",
    ).start(exporter=False)
    ready = {"Authorization": f"Bearer {secrets['exportertoken']}"}
    wait_until(lambda: status(protected.ask(instance.metrics_address, "/-/healthy", headers=ready)) == 200)

    trace = "63616e617279" + os.urandom(10).hex()
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE
    for data in _requests(canary, trace, secrets, user):
        _send(instance.address, data)
        _send(instance.metrics_address, data)
        _send(instance.metrics_address, data, anybody, server_name=canary("sni") + ".example")

    def shown(path: str, accept: str = "*/*") -> bytes:
        answer = protected.ask(instance.metrics_address, path, headers={**ready, "Accept": accept})
        assert status(answer) == 200
        return answer

    text = shown("/metrics")
    assert total(parse(text.partition(b"\r\n\r\n")[2].decode()), EVENTS, event_type="metrics_denied") > 10
    openmetrics = shown("/metrics", "application/openmetrics-text;version=1.0.0")
    application = b"".join(
        raw(instance, path, f"Authorization: Bearer {secrets['apptoken']}") for path in ("/metrics", "/openapi.json")
    )
    page = shown("/") + shown("/-/ready")
    files = b"".join(path.read_bytes() for path in instance.directory.iterdir() if path.is_file())
    assert b"authly_http_requests_total" in files
    for word in canary.planted:
        for where, seen in {
            "text": text, "openmetrics": openmetrics, "application": application, "page": page, "files": files,
        }.items():  # fmt: skip
            for form in {word, word.lower(), word.upper(), base64.b64encode(word), word.hex().encode()}:
                assert form not in seen, f"{word!r} in {where}"
    # A trace id that is one, by its form, is shown on purpose, and nowhere but in exemplars.
    assert trace.encode() not in text + page
    without_exemplars = re.sub(rb' # \{trace_id="[0-9a-f]{32}"\} ', b" ", openmetrics)
    assert trace.encode() not in without_exemplars


def _requests(canary: Canaries, trace: str, secrets: dict[str, str], user: str) -> Iterator[bytes]:
    """Yield requests with something planted in every part of them."""
    headers = {
        name: canary(name.replace("-", "").lower())
        for name in (
            "User-Agent", "Referer", "Cookie", "Accept", "Accept-Encoding", "Accept-Language", "X-Request-ID", "Origin",
            "X-Forwarded-For", "Forwarded", "X-Real-IP", "Via", "tracestate", "traceparent", "X-Authly-Client",
            "X-Prometheus-Scrape-Timeout-Seconds", "If-None-Match", "From", "Expect", "Upgrade", "Range",
            "Content-Type",
        )
    }  # fmt: skip
    lines = [f"{name}: {value}" for name, value in headers.items() if name != "Expect"]
    lines.append(f"{canary('headername')}: {canary('headervalue')}")
    credentials = [
        "Authorization: Basic " + base64.b64encode(f"{canary('user')}:{canary('pass')}".encode()).decode(),
        "Authorization: Basic " + base64.b64encode(f"{user}:{canary('pass')}".encode()).decode(),
        "Authorization: Basic " + base64.b64encode(f"{user}:{secrets['password']}".encode()).decode(),
        f"Authorization: Bearer {canary('token')}",
        f"Authorization: {canary('scheme')} {canary('credentials')}",
        f"Authorization: Digest username={canary('digest')}",
    ]
    for target in (
        "/metrics", "/health/live", f"/{canary('path')}", f"/metrics/{canary('path')}", f"/metrics?x={canary('query')}",
        f"/health/live?{canary('query')}", f"http://{canary('authority')}/metrics",
        f"/{canary('path')}%00{canary('p')}", f"/-/healthy?{canary('query')}",
    ):  # fmt: skip
        for method in ("GET", "HEAD", "POST", "OPTIONS", canary("METHOD").upper()):
            head = [f"{method} {target} HTTP/1.1", f"Host: {canary('host')}", "Connection: close"]
            yield "\r\n".join([*head, "", ""]).encode()
            yield "\r\n".join([*head, *lines, "", ""]).encode()
    for target in ("/metrics", "/health/live"):
        for line in credentials:
            yield "\r\n".join([f"GET {target} HTTP/1.1", "Host: x", "Connection: close", line, "", ""]).encode()
    start = "\r\nHost: x\r\nConnection: close\r\n"
    yield f"GET /health/live HTTP/1.1{start}traceparent: 00-{trace}-00f067aa0ba902b7-01\r\n\r\n".encode()
    yield f"POST /{canary('path')} HTTP/1.1{start}Content-Length: 40\r\n\r\n{canary('body'):40.40}".encode()
    yield f"GET /metrics {canary('VERSION')}{start}\r\n".encode()
    yield f"{canary('nonsense')}\r\n\r\n".encode()
    yield (
        f"POST /metrics HTTP/1.1{start}Transfer-Encoding: chunked\r\n\r\n"
        f"1;{canary('extension')}\r\nx\r\n0\r\n{canary('trailer')}: x\r\n\r\n"
    ).encode()


def _send(address: str, data: bytes, anybody: ssl.SSLContext | None = None, server_name: str = "") -> None:
    host, port = address.split(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 20) as plain:
        sock = anybody.wrap_socket(plain, server_hostname=server_name) if anybody else plain
        with sock:
            sock.sendall(data)
            with contextlib.suppress(TimeoutError):
                while sock.recv(65536):
                    pass
