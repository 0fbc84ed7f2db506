"""Authorization requests that are refused, and where the refusal goes."""

from typing import Any

import pytest

from authly.oauth.models import GrantType
from tests.oauth import CALLBACK, Answer, Pkce, Registered, Server, is_description


@pytest.fixture(scope="module")
def client(server: Server) -> Registered:
    """A client that most requests pretend to come from."""
    return server.client(scopes=("profile", "email"), resources=("https://api.example/",))


def refused(server: Server, url: str) -> str:
    """Make sure that a request is refused on a page and leads nowhere; return the page."""
    answer = server.http.get(url)
    assert answer.status_code == 400
    assert "location" not in answer.headers
    assert answer.headers["content-type"].startswith("text/html")
    return answer.text


def error_of(server: Server, url: str) -> Answer:
    """Return what the client is told of a request that is refused."""
    answer = server.http.get(url)
    assert answer.status_code == 303, answer.text
    told = Answer(answer.headers["location"])
    assert told.location.startswith(CALLBACK)
    assert "code" not in told.parameters
    assert is_description(told.parameters["error_description"])
    assert told.parameters["iss"] == server.url
    return told


@pytest.mark.parametrize("client_id", ["nobody", "", None, "a" * 3000, "%00", "' OR 1=1"])
def test_unknown_client(server: Server, client: Registered, client_id: str | None) -> None:
    """Nobody is redirected on behalf of a client that is not known (RFC 6749, section 4.1.2.1)."""
    refused(server, server.authorize_url(client, client_id=client_id))


def test_disabled_client(server: Server) -> None:
    """A client that an administrator disabled is as one that is not known (RFC 6749, section 4.1.2.1)."""
    disabled = server.client()
    server.update(disabled, enabled=False)
    refused(server, server.authorize_url(disabled))


@pytest.mark.parametrize(
    "redirect_uri",
    [
        "https://client.example/Callback",
        "https://CLIENT.example/callback",
        "HTTPS://client.example/callback",
        "https://client.example/callback/",
        "https://client.example/callback?",
        "https://client.example/callback?x=1",
        "https://client.example/callback#",
        "https://client.example/callback#fragment",
        "https://client.example:443/callback",
        "https://client.example:8443/callback",
        "https://client.example./callback",
        "https://user@client.example/callback",
        "https://client.example@evil.example/callback",
        "https://client.example%2f@evil.example/callback",
        "https://evil.example/callback",
        "https://client.example.evil.example/callback",
        "https://client.example/%63allback",
        "https://client.example/callback%2f",
        "https://client.example/callback/../callback",
        "https://client.example/x/../callback",
        "https://client.example\\@evil.example/callback",
        "https://client.example/callback%0d%0aset-cookie:x=1",
        " https://client.example/callback",
        "https://client.example/callback ",
        "http://client.example/callback",
        "//client.example/callback",
        "/callback",
        "javascript:alert(1)",
        "data:text/html,x",
        "https://client.example/callback\x00",
        "https://клиент.example/callback",
    ],
)
def test_redirect_uri_has_to_be_the_same(server: Server, client: Registered, redirect_uri: str) -> None:
    """A redirect URI that differs in any character leads nowhere (RFC 9700, sections 2.1 and 4.1.3)."""
    refused(server, server.authorize_url(client, redirect_uri=redirect_uri))


def test_redirect_uri_may_be_left_out_if_there_is_one(server: Server, client: Registered) -> None:
    """The one that is registered is meant (RFC 6749, section 3.1.2.3)."""
    assert error_of(server, server.authorize_url(client, redirect_uri=None, scope="nothing")).error == "invalid_scope"


def test_redirect_uri_may_not_be_left_out_if_there_are_two(server: Server) -> None:
    """Of two registered URIs the client has to name one (RFC 6749, section 3.1.2.3)."""
    two = server.client(redirect_uris=(CALLBACK, f"{CALLBACK}/2"))
    refused(server, server.authorize_url(two, redirect_uri=None))


