"""Who may look at the exporter, asked over real sockets."""

import base64
import contextlib
import hashlib
import os
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from authly.monitoring.exporter.access.denials import Denials
from authly.monitoring.exporter.access.guard import VALID, Guard
from authly.monitoring.exporter.http import Request, Response
from authly.monitoring.exporter.server import Server
from authly.monitoring.exporter.sockets import bind_tcp, bind_unix
from tests.certificates import Authority, Pair
from tests.processes import wait_until

PATIENCE = 20.0
SAMPLE = b"secret_numbers_total 1\n"
GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
PASSWORD = "correct horse"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
TOKEN = "0123456789abcdefghij"
USERS = f"basic_auth_users:\n  prometheus: {HASH}\n"


def basic(name: str = "prometheus", password: str = PASSWORD) -> bytes:
    """Return the header of HTTP Basic."""
    return b"Authorization: Basic " + base64.b64encode(f"{name}:{password}".encode()) + b"\r\n"


def bearer(token: str = TOKEN) -> bytes:
    """Return the header with a bearer token."""
    return f"Authorization: Bearer {token}\r\n".encode()


class Exporter:
    """A server with a guard before it, in a thread of its own."""

    def __init__(self, folder: Path, rules: str) -> None:
        self.file = folder / "web.yml"
        self.file.write_text(rules)
        self.denials = Denials()
        self.log: list[str] = []
        self.requests: list[Request] = []
        self.guard = Guard(self.file, self.denials, time.monotonic, self.log.append)
        self.tcp = bind_tcp("127.0.0.1:0")
        self.unix = bind_unix(folder)
        self.folder = folder
        self.server = Server(
            [self.tcp, self.unix], lambda request: self.guard.respond(request, self._application), self.guard
        )
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def _application(self, request: Request) -> Response:
        self.requests.append(request)
        return Response(200, "text/plain", SAMPLE * (200_000 if request.path == "/large" else 1))

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.tcp.getsockname()[1])

    def rewrite(self, rules: str, path: Path | None = None) -> None:
        """Change the file, long enough ago that it has come to rest."""
        path = path or self.file
        path.write_text(rules)
        aged = time.time() - 5
        os.utime(path, (aged, aged))

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        """Connect, without encryption."""
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE, (source, 0))

    def ask(self, headers: bytes = b"", *, tls: ssl.SSLContext | None = None, source: str = "127.0.0.1") -> bytes:
        """Make a request on a connection of its own, and return all that comes back."""
        with self.connect(source) as plain:
            sock = tls.wrap_socket(plain, server_hostname="localhost") if tls else plain
            with sock:
                sock.sendall(GET + headers + b"\r\n")
                return read_all(sock)

    def denied(self) -> float:
        """Return how many requests were denied."""
        return sum(sample.value for family in self.guard.collect([])[:1] for sample in family.samples)

    def valid(self) -> float:
        """Return whether the file is in force."""
        (family,) = [family for family in self.guard.collect([]) if family.name == VALID.name]
        return family.samples[0].value

    def end(self) -> None:
        """Stop, and release everything."""
        self.server.stop(grace=0)
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        self.tcp.close()
        self.unix.close()


