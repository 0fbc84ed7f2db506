"""Files: what is in the directory, whether it can be read, and whether it belongs there."""

import re
import stat
import time
from collections.abc import Iterator

from authly.monitoring.diagnosis import processes
from authly.monitoring.diagnosis.findings import Finding, error, warning
from authly.monitoring.diagnosis.subject import Subject
from authly.monitoring.exporter.sockets import SOCKET_NAME
from authly.monitoring.multiprocess import dense_file, exemplars, file_format, retention
from authly.monitoring.multiprocess import directory as metrics_directory
from authly.monitoring.multiprocess.collector import DirectoryCollector

_SET_ASIDE = ".corrupt"
_SHOWN = 5


def stale(subject: Subject) -> Iterator[Finding]:
    """Check that no file is named after a process that is gone."""
    names = []
    for name in subject.contents.names:
        parsed = file_format.parse_name(name)
        if parsed and parsed.writer.isdecimal() and not processes.exists(int(parsed.writer)):
            names.append(name)
    if names:
        yield warning(
            "stale_files",
            f"{_some(names)} in {subject.directory}: named after processes that are gone.",
            "A process wrote them with prometheus-client alone. They are read at each scrape for ever, and a process "
            "that happens to get such a number takes over their gauges.",
            "Let that program use `authly.monitoring.multiprocess.values.install`, or a directory of its own. A start "
            "of Authly clears these files.",
        )


def foreign(subject: Subject) -> Iterator[Finding]:
    """Check that everything in the directory is Authly's."""
    names = [name for name in subject.contents.names if not _belongs(name)]
    if names:
        yield warning(
            "foreign_files",
            f"{_some(names)} in {subject.directory}: not Authly's.",
            "Authly never deletes what is not its own, so they stay, and take room from the metrics.",
            "Move them elsewhere.",
        )


def set_aside(subject: Subject) -> Iterator[Finding]:
    """Check that no worker had to put a corrupt file aside."""
    names = [name for name in subject.contents.names if name.endswith(_SET_ASIDE)]
    if names:
        yield warning(
            "file_set_aside",
            f"{_some(names)} in {subject.directory}: found corrupt by a worker, which put it aside.",
            "What it had counted is missing from the exposition.",
            "Look for what wrote into it (a full disk, a crash of the machine, another program); then delete it.",
        )


def corrupt(subject: Subject) -> Iterator[Finding]:
    """Check that each metric file holds what a metric file holds."""
    for name, problem in subject.contents.corrupt.items():
        yield error(
            "file_corrupt",
            f"{subject.directory / name} is corrupt: {problem}.",
            "Scrapes leave it out, and everything that was counted in it.",
            "Restart Authly: the next holder of its slot puts it aside. If no slot's (a process id in its name), "
            "delete it.",
        )


def broken_entries(subject: Subject) -> Iterator[Finding]:
    """Check that each entry has a key that can be understood."""
    for file in subject.contents.decoded:
        broken = [entry for entry in file.entries if entry.problem]
        if broken:
            yield error(
                "entries_broken",
                f"{len(broken)} of {len(file.entries)} entries of {file.path} have a broken key.",
                "Scrapes leave them out; something other than a metrics library has written there.",
                f"See them with `authly metrics dump --file {file.path}`; then restart Authly with an empty directory.",
            )


def unreadable(subject: Subject) -> Iterator[Finding]:
    """Check that each metric file is a regular file that can be read."""
    for name, problem in subject.contents.unreadable.items():
        yield error(
            "file_unreadable",
            f"{subject.directory / name} cannot be read: {problem}.",
            "It bears the name of a metric file, so no worker can use that name, and scrapes leave it out.",
            "Move it away.",
        )


def owners(subject: Subject) -> Iterator[Finding]:
    """Check that each metric file belongs to the owner of the directory."""
    if not subject.contents.decoded:
        return
    owner = subject.directory.stat().st_uid
    names = [file.path.name for file in subject.contents.decoded if file.uid != owner]
    if names:
        yield error(
            "file_owner",
            f"{_some(names)} in {subject.directory}: not of user id {owner}, who owns the directory.",
            "Authly was once started as another user. Whoever leases those slots cannot write to those files, and "
            "what it counts is lost.",
            f"Run `chown -R {owner} {subject.directory}`, and start Authly as that user only.",
        )


def modes(subject: Subject) -> Iterator[Finding]:
    """Check that nobody but their owner may write to the metric files."""
    writable = stat.S_IWGRP | stat.S_IWOTH
    names = [file.path.name for file in subject.contents.decoded if file.mode & writable]
    if names:
        yield warning(
            "file_open_to_others",
            f"{_some(names)} in {subject.directory}: others than their owner may write to them.",
            "They could change metrics, or cut the file short under the worker that has it mapped, which kills it.",
            f"Run `chmod go-w {subject.directory}/*.db`.",
        )


def conflicts(subject: Subject) -> Iterator[Finding]:
    """Check that each metric has one type in all files."""
    if not subject.contents.decoded:
        return
    collector = DirectoryCollector(subject.directory, time.monotonic)
    try:
        left_out = collector.collect().conflicts
    finally:
        collector.close()
    broken = sum(1 for file in subject.contents.decoded for entry in file.entries if entry.problem)
    if left_out <= broken:
        return
    kinds: dict[str, set[str]] = {}
    for file in subject.contents.decoded:
        for entry in file.entries:
            if file.name is not None and not entry.problem:
                kinds.setdefault(entry.metric, set()).add(f"{file.name.type} {file.name.mode}".strip())
    names = sorted(f"{metric} ({', '.join(sorted(found))})" for metric, found in kinds.items() if len(found) > 1)
    yield error(
        "type_conflict",
        f"{left_out - broken} entries are left out because their metric has another type elsewhere: {_some(names)}.",
        "An exposition has each name once, so one of the two is missing from it.",
        "Two parts of the application, or two of its versions, use one name for different metrics: rename one, and "
        "restart Authly.",
    )


def _belongs(name: str) -> bool:
    temporary = name.startswith(f"{retention.FILE_NAME}.")
    return (
        metrics_directory.is_known(name)
        or name == SOCKET_NAME
        or name.endswith(_SET_ASIDE)
        or (temporary and bool(re.fullmatch(r"[0-9]+", name.rpartition(".")[2])))
    )


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def companions(names: tuple[str, ...], slot: int) -> list[str]:
    """Return the files that lie beside the metric files of a slot: its exemplars, its numbers once more."""
    return [name for name in names if slot in {exemplars.parse_name(name), dense_file.parse_name(name)}]
