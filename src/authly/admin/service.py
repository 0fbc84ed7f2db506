"""Acts of administrators on users, sessions, tokens and keys."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from authly.audit.models import AuditEvent, Party, PartyKind
from authly.audit.service import AuditLog
from authly.keys.models import Algorithm
from authly.keys.service import SigningKeyService
from authly.oauth.client_service import ClientService
from authly.sessions.service import SessionService
from authly.tokens.models import RevocationReason
from authly.tokens.service import TokenService
from authly.users.service import UserService


@dataclass(frozen=True, slots=True)
class Statistics:
    """How much there is of everything."""

    users: int
    sessions: int
    clients: int
    access_tokens: int
    refresh_tokens: int


class AdministrationService:
    """Does what concerns several services at once.

    Args:
        users: who there is.
        sessions: who is logged in.
        clients: which there are.
        tokens: what they hold.
        keys: what signs.
        audit: where it is recorded.
    """

    def __init__(
        self,
        users: UserService,
        sessions: SessionService,
        clients: ClientService,
        tokens: TokenService,
        keys: SigningKeyService,
        audit: AuditLog,
    ) -> None:
        self._users = users
        self._sessions = sessions
        self._clients = clients
        self._tokens = tokens
        self._keys = keys
        self._audit = audit

    async def disable_user(self, user_id: UUID, actor: Party, address: str | None = None) -> None:
        """Keep a user from logging in, end their sessions, and revoke what clients hold in their name."""
        await self._users.disable(user_id, actor, address)
        await self._tokens.revoke_of_user(user_id, RevocationReason.ADMIN)

    async def reset_password(
        self, user_id: UUID, actor: Party, password: str | None = None, address: str | None = None
    ) -> str | None:
        """Give a user another password, end their sessions, and revoke what clients hold in their name.

        Returns the password, or None if there is no such user.

        Raises:
            PasswordRefusedError: the password is not accepted.
        """
        new = await self._users.reset_password(user_id, actor, password, address)
        if new is not None:
            await self._tokens.revoke_of_user(user_id, RevocationReason.ADMIN)
        return new

    async def end_session(self, session_id: UUID, actor: Party, address: str | None = None) -> bool:
        """End a session, and revoke what was allowed in it; tell whether it was not over already."""
        session = await self._sessions.get(session_id)
        if session is None or not await self._sessions.end(session):
            return False
        await self._tokens.revoke_of_session(session_id, RevocationReason.ADMIN)
        await self._audit.record(
            AuditEvent.SESSIONS_ENDED,
            actor,
            Party.session(session_id),
            {"user_id": str(session.user_id)},
            client_address=address,
        )
        return True

    async def end_sessions(self, user_id: UUID, actor: Party, address: str | None = None) -> int:
        """End all sessions of a user, and revoke what clients hold in their name; return how many sessions it were."""
        ended = await self._users.end_sessions(user_id, actor, address)
        await self._tokens.revoke_of_user(user_id, RevocationReason.ADMIN)
        return ended

    async def revoke_access_token(self, token_id: UUID, actor: Party, address: str | None = None) -> bool:
        """Revoke an access token; tell whether it was not revoked already."""
        if not await self._tokens.revoke_access_token(token_id, RevocationReason.ADMIN):
            return False
        await self._record_revocation(actor, token_id, "access_token", address)
        return True

    async def revoke_family(self, family_id: UUID, actor: Party, address: str | None = None) -> bool:
        """Revoke everything that an authorization led to; tell whether it was not revoked already."""
        if not await self._tokens.revoke_family(family_id, RevocationReason.ADMIN):
            return False
        await self._record_revocation(actor, family_id, "family", address)
        return True

    async def rotate_key(self, algorithm: Algorithm, actor: Party, signs_after: timedelta | None = None) -> bool:
        """Make the successor of the key of an algorithm; tell whether nobody else was quicker.

        Args:
            algorithm: whose key to replace.
            actor: who does it.
            signs_after: how long the successor is published before it signs; unless told otherwise, longer than
                clients and workers go without looking.
        """
        if not await self._keys.rotate(algorithm, signs_after=signs_after):
            return False
        await self._audit.record(AuditEvent.KEY_ROTATED, actor, Party(PartyKind.KEY, algorithm))
        return True

    async def statistics(self) -> Statistics:
        """Count what there is."""
        access_tokens, refresh_tokens = await self._tokens.count_active()
        return Statistics(
            users=await self._users.count(),
            sessions=await self._sessions.count(),
            clients=await self._clients.count(),
            access_tokens=access_tokens,
            refresh_tokens=refresh_tokens,
        )

    async def _record_revocation(self, actor: Party, token_id: UUID, kind: str, address: str | None) -> None:
        subject = Party(PartyKind.TOKEN, str(token_id))
        await self._audit.record(AuditEvent.TOKEN_REVOKED, actor, subject, {"kind": kind}, client_address=address)