@pytest.mark.parametrize(
    ("registered", "requested", "found"),
    [
        ("http://127.0.0.1/callback", "http://127.0.0.1:50000/callback", True),
        ("http://127.0.0.1:1/callback", "http://127.0.0.1:50000/callback", True),
        ("http://[::1]/callback", "http://[::1]:50000/callback", True),
        ("http://127.0.0.1/callback", "http://127.0.0.1:50000/other", False),
        ("http://127.0.0.1/callback", "http://127.0.0.1:0/callback", False),
        ("http://127.0.0.1/callback", "http://127.0.0.1:65536/callback", False),
        ("http://127.0.0.1/callback", "http://127.0.0.1:x/callback", False),
        ("http://127.0.0.1/callback", "http://127.0.0.1:1@evil.example/callback", False),
        ("http://127.0.0.1/callback", "http://127.0.0.1.evil.example/callback", False),
        ("http://127.0.0.1/callback", "http://[::1]:50000/callback", False),
        ("http://127.0.0.1/callback", "http://localhost:50000/callback", False),
        ("http://localhost/callback", "http://localhost:50000/callback", False),
        ("http://127.0.0.1/callback", "https://127.0.0.1:50000/callback", False),
    ],
)
def test_loopback_port(server: Server, registered: str, requested: str, found: bool) -> None:
    """A native application may have any port on a loopback address (RFC 8252, sections 7.3 and 8.3)."""
    native = server.client(public=True, redirect_uris=(registered,))
    answer = server.http.get(server.authorize_url(native, redirect_uri=requested))
    assert answer.status_code == (303 if found else 400)


def test_loopback_port_of_a_web_application(server: Server) -> None:
    """A client with a secret has the port that it registered (RFC 8252, section 7.3)."""
    web = server.client(redirect_uris=("http://127.0.0.1:8080/callback",))
    refused(server, server.authorize_url(web, redirect_uri="http://127.0.0.1:8081/callback"))


def test_private_use_scheme(server: Server) -> None:
    """A native application may have a scheme of its own (RFC 8252, section 7.1)."""
    native = server.client(public=True, redirect_uris=("com.example.app:/callback",))
    answer = server.person().authorize(server.authorize_url(native))
    assert answer.location.startswith("com.example.app:/callback?")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        # RFC 7636, section 4.4.1; RFC 9700, section 2.1.1
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": "s256"}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge": "x" * 44}, "invalid_request"),
        ({"code_challenge": "=" * 43}, "invalid_request"),
        # RFC 6749, section 3.1.1
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code token"}, "unsupported_response_type"),
        ({"response_type": "id_token"}, "unsupported_response_type"),
        ({"response_type": "none"}, "unsupported_response_type"),
        # RFC 6749, section 3.3
        ({"scope": "admin"}, "invalid_scope"),
        ({"scope": "profile  email"}, "invalid_scope"),
        ({"scope": 'profile "'}, "invalid_scope"),
        ({"scope": " profile"}, "invalid_scope"),
        ({"scope": "pröfile"}, "invalid_scope"),
        # RFC 8707, section 2
        ({"resource": "https://other.example/"}, "invalid_target"),
        ({"resource": "https://api.example/#fragment"}, "invalid_target"),
        ({"resource": "api"}, "invalid_target"),
        ({"resource": ["https://api.example/", "https://other.example/"]}, "invalid_target"),
        # OpenID Connect Core 1.0, section 3.1.2.6
        ({"request": "e30.e30."}, "request_not_supported"),
        ({"request_uri": "https://client.example/request"}, "request_uri_not_supported"),
        # OAuth 2.0 Multiple Response Types, section 2.1
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"nonce": "n" * 600}, "invalid_request"),
    ],
)
def test_errors_go_to_the_client(server: Server, client: Registered, changes: dict[str, Any], error: str) -> None:
    """Once client and redirect URI are known, the client is told what is wrong (RFC 6749, section 4.1.2.1)."""
    told = error_of(server, server.authorize_url(client, **changes))
    assert told.error == error
    assert told.parameters["state"] == "a state"


@pytest.mark.parametrize(
    "name", ["response_type", "scope", "code_challenge", "code_challenge_method", "nonce", "extension"]
)
def test_repeated_parameter(server: Server, client: Registered, name: str) -> None:
    """No parameter may be there twice, even with the same value (RFC 6749, section 3.1)."""
    url = f"{server.authorize_url(client, nonce='a', extension='a')}&{name}=a"
    assert error_of(server, url).error == "invalid_request"


def test_repeated_state(server: Server, client: Registered) -> None:
    """Of two states none is sent back (RFC 6749, section 3.1)."""
    told = error_of(server, f"{server.authorize_url(client)}&state=other")
    assert told.error == "invalid_request"
    assert "state" not in told.parameters


@pytest.mark.parametrize("name", ["client_id", "redirect_uri", "request_uri"])
def test_repeated_parameter_that_says_where_to_go(server: Server, client: Registered, name: str) -> None:
    """With two of these, nobody knows where an error would go (RFC 6749, sections 3.1 and 4.1.2.1)."""
    refused(server, f"{server.authorize_url(client, request_uri='a')}&{name}=a")


def test_unknown_parameters_are_ignored(server: Server, client: Registered) -> None:
    """What Authly does not know does not count (RFC 6749, section 3.1)."""
    answer = server.http.get(server.authorize_url(client, whatever="x", prompt=""))
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login")


