"""What this server can do, for clients that read it (OpenID Connect Discovery 1.0, section 3)."""

from typing import Any

from authly.keys.models import ALGORITHMS
from authly.oauth.models import SubjectType
from authly.oidc.authentication_request import ACR_VALUES, Display, Prompt
from authly.oidc.claims import OF_ID_TOKENS, SCOPES

CONFIGURATION = "/.well-known/openid-configuration"
USERINFO = "/oidc/userinfo"
LOGOUT = "/oidc/logout"


def configuration(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration document.

    Args:
        metadata: what OAuth clients are told of the same server (RFC 8414).
    """
    issuer = metadata["issuer"]
    return {
        **metadata,
        "userinfo_endpoint": issuer + USERINFO,
        "end_session_endpoint": issuer + LOGOUT,
        "subject_types_supported": [subject_type.value for subject_type in SubjectType],
        "id_token_signing_alg_values_supported": list(ALGORITHMS),
        "userinfo_signing_alg_values_supported": list(ALGORITHMS),
        "acr_values_supported": list(ACR_VALUES),
        "display_values_supported": [display.value for display in Display],
        "prompt_values_supported": [prompt.value for prompt in Prompt],
        "claim_types_supported": ["normal"],
        "claims_supported": [*OF_ID_TOKENS, *(name for names in SCOPES.values() for name in names)],
        "claims_parameter_supported": True,
        "ui_locales_supported": ["en"],
        # Each of these has to be said: what is left out means the contrary, or nobody knows.
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,
        "require_request_uri_registration": False,
        "backchannel_logout_supported": True,
        "backchannel_logout_session_supported": True,
    }
