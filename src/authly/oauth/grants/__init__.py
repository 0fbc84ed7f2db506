"""What can be exchanged for tokens: one file for each grant type.

A grant knows its own rules alone. Who the client is, that it may use the grant, what the response looks like and what
is recorded of it, is the business of ``authly.oauth.token_pipeline``.
"""

from dataclasses import dataclass
from typing import Protocol

from authly.oauth.models import Client, GrantType
from authly.oauth.parameters import Parameters
from authly.tokens.models import Issued


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A token request of a client that has authenticated."""

    client: Client
    parameters: Parameters


class Grant(Protocol):
    """A way to get tokens."""

    @property
    def type(self) -> GrantType:
        """The value of ``grant_type``."""

    async def exchange(self, request: TokenRequest) -> Issued:
        """Return what the client gets.

        Raises:
            OAuthError: it gets nothing.
        """