def test_parameters_without_a_value_are_not_there(server: Server, client: Registered) -> None:
    """An empty parameter is as one that is left out (RFC 6749, section 3.1)."""
    assert error_of(server, server.authorize_url(client, code_challenge="")).error == "invalid_request"


def test_state_comes_back_as_it_was(server: Server, client: Registered) -> None:
    """Whatever characters it has (RFC 6749, section 4.1.2)."""
    state = 'a&b=c#d%20"<>é+ /?'
    assert error_of(server, server.authorize_url(client, state=state, scope="x")).parameters["state"] == state


def test_query_of_the_redirect_uri_stays(server: Server) -> None:
    """Parameters are added to those that a redirect URI has (RFC 6749, section 3.1.2)."""
    with_query = server.client(redirect_uris=(f"{CALLBACK}?tenant=1",))
    told = error_of(server, server.authorize_url(with_query, scope="x"))
    assert told.location.startswith(f"{CALLBACK}?tenant=1&error=invalid_scope&")


def test_client_without_the_grant(server: Server) -> None:
    """A client that has no use for codes gets none (RFC 6749, section 4.1.2.1)."""
    client = server.client()
    server.sql("UPDATE clients SET grant_types = %s WHERE client_id = %s", ["client_credentials"], client.id)
    assert error_of(server, server.authorize_url(client)).error == "unauthorized_client"


def test_request_that_is_too_long(server: Server, client: Registered) -> None:
    """What would not survive the login page is refused before it."""
    assert "longer" in refused(server, server.authorize_url(client, state="s" * 9000))
    form = {"content-type": "application/x-www-form-urlencoded"}
    for size, status in ((9000, 400), (70_000, 413)):
        answer = server.http.post("/oauth2/authorize", content=b"state=" + b"s" * size, headers=form)
        assert answer.status_code == status
        assert answer.json()["error"] == "invalid_request"


def test_malformed_encoding(server: Server, client: Registered) -> None:
    """Parameters are UTF-8 (RFC 6749, appendix B)."""
    refused(server, f"{server.authorize_url(client)}&x=%ff")


def test_form_of_another_site(server: Server, client: Registered) -> None:
    """A consent that was not given on Authly's page is none (RFC 6749, section 10.12)."""
    person = server.person()
    url = server.authorize_url(client)
    person.open(url)
    person.log_in()
    query = url.partition("?")[2]
    person._follow("POST", "/oauth2/consent", {"request": query, "decision": "allow"})
    assert person.page.status_code == 403
    assert server.sql("SELECT 1 FROM consents WHERE user_id = %s", person.user_id) == []


def test_consent_to_what_was_not_shown(server: Server, client: Registered) -> None:
    """What the form says is checked again: it decides nothing that a request could not (RFC 9700, section 4.1)."""
    person = server.person()
    person.open(server.authorize_url(client))
    person.log_in()
    evil = server.authorize_url(client, redirect_uri="https://evil.example/").partition("?")[2]
    assert person.submit(decision="allow", request=evil) is None
    assert person.page.status_code == 400


@pytest.mark.parametrize("decision", ["", "maybe"])
def test_no_decision(server: Server, client: Registered, decision: str) -> None:
    """Neither button is a mistake, and allows nothing (RFC 6749, section 10.2)."""
    person = server.person()
    person.open(server.authorize_url(client))
    person.log_in()
    assert person.submit(decision=decision) is None
    assert person.page.status_code == 400


def test_answers_name_their_issuer(server: Server, client: Registered) -> None:
    """By ``iss`` a client tells servers apart, in codes and errors alike (RFC 9207, section 2; mix-up attacks)."""
    answer = server.person().authorize(server.authorize_url(client, Pkce()))
    assert answer.parameters["iss"] == server.url
    metadata = server.http.get("/.well-known/oauth-authorization-server").json()
    assert metadata["authorization_response_iss_parameter_supported"] is True
    assert metadata["issuer"] == server.url


def test_pages_are_framed_by_nobody_and_cached_nowhere(server: Server, client: Registered) -> None:
    """The consent page cannot be laid under another (RFC 9700, section 4.16); its form may lead to the client."""
    person = server.person()
    person.open(server.authorize_url(client))
    person.log_in()
    policy = person.page.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "form-action 'self' https://client.example;" in policy
    assert person.page.headers["cache-control"] == "no-store"


def test_names_are_shown_as_text(server: Server) -> None:
    """A client's name cannot be markup on the page where it is allowed something (RFC 6749, section 10.14)."""
    client = server.client(name="<script>alert(1)</script>", grant_types=(GrantType.AUTHORIZATION_CODE,))
    person = server.person()
    person.open(server.authorize_url(client))
    person.log_in()
    assert "&lt;script&gt;" in person.page.text
    assert "<script" not in person.page.text
