"""Tokens that others verify: with libraries of their own, while keys rotate, and at another instance."""

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from authlib.oidc.core import CodeIDToken, UserInfo

from authly.keys.models import ALGORITHMS, Rotation
from tests.instance import Instance, total
from tests.oauth import SETTINGS, Person, Server, claims_of
from tests.oidc import EVERYTHING, SCOPES, RelyingParty
from tests.plain import NO_TLS
from tests.processes import wait_until


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_two_libraries(server: Server, person: Person, algorithm: str) -> None:
    """What joserfc signs PyJWT verifies, and Authlib finds the claims to be what they have to be."""
    client = server.client(scopes=SCOPES, require_pkce=False, id_token_signed_response_alg=algorithm)
    party = RelyingParty(server, client)
    logged_in = party.log_in(person, nonce="n", max_age="600")
    claims = CodeIDToken(
        logged_in.claims,
        {"alg": algorithm},
        {"iss": {"value": server.url}, "aud": {"value": client.id}},
        {"client_id": client.id, "nonce": "n", "max_age": 600, "access_token": logged_in.access_token},
    )
    claims.validate(now=time.time(), leeway=5)
    UserInfo(party.userinfo(logged_in.access_token)).filter("openid")
    # The access token too, by those who serve resources (RFC 9068, section 4).
    key = party.keys()[jwt.get_unverified_header(logged_in.access_token)["kid"]]
    said = jwt.decode(logged_in.access_token, key, algorithms=["RS256"], audience=server.url, issuer=server.url)
    assert said["sub"] == logged_in.claims["sub"]


# As the settings of the instance have it.
ROTATION = Rotation(max_age=timedelta(seconds=1), refresh=timedelta(seconds=0.1))


class Verifier:
    """A resource server or relying party that caches keys exactly as long as it may, and never looks in between.

    Args:
        http: asks for them.
    """

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._until = 0.0
        self._tag = ""
        self._keys = jwt.PyJWKSet.from_dict(http.get("/jwks").json())

    def verify(self, token: str) -> str:
        """Verify a token; return the id of its key."""
        if time.monotonic() >= self._until:
            self._look()
        header = jwt.get_unverified_header(token)
        jwt.decode(token, self._keys[header["kid"]], algorithms=[header["alg"]], options={"verify_aud": False})
        return str(header["kid"])

    def _look(self) -> None:
        asked = time.monotonic()
        answer = self._http.get("/jwks", headers={"if-none-match": self._tag})
        name, _, seconds = answer.headers["cache-control"].partition("max-age=")
        assert name == "public, "
        self._until = asked + int(seconds)
        self._tag = answer.headers["etag"]
        if answer.status_code != 304:
            self._keys = jwt.PyJWKSet.from_dict(answer.json())


def test_rotation_under_load(server: Server) -> None:
    """Keys are replaced while three workers sign: no verifier that caches as it may ever misses a key."""
    service = server.service()
    client = server.client(scopes=SCOPES, require_pkce=False, id_token_signed_response_alg="ES256")
    party = RelyingParty(server, client)
    person = server.person()
    stop = threading.Event()
    seen: set[str] = set()
    verified, problems = [0], []

    def access_tokens(http: httpx.Client) -> str:
        answer = http.post("/oauth2/token", data={"grant_type": "client_credentials"}, auth=service.basic)
        return str(answer.json()["access_token"])

    refresh_token = [party.log_in(person, scope="openid offline_access").tokens["refresh_token"]]

    def id_tokens(http: httpx.Client) -> str:
        data = {"grant_type": "refresh_token", "refresh_token": refresh_token[0]}
        tokens = http.post("/oauth2/token", data=data, auth=client.basic).json()
        refresh_token[0] = tokens["refresh_token"]
        return str(tokens["id_token"])

    def load(get_token: Any) -> None:
        with httpx.Client(base_url=server.url, verify=NO_TLS) as own:
            verifier = Verifier(own)
            while not stop.is_set():
                try:
                    # A connection of its own may reach another worker.
                    with httpx.Client(base_url=server.url, verify=NO_TLS) as http:
                        seen.add(verifier.verify(get_token(http)))
                    verified[0] += 1
                except Exception as error:
                    problems.append(repr(error))
                    return

    def published() -> set[str]:
        return {str(key.key_id) for key in party.keys().keys}

    threads = [threading.Thread(target=load, args=[kind]) for kind in (access_tokens, access_tokens, id_tokens)]
    for thread in threads:
        thread.start()
    try:
        for algorithm in ("RS256", "ES256"):
            before = published()
            # Whatever is signed here is verified at once.
            rotated = server.run(
                lambda services, _, algorithm=algorithm: services.keys.rotate(  # type: ignore[misc]
                    algorithm, signs_after=ROTATION.signs_after, overlap=timedelta(seconds=2)
                )
            )
            assert rotated
            wait_until(lambda before=before: published() - before, 10)  # type: ignore[misc]
            (new,) = published() - before
            wait_until(lambda new=new: new in seen or problems, 20)  # type: ignore[misc]
            wait_until(lambda before=before: before - published() or problems, 20)  # type: ignore[misc]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert problems == []
    assert len(seen) == 4  # two keys at first, and two that followed
    assert verified[0] > 20


