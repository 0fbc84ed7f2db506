"""From services to the jobs that delete what nobody needs any more."""

from datetime import timedelta

from authly.core.clock import utc_now
from authly.core.jobs import Job
from authly.core.rate_limits import PostgresStore
from authly.identity import Identity
from authly.oauth_server import OAuthServer
from authly.settings import Settings

# For a day after its end an operator can still see what became of a session.
_OVER = timedelta(days=1)


def upkeep(settings: Settings, identity: Identity, oauth: OAuthServer, rate_limit_rows: PostgresStore) -> list[Job]:
    """Return the jobs of an installation.

    Args:
        settings: what an operator chose.
        identity: the services of users and sessions.
        oauth: the services of the OAuth protocol.
        rate_limit_rows: the rows of rate limits, of which there are none where Valkey counts.
    """

    async def sessions(limit: int) -> int:
        return await identity.sessions.delete_over(utc_now() - _OVER, limit)

    async def login_failures(limit: int) -> int:
        return await identity.throttle.delete_before(utc_now(), limit)

    async def devices(limit: int) -> int:
        return await identity.devices.delete_before(utc_now(), limit)

    async def audit_log(limit: int) -> int:
        return await identity.audit.delete_before(utc_now() - timedelta(days=settings.audit_retention_days), limit)

    tasks = {
        "tokens": oauth.tokens.delete_expired,
        "pushed_requests": oauth.pushed_requests.delete_expired,
        "assertions": oauth.clients.delete_expired_assertions,
        "sessions": sessions,
        "login_failures": login_failures,
        "devices": devices,
        "rate_limits": rate_limit_rows.forget,
    }
    if settings.audit_retention_days:
        tasks["audit_log"] = audit_log
    return [Job(name, settings.cleanup_interval, run_batch) for name, run_batch in tasks.items()]
