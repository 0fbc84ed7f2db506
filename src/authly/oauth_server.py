"""From settings to the services of the OAuth protocol: the same for the application and for the command line."""

from datetime import timedelta

from authly.audit.service import AuditLog
from authly.core.cache import Caches
from authly.core.repository import Database
from authly.core.security_log import SecurityLog
from authly.keys.encryption import KeyEncryption
from authly.keys.jwt import Jwts
from authly.keys.models import Rotation
from authly.keys.repository import SigningKeyRepository
from authly.keys.service import SigningKeyService
from authly.monitoring.recorders import Recorders
from authly.oauth.authorization_service import AuthorizationService
from authly.oauth.cached_repositories import remembering
from authly.oauth.client_authentication import ClientAuthenticator
from authly.oauth.client_repository import ClientRepository
from authly.oauth.client_service import ClientService
from authly.oauth.consent_repository import ConsentRepository
from authly.oauth.consent_service import ConsentService
from authly.oauth.endpoints import Endpoints
from authly.oauth.grants.authorization_code import AuthorizationCodeGrant
from authly.oauth.grants.client_credentials import ClientCredentialsGrant
from authly.oauth.grants.refresh_token import RefreshTokenGrant
from authly.oauth.introspection import IntrospectionService
from authly.oauth.pushed_request_repository import PushedRequestRepository
from authly.oauth.pushed_request_service import PushedRequestService
from authly.oauth.revocation import RevocationService
from authly.oauth.scope_repository import ScopeRepository
from authly.oauth.scope_service import ScopeService
from authly.oauth.security import SecurityEvents
from authly.oauth.subjects import Subjects
from authly.oauth.token_pipeline import TokenPipeline
from authly.oidc import authentication_request
from authly.oidc.backchannel_logout import AnnouncementRepository, BackchannelLogout
from authly.oidc.id_tokens import IdTokenService
from authly.oidc.interaction import InteractionService
from authly.oidc.login_marker import LoginMarkers
from authly.oidc.logout import LogoutService
from authly.oidc.userinfo import UserinfoService
from authly.secret_keys import secret_key_of
from authly.settings import Settings
from authly.tokens.access_token import AccessTokenFormat
from authly.tokens.models import Lifetimes
from authly.tokens.repository import TokenRepository
from authly.tokens.secrets import Successors
from authly.tokens.service import TokenService
from authly.users.repository import UserRepository


class OAuthServer:
    """The services of the OAuth protocol on one database.

    Args:
        settings: what an operator chose.
        database: where everything is kept.
        audit: where what happens is recorded.
        caches: remember clients and scopes; without them, each is asked for each time.
        recorders: are told what they do.

    Raises:
        SecretKeyError: there is no secret key, and none can be made.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        audit: AuditLog,
        caches: Caches | None = None,
        recorders: Recorders | None = None,
    ) -> None:
        recorders = recorders or Recorders()
        security = SecurityLog(recorders.security)
        events = SecurityEvents(audit, security)
        self.endpoints = Endpoints(settings.issuer_url)
        issuer = self.endpoints.issuer
        secret = secret_key_of(settings)
        self.keys = SigningKeyService(
            SigningKeyRepository(database), KeyEncryption(secret.derive("signing keys")), _rotation(settings)
        )
        jwts = Jwts(self.keys, security)
        users = UserRepository(database)
        id_token_ttl = timedelta(seconds=settings.id_token_ttl)
        self.id_tokens = IdTokenService(issuer, jwts, users.get, id_token_ttl, metrics=recorders.oidc)
        self.tokens = TokenService(
            TokenRepository(database),
            AccessTokenFormat(issuer, jwts, settings.access_token_algorithm),
            Successors(secret.derive("refresh tokens")),
            Lifetimes(
                authorization_code=timedelta(seconds=settings.authorization_code_ttl),
                access_token=timedelta(seconds=settings.access_token_ttl),
                refresh_token=timedelta(seconds=settings.refresh_token_ttl),
                refresh_grace=timedelta(seconds=settings.refresh_token_grace),
            ),
            self.id_tokens,
            metrics=recorders.oauth,
        )
        clients, scopes = ClientRepository(database), ScopeRepository(database)
        if caches is not None:
            clients, scopes = remembering(database, caches)
        self.clients = ClientService(clients, scopes, self.tokens, audit)
        self.scopes = ScopeService(scopes, audit)
        self.consents = ConsentService(ConsentRepository(database), self.tokens, audit)
        self.pushed_requests = PushedRequestService(
            PushedRequestRepository(database), authentication_request.check, events
        )
        self.authenticator = ClientAuthenticator(clients, self.endpoints.audiences, events, recorders.oauth)
        subjects = Subjects(secret.derive("pairwise subjects"))
        self.authorization = AuthorizationService(
            clients, self.pushed_requests, self.consents, self.tokens, subjects, events
        )
        self.interaction = InteractionService(self.authorization, self.id_tokens, subjects)
        self.login_markers = LoginMarkers(secret.derive("login markers"))
        self.userinfo = UserinfoService(issuer, self.tokens, users, clients, jwts)
        self.logout = LogoutService(clients, self.id_tokens, subjects)
        self.backchannel_logout = BackchannelLogout(issuer, AnnouncementRepository(database), jwts)
        self.introspection = IntrospectionService(self.tokens, issuer, recorders.oauth)
        self.revocation = RevocationService(self.tokens, audit)
        self.pipeline = TokenPipeline(
            self.authenticator,
            [
                AuthorizationCodeGrant(self.tokens, issuer, events),
                RefreshTokenGrant(self.tokens, issuer, events),
                ClientCredentialsGrant(self.tokens, issuer),
            ],
            recorders.oauth,
        )


def _rotation(settings: Settings) -> Rotation:
    max_age = timedelta(seconds=settings.jwks_max_age)
    return Rotation(
        max_age=max_age,
        refresh=min(timedelta(seconds=30), max_age / 10),
        lifetime=timedelta(days=settings.signing_key_days) if settings.signing_key_days else None,
    )