@pytest.fixture
def second_instance(server: Server, tmp_path: Path) -> Iterator[Server]:
    """Another instance on the same database, with the same secret key and the same issuer."""
    environment = {
        **SETTINGS,
        "AUTHLY_DATABASE_URL": server.database_url,
        "AUTHLY_ISSUER": server.url,
        "AUTHLY_WORKERS": "1",
        "AUTHLY_JWKS_MAX_AGE": "1",
    }
    instance = Instance(tmp_path, environment)
    try:
        instance.start()
        wait_until(lambda: instance.get("/health/ready")[0] == 200, 30)
        second = Server(instance, server.database_url)
        with second.http:
            yield second
    finally:
        instance.stop()


@pytest.mark.produces("authly_cleanup_rows_deleted_total", task=("signing_keys",))
@pytest.mark.produces("authly_database_queries_total", operation=("signing_keys.succeed",))
@pytest.mark.produces("authly_database_query_duration_seconds", operation=("signing_keys.succeed",))
@pytest.mark.produces("authly_oidc_signing_keys", state=("pending", "retiring"))
def test_keys_that_are_due(migrated_url: str, tmp_path: Path) -> None:
    """A key that has signed for long enough is replaced by the elected worker; audit log and metrics say so."""
    environment = {
        "AUTHLY_DATABASE_URL": migrated_url,
        "AUTHLY_WORKERS": "1",
        "AUTHLY_SIGNING_KEY_DAYS": "1",
        "AUTHLY_METRICS_COLLECTION_INTERVAL": "0.1",
    }
    server = Server(Instance(tmp_path, {**SETTINGS, **environment}), migrated_url)
    with server.http:
        server.run(lambda services, _: services.keys.published())
        server.sql("UPDATE signing_keys SET active_at = now() - interval '25 hours'")

        def shown() -> dict[str, float]:
            """Return how many keys there are, by state, by the metrics of the instance."""
            series, name = server.instance.series(), "authly_oidc_signing_keys"
            return {state: total(series, name, state=state) for state in ("active", "pending", "retiring")}

        try:
            server.instance.start()
            wait_until(lambda: len(server.sql("SELECT 1 FROM audit_log WHERE event = 'key_rotated'")) == 3, 30)
            states = server.run(lambda services, _: services.keys.states())
            assert sorted(state for _, state in states) == ["active"] * 3 + ["pending"] * 3
            wait_until(lambda: shown() == {"active": 3, "pending": 3, "retiring": 0})
            rows = "authly_cleanup_rows_deleted_total"
            wait_until(lambda: total(server.instance.series(), rows, task="signing_keys") == 3)
            server.sql("UPDATE signing_keys SET active_at = now() WHERE active_at > now()")
            wait_until(lambda: shown() == {"active": 3, "pending": 0, "retiring": 3})
        finally:
            server.instance.stop()


def test_two_instances(server: Server, second_instance: Server, relying_party: RelyingParty) -> None:
    """Tokens of one instance verify at the other, before and after keys are replaced."""
    assert second_instance.url != server.url
    person = server.person(**EVERYTHING)

    def check() -> dict[str, Any]:
        logged_in = relying_party.log_in(person, scope="openid email")
        headers = {"authorization": f"Bearer {logged_in.access_token}"}
        assert second_instance.http.get("/oidc/userinfo", headers=headers).json()["email"] == EVERYTHING["email"]
        assert second_instance.introspect(relying_party.client, logged_in.access_token)["active"] is True
        keys = jwt.PyJWKSet.from_dict(second_instance.http.get("/jwks").json())
        header = jwt.get_unverified_header(logged_in.id_token)
        jwt.decode(logged_in.id_token, keys[header["kid"]], algorithms=["RS256"], audience=relying_party.client.id)
        hint = {"id_token_hint": logged_in.id_token}
        assert second_instance.http.get("/oidc/logout", params=hint).status_code == 303
        # The other way round: what the second one signs.
        refresh = {"grant_type": "refresh_token", "refresh_token": logged_in.tokens["refresh_token"]}
        tokens = second_instance.http.post("/oauth2/token", data=refresh, auth=relying_party.client.basic).json()
        relying_party.check(tokens["id_token"], nonce=None, access_token=tokens["access_token"])
        assert relying_party.userinfo(tokens["access_token"])["email"] == EVERYTHING["email"]
        assert claims_of(tokens["access_token"])["iss"] == server.url
        return header

    before = check()
    server.run(lambda services, _: services.keys.rotate("RS256", signs_after=timedelta(seconds=1)))
    wait_until(lambda: check()["kid"] != before["kid"], 20)
    check()
