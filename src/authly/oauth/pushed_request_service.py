"""Pushed authorization requests (RFC 9126)."""

from collections.abc import Callable
from datetime import timedelta

from authly.errors import InvalidRequestError
from authly.oauth import authorization_request
from authly.oauth.authorization_request import Asked, UnregisteredRedirectUriError
from authly.oauth.models import Client
from authly.oauth.parameters import Parameters
from authly.oauth.pushed_request_repository import PushedRequestRepository
from authly.oauth.security import SecurityEvents
from authly.tokens.secrets import LENGTH, hash_of, new_secret

PREFIX = "urn:ietf:params:oauth:request_uri:"
# A user may have to log in meanwhile; the longest that section 2.2 thinks of.
LIFETIME = timedelta(minutes=10)
# What authenticates the client is no part of what it asks.
_OF_AUTHENTICATION = frozenset({"client_secret", "client_assertion", "client_assertion_type"})


class PushedRequestService:
    """Keeps what clients want to ask users later.

    Args:
        requests: where it is kept.
        check: raises the ``OAuthError`` with which the authorization endpoint would refuse a request.
        events: is told of answers that were to go elsewhere.
    """

    def __init__(
        self, requests: PushedRequestRepository, check: Callable[[Asked], object], events: SecurityEvents
    ) -> None:
        self._events = events
        self._requests = requests
        self._check = check

    async def push(self, client: Client, parameters: Parameters) -> str:
        """Return the ``request_uri`` of a request, which was checked as if it came to the authorization endpoint.

        Args:
            client: who has authenticated.
            parameters: those of the body.

        Raises:
            OAuthError: the authorization endpoint would refuse it.
        """
        if "request_uri" in parameters:
            raise InvalidRequestError("A pushed request cannot have a request_uri.")
        try:
            asked = authorization_request.identify(client, parameters, PREFIX)
        except UnregisteredRedirectUriError:
            self._events.redirect_uri_differed(client.client_id, parameters.get("redirect_uri", ""))
            raise
        self._check(asked)
        secret = new_secret()
        kept = [(name, value) for name, value in parameters.pairs() if name not in _OF_AUTHENTICATION]
        await self._requests.add(hash_of(secret), client.client_id, kept, LIFETIME)
        return PREFIX + secret

    async def find(self, request_uri: str, client_id: str) -> Parameters | None:
        """Return what a client pushed, unless it has expired or been answered."""
        secret = request_uri.removeprefix(PREFIX)
        return await self._requests.find(hash_of(secret), client_id) if len(secret) == LENGTH else None

    async def use(self, request_uri: str) -> bool:
        """Note that a request was answered; tell whether it had not been before."""
        return await self._requests.use(hash_of(request_uri.removeprefix(PREFIX)))

    async def delete_expired(self, limit: int) -> int:
        """Delete at most so many requests that have expired; return how many it were."""
        return await self._requests.delete_expired(limit)
