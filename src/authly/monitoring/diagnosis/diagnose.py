"""Gather what is to be looked at, and let every check look."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from authly.monitoring.diagnosis.checks import (
    directory,
    environment,
    exporter,
    files,
    gunicorn,
    limits,
    locks,
    numbers,
    users,
    versions,
)
from authly.monitoring.diagnosis.findings import Check, Finding, warning
from authly.monitoring.diagnosis.subject import Contents, Subject
from authly.monitoring.multiprocess import file_format
from authly.monitoring.multiprocess.decoding import decode
from authly.monitoring.multiprocess.file_format import CorruptFileError

CHECKS: Final[tuple[Check, ...]] = (
    environment.invalid,
    directory.presence,
    directory.link,
    directory.owner,
    directory.mode,
    directory.parents,
    directory.room,
    directory.suitability,
    users.writers,
    users.workers,
    locks.lock_files,
    locks.orphans,
    locks.dead_owner,
    locks.deleted_files,
    locks.other_holders,
    files.corrupt,
    files.unreadable,
    files.broken_entries,
    files.conflicts,
    files.owners,
    files.modes,
    files.set_aside,
    files.stale,
    files.foreign,
    numbers.dropped,
    numbers.overflow,
    numbers.future,
    numbers.budget,
    numbers.many,
    limits.open_files,
    exporter.address,
    exporter.exporter_socket,
    gunicorn.evaluation,
    gunicorn.hooks,
    gunicorn.preload,
    gunicorn.jitter,
    gunicorn.heartbeat,
    gunicorn.control_socket,
    gunicorn.reuse_port,
    gunicorn.number_of_workers,
    gunicorn.timeout,
    environment.given_by_gunicorn,
    environment.lower_case,
    environment.relative,
    environment.measured_by_others,
    environment.unknown,
    environment.differing,
    versions.dependencies,
)


def look_into(folder: Path) -> Contents:
    """Return what is in a directory; nothing where it cannot be read."""
    try:
        names = tuple(sorted(os.listdir(folder)))
    except OSError:
        return Contents()
    decoded = []
    corrupt = {}
    unreadable = {}
    for name in names:
        if file_format.parse_name(name) is None:
            continue
        try:
            decoded.append(decode(folder / name))
        except FileNotFoundError:
            continue  # the next holder of a slot deletes the last one's live gauges
        except CorruptFileError as problem:
            corrupt[name] = str(problem)
        except OSError as problem:
            unreadable[name] = problem.strerror or "it is not a regular file"
    return Contents(names, tuple(decoded), corrupt, unreadable)


def diagnose(subject: Subject, checks: Iterable[Check] = CHECKS) -> list[Finding]:
    """Return what is wrong, the errors first."""
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check(subject)
        except OSError as problem:
            words = (check.__doc__ or check.__name__).removeprefix("Check that ").strip(".")
            findings.append(
                warning(
                    "not_checked",
                    f"This could not be checked: {words} ({problem}).",
                    "Something may be wrong there, and stay unseen.",
                    "Run this command as the user of Authly, or as root.",
                )
            )
    return sorted(findings, key=lambda finding: finding.severity != "error")
