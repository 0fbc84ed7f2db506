"""From an authorization request to a code."""

from uuid import UUID

from authly.errors import AccessDeniedError, InvalidRequestError, InvalidRequestUriError
from authly.oauth import authorization_request
from authly.oauth.authorization_request import Asked, AuthorizationRequest, UnregisteredRedirectUriError
from authly.oauth.client_repository import ClientRepository
from authly.oauth.consent_service import ConsentService
from authly.oauth.models import Client, ClientType
from authly.oauth.parameters import Parameters
from authly.oauth.pushed_request_service import PREFIX, PushedRequestService
from authly.oauth.security import SecurityEvents
from authly.oauth.subjects import Subjects
from authly.sessions.models import Session
from authly.tokens.models import Authorization, RequestedClaims
from authly.tokens.service import TokenService

_LONGEST_CLIENT_ID = 255


class AuthorizationService:
    """Decides about authorization requests.

    Args:
        clients: who may ask.
        pushed_requests: what was asked beforehand.
        consents: what users have allowed.
        tokens: issues codes.
        subjects: says by what clients know users.
        events: is told of answers that were to go elsewhere.
    """

    def __init__(
        self,
        clients: ClientRepository,
        pushed_requests: PushedRequestService,
        consents: ConsentService,
        tokens: TokenService,
        subjects: Subjects,
        events: SecurityEvents,
    ) -> None:
        self._clients = clients
        self._pushed_requests = pushed_requests
        self._consents = consents
        self._tokens = tokens
        self._subjects = subjects
        self._events = events

    async def identify(self, parameters: Parameters) -> Asked:
        """Find out who asks and where the answer goes.

        Raises:
            OAuthError: one of them is not known for certain; for the user's eyes.
        """
        authorization_request.refuse_ambiguous(parameters)
        client = await self._find(parameters.need("client_id"))
        request_uri = parameters.get("request_uri", "")
        if not request_uri.startswith(PREFIX):
            try:
                return authorization_request.identify(client, parameters)
            except UnregisteredRedirectUriError:
                self._events.redirect_uri_differed(client.client_id, parameters.get("redirect_uri", ""))
                raise
        pushed = await self._pushed_requests.find(request_uri, client.client_id)
        if pushed is None:
            raise InvalidRequestUriError("The request_uri is unknown, expired, used, or another client's.")
        # What else the request says does not count (RFC 9126, section 4; RFC 9101, section 5).
        return authorization_request.identify(client, pushed, request_uri)

    async def needs_consent(self, request: AuthorizationRequest, scopes: tuple[str, ...], user_id: UUID) -> bool:
        """Tell whether the user has to be asked.

        Args:
            request: what is asked for.
            scopes: those to be allowed: of the request, and what it asks for besides.
            user_id: who is asked.
        """
        client = request.client
        if _may_be_impersonated(request):
            return True
        if not client.settings.require_consent:
            return False
        return not await self._consents.covers(user_id, client.client_id, scopes, request.resources)

    async def allow(self, request: AuthorizationRequest, session: Session, claims: RequestedClaims) -> str:
        """Return a code.

        Args:
            request: what is allowed.
            session: of the user who allows it.
            claims: what the client wants to know, claim by claim.

        Raises:
            InvalidRequestUriError: the request was pushed, and has been answered.
        """
        await self._answer(request)
        authorization = Authorization(
            client_id=request.client.client_id,
            user_id=session.user_id,
            session_id=session.session_id,
            scopes=request.scopes,
            resources=request.resources,
            nonce=request.nonce,
            auth_time=session.authenticated_at,
            subject=self._subjects.of(request.client, session.user_id),
            amr=session.amr,
            claims=claims,
        )
        return await self._tokens.issue_code(authorization, request.asked.redirect_uri, request.code_challenge)

    async def remember(self, request: AuthorizationRequest, scopes: tuple[str, ...], user_id: UUID) -> None:
        """Remember that a user allowed a request, so that it needs no asking again."""
        await self._consents.grant(user_id, request.client.client_id, scopes, request.resources)

    async def deny(self, request: AuthorizationRequest) -> AccessDeniedError:
        """Return what the client is told of a user who said no."""
        await self._answer(request)
        return AccessDeniedError("The user said no.")

    async def _find(self, client_id: str) -> Client:
        client = await self._clients.look_up(client_id) if len(client_id) <= _LONGEST_CLIENT_ID else None
        if client is None or not client.settings.enabled:
            raise InvalidRequestError("The client is unknown.")
        return client

    async def _answer(self, request: AuthorizationRequest) -> None:
        if request.asked.pushed_as is not None and not await self._pushed_requests.use(request.asked.pushed_as):
            raise InvalidRequestUriError("The pushed request has been answered or has expired.")


def _may_be_impersonated(request: AuthorizationRequest) -> bool:
    """Tell whether another program on the user's device could be the one that gets the code.

    Loopback ports and private-use schemes belong to nobody: consent once given to a public client there would be
    consent for whatever poses as it (RFC 8252, section 8.6; RFC 6749, section 10.2).
    """
    return request.client.type is ClientType.PUBLIC and not request.asked.redirect_uri.startswith("https:")
