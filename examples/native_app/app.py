"""A command that knows who you are: it logs its user in with the system's browser (RFC 8252).

It listens on a port of the loopback interface that the system chooses, sends the user to Authly, receives the code, and
redeems it with the verifier that only it knows (PKCE). Nothing is kept.
"""

import argparse
import base64
import hashlib
import json
import secrets
import sys
import urllib.error
import urllib.request
import webbrowser
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import jwt


class LoginError(Exception):
    """The login did not work; the message says why."""


class Listener(HTTPServer):
    """Receives the answer that the browser brings."""

    answer: dict[str, str] | None = None


class Handler(BaseHTTPRequestHandler):
    """Takes the first request for /callback for the answer."""

    server: Listener

    def do_GET(self) -> None:
        """Thank the browser."""
        parts = urlsplit(self.path)
        # Browsers ask for an icon, too.
        found = parts.path == "/callback"
        if found:
            self.server.answer = dict(parse_qsl(parts.query))
        self.send_response(200 if found else 404)
        self.send_header("content-type", "text/plain; charset=utf-8")
        self.end_headers()
        self.wfile.write(b"You can close this page now, and go back to the terminal.\n" if found else b"")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def ask(url: str, fields: dict[str, str] | None = None, token: str | None = None) -> dict[str, Any]:
    """Return the JSON that an address answers with.

    Args:
        url: the address.
        fields: of a form to send.
        token: an access token to send.

    Raises:
        LoginError: it answers with an error.
    """
    request = urllib.request.Request(url, urlencode(fields).encode() if fields else None)  # noqa: S310
    if token is not None:
        request.add_header("authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            content: dict[str, Any] = json.load(answer)
            return content
    except urllib.error.HTTPError as error:
        with error:
            raise LoginError(f"{url} answers {error.code}: {error.read().decode()}") from error


def log_in(issuer: str, client_id: str) -> dict[str, Any]:
    """Return what is known of the user, once they have logged in.

    Raises:
        LoginError: they have not.
    """
    server = ask(f"{issuer}/.well-known/openid-configuration")
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    with Listener(("127.0.0.1", 0), Handler) as listener:
        redirect_uri = f"http://127.0.0.1:{listener.server_port}/callback"
        request = {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": redirect_uri,
            "scope": "openid profile",
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        url = f"{server['authorization_endpoint']}?{urlencode(request)}"
        print(f"Sign in at {url}", flush=True)  # noqa: T201
        webbrowser.open(url)
        while listener.answer is None:
            listener.handle_request()
    answer = listener.answer
    if answer.get("state") != state or answer.get("iss") != issuer:
        raise LoginError("The answer is not to this request, or of another server.")
    if "error" in answer:
        raise LoginError(answer.get("error_description", answer["error"]))
    tokens = ask(
        server["token_endpoint"],
        {
            "grant_type": "authorization_code",
            "client_id": client_id,
            "code": answer["code"],
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        },
    )
    key = jwt.PyJWKClient(server["jwks_uri"]).get_signing_key_from_jwt(tokens["id_token"])
    claims = jwt.decode(tokens["id_token"], key, algorithms=["RS256"], audience=client_id, issuer=issuer)
    if claims["nonce"] != nonce:
        raise LoginError("The ID token answers another request.")
    user = ask(server["userinfo_endpoint"], token=tokens["access_token"])
    if user["sub"] != claims["sub"]:
        raise LoginError("Userinfo is about somebody else.")
    return user


def main() -> int:
    """Log the user in and greet them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("client_id")
    parser.add_argument("--issuer", default="http://127.0.0.1:8000")
    options = parser.parse_args()
    try:
        user = log_in(options.issuer, options.client_id)
    except (LoginError, jwt.InvalidTokenError, OSError) as error:
        print(f"That did not work: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(f"You are {user.get('name', user['preferred_username'])}.")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
