"""What is wrong, and what to do about it: one rule, one function."""

from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Final, NamedTuple

from authly.monitoring.exporter.status import figures
from authly.monitoring.exporter.status.journal import exits, increases, latencies
from authly.monitoring.exporter.status.lookup import quantile
from authly.monitoring.exporter.status.state import SILENT, State

RECENT: Final = 600.0
"""Seconds for which the end of a worker is still news."""

CURRENT: Final = 60.0
"""Seconds over which what is so now is judged."""

_FEW: Final = 20
_NAMED: Final = 3
_SLOW: Final = 1.0
_BOOTS_LONG: Final = 60.0
_NOBODY_ASKS: Final = 180.0


class Severity(IntEnum):
    """How bad it is."""

    CRITICAL = 0
    WARNING = 1
    NOTE = 2


class Finding(NamedTuple):
    """Something that a person should know.

    Args:
        severity: how bad it is.
        what: has happened, as a sentence.
        advice: what to do, as sentences.
    """

    severity: Severity
    what: str
    advice: str


_EXITS: Final = {
    "timeout": (
        Severity.WARNING,
        "were aborted because their heartbeat was late",
        (
            "They hung, or waited for something that does not answer (database, disk, another service). The log "
            "has the traceback of each; compare the latency and what the workers depend on."
        ),
    ),
    "out_of_memory": (
        Severity.CRITICAL,
        "were killed because memory ran out",
        (
            "Look at the memory of the workers below and at the container's limit: run fewer workers, raise the "
            "limit, or lower AUTHLY_MAX_REQUESTS if they grow with time."
        ),
    ),
    "boot_error": (
        Severity.CRITICAL,
        "could not start",
        "The log has the traceback. After a deployment, go back to the version before; otherwise check the settings.",
    ),
    "crash": (
        Severity.CRITICAL,
        "crashed",
        (
            "A signal such as SIGSEGV, or an exit code that nobody expects: the log has the last lines. A library"
            " written in C that was updated lately is the first suspect."
        ),
    ),
    "signal": (
        Severity.WARNING,
        "were ended by a signal from outside",
        (
            "Neither Gunicorn nor the kernel sent it. Look for who did: a supervisor, a script. Their slots were "
            "taken by successors, and no count is lost."
        ),
    ),
}


def findings(state: State) -> list[Finding]:
    """Return what is wrong, the worst first."""
    found = [finding for rule in _RULES for finding in rule(state)]
    return sorted(found, key=lambda finding: finding.severity)


def _directory(state: State) -> Iterator[Finding]:
    if state.problem:
        yield Finding(
            Severity.CRITICAL,
            f"The workers' metrics are not here: {state.problem}.",
            "Requests are answered all the same; what is shown here of them is missing or old.",
        )
    elif state.configuration.directory is None:
        yield Finding(
            Severity.CRITICAL,
            "There is no metrics directory.",
            "Set PROMETHEUS_MULTIPROC_DIR to a directory of the user that runs this instance, and start it again.",
        )


