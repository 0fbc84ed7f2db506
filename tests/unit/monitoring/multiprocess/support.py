"""What the tests of the engine share: processes that do what they are told, a small disk, metric files by hand."""

import contextlib
import json
import os
import struct
import subprocess
import sys
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

from authly.monitoring.multiprocess import dense_file, reader
from authly.monitoring.multiprocess.aggregation import Aggregate, Aggregation
from authly.monitoring.multiprocess.file_format import FileName
from tests.nursery import Forked
from tests.requirements import require

Entry = tuple[str, float, float]

_CONSOLE = """
import json, os, sys, traceback
names = {"__name__": "console"}
for line in sys.stdin:
    names.pop("answer", None)
    try:
        exec(json.loads(line), names)
        reply = {"answer": names.get("answer")}
    except BaseException as error:
        reply = {"error": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()}
    print(json.dumps(reply), flush=True)
"""


class ConsoleError(Exception):
    """The code that a console was sent raised; the message begins with the exception's name."""


class Console:
    """A Python process that executes what it is sent, line by line, until it is closed or killed.

    Args:
        prelude: what it executes first.
        environment: variables besides those of the test process, for an interpreter that has imported nothing yet.
    """

    def __init__(self, prelude: str = "", environment: dict[str, str] | None = None) -> None:
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115
        its_input, to_it = os.pipe()
        from_it, its_output = os.pipe()
        files = its_input, its_output, self._complaints.fileno()
        self._process = Forked(_CONSOLE, files) if environment is None else _started(_CONSOLE, files, environment)
        os.close(its_input)
        os.close(its_output)
        self._to_it, self.answers = os.fdopen(to_it, "w"), os.fdopen(from_it)
        self.pid = self._process.pid
        try:
            self.run(prelude)
        except BaseException:
            self.close()
            self._complaints.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close()
        self._complaints.seek(0)
        complaints = self._complaints.read().decode(errors="replace")
        self._complaints.close()
        # An exception in a hook at fork, in a thread or in a finalizer shows nowhere else.
        assert kind or not complaints, complaints

    def send(self, code: str) -> None:
        """Let the process begin to execute code."""
        self._to_it.write(json.dumps(code) + "\n")
        self._to_it.flush()

    def receive(self) -> Any:
        """Wait for the end of what was sent, and return what it left in ``answer``."""
        line = self.answers.readline()
        if not line:
            raise ConsoleError(f"the process ended with {self._process.wait()}")
        reply = json.loads(line)
        if "error" in reply:
            raise ConsoleError(f"{reply['error']}: {reply['message']}\n{reply['traceback']}")
        return reply["answer"]

    def run(self, code: str) -> Any:
        """Execute code and return what it left in ``answer``."""
        self.send(code)
        return self.receive()

    def kill(self) -> None:
        """End the process with SIGKILL, and wait until it is gone."""
        self._process.kill()
        self.close()

    def close(self) -> int:
        """End the process, and return what it ended with; one that does not end by itself is killed."""
        with contextlib.suppress(BrokenPipeError):
            self._to_it.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self.answers.close()
        return self._process.wait()


def _started(code: str, files: tuple[int, int, int], environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    """Start an interpreter of its own."""
    stdin, stdout, stderr = files
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=stdin, stdout=stdout, stderr=stderr, env={**os.environ, **environment}
    )


@contextlib.contextmanager
def small_disk(point: Path, options: str = "size=64k") -> Iterator[Path]:
    """Mount a small tmpfs, where this machine lets the test mount one."""
    point.mkdir(mode=0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"{options},mode=700", "tmpfs", str(point)], capture_output=True, text=True
    )
    require("mount", mounted.returncode == 0, f"mounting a tmpfs takes root: {mounted.stderr.strip()}")
    try:
        yield point
    finally:
        # Lazily: a failed test may have left a process with open files there.
        subprocess.run(["umount", "--lazy", str(point)], check=True)


@contextlib.contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Let nothing be created or opened for writing below a directory; what is open stays open."""
    bind = subprocess.run(["mount", "--bind", str(directory), str(directory)], capture_output=True, text=True)
    require("mount", bind.returncode == 0, f"mounting a directory takes root: {bind.stderr.strip()}")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(directory)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def fill(path: Path) -> None:
    """Write a file that takes all the room that its file system has."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def key(metric: str, sample: str | None = None, labels: dict[str, str] | None = None, help_: str = "Help.") -> str:
    """Return an entry's key."""
    return json.dumps([metric, sample or metric, labels or {}, help_], sort_keys=True)


def metric_file(entries: Iterable[Entry], unused: int = 0, removals: int = 0) -> bytes:
    """Return the bytes of a metric file, written down here independently of the code under test."""
    body = b""
    for text, value, timestamp in entries:
        encoded = text.encode()
        padded = encoded + b" " * (8 - (len(encoded) + 4) % 8)
        body += struct.pack(f"i{len(padded)}sdd", len(encoded), padded, value, timestamp)
    return struct.pack("iHH", 8 + len(body), 0, removals) + body + bytes(unused)


class File(NamedTuple):
    """A metric file as it was at one moment: its name, its entries with value and timestamp, its size in use."""

    name: FileName
    entries: list[tuple[bytes, float, float]]
    size: int


class Snapshot(NamedTuple):
    """What a directory held at one moment, and how many files were left out, by reason."""

    files: list[File]
    skipped: dict[str, int]


class Recorder:
    """A reader's plan that notes the keys of each file."""

    def __init__(self) -> None:
        self.keys: dict[reader.File, list[bytes]] = {}

    def add_entries(self, file: reader.File, keys: list[bytes]) -> None:
        """Note the keys."""
        self.keys.setdefault(file, []).extend(keys)

    def update_stamps(self, file: reader.File) -> None:
        """Note nothing."""

    def remove_file(self, file: reader.File) -> None:
        """Forget a file."""
        self.keys.pop(file, None)


def read(directory: Path) -> Snapshot:
    """Read a directory once, with a reader that has not seen it before."""
    plan = Recorder()
    used = reader.Reader(directory, plan)
    try:
        found = used.read()
        files = []
        for file in found.files:
            values = file.numbers()[dense_file.FRONT :: file.width]
            entries = list(zip(plan.keys.get(file, []), values, file.stamps, strict=True))
            files.append(File(file.name, entries, file.size))
        return Snapshot(files, found.skipped)
    finally:
        used.close()


def aggregate(files: Iterable[File]) -> Aggregate:
    """Merge files with an aggregation that has not seen them before."""
    aggregation = Aggregation()
    made = []
    for given in files:
        file = reader.File(given.name, -1, 0)
        numbers = array("d", [0.0] * dense_file.FRONT)
        for at, (_, value, timestamp) in enumerate(given.entries):
            file.positions.append(2 * at)
            file.stamps.append(timestamp)
            numbers.extend((value, timestamp)[: file.width])
        file.data = numbers.tobytes()
        aggregation.add_entries(file, [text for text, _, _ in given.entries])
        made.append(file)
    return aggregation.combine(made)
