"""Where the protocol's endpoints are, and what they can do (RFC 8414)."""

from typing import Any

from authly.oauth import client_keys
from authly.oauth.authorization_request import ResponseMode
from authly.oauth.models import AuthMethod, GrantType
from authly.oauth.pkce import METHOD

AUTHORIZE = "/oauth2/authorize"
TOKEN = "/oauth2/token"
REVOKE = "/oauth2/revoke"
INTROSPECT = "/oauth2/introspect"
PAR = "/oauth2/par"
JWKS = "/jwks"
METADATA = "/.well-known/oauth-authorization-server"


class Endpoints:
    """The endpoints of an issuer.

    Args:
        issuer: its URL, without a path.
    """

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer

    @property
    def audiences(self) -> frozenset[str]:
        """For whom a client's assertion may be.

        The issuer (RFC 7523, section 3), the token endpoint, and the endpoint where it is used (RFC 9126, section 2).
        """
        return frozenset({self.issuer, *(self.issuer + path for path in (TOKEN, REVOKE, INTROSPECT, PAR))})

    def metadata(self, scopes: list[str]) -> dict[str, Any]:
        """Return what clients are told about this server (RFC 8414, section 2).

        Args:
            scopes: those there are.
        """
        methods = [method.value for method in AuthMethod]
        secret_keepers = [method for method in methods if method != AuthMethod.NONE]
        algorithms = list(client_keys.ALGORITHMS)
        return {
            "issuer": self.issuer,
            "authorization_endpoint": self.issuer + AUTHORIZE,
            "token_endpoint": self.issuer + TOKEN,
            "revocation_endpoint": self.issuer + REVOKE,
            "introspection_endpoint": self.issuer + INTROSPECT,
            "pushed_authorization_request_endpoint": self.issuer + PAR,
            "jwks_uri": self.issuer + JWKS,
            "scopes_supported": scopes,
            "response_types_supported": ["code"],
            "response_modes_supported": [mode.value for mode in ResponseMode],
            "grant_types_supported": [grant_type.value for grant_type in GrantType],
            "code_challenge_methods_supported": [METHOD],
            "token_endpoint_auth_methods_supported": methods,
            "token_endpoint_auth_signing_alg_values_supported": algorithms,
            "revocation_endpoint_auth_methods_supported": methods,
            "revocation_endpoint_auth_signing_alg_values_supported": algorithms,
            # Public clients are told nothing: they could not prove that the question is theirs (RFC 7662, section 2.1).
            "introspection_endpoint_auth_methods_supported": secret_keepers,
            "introspection_endpoint_auth_signing_alg_values_supported": algorithms,
            "authorization_response_iss_parameter_supported": True,
            "require_pushed_authorization_requests": False,
        }