def _workers(state: State) -> Iterator[Finding]:
    snapshot = state.snapshot
    if snapshot is None:
        yield Finding(
            Severity.WARNING,
            "How Gunicorn is doing is not known: the collector did not answer in time.",
            "The machine is overloaded, or /proc does not answer. Scrapes go on without what is missing.",
        )
        return
    if not snapshot.masters:
        if not state.problem and state.configuration.directory is not None:
            yield Finding(
                Severity.CRITICAL if state.configuration.master else Severity.NOTE,
                "No Gunicorn master uses this directory.",
                "Check that the instance runs, and that both have the same PROMETHEUS_MULTIPROC_DIR. Totals of before "
                "are shown as they were.",
            )
        return
    desired = sum(master.desired for master in snapshot.masters)
    alive = len(snapshot.workers)
    if alive < desired:
        yield Finding(
            Severity.WARNING if alive else Severity.CRITICAL,
            f"{alive} of {desired} workers run.",
            "Gunicorn starts the others within a second. If this stays, see below why workers end, and the log.",
        )
    for worker in snapshot.workers:
        name = f"Worker {worker.pid}" + (f" (slot {worker.slot})" if worker.slot is not None else "")
        if worker.process is not None and worker.process.is_stopped:
            yield Finding(
                Severity.CRITICAL,
                f"{name} is stopped by a signal or a debugger.",
                f"Let it go on with: kill -CONT {worker.pid}. Otherwise Gunicorn kills it at its timeout.",
            )
        elif worker.heartbeat_age is not None and worker.heartbeat_age > SILENT:
            yield Finding(
                Severity.CRITICAL,
                f"{name} has given no heartbeat for {figures.duration(worker.heartbeat_age)}.",
                "It hangs. See where before Gunicorn kills it at its timeout: py-spy dump --pid "
                f"{worker.pid}, or cat /proc/{worker.pid}/wchan.",
            )
        elif worker.is_booting and worker.age > _BOOTS_LONG:
            yield Finding(
                Severity.WARNING,
                f"{name} has been starting for {figures.duration(worker.age)}.",
                "The application waits for something as it is loaded; the log has its last lines.",
            )
    if len(snapshot.masters) > 1 or any(master.is_upgrading for master in snapshot.masters):
        pids = ", ".join(str(master.pid) for master in snapshot.masters)
        yield Finding(
            Severity.NOTE,
            f"An upgrade is in progress; masters: {pids}.",
            "When the new workers answer, end the old master with SIGTERM (or SIGWINCH first, to be able to go back).",
        )


def _ended(state: State) -> Iterator[Finding]:
    for reason, number in exits(state.journal.recent(RECENT)).items():
        if number >= 1 and reason in _EXITS:
            severity, words, advice = _EXITS[reason]
            yield Finding(
                severity,
                f"Workers that {words} in the last {figures.duration(RECENT)}: {number:.0f}.",
                advice,
            )


def _backlog(state: State) -> Iterator[Finding]:
    for listener in state.snapshot.listeners if state.snapshot else ():
        if listener.limit and listener.waiting > 0.1 * listener.limit:
            full = listener.waiting >= 0.5 * listener.limit
            yield Finding(
                Severity.CRITICAL if full else Severity.WARNING,
                f"{figures.count(listener.waiting)} connections wait at {listener.name}, which has room for "
                f"{figures.count(listener.limit)}.",
                "The workers do not keep up. If all are busy or silent, look at what they wait for; if they are busy "
                "and use the processors to the full, add workers or machines (one more worker: kill -TTIN MASTER).",
            )


def _failures(state: State) -> Iterator[Finding]:
    notes = state.journal.recent(CURRENT)
    if len(notes) < 2:
        return
    requests = sum(rate for _, rate in increases([notes[0], notes[-1]], lambda note: note.requests))
    failures = sum(rate for _, rate in increases([notes[0], notes[-1]], lambda note: note.failures))
    number = requests * (notes[-1].at - notes[0].at)
    if number >= _FEW and failures > 0.01 * requests:
        rises = {
            place: count - notes[0].failing.get(place, 0.0)
            for place, count in notes[-1].failing.items()
            if count > notes[0].failing.get(place, 0.0)
        }
        most = sorted(rises, key=rises.__getitem__, reverse=True)[:_NAMED]
        where = f" Most of them: {', '.join(most)}." if most else ""
        yield Finding(
            Severity.CRITICAL if failures > 0.1 * requests else Severity.WARNING,
            f"{figures.share(failures / requests)} of the requests of the last minute failed (5xx).{where}",
            "The log of the same minute says why. Look at what these requests need: the database, the disk, a service.",
        )
    slow = quantile(0.95, latencies(notes[0], notes[-1]))
    if number >= _FEW and slow is not None and slow > _SLOW:
        yield Finding(
            Severity.WARNING,
            f"One request in twenty takes longer than {figures.latency(slow)}.",
            "See which endpoint in the metrics (http_request_duration_seconds), and whether the database or the "
            "processors are the bottleneck.",
        )


