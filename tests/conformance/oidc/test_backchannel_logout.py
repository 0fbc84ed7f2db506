"""Clients that are told of the ends of sessions (OpenID Connect Back-Channel Logout 1.0)."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

import jwt
import pytest

from authly.oauth.models import SubjectType
from tests.oauth import Person, Server
from tests.oidc import RelyingParty
from tests.processes import wait_until


class Receiver:
    """What relying parties listen with; it answers what a test wants."""

    def __init__(self) -> None:
        receiver = self
        self.received: list[tuple[str, dict[str, list[str]]]] = []
        # By path: the statuses of the next answers, and then 200.
        self.answers: dict[str, list[int]] = {}

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                receiver.received.append((self.path, parse_qs(body, strict_parsing=True)))
                planned = receiver.answers.get(self.path, [])
                self.send_response(planned.pop(0) if planned else 200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def url(self, path: str) -> str:
        """Return an address."""
        return f"http://127.0.0.1:{self.server.server_port}{path}"

    def tokens(self, path: str) -> list[str]:
        """Return the logout tokens that came to an address."""
        return [token for at, form in self.received if at == path for token in form["logout_token"]]


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    """What listens for the module's relying parties."""
    receiver = Receiver()
    thread = threading.Thread(target=receiver.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield receiver
    receiver.server.shutdown()
    thread.join()
    receiver.server.server_close()


def listening(server: Server, receiver: Receiver, path: str, **settings: Any) -> RelyingParty:
    """Register a relying party that wants to be told."""
    client = server.client(
        scopes=("openid",), require_pkce=False, backchannel_logout_uri=receiver.url(path), **settings
    )
    return RelyingParty(server, client)


def log_out(person: Person) -> None:
    """Let a person sign out on Authly's own page."""
    person.open("/logout")
    person.submit()
    assert "You are signed out" in person.page.text


def check(party: RelyingParty, token: str, claims: dict[str, Any]) -> None:
    """Check a logout token as a relying party has to (section 2.6)."""
    header = jwt.get_unverified_header(token)
    assert header["typ"] == "logout+jwt"
    said = jwt.decode(
        token,
        party.keys()[header["kid"]],
        algorithms=[party.client.client.settings.id_token_signed_response_alg],
        audience=party.client.id,
        issuer=party.configuration["issuer"],
        options={"require": ["iss", "aud", "iat", "exp", "jti", "events", "sub", "sid"]},
    )
    assert (said["sub"], said["sid"]) == (claims["sub"], claims["sid"])
    assert said["events"] == {"http://schemas.openid.net/event/backchannel-logout": {}}
    assert "nonce" not in said
    assert said["exp"] - said["iat"] <= 120


def test_who_is_told(server: Server, receiver: Receiver, relying_party: RelyingParty, person: Person) -> None:
    """At a logout every client that registered for it and has logged this session in is told, and nobody else."""
    one = listening(server, receiver, "/one")
    two = listening(
        server,
        receiver,
        "/two?kept=1",
        subject_type=SubjectType.PAIRWISE,
        id_token_signed_response_alg="ES256",
    )
    stranger = listening(server, receiver, "/stranger")
    claims = {party: party.log_in(person).claims for party in (one, two)}
    relying_party.log_in(person)
    somebody_else = server.person()
    stranger.log_in(somebody_else)
    # Long after its tokens are gone.
    server.sql("DELETE FROM token_families WHERE client_id = %s", one.client.id)
    log_out(person)
    wait_until(lambda: receiver.tokens("/one") and receiver.tokens("/two?kept=1"), 20)
    check(one, receiver.tokens("/one")[0], claims[one])
    check(two, receiver.tokens("/two?kept=1")[0], claims[two])
    wait_until(lambda: not announcements(server), 10)
    assert receiver.tokens("/stranger") == []
    assert len(receiver.tokens("/one")) == 1


def announcements(server: Server, client_id: str | None = None) -> list[tuple[Any, ...]]:
    """Return what clients are yet to be told."""
    query = "SELECT client_id, attempts FROM backchannel_logouts WHERE %s::text IS NULL OR client_id = %s"
    return server.sql(query, client_id, client_id)


def test_retries(server: Server, receiver: Receiver, person: Person) -> None:
    """A client that does not answer well is told again, in time; the logout did not wait for it."""
    party = listening(server, receiver, "/busy")
    away = listening(server, receiver, "/away")
    # Nothing listens there.
    server.update(away.client, backchannel_logout_uri="http://127.0.0.1:9/")
    receiver.answers["/busy"] = [503, 400, 302]
    claims = party.log_in(person).claims
    away.log_in(person)
    log_out(person)

    def is_put_forward() -> bool:
        # Nobody waits for five seconds and more here.
        return bool(server.sql("UPDATE backchannel_logouts SET due_at = now() RETURNING 1"))

    for attempt in range(1, 5):
        wait_until(lambda attempt=attempt: len(receiver.tokens("/busy")) == attempt, 20)  # type: ignore[misc]
        wait_until(is_put_forward)
    wait_until(lambda: not announcements(server, party.client.id), 10)
    tokens = receiver.tokens("/busy")
    for token in tokens:
        check(party, token, claims)
    assert len({jwt.decode(token, options={"verify_signature": False})["jti"] for token in tokens}) == 4
    # And given up at last.
    wait_until(lambda: not is_put_forward(), 40)
    assert not announcements(server)


def test_other_ends(server: Server, receiver: Receiver) -> None:
    """It does not matter how a session ends: by an administrator, a changed password, another user in the browser."""
    party = listening(server, receiver, "/other")
    by_admin, by_other = server.person(), server.person()
    ended = [party.log_in(person).claims["sid"] for person in (by_admin, by_other)]

    async def end(_: Any, identity: Any) -> None:
        await identity.sessions.end(await identity.sessions.get(UUID(ended[0])))

    server.run(end)
    wait_until(lambda: len(receiver.tokens("/other")) == 1, 20)
    other = server.person()
    by_other.open("/login")
    by_other.submit(username=other.username, password="correct horse battery staple")
    wait_until(lambda: len(receiver.tokens("/other")) == 2, 20)
    told = [jwt.decode(token, options={"verify_signature": False})["sid"] for token in receiver.tokens("/other")]
    assert told == ended


def test_off_the_request_path(server: Server, receiver: Receiver, person: Person) -> None:
    """A client that answers slowly keeps nobody waiting who logs out."""
    party = listening(server, receiver, "/slow")
    # A listener that accepts nobody: a connection to it stays open, without an answer.
    silent = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    try:
        server.update(party.client, backchannel_logout_uri=f"http://127.0.0.1:{silent.server_port}/")
        party.log_in(person)
        began = time.monotonic()
        log_out(person)
        assert time.monotonic() - began < 5.0  # the client would be waited for as long
        wait_until(lambda: announcements(server, party.client.id)[0][1] > 0, 20)
    finally:
        silent.server_close()
    server.sql("DELETE FROM backchannel_logouts")
