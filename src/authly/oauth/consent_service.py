"""What users have allowed clients."""

from uuid import UUID

from authly.audit.models import AuditEvent, Party, PartyKind
from authly.audit.service import AuditLog
from authly.oauth.consent_repository import ConsentRepository
from authly.oauth.models import Consent
from authly.tokens.models import RevocationReason
from authly.tokens.service import TokenService


class ConsentService:
    """Remembers what users have allowed, and forgets it when they take it back.

    Args:
        consents: where they are kept.
        tokens: revokes what consents led to.
        audit: where it is recorded.
    """

    def __init__(self, consents: ConsentRepository, tokens: TokenService, audit: AuditLog) -> None:
        self._consents = consents
        self._tokens = tokens
        self._audit = audit

    async def covers(self, user_id: UUID, client_id: str, scopes: tuple[str, ...], resources: tuple[str, ...]) -> bool:
        """Tell whether a user has allowed all of this."""
        consent = await self._consents.find(user_id, client_id)
        return consent is not None and consent.covers(scopes, resources)

    async def grant(self, user_id: UUID, client_id: str, scopes: tuple[str, ...], resources: tuple[str, ...]) -> None:
        """Remember that a user allowed this, besides what was allowed before."""
        await self._consents.add(user_id, client_id, scopes, resources)
        await self._audit.record(
            AuditEvent.CONSENT_GRANTED,
            Party.user(user_id),
            Party.client(client_id),
            {"scopes": list(scopes), "resources": list(resources)},
        )

    async def revoke(self, user_id: UUID, client_id: str, actor: Party | None = None) -> bool:
        """Forget what a user allowed a client, and revoke all that it led to; tell whether there was anything.

        Args:
            user_id: whose consent it is.
            client_id: whom it was given.
            actor: who takes it back; the user unless somebody else does.
        """
        forgotten = await self._consents.delete(user_id, client_id)
        revoked = await self._tokens.revoke_of_user(user_id, RevocationReason.CONSENT, client_id)
        if forgotten or revoked:
            await self._audit.record(
                AuditEvent.CONSENT_REVOKED,
                actor or Party.user(user_id),
                Party(PartyKind.CONSENT, f"{user_id}/{client_id}"),
            )
        return forgotten

    async def list(
        self, *, user_id: UUID | None = None, client_id: str | None = None, limit: int = 50, offset: int = 0
    ) -> list[Consent]:
        """Return consents, of one user or client or of all, the latest first."""
        return await self._consents.list(user_id=user_id, client_id=client_id, limit=limit, offset=offset)
