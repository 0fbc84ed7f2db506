"""Numbers: what the files themselves say about losses, limits and clocks."""

import contextlib
from collections.abc import Iterator

from authly.monitoring.diagnosis.checks.files import companions
from authly.monitoring.diagnosis.findings import Finding, warning
from authly.monitoring.diagnosis.subject import Subject

_TOLERANCE = 60.0
_NEARLY = 0.9
_MANY_SERIES = 100_000
_REMEDIES = {
    "budget": "raise AUTHLY_METRICS_MAX_BYTES, or use fewer labels",
    "corrupt_file": "see the finding about the file",
    "disk_full": "make room, or enlarge the file system",
    "io_error": "look at the kernel's log for errors of the disk",
    "no_permission": "give the directory and all files in it to the user of Authly",
    "quota": "raise the quota of Authly's user",
    "read_only": "mount the file system writable",
    "too_many_files": "raise the limit of open files (LimitNOFILE= of a systemd unit)",
}


def dropped(subject: Subject) -> Iterator[Finding]:
    """Check that no series was kept out of the exposition."""
    for reason, count in _totals(subject, "authly_metrics_dropped_series", "reason").items():
        yield warning(
            "dropped_series",
            f"{count:.0f} series could not be stored, for the reason {reason}.",
            "They live in the memory of their workers, and what they counted is lost with it.",
            f"Then {_REMEDIES.get(reason, 'look at the log')}; with room again they move to their files by themselves. "
            "The count stays until the next start.",
        )


def overflow(subject: Subject) -> Iterator[Finding]:
    """Check that no label value fell outside its vocabulary."""
    for metric, count in _totals(subject, "authly_metrics_label_overflow", "metric").items():
        yield warning(
            "label_overflow",
            f"{count:.0f} label values of {metric} were outside their vocabulary and were counted as `other`.",
            "Those series cannot be told apart; often a route's template holds something that clients choose.",
            "Look for the label value `other` in that metric, and make a template of the routes behind it.",
        )


def future(subject: Subject) -> Iterator[Finding]:
    """Check that no number claims to be of the future."""
    latest, where = 0.0, ""
    for file in subject.contents.decoded:
        for entry in file.entries:
            if entry.timestamp > subject.now + _TOLERANCE and entry.timestamp > latest:
                latest, where = entry.timestamp, f"{entry.sample} in {file.path.name}"
    if where:
        yield warning(
            "clock",
            f"{where} has a timestamp {latest - subject.now:.0f} s in the future.",
            "The clock of this machine was ahead and was set back. Gauges that keep the most recent value show that "
            "one until the time has come.",
            "Synchronise the clock (chrony, systemd-timesyncd), and restart Authly.",
        )


def budget(subject: Subject) -> Iterator[Finding]:
    """Check that no worker's files are near the bytes they may take."""
    if not subject.max_bytes:
        return
    taken: dict[int, int] = {}
    for file in subject.contents.decoded:
        if file.name is not None and file.name.slot is not None:
            taken[file.name.slot] = taken.get(file.name.slot, 0) + file.size
    for slot in taken:
        for name in companions(subject.contents.names, slot):
            with contextlib.suppress(OSError):
                taken[slot] += (subject.directory / name).stat().st_size
    full = {slot: size for slot, size in taken.items() if size > _NEARLY * subject.max_bytes}
    if full:
        slot, size = max(full.items(), key=lambda item: item[1])
        yield warning(
            "budget",
            f"The files of slot {slot} take {size} of the {subject.max_bytes} bytes that a worker may take.",
            "Beyond that, new series are kept in memory and missing from the exposition.",
            "Raise AUTHLY_METRICS_MAX_BYTES, or find the metric with the most series (`authly metrics dump`) and give "
            "it fewer labels.",
        )


def many(subject: Subject) -> Iterator[Finding]:
    """Check that the number of series is one that Prometheus takes well."""
    counts: dict[str, int] = {}
    for file in subject.contents.decoded:
        for entry in file.entries:
            counts[entry.metric] = counts.get(entry.metric, 0) + 1
    total = sum(counts.values())
    if total > _MANY_SERIES:
        metric, most = max(counts.items(), key=lambda item: item[1])
        yield warning(
            "many_series",
            f"The files hold {total} entries, {most} of them of {metric}.",
            "Each scrape transfers, and Prometheus keeps, every one of them; it has become slow where they are many.",
            f"Look at the labels of {metric}: one of them takes too many values.",
        )


def _totals(subject: Subject, metric: str, label: str) -> dict[str, float]:
    """Return the sum of a counter over all files for each value of a label, where there is any."""
    totals: dict[str, float] = {}
    for file in subject.contents.decoded:
        for entry in file.entries:
            if entry.metric == metric and entry.sample == f"{metric}_total" and entry.value > 0 and not entry.removed:
                value = entry.labels.get(label, "")
                totals[value] = totals.get(value, 0.0) + entry.value
    return dict(sorted(totals.items()))
