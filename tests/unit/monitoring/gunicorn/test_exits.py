"""From evidence to a reason."""

import signal
from pathlib import Path

import pytest

from authly.monitoring.gunicorn.exits import Evidence, OutOfMemoryKills, exit_reason, oom_file, own_oom_file
from authly.monitoring.master_facts import EXIT_REASONS


def exited(code: int) -> int:
    """Return the wait status of a process that exited."""
    return code << 8


KILLED, TERMINATED, SEGFAULT = int(signal.SIGKILL), int(signal.SIGTERM), int(signal.SIGSEGV)


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        (Evidence(exited(0), reached_limit=True), "max_requests"),
        (Evidence(exited(0)), "signal"),
        (Evidence(exited(0), reloads_code=True), "reload"),
        (Evidence(exited(0), told="reload"), "reload"),
        (Evidence(exited(0), told="scale_down", reached_limit=True), "scale_down"),
        (Evidence(TERMINATED), "signal"),
        (Evidence(TERMINATED, told="scale_down"), "scale_down"),
        (Evidence(KILLED), "signal"),
        (Evidence(KILLED, told="shutdown", was_killed=True), "shutdown"),
        (Evidence(KILLED, was_aborted=True, was_killed=True), "timeout"),
        (Evidence(exited(1), was_aborted=True), "timeout"),
        (Evidence(exited(0), was_aborted=True, told="reload"), "timeout"),
        (Evidence(SEGFAULT), "crash"),
        (Evidence(SEGFAULT | 0x80), "crash"),  # with a core dump
        (Evidence(SEGFAULT, had_booted=False), "crash"),
        (Evidence(exited(1)), "crash"),
        (Evidence(exited(255)), "crash"),
        (Evidence(exited(1), had_booted=False), "boot_error"),
        (Evidence(exited(3)), "boot_error"),
        (Evidence(exited(4), had_booted=False), "boot_error"),
        (Evidence(None), "crash"),
        (Evidence(None, told="shutdown"), "shutdown"),
    ],
)
def test_reasons(evidence: Evidence, reason: str) -> None:
    """Each combination of evidence has one reason, while the kernel has killed nobody for want of memory."""
    assert exit_reason(evidence, lambda: False) == reason
    assert reason in EXIT_REASONS


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        (Evidence(KILLED), "out_of_memory"),
        (Evidence(KILLED, told="reload"), "out_of_memory"),
        (Evidence(KILLED, had_booted=False), "out_of_memory"),
        (Evidence(KILLED, told="shutdown", was_killed=True), "shutdown"),
        (Evidence(KILLED, was_aborted=True), "timeout"),
        (Evidence(TERMINATED), "signal"),
        (Evidence(exited(1)), "crash"),
    ],
)
def test_only_a_kill_that_nobody_else_explains_is_the_kernel_s(evidence: Evidence, reason: str) -> None:
    """The kernel's kill explains a SIGKILL that the master did not send, and is asked for nothing else."""
    asked = []

    def ran_out() -> bool:
        asked.append(True)
        return True

    assert exit_reason(evidence, ran_out) == reason
    assert bool(asked) == (reason == "out_of_memory")


@pytest.mark.parametrize("before", ["low 0\nhigh 0\nmax 3\noom 7\noom_kill {}\n", "oom_kill_disable 0\noom_kill {}\n"])
def test_each_kill_of_the_kernel_explains_one_end_and_only_for_a_while(tmp_path: Path, before: str) -> None:
    """Kills that were there before count for nothing, two new ones explain two ends, and an old one none."""
    path = tmp_path / "events"
    path.write_text(before.format(5))
    now = [100.0]
    kills = OutOfMemoryKills(path, lambda: now[0])
    assert not kills.take()
    path.write_text(before.format(7))
    kills.look()
    now[0] += 5
    assert [kills.take() for _ in range(3)] == [True, True, False]
    path.write_text(before.format(8))
    kills.look()
    now[0] += 11
    assert not kills.take()
    # Another group's file in its place counts from its own beginning.
    path.write_text(before.format(2))
    assert not kills.take()
    path.write_text(before.format(3))
    assert kills.take()


@pytest.mark.parametrize("text", [None, "", "oom_kill many\n", "oom_kill"])
def test_a_file_that_says_nothing_explains_nothing(tmp_path: Path, text: str | None) -> None:
    """A missing or strange file is no evidence, and no error."""
    path = tmp_path / "events"
    if text is not None:
        path.write_text(text)
    assert not OutOfMemoryKills(path, lambda: 0.0).take()
    assert not OutOfMemoryKills(None, lambda: 0.0).take()


@pytest.mark.parametrize(
    ("membership", "there", "found"),
    [
        ("0::/system.slice/app\n", ["system.slice/app/memory.events"], "system.slice/app/memory.events"),
        ("0::/\n", ["memory.events"], "memory.events"),
        # A container that sees the host's path, but not the host's groups.
        ("0::/docker/abc\n", ["memory.events"], "memory.events"),
        ("4:cpu,memory:/a\n0::/\n", ["memory/a/memory.oom_control"], "memory/a/memory.oom_control"),
        ("4:memory:/docker/abc\n", ["memory/memory.oom_control"], "memory/memory.oom_control"),
        ("4:memory:/a:b\n", ["memory/a:b/memory.oom_control"], "memory/a:b/memory.oom_control"),
    ],
)
def test_where_the_kernel_counts(tmp_path: Path, membership: str, there: list[str], found: str) -> None:
    """Version 2 and version 1, inside and outside of a namespace for control groups."""
    for name in there:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert oom_file(membership, tmp_path) == tmp_path / found


def test_the_whole_machine_counts_where_no_group_does(tmp_path: Path) -> None:
    """Without control groups there is what the machine counts; this one has one or the other."""
    assert oom_file("0::/\n", tmp_path) == Path("/proc/vmstat")
    path = own_oom_file()
    assert path is not None
    assert b"oom_kill " in path.read_bytes()