def _files(state: State) -> Iterator[Finding]:
    skipped = {
        reason: number
        for reason, number in state.families.by("authly_exporter_skipped_files", "reason").items()
        if number
    }
    if skipped:
        words = ", ".join(f"{reason} {number:.0f}" for reason, number in sorted(skipped.items()))
        yield Finding(
            Severity.WARNING,
            f"Metric files that are left out: {words}.",
            "Their counts are missing from the totals. Which they are is listed below; a corrupt file may be deleted "
            "when the worker that has its slot has ended.",
        )
    notes = state.journal.recent(RECENT)
    if notes and notes[-1].dropped > notes[0].dropped:
        reasons = state.families.by("authly_metrics_dropped_series", "reason")
        words = ", ".join(sorted(reason for reason, number in reasons.items() if number)) or "unknown reason"
        yield Finding(
            Severity.WARNING,
            f"Some series could not be stored ({words}).",
            "Make room in the metrics directory, or raise AUTHLY_METRICS_MAX_BYTES. What is kept in memory moves to "
            "its file as soon as there is room.",
        )
    free = state.families.value("authly_exporter_directory_free_bytes")
    if free is not None and free < 16e6:
        yield Finding(
            Severity.WARNING,
            f"The file system of the metrics directory has {figures.size(free)} left.",
            "New series will soon not be stored. Make room there.",
        )


def _limits(state: State) -> Iterator[Finding]:
    found = state.families
    limit = found.value("authly_container_memory_limit_bytes")
    usage = found.value("authly_container_memory_usage_bytes")
    if limit and usage is not None and usage > 0.9 * limit:
        yield Finding(
            Severity.WARNING,
            f"The container uses {figures.share(usage / limit)} of the memory it may use ({figures.size(limit)}).",
            "At the limit the kernel kills a worker. Run fewer workers, or raise the limit.",
        )
    allowed = found.by("authly_file_descriptors_limit", "role")
    for role, number in found.by("authly_open_file_descriptors_max", "role").items():
        if role in allowed and number > 0.8 * allowed[role]:
            yield Finding(
                Severity.WARNING,
                f"A process of the role {role} has {number:.0f} of {allowed[role]:.0f} file descriptors open.",
                "At the limit it accepts nobody and opens nothing. Raise it (ulimit -n, LimitNOFILE), or look for what "
                "is not closed.",
            )


def _collectors(state: State) -> Iterator[Finding]:
    for name, success in state.families.by("authly_exporter_collector_success", "collector").items():
        if not success:
            yield Finding(
                Severity.WARNING,
                f"The collector {name} failed at the last scrape, and its metrics were missing.",
                "The exporter's log says why, once for each time it begins to fail.",
            )


def _access(state: State) -> Iterator[Finding]:
    if state.families.value("authly_exporter_web_config_valid") == 0:
        yield Finding(
            Severity.WARNING,
            "The web configuration file cannot be used as it is now.",
            "The rules of before are in force. The exporter's log says what is wrong; a mended file is read by itself.",
        )


def _scrapes(state: State) -> Iterator[Finding]:
    last = state.journal.scraped[0] if state.journal.scraped else state.journal.began
    if state.now - last > _NOBODY_ASKS:
        never = "since this exporter started" if state.journal.scraped is None else "for"
        time = "" if state.journal.scraped is None else f" {figures.duration(state.now - last)}"
        yield Finding(
            Severity.NOTE,
            f"Nobody has scraped {never}{time}.",
            f"Check that Prometheus has this address as a target, and what it says of {state.configuration.path} there "
            "(Status, Targets).",
        )


_RULES: Final[tuple[Callable[[State], Iterator[Finding]], ...]] = (
    _directory,
    _workers,
    _backlog,
    _ended,
    _failures,
    _limits,
    _files,
    _collectors,
    _access,
    _scrapes,
)
