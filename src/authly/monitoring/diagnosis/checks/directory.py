"""The directory: whether it is there, whose it is, who else could write to it, and how much room it has."""

import os
import stat
from collections.abc import Iterator

from authly.monitoring.diagnosis.findings import Finding, error, warning
from authly.monitoring.diagnosis.subject import Subject
from authly.monitoring.multiprocess.directory import SPACE_WANTED, UNSUITABLE_FILE_SYSTEMS, file_system

# Less than a metric file takes at first.
_NO_SPACE = 1 << 16
_FEW_INODES = 16


def presence(subject: Subject) -> Iterator[Finding]:
    """Check that the directory is there, and is a directory."""
    directory = subject.directory
    prepare = f"Run `authly metrics prepare --directory {directory}` as the user of Authly"
    if not subject.measuring:
        return
    if not directory.exists():
        yield error(
            "directory_missing",
            f"The metrics directory {directory} is not there.",
            "Nothing can be kept in it. Authly creates it when it starts; a path that is not the instance's, or a "
            "directory that was deleted under it, looks like this too.",
            f"{prepare}, or name the instance's directory with --directory or PROMETHEUS_MULTIPROC_DIR. If it was "
            "deleted under a running instance, restart that.",
        )
    elif not directory.is_dir():
        yield error(
            "directory_not_a_directory",
            f"{directory} is not a directory.",
            "Each worker keeps its metrics to itself, and scrapes see none of them.",
            "Move that file away, or set PROMETHEUS_MULTIPROC_DIR to another path.",
        )


def link(subject: Subject) -> Iterator[Finding]:
    """Check that the directory is no symbolic link."""
    if subject.directory.is_symlink():
        target = os.path.realpath(subject.directory)
        yield warning(
            "directory_symlink",
            f"The metrics directory {subject.directory} is a symbolic link to {target}.",
            "Changed while Authly runs, it leads new workers and the exporter to different directories, and the "
            "numbers of some of them are missing.",
            f"Set PROMETHEUS_MULTIPROC_DIR={target}.",
        )


def owner(subject: Subject) -> Iterator[Finding]:
    """Check that the directory belongs to those who write there."""
    status = _status(subject)
    if status is None:
        return
    # Whose the processes of a running instance are is looked at elsewhere.
    if not subject.instance.masters and subject.user != status.st_uid:
        yield error(
            "directory_owner",
            f"The metrics directory {subject.directory} belongs to user id {status.st_uid}, and Authly is to run as "
            f"{subject.user}.",
            "Authly keeps metrics only in a directory of its own user; in another each worker keeps its metrics to "
            "itself.",
            f"Run this command as the user of Authly, or name that with --user. If this is it, run `chown "
            f"{subject.user} {subject.directory}`, or set PROMETHEUS_MULTIPROC_DIR to a directory of its own.",
        )


def mode(subject: Subject) -> Iterator[Finding]:
    """Check that the owner may write to the directory, and nobody else may."""
    status = _status(subject)
    if status is None:
        return
    directory = subject.directory
    shown = f"{stat.S_IMODE(status.st_mode):04o}"
    if status.st_mode & stat.S_IRWXU != stat.S_IRWXU:
        yield error(
            "directory_not_writable",
            f"The owner of the metrics directory {directory} may not read, write and enter it (mode {shown}).",
            "Workers cannot make their files; each keeps its metrics to itself.",
            f"Run `chmod u+rwx {directory}`.",
        )
    if status.st_mode & stat.S_IWOTH:
        yield error(
            "directory_open_to_everybody",
            f"Everybody may write to the metrics directory {directory} (mode {shown}).",
            "Anybody on this machine could plant or change metrics, so Authly does not use it.",
            f"Run `chmod o-w {directory}`, or choose a directory below it.",
        )
    elif status.st_mode & stat.S_IWGRP:
        yield warning(
            "directory_open_to_group",
            f"The group {status.st_gid} may write to the metrics directory {directory} (mode {shown}).",
            "Every member of the group can plant, change and delete metrics.",
            f"Run `chmod g-w {directory}`.",
        )


def parents(subject: Subject) -> Iterator[Finding]:
    """Check that nobody else can replace the directory or one above it."""
    for folder in subject.directory.parents:
        try:
            bits = folder.stat().st_mode
        except OSError:
            continue
        if bits & stat.S_IWOTH and not bits & stat.S_ISVTX:
            yield warning(
                "parent_open_to_everybody",
                f"Everybody may write to {folder} (mode {stat.S_IMODE(bits):04o}), which the metrics directory is in.",
                "Anybody on this machine could move the directory away and put another in its place.",
                f"Run `chmod o-w {folder}` (or `chmod +t {folder}` for a shared temporary directory).",
            )


def room(subject: Subject) -> Iterator[Finding]:
    """Check that the file system can be written to, and has space and inodes left."""
    try:
        space = os.statvfs(subject.directory)
    except OSError:
        return
    if space.f_flag & os.ST_RDONLY:
        yield error(
            "read_only",
            f"The file system of {subject.directory} is read-only.",
            "Nothing can be counted in it.",
            "Mount it writable, or set PROMETHEUS_MULTIPROC_DIR to a directory elsewhere, best on a tmpfs.",
        )
    free = space.f_bavail * space.f_frsize
    if free < SPACE_WANTED:
        yield (error if free < _NO_SPACE else warning)(
            "space_low",
            f"The file system of {subject.directory} has {free // 1024} KiB left.",
            "A series for which there is no room lives in the memory of its worker, and no scrape sees it.",
            "Make room there, or enlarge the file system (`mount -o remount,size=...` for a tmpfs).",
        )
    if space.f_files and space.f_favail < _FEW_INODES:
        yield (warning if space.f_favail else error)(
            "inodes_low",
            f"The file system of {subject.directory} has {space.f_favail} inodes left.",
            "However much space there is, no file can be made without one: new workers cannot store what they count.",
            "Delete files there, or mount it with more (`mount -o remount,nr_inodes=...` for a tmpfs).",
        )


def suitability(subject: Subject) -> Iterator[Finding]:
    """Check that the file system is a local one."""
    kind = file_system(subject.directory)
    if kind in UNSUITABLE_FILE_SYSTEMS:
        yield error(
            "file_system",
            f"The metrics directory {subject.directory} is on a {kind} file system.",
            "Processes may not see each other's writes and locks there: numbers go missing, and two workers may take "
            "one slot.",
            "Set PROMETHEUS_MULTIPROC_DIR to a directory on a local file system, best a tmpfs such as /run or "
            "/dev/shm.",
        )


def _status(subject: Subject) -> os.stat_result | None:
    try:
        status = subject.directory.stat()
    except OSError:
        return None
    return status if stat.S_ISDIR(status.st_mode) else None
