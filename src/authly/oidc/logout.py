"""Logout that a client asks for (OpenID Connect RP-Initiated Logout 1.0)."""

from dataclasses import dataclass
from urllib.parse import urlencode

from authly.errors import InvalidRequestError
from authly.oauth.client_repository import ClientRepository
from authly.oauth.models import Client
from authly.oauth.parameters import Parameters
from authly.oauth.subjects import Subjects
from authly.oidc.id_tokens import Hint, IdTokenService
from authly.sessions.models import Session

_LONGEST_CLIENT_ID = 255


@dataclass(frozen=True, slots=True)
class LogoutRequest:
    """A request of which everything has been checked."""

    client: Client | None
    hint: Hint | None
    # Where to go afterwards, with the state; None is nowhere.
    destination: str | None


class LogoutService:
    """Decides about requests to log out.

    Args:
        clients: who may ask.
        id_tokens: reads hints.
        subjects: says by what clients know users.
    """

    def __init__(self, clients: ClientRepository, id_tokens: IdTokenService, subjects: Subjects) -> None:
        self._clients = clients
        self._id_tokens = id_tokens
        self._subjects = subjects

    async def check(self, parameters: Parameters) -> LogoutRequest:
        """Check a request (section 2); its errors are for the user's eyes.

        Raises:
            InvalidRequestError: the hint is none of Authly's, the client is unknown, or where to go afterwards is not
                one of the client's addresses. What cannot be trusted is not acted upon (section 4).
        """
        parameters.refuse_repeated()
        hint = None
        if "id_token_hint" in parameters:
            hint = await self._id_tokens.read(parameters["id_token_hint"])
            if hint is None:
                raise InvalidRequestError("The id_token_hint is no ID token of this server.")
        client_id = parameters.get("client_id", hint.client_id if hint else None)
        if hint is not None and client_id != hint.client_id:
            raise InvalidRequestError("The id_token_hint is another client's than the one that asks.")
        client = None if client_id is None else await self._find(client_id)
        return LogoutRequest(client, hint, _destination(client, parameters))

    def needs_confirmation(self, request: LogoutRequest, session: Session) -> bool:
        """Tell whether the user has to say that they want it: unless the client shows that it means this user.

        Anybody can make a link; only those who were told who the user is have an ID token (section 6).
        """
        if request.client is None or request.hint is None:
            return True
        if request.hint.session_id == str(session.session_id):
            return False
        return request.hint.subject != self._subjects.of(request.client, session.user_id)

    async def _find(self, client_id: str) -> Client:
        client = await self._clients.look_up(client_id) if len(client_id) <= _LONGEST_CLIENT_ID else None
        if client is None:
            raise InvalidRequestError("The client is unknown.")
        return client


def _destination(client: Client | None, parameters: Parameters) -> str | None:
    """Return where to go afterwards, character by character as it is registered (section 3)."""
    uri = parameters.get("post_logout_redirect_uri")
    # Whose address it is has to be known for certain.
    if uri is None or client is None:
        return None
    if uri not in client.settings.post_logout_redirect_uris:
        raise InvalidRequestError("The post_logout_redirect_uri is not one that the client has registered.")
    if "state" not in parameters:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}{urlencode({'state': parameters['state']})}"
