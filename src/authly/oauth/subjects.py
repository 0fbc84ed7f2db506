"""By what clients know a user: the claim ``sub`` (OpenID Connect Core 1.0, section 8)."""

import base64
import hmac
from urllib.parse import urlsplit
from uuid import UUID

from authly.oauth.models import Client, ClientSettings, SubjectType


class SectorError(ValueError):
    """Nobody can tell of which sector a client is; the message says why."""


def sector_of(settings: ClientSettings) -> str:
    """Return the sector of a client: those of one sector know a user by the same pairwise subject (section 8.1).

    Raises:
        SectorError: it has redirect URIs of several hosts, and none was chosen.
    """
    if settings.sector_identifier is not None:
        return settings.sector_identifier
    hosts = {urlsplit(uri).hostname or "" for uri in settings.redirect_uris}
    if len(hosts) != 1 or "" in hosts:
        raise SectorError("its redirect URIs are not all of one host; choose a sector_identifier")
    return hosts.pop()


class Subjects:
    """Says by what a client knows a user.

    Args:
        key: 32 bytes that only Authly knows: nobody can find out whose a pairwise subject is.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, client: Client, user_id: UUID) -> str:
        """Return the subject: always the same, and a pairwise one of no use to clients of another sector."""
        if client.settings.subject_type is SubjectType.PUBLIC:
            return str(user_id)
        # A host has no NUL: no two pairs are hashed alike.
        sector = sector_of(client.settings).encode()
        digest = hmac.digest(self._key, sector + b"\0" + user_id.bytes, "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
