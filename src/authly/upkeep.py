"""From services to the jobs that delete what nobody needs any more, and what else has to be done, and who does them."""

from datetime import timedelta
from functools import partial

from authly.audit.models import SYSTEM, AuditEvent, Party, PartyKind
from authly.core.clock import utc_now
from authly.core.database import connect
from authly.core.jobs import JOBS_LOCK, Election, Job, JobMetrics, Jobs
from authly.core.rate_limits import PostgresStore
from authly.identity import Identity
from authly.oauth_server import OAuthServer
from authly.settings import Settings

# For a day after its end an operator can still see what became of a session.
_OVER = timedelta(days=1)
# Seconds: a key that is due is due to the day, and whoever logs out elsewhere is to be logged out soon.
_KEYS_EVERY = 3600.0
_ANNOUNCE_EVERY = 2.0


def upkeep(
    settings: Settings,
    database_url: str,
    identity: Identity,
    oauth: OAuthServer,
    rate_limit_rows: PostgresStore,
    metrics: JobMetrics,
) -> Jobs:
    """Return the jobs of an installation, which the elected worker does.

    Args:
        settings: what an operator chose.
        database_url: where workers are elected.
        identity: the services of users and sessions.
        oauth: the services of the OAuth protocol.
        rate_limit_rows: the rows of rate limits, of which there are none where Valkey counts.
        metrics: is told of each run.
    """

    async def sessions(limit: int) -> int:
        return await identity.sessions.delete_over(utc_now() - _OVER, limit)

    async def login_failures(limit: int) -> int:
        return await identity.throttle.delete_before(utc_now(), limit)

    async def devices(limit: int) -> int:
        return await identity.devices.delete_before(utc_now(), limit)

    async def audit_log(limit: int) -> int:
        return await identity.audit.delete_before(utc_now() - timedelta(days=settings.audit_retention_days), limit)

    async def signing_keys(_: int) -> int:
        rotated = [algorithm for algorithm in await oauth.keys.due() if await oauth.keys.rotate(algorithm)]
        for algorithm in rotated:
            await identity.audit.record(AuditEvent.KEY_ROTATED, SYSTEM, Party(PartyKind.KEY, algorithm))
        return len(rotated)

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
    jobs = [Job(name, settings.cleanup_interval, run_batch) for name, run_batch in tasks.items()]
    jobs += [
        Job("signing_keys", _KEYS_EVERY, signing_keys),
        Job("backchannel_logouts", _ANNOUNCE_EVERY, oauth.backchannel_logout.deliver, batch=50, max_batches=4),
    ]
    return Jobs(Election(partial(connect, database_url), JOBS_LOCK), jobs, metrics)
