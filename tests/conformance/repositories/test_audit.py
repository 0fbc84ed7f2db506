"""What a repository of the audit log has to do."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from authly.audit.models import SYSTEM, AuditEvent, AuditFilter, Party, PartyKind
from authly.audit.repository import AuditRepository
from authly.core.repository import Database

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
ADA, BOB = Party(PartyKind.USER, "ada"), Party(PartyKind.USER, "bob")


@pytest.fixture
def entries(database: Database) -> AuditRepository:
    """The repository."""
    return AuditRepository(database)


async def test_an_entry_comes_back(entries: AuditRepository) -> None:
    """Everything that was recorded is there, and what there was nothing to say about is None."""
    await entries.add(AuditEvent.USER_CREATED, NOW, ADA, BOB, "2001:db8::1", "request", {"number": 1, "text": "ü"})
    await entries.add(AuditEvent.LOGGED_OUT, NOW, SYSTEM, None, None, None, {})
    bare, full = await entries.list(AuditFilter(), 10)
    assert (full.event, full.occurred_at, full.actor, full.subject) == ("user_created", NOW, ADA, BOB)
    assert (full.client_address, full.request_id, full.detail) == ("2001:db8::1", "request", {"number": 1, "text": "ü"})
    assert (bare.actor, bare.subject, bare.client_address, bare.request_id) == (SYSTEM, None, None, None)
    assert bare.detail == {}


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (AuditFilter(), 4),
        (AuditFilter(event=AuditEvent.LOGIN_FAILED), 1),
        (AuditFilter(actor=ADA), 2),
        (AuditFilter(actor=Party(PartyKind.CLIENT, "ada")), 0),
        (AuditFilter(subject=BOB), 3),
        (AuditFilter(subject=BOB, actor=ADA, event=AuditEvent.USER_CREATED), 1),
        (AuditFilter(since=NOW + timedelta(seconds=2)), 2),
        (AuditFilter(until=NOW + timedelta(seconds=2)), 2),
        (AuditFilter(since=NOW + timedelta(seconds=1), until=NOW + timedelta(seconds=2)), 1),
    ],
)
async def test_filters(entries: AuditRepository, wanted: AuditFilter, count: int) -> None:
    """Entries are found by event, by who did it, to whom, and when."""
    recorded = [
        (AuditEvent.USER_CREATED, ADA, BOB),
        (AuditEvent.LOGIN_FAILED, SYSTEM, BOB),
        (AuditEvent.USER_DISABLED, ADA, BOB),
        (AuditEvent.USER_DELETED, BOB, ADA),
    ]
    for second, (event, actor, subject) in enumerate(recorded):
        await entries.add(event, NOW + timedelta(seconds=second), actor, subject, None, None, {})
    assert len(await entries.list(wanted, 10)) == count


async def test_paging_while_entries_are_added(entries: AuditRepository) -> None:
    """Twenty tasks record at once; pages have each entry once, the latest first, whatever comes meanwhile."""
    await asyncio.gather(
        *(
            entries.add(AuditEvent.USER_CREATED, NOW, ADA, Party(PartyKind.USER, str(n)), None, None, {})
            for n in range(20)
        )
    )
    first = await entries.list(AuditFilter(), 8)
    await entries.add(AuditEvent.USER_DELETED, NOW, ADA, None, None, None, {})
    seen, page = list(first), first
    while page := await entries.list(AuditFilter(), 8, page[-1].audit_id):
        seen += page
    assert sorted(str(entry.subject and entry.subject.id) for entry in seen) == sorted(map(str, range(20)))
    assert [entry.audit_id for entry in seen] == sorted((entry.audit_id for entry in seen), reverse=True)


async def test_old_entries_are_deleted_in_batches(entries: AuditRepository) -> None:
    """What is older than a moment goes, so many at a time; the rest stays."""
    for day in range(6):
        await entries.add(AuditEvent.USER_CREATED, NOW + timedelta(days=day), ADA, None, None, None, {})
    assert await entries.delete_before(NOW + timedelta(days=4), 3) == 3
    assert await entries.delete_before(NOW + timedelta(days=4), 3) == 1
    assert await entries.delete_before(NOW + timedelta(days=4), 3) == 0
    assert len(await entries.list(AuditFilter(), 10)) == 2


async def test_an_entry_stands_with_its_transaction(entries: AuditRepository, database: Database) -> None:
    """An act that is undone was not recorded."""

    async def undone() -> None:
        async with database.transaction() as transaction:
            await entries.within(transaction).add(AuditEvent.USER_CREATED, NOW, ADA, None, None, None, {})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await undone()
    assert await entries.list(AuditFilter(), 10) == []