Start = Callable[[str], Exporter]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start exporters that end with the test."""
    running: list[Exporter] = []

    def start_one(rules: str) -> Exporter:
        folder = tmp_path / str(len(running))
        folder.mkdir()
        running.append(Exporter(folder, rules))
        return running[-1]

    yield start_one
    for one in running:
        one.end()


def read_all(sock: socket.socket) -> bytes:
    """Read until the other side closes; a reset ends it too."""
    chunks = []
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while chunk := sock.recv(1 << 20):
            chunks.append(chunk)
    return b"".join(chunks)


def status_of(answer: bytes) -> int:
    """Return the status of a raw response."""
    assert answer.startswith(b"HTTP/1.1 "), answer[:200]
    return int(answer[9:12])


def turned_away(ask: Callable[[], bytes]) -> bool:
    """Tell whether a handshake failed; its alert may be lost with the connection."""
    try:
        return ask() == b""
    except (ssl.SSLError, ConnectionResetError, BrokenPipeError):
        return True


def gets_in(answer: bytes) -> bool:
    """Tell whether somebody got in; whoever did not, got no sample."""
    assert (status_of(answer) == 200) == (b"secret_numbers" in answer)
    return status_of(answer) == 200


# Passwords


def test_a_password_lets_in(start: Start) -> None:
    """The right password is let in, the first time and again."""
    exporter = start(USERS)
    for _ in range(3):
        assert gets_in(exporter.ask(basic()))
    assert exporter.denied() == 0


WRONG_CREDENTIALS = [
    b"",
    basic(password="wrong"),
    basic(name="nobody"),
    basic(name="Prometheus"),
    basic(password=""),
    basic(password=PASSWORD + "\0"),
    basic(password=PASSWORD + ":"),
    basic(name="", password=""),
    basic(password=HASH),
    b"Authorization: Basic\r\n",
    b"Authorization: Basic !!!\r\n",
    b"Authorization: Basic " + base64.b64encode(b"prometheus") + b"\r\n",
    b"Authorization: Basic \xff\xfe\r\n",
    b"Authorization: " + base64.b64encode(f"prometheus:{PASSWORD}".encode()) + b"\r\n",
    b"Authorization: Digest username=prometheus\r\n",
    bearer(PASSWORD),
    basic(password="wrong") + basic(),
    basic() + basic(password="wrong"),
    b"X: y\r\n " + basic(),
    b"X-Authly-Client: 127.0.0.1\r\n",
    b"X-Forwarded-For: 127.0.0.1\r\nForwarded: for=127.0.0.1\r\n",
    b"X-Authorization: Basic " + base64.b64encode(f"prometheus:{PASSWORD}".encode()) + b"\r\n",
]


def test_anything_but_the_password_does_not_let_in(start: Start) -> None:
    """Wrong, missing, malformed and doubled credentials are 401 with a challenge; each counts as a denial."""
    exporter = start(USERS)
    for number, headers in enumerate(WRONG_CREDENTIALS, 1):
        answer = exporter.ask(headers)
        assert status_of(answer) == 401, headers
        assert b"www-authenticate: basic realm=" in answer.lower()
        assert b"secret_numbers" not in answer
        assert exporter.denied() == number
    assert exporter.requests == []
    assert gets_in(exporter.ask(basic()))


@pytest.mark.parametrize(
    "target",
    [
        b"/", b"/-/healthy", b"/-/ready", b"/metrics/", b"//metrics", b"/%6detrics", b"/metrics?x=1", b"/./metrics",
        b"/a/../metrics", b"http://x/metrics", b"*", b"/METRICS", b"/metrics;a=b", b"/metrics#x", b"/metrics%00",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST", b"OPTIONS", b"TRACE", b"get", b"X"])
def test_no_path_and_no_method_goes_around_the_guard(guarded: Exporter, target: bytes, method: bytes) -> None:
    """However a request is written, without credentials it is not passed on."""
    with guarded.connect() as sock:
        sock.sendall(method + b" " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = read_all(sock)
    assert status_of(answer) == 401
    assert b"secret_numbers" not in answer
    assert guarded.requests == []


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    """One exporter for all examples, which lets nobody in."""
    exporter = Exporter(tmp_path_factory.mktemp("guarded"), USERS)
    yield exporter
    exporter.end()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 17000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 100_000, 431),
        (GET + b"Authorization: Basic " + b"QQ" * 9000 + b"\r\n\r\n", 431),
        (b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 100_000, 413),
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
    ],
)
def test_oversized_and_malformed_requests_get_nothing(guarded: Exporter, data: bytes, status: int) -> None:
    """What cannot be understood is refused before anybody asks who it is from."""
    with guarded.connect() as sock:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            sock.sendall(data)
        answer = read_all(sock)
    assert status_of(answer) == status
    assert guarded.requests == []


@given(data=st.binary(max_size=200))
def test_no_credentials_that_are_made_up_let_in(guarded: Exporter, data: bytes) -> None:
    """Whatever stands behind Authorization, it is 401, or 400 for what HTTP forbids, or 429."""
    with guarded.connect() as sock:
        sock.sendall(GET + b"Authorization: " + data + b"\r\n\r\n")
        answer = read_all(sock)
    assert status_of(answer) in {400, 401, 429}
    assert guarded.requests == []


def test_pipelined_requests_have_to_say_each_who_they_are(start: Start) -> None:
    """Credentials of one request say nothing of the next on the same connection."""
    exporter = start(USERS)
    head = b"GET /metrics HTTP/1.1\r\nHost: x\r\n"
    with exporter.connect() as sock:
        sock.sendall(head + basic() + b"\r\n" + head + b"\r\n" + head + basic() + b"Connection: close\r\n\r\n")
        answer = read_all(sock)
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200", b"401", b"200"]


def test_the_unix_socket_is_for_the_instances_own_workers(start: Start) -> None:
    """Over the Unix socket, which only this user can open, no credentials are needed."""
    exporter = start(USERS)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(str(exporter.folder / "exporter.sock"))
        sock.sendall(GET + b"\r\n")
        assert gets_in(read_all(sock))


SLOW_HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(11)).decode()


def test_guesses_do_not_keep_the_right_one_waiting(start: Start) -> None:
    """While strangers fill the queue of slow checks, who is known is answered at once, and who is not yet in turn."""
    exporter = start(f"basic_auth_users:\n  prometheus: {SLOW_HASH}\n  second: {HASH}\n")
    assert gets_in(exporter.ask(basic()))
    stop = threading.Event()
    counted: list[int] = []

    def guess(number: int) -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                answer = exporter.ask(basic(password=os.urandom(8).hex()), source=f"127.0.1.{number}")
                counted.append(status_of(answer))
                assert not gets_in(answer)

    strangers = [threading.Thread(target=guess, args=(1 + number % 3,)) for number in range(24)]
    for stranger in strangers:
        stranger.start()
    try:
        wait_until(lambda: 429 in counted)
        for _ in range(10):
            begin = time.monotonic()
            assert gets_in(exporter.ask(basic()))
            assert time.monotonic() - begin < 5
        # One who has never been seen, from an address of his own.
        wait_until(lambda: gets_in(exporter.ask(basic("second"), source="127.0.2.1")), 60)
    finally:
        stop.set()
        for stranger in strangers:
            stranger.join()


# Tokens


@pytest.mark.parametrize("written", [TOKEN, f"# for Prometheus\n\nsha256:{hashlib.sha256(TOKEN.encode()).hexdigest()}"])
def test_a_token_lets_in(start: Start, tmp_path: Path, written: str) -> None:
    """A token of the file, in the clear or hashed, lets in; nothing else does."""
    (tmp_path / "tokens").write_text(f"another-token-of-somebody\n{written}\n")
    exporter = start("bearer_tokens_file: ../tokens\n")
    assert gets_in(exporter.ask(bearer()))
    assert gets_in(exporter.ask(b"authorization: bEARER  " + TOKEN.encode() + b" \r\n"))
    wrong = [b"", bearer("x"), bearer(TOKEN + "x"), bearer(TOKEN[:-1]), bearer(TOKEN.upper()), basic(password=TOKEN)]
    wrong += [
        bearer(f"sha256:{hashlib.sha256(TOKEN.encode()).hexdigest()}"),
        bearer(written),
        bearer(f"{TOKEN},{TOKEN}"),
    ]
    for headers in wrong:
        if headers != bearer():
            answer = exporter.ask(headers)
            assert status_of(answer) in {400, 401}
            assert not gets_in(answer)


def test_either_a_token_or_a_password_lets_in(start: Start, tmp_path: Path) -> None:
    """Where there are both, each is enough, and both are asked for."""
    (tmp_path / "tokens").write_text(TOKEN)
    exporter = start(USERS + f"bearer_tokens_file: {tmp_path / 'tokens'}\n")
    assert gets_in(exporter.ask(bearer()))
    assert gets_in(exporter.ask(basic()))
    answer = exporter.ask()
    assert status_of(answer) == 401
    assert re.findall(rb"(?i)www-authenticate: (\w+)", answer) == [b"Basic", b"Bearer"]


def test_tokens_are_read_again(start: Start, tmp_path: Path) -> None:
    """New tokens are in force with the next request; a broken file leaves the old; an empty one lets nobody in."""
    path = tmp_path / "tokens"
    path.write_text(TOKEN)
    exporter = start(f"bearer_tokens_file: {path}\n")
    assert gets_in(exporter.ask(bearer()))
    exporter.rewrite("a-new-token-of-prometheus\n", path)
    assert not gets_in(exporter.ask(bearer()))
    assert gets_in(exporter.ask(bearer("a-new-token-of-prometheus")))
    exporter.rewrite("short\n", path)
    for _ in range(3):
        assert gets_in(exporter.ask(bearer("a-new-token-of-prometheus")))
    assert exporter.valid() == 0
    assert len([line for line in exporter.log if "16 visible" in line]) == 1
    exporter.rewrite("# nobody\n", path)
    assert not gets_in(exporter.ask(bearer("a-new-token-of-prometheus")))
    assert exporter.valid() == 1


# Certificates


class Certificates:
    """Everything that a test of TLS needs."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.server = self.authority.issue("localhost", "localhost", "127.0.0.1", server=True)
        self.client = self.authority.issue("prometheus", "prometheus.example", "10.0.0.7", "fd00::7", "me@example.org")
        self.expired = self.authority.issue("late", "prometheus.example", days=-1)
        self.stranger = Authority(folder, "other").issue("prometheus", "prometheus.example")
        self.folder = folder

    def trusting(self, pair: Pair | None = None) -> ssl.SSLContext:
        """Return what a client is set up with."""
        context = ssl.create_default_context(cafile=str(self.authority.cert))
        if pair:
            context.load_cert_chain(pair.cert, pair.key)
        return context

    def rules(self, more: str = "") -> str:
        """Return rules for TLS."""
        return f"tls_server_config:\n  cert_file: {self.server.cert}\n  key_file: {self.server.key}\n{more}"

    def mutual(self, more: str = "") -> str:
        """Return rules for mutual TLS."""
        return self.rules(
            f"  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: {self.authority.cert}\n{more}"
        )


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Make certificates, once."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


