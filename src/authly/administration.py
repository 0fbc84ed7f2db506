"""From services to those of administrators: the same for the application and for the command line."""

from authly.admin.service import AdministrationService
from authly.identity import Identity
from authly.oauth_server import OAuthServer


def administration_of(identity: Identity, server: OAuthServer) -> AdministrationService:
    """Return what administrators and operators do.

    Args:
        identity: the services of users and sessions.
        server: the services of the OAuth protocol.
    """
    return AdministrationService(
        identity.users, identity.sessions, server.clients, server.tokens, server.keys, identity.audit
    )
