"""A small API that accepts access tokens of Authly.

It verifies them by itself: signature, issuer, audience, time and scope (RFC 9068, section 4). It asks Authly for
nothing but its public keys, once in five minutes.
"""

import os
from collections.abc import Callable
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

ISSUER = os.environ.get("ISSUER", "http://127.0.0.1:8000")
# Who this API is. Authly writes it into tokens that are asked for with `resource`; any other token is refused.
AUDIENCE = os.environ.get("AUDIENCE", "https://orders.example/")

app = FastAPI(title="Orders")
keys = jwt.PyJWKClient(f"{ISSUER}/jwks", lifespan=300)
bearer = HTTPBearer(auto_error=False)


def token_of(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> dict[str, Any]:
    """Return what the access token of a request says, or answer 401."""
    if credentials is None:
        raise HTTPException(401, "Send an access token.", {"WWW-Authenticate": "Bearer"})
    token = credentials.credentials
    try:
        if jwt.get_unverified_header(token).get("typ") != "at+jwt":
            raise jwt.InvalidTokenError("not an access token")
        key = keys.get_signing_key_from_jwt(token)
        claims: dict[str, Any] = jwt.decode(
            token, key, algorithms=["RS256", "ES256"], audience=AUDIENCE, issuer=ISSUER, options={"require": ["exp"]}
        )
    except (jwt.InvalidTokenError, jwt.PyJWKClientError) as error:
        raise HTTPException(401, "The access token is not valid.", {"WWW-Authenticate": "Bearer"}) from error
    return claims


def needs(scope: str) -> Callable[..., dict[str, Any]]:
    """Return a dependency that lets requests through whose token has a scope."""

    def check(claims: Annotated[dict[str, Any], Depends(token_of)]) -> dict[str, Any]:
        if scope not in claims["scope"].split():
            raise HTTPException(403, f"This needs the scope {scope}.", {"WWW-Authenticate": "Bearer"})
        return claims

    return check


@app.get("/orders")
def orders(claims: Annotated[dict[str, Any], Depends(needs("orders:read"))]) -> dict[str, Any]:
    """Show orders to whoever may see them."""
    return {"asked_by": claims["sub"], "orders": ["tea", "biscuits"]}