def test_tls_encrypts(start: Start, certificates: Certificates) -> None:
    """Who speaks TLS and trusts the certificate gets in; who does not speak it gets no sample."""
    exporter = start(certificates.rules())
    assert gets_in(exporter.ask(tls=certificates.trusting()))
    assert b"secret_numbers" not in exporter.ask()
    with pytest.raises(ssl.SSLCertVerificationError):
        exporter.ask(tls=ssl.create_default_context())
    assert gets_in(exporter.ask(tls=certificates.trusting()))


def test_large_responses_and_many_requests_pass_through_tls(start: Start, certificates: Certificates) -> None:
    """Megabytes reach a slow reader whole; requests one after the other, and all at once, share a connection."""
    exporter = start(certificates.rules())
    with certificates.trusting().wrap_socket(exporter.connect(), server_hostname="localhost") as sock:
        request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
        for _ in range(3):
            sock.sendall(request)
            answer = b""
            while not answer.endswith(SAMPLE):
                answer += sock.recv(65536)
        sock.sendall(request * 300)
        sock.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        time.sleep(0.05)
        answer = read_all(sock)
    assert answer.count(b"HTTP/1.1 200") == 301
    assert answer.endswith(SAMPLE * 200_000)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_mutual_tls_lets_in_who_has_a_certificate(
    start: Start, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    """A certificate of the right authority lets in; none, another's, and one that expired do not, and count."""
    exporter = start(certificates.mutual())

    def ask(pair: Pair | None) -> bytes:
        context = certificates.trusting(pair)
        context.maximum_version = version
        return exporter.ask(tls=context)

    assert gets_in(ask(certificates.client))
    for number, pair in enumerate([None, certificates.stranger, certificates.expired], 1):
        assert turned_away(lambda pair=pair: ask(pair))  # type: ignore[misc]
        wait_until(lambda expected=number: exporter.denied() == expected)  # type: ignore[misc]
    # A certificate for servers is none for clients.
    assert turned_away(lambda: ask(certificates.server))
    assert len(exporter.requests) == 1
    assert gets_in(ask(certificates.client))


@pytest.mark.parametrize("san", ["prometheus.example", "10.0.0.7", "fd00::7", "me@example.org"])
def test_names_of_certificates_can_be_asked_for(start: Start, certificates: Certificates, san: str) -> None:
    """With client_allowed_sans a certificate must have one of those names, written as Go writes them."""
    exporter = start(certificates.mutual(f"  client_allowed_sans:\n    - nobody.example\n    - '{san}'\n"))
    assert gets_in(exporter.ask(tls=certificates.trusting(certificates.client)))
    other = start(certificates.mutual("  client_allowed_sans: [nobody.example]\n"))
    answer = other.ask(tls=certificates.trusting(certificates.client))
    assert status_of(answer) == 403
    assert not gets_in(answer)
    assert other.denied() == 1


def test_a_certificate_may_be_optional(start: Start, certificates: Certificates) -> None:
    """VerifyClientCertIfGiven lets in without a certificate, and keeps out with a wrong one."""
    exporter = start(
        certificates.rules(
            f"  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: {certificates.authority.cert}\n"
        )
    )
    assert gets_in(exporter.ask(tls=certificates.trusting()))
    assert gets_in(exporter.ask(tls=certificates.trusting(certificates.client)))
    assert turned_away(lambda: exporter.ask(tls=certificates.trusting(certificates.stranger)))


def test_a_certificate_and_a_password_are_both_needed(start: Start, certificates: Certificates) -> None:
    """Mutual TLS and passwords add up."""
    exporter = start(certificates.mutual() + USERS)
    assert gets_in(exporter.ask(basic(), tls=certificates.trusting(certificates.client)))
    assert not gets_in(exporter.ask(tls=certificates.trusting(certificates.client)))
    assert turned_away(lambda: exporter.ask(basic(), tls=certificates.trusting()))


def test_certificates_can_stand_in_the_file_itself(start: Start, certificates: Certificates) -> None:
    """Cert, key and client_ca in the clear are as good as files."""
    lines = {
        "cert": certificates.server.cert, "key": certificates.server.key, "client_ca": certificates.authority.cert
    }  # fmt: skip
    rules = "tls_server_config:\n  client_auth_type: RequireAndVerifyClientCert\n"
    for key, path in lines.items():
        rules += f"  {key}: |\n" + "".join(f"    {line}\n" for line in path.read_text().splitlines())
    exporter = start(rules)
    assert gets_in(exporter.ask(tls=certificates.trusting(certificates.client)))
    assert turned_away(lambda: exporter.ask(tls=certificates.trusting()))


def test_versions_ciphers_and_curves_are_those_of_the_file(start: Start, certificates: Certificates) -> None:
    """Only what the file names is spoken."""
    exporter = start(
        certificates.rules(
            "  min_version: TLS12\n  max_version: TLS12\n  curve_preferences: [CurveP384]\n"
            "  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_AES_128_GCM_SHA256]\n"
        )
    )
    context = certificates.trusting()
    with context.wrap_socket(exporter.connect(), server_hostname="localhost") as sock:
        assert sock.version() == "TLSv1.2"
        assert (sock.cipher() or ("",))[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"
    for choose in (
        lambda context: context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256"),
        lambda context: context.set_ecdh_curve("prime256v1"),
        lambda context: setattr(context, "minimum_version", ssl.TLSVersion.TLSv1_3),
    ):
        context = certificates.trusting()
        choose(context)
        with pytest.raises(ssl.SSLError):
            exporter.ask(tls=context)


def test_a_new_certificate_is_taken_up(start: Start, certificates: Certificates, tmp_path: Path) -> None:
    """A replaced certificate is used for the next connection; a key that does not fit it leaves the old one in use."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def install(pair: Pair) -> None:
        for source, target in ((pair.cert, cert), (pair.key, key)):
            exporter.rewrite(source.read_text(), target)

    cert.write_bytes(certificates.server.cert.read_bytes())
    key.write_bytes(certificates.server.key.read_bytes())
    exporter = start(f"tls_server_config:\n  cert_file: {cert}\n  key_file: {key}\n")

    def shown() -> bytes | None:
        with certificates.trusting().wrap_socket(exporter.connect(), server_hostname="localhost") as sock:
            return sock.getpeercert(True)

    first = shown()
    renewed = certificates.authority.issue("renewed", "localhost", server=True)
    exporter.rewrite(renewed.cert.read_text(), cert)
    assert shown() == first
    assert exporter.valid() == 0
    install(renewed)
    assert shown() != first
    assert exporter.valid() == 1


def test_a_connection_ends_when_it_would_not_be_made_any_more(start: Start, certificates: Certificates) -> None:
    """Who is connected without the certificate that has come to be needed is asked to come again."""
    exporter = start(certificates.rules())
    request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    with certificates.trusting().wrap_socket(exporter.connect(), server_hostname="localhost") as sock:
        sock.sendall(request)
        answer = b""
        while not answer.endswith(SAMPLE):
            answer += sock.recv(65536)
        exporter.rewrite(certificates.mutual())
        with contextlib.suppress(OSError):
            sock.sendall(request)
            assert sock.recv(65536) == b""
    assert gets_in(exporter.ask(tls=certificates.trusting(certificates.client)))
    assert len(exporter.requests) == 2


def test_no_password_is_accepted_in_the_clear_after_tls_was_switched_on(
    start: Start, certificates: Certificates
) -> None:
    """A connection without encryption does not outlive the rules that allowed it."""
    exporter = start(USERS)
    head = b"GET /metrics HTTP/1.1\r\nHost: x\r\n"
    with exporter.connect() as sock:
        sock.sendall(head + basic() + b"\r\n")
        answer = b""
        while not answer.endswith(SAMPLE):
            answer += sock.recv(65536)
        exporter.rewrite(certificates.rules() + USERS)
        sock.sendall(head + basic() + b"\r\n")
        assert read_all(sock) == b""


def test_five_hundred_slow_handshakes_do_not_lock_out_prometheus(start: Start, certificates: Certificates) -> None:
    """While 500 sockets trickle pieces of a handshake, proper scrapes are answered in a moment."""
    exporter = start(certificates.mutual() + USERS)
    context = certificates.trusting(certificates.client)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    hello = outgoing.read()
    stop = threading.Event()
    sockets = [exporter.connect("127.0.1.1") for _ in range(500)]
    sent = [0] * len(sockets)

    def trickle() -> None:
        while not stop.is_set():
            for index, sock in enumerate(sockets):
                try:
                    # Some stay at the start, some get as far as the server's answer, and stop there.
                    piece = hello[sent[index] : sent[index] + 1 + 64 * (index % 7)]
                    sent[index] += sock.send(piece) if piece else 0
                except OSError:  # given up by the server: an attacker comes back
                    sock.close()
                    sockets[index], sent[index] = exporter.connect("127.0.1.1"), 0
                if stop.wait(0.0005):
                    return

    assert gets_in(exporter.ask(basic(), tls=context))
    attacker = threading.Thread(target=trickle)
    attacker.start()
    try:
        wait_until(lambda: sum(map(len, exporter.server._connections.values())) >= 128)
        for _ in range(20):
            begin = time.monotonic()
            assert gets_in(exporter.ask(basic(), tls=context))
            assert time.monotonic() - begin < 5
            assert sum(map(len, exporter.server._connections.values())) <= 130
    finally:
        stop.set()
        attacker.join()
        for sock in sockets:
            sock.close()


def test_handshakes_that_stop_are_given_up(certificates: Certificates, tmp_path: Path) -> None:
    """A handshake has as long as a request has, and then the connection is closed."""
    exporter = Exporter(tmp_path, certificates.rules())
    try:
        exporter.server._limits = exporter.server._limits._replace(request_timeout=0.1)
        with exporter.connect() as sock:
            sock.sendall(b"\x16\x03\x01\x02\x00\x01")
            assert select.select([sock], [], [], PATIENCE)[0]
            assert sock.recv(100) == b""
        assert gets_in(exporter.ask(tls=certificates.trusting()))
    finally:
        exporter.end()


@given(data=st.binary(min_size=1, max_size=600), reset=st.booleans())
def test_no_bytes_stop_a_server_that_speaks_tls(sturdy: Exporter, data: bytes, reset: bool) -> None:
    """Whatever a client sends in place of a handshake, and however it leaves, nobody gets a sample by it."""
    with sturdy.connect() as sock:
        sock.sendall(b"\x16\x03\x01" + data if data[0] % 2 else data)
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        else:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
            assert b"secret_numbers" not in read_all(sock)
    assert sturdy.thread.is_alive()


@pytest.fixture(scope="module")
def sturdy(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Exporter]:
    """One exporter with TLS for all examples, which answers at the end as at the beginning."""
    exporter = Exporter(tmp_path_factory.mktemp("sturdy"), certificates.rules())
    yield exporter
    assert gets_in(exporter.ask(tls=certificates.trusting()))
    exporter.end()


# The file


def test_new_rules_are_in_force_at_once(start: Start) -> None:
    """Users come and go, passwords change, protection begins and ends, without a restart."""
    exporter = start("")
    assert gets_in(exporter.ask())
    exporter.rewrite(USERS)
    assert not gets_in(exporter.ask())
    assert gets_in(exporter.ask(basic()))
    exporter.rewrite(USERS.replace("prometheus", "somebody"))
    assert not gets_in(exporter.ask(basic()))
    assert gets_in(exporter.ask(basic("somebody")))
    other = bcrypt.hashpw(b"other", bcrypt.gensalt(4)).decode()
    exporter.rewrite(f"basic_auth_users:\n  somebody: {other}\n")
    assert not gets_in(exporter.ask(basic("somebody")))
    assert gets_in(exporter.ask(basic("somebody", "other")))
    exporter.rewrite("{}")
    assert gets_in(exporter.ask())


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "basic_auth_user:\n  x: y\n",
        ": [",
        "basic_auth_users:\n  prometheus: plain\n",
        "tls_server_config: {cert: x}",
    ],
)
def test_broken_rules_leave_the_old_in_force(start: Start, broken: str) -> None:
    """A file that cannot be used changes nothing, is said once, and shows in a metric, until it is put right."""
    exporter = start(USERS)
    exporter.rewrite(broken)
    for _ in range(5):
        assert gets_in(exporter.ask(basic()))
        assert not gets_in(exporter.ask())
    assert exporter.valid() == 0
    (line,) = [line for line in exporter.log if "cannot be used" in line]
    assert "stay in force" in line
    exporter.file.unlink()
    assert gets_in(exporter.ask(basic()))
    exporter.rewrite(USERS)
    assert gets_in(exporter.ask(basic()))
    assert exporter.valid() == 1


def test_without_rules_nobody_looks(start: Start) -> None:
    """A file that is broken from the start keeps everybody out, until it can be used."""
    exporter = start("nonsense")
    assert status_of(exporter.ask()) == 503
    assert exporter.guard.protects
    assert exporter.requests == []
    exporter.rewrite(USERS)
    assert gets_in(exporter.ask(basic()))


def test_a_file_that_is_being_written_waits(start: Start) -> None:
    """What was changed a moment ago may be half of a file, and is left alone until it has come to rest."""
    exporter = start(USERS)
    exporter.file.write_text("{}")
    assert not gets_in(exporter.ask())
    wait_until(lambda: gets_in(exporter.ask()))


def test_headers_are_sent_with_every_response(start: Start) -> None:
    """The headers of the file are on what is shown and on what is refused."""
    exporter = start(USERS + "http_server_config:\n  http2: false\n  headers:\n    X-Frame-Options: deny\n")
    for headers in (basic(), b""):
        assert b"\r\nx-frame-options: deny\r\n" in exporter.ask(headers).lower()


def test_the_rate_is_limited(start: Start) -> None:
    """Beyond the burst it is 429; what strangers use up is not taken from those who may look."""
    exporter = start(USERS + "rate_limit:\n  interval: 1h\n  burst: 3\n")
    statuses = [status_of(exporter.ask()) for _ in range(5)]
    assert statuses == [401, 401, 401, 429, 429]
    assert exporter.denied() == 5
    everybody = start("rate_limit: {interval: 1h, burst: 2}")
    assert [status_of(everybody.ask()) for _ in range(3)] == [200, 200, 429]
    # Known before the strangers come.
    exporter = start(USERS + "rate_limit:\n  interval: 1h\n  burst: 3\n")
    assert gets_in(exporter.ask(basic()))
    assert [status_of(exporter.ask()) for _ in range(3)] == [401, 401, 429]
    assert gets_in(exporter.ask(basic()))


def test_denials_are_counted_with_those_of_the_workers() -> None:
    """There is one family of security events, with the sum of what both counted."""
    denials = Denials()
    from authly.monitoring.labels import SECURITY_EVENTS, Severity
    from authly.monitoring.multiprocess.families import Family, Sample

    denials.count(Severity.LOW)
    labels = (("event_type", "metrics_denied"), ("severity", "low"))
    others = (("event_type", "code_reuse"), ("severity", "high"))
    name = f"{SECURITY_EVENTS}_total"
    workers = Family.of(SECURITY_EVENTS, "counter", "", [Sample(name, labels, 2.0), Sample(name, others, 5.0)])
    (family,) = denials.added_to([workers])
    assert {dict(sample.labels)["severity"]: sample.value for sample in family.samples} == {
        "low": 3.0, "medium": 0.0, "high": 5.0
    }  # fmt: skip
