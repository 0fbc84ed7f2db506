"""``authly admin audit``."""

from typing import Any

import click

from authly.audit.models import AuditEntry, AuditEvent, AuditFilter, Party
from authly.cli.admin.output import as_json, limit, print_rows
from authly.cli.admin.services import Services, run


@click.group()
def audit() -> None:
    """What happened."""


@audit.command("list")
@click.option(
    "--event", type=click.Choice([event.value for event in AuditEvent]), metavar="EVENT", help="Of one kind only."
)
@limit
@as_json
def list_entries(event: str | None, limit: int, as_json: bool) -> None:
    """List what happened, the latest first.

    \b
    Example:
      authly admin audit list --event login_failed --limit 20
    """

    async def act(services: Services) -> list[dict[str, Any]]:
        wanted = AuditFilter(AuditEvent(event) if event else None)
        return [_facts(entry) for entry in await services.identity.audit.list(wanted, limit + 1)]

    columns = ["occurred_at", "event", "actor", "subject", "client_address", "detail"]
    print_rows(run(act), columns, json_wanted=as_json, most=limit)


def _facts(entry: AuditEntry) -> dict[str, Any]:
    return {
        "audit_id": entry.audit_id,
        "occurred_at": entry.occurred_at,
        "event": entry.event,
        "actor": _party(entry.actor),
        "subject": _party(entry.subject),
        "client_address": entry.client_address,
        "request_id": entry.request_id,
        "detail": dict(entry.detail),
    }


def _party(party: Party | None) -> str | None:
    if party is None:
        return None
    return party.kind if party.id is None else f"{party.kind}:{party.id}"
