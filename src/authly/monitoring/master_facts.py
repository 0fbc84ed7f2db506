"""What a Gunicorn master tells the exporter, and where: the one place that both sides know.

A master leases a slot of its own (``m0.lock``), by the rule by which a worker leases one: the kernel ends the lease
with the process, and the next master counts on. During an upgrade (SIGUSR2) two masters live, in two slots.

- ``counter_m0.db`` holds what it counts, in the format of all metric files; who reads the directory adds it up.
- ``m0.json`` holds what is so at this moment: its processes and its listeners. It is replaced at each change, and
  means something only while the slot is held.

What changes all the time (heartbeats, memory, queues) is in neither: the facts say where the kernel has it.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from authly.monitoring.multiprocess import lease

EXIT_REASONS = (
    "boot_error",
    "crash",
    "max_requests",
    "out_of_memory",
    "reload",
    "scale_down",
    "shutdown",
    "signal",
    "timeout",
)


class WorkerFacts(NamedTuple):
    """A worker, as its master knows it.

    Args:
        pid: its process id.
        started: when it was forked, in seconds of the monotonic clock.
        heartbeat_fd: the master's descriptor of the file whose modification time is the worker's heartbeat.
        heartbeat_inode: the number of that file, which tells it from a later one at the same descriptor.
    """

    pid: int
    started: float
    heartbeat_fd: int
    heartbeat_inode: int


class ListenerFacts(NamedTuple):
    """A socket that a master's workers accept connections from.

    Args:
        name: how people know it: ``HOST:PORT``, or ``unix:PATH``.
        inode: the number of the socket; 0 where the master has none (``reuse_port``), and each worker its own.
        host: the address; empty for a Unix socket.
        port: the port; 0 for a Unix socket.
    """

    name: str
    inode: int
    host: str
    port: int


class MasterFacts(NamedTuple):
    """A master, its workers and its listeners.

    Args:
        pid: its process id.
        started: when it started, in seconds since the epoch.
        desired: how many workers it is to keep.
        is_upgrading: whether it has started another master (SIGUSR2), or was started by one that still lives.
        backlog: how many waiting connections it asks for on each listener.
        pid_namespace: in which its process ids mean something.
        network_namespace: in which its listeners are.
        workers: those that have not been reaped.
        listeners: in the order in which they were configured.
    """

    pid: int
    started: float
    desired: int
    is_upgrading: bool
    backlog: int
    pid_namespace: int
    network_namespace: int
    workers: tuple[WorkerFacts, ...]
    listeners: tuple[ListenerFacts, ...]


def counter_path(directory: Path, slot: int) -> Path:
    """Return the path of the file in which the master of a slot counts."""
    return directory / f"counter_{lease.MASTER}{slot}.db"


def facts_path(directory: Path, slot: int) -> Path:
    """Return the path of the file in which the master of a slot says what is so."""
    return directory / f"{lease.MASTER}{slot}.json"


def write(directory: Path, slot: int, facts: MasterFacts) -> None:
    """Put facts in the place of those that the holder of a slot, or its predecessor, wrote.

    Raises:
        OSError: there is no room or no permission; the old facts stay.
    """
    path = facts_path(directory, slot)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(facts))
    beside.replace(path)


def read(directory: Path) -> list[MasterFacts]:
    """Return the facts of the masters that live, the one that started last at the end.

    Raises:
        OSError: the directory cannot be read.
    """
    found = []
    for slot in lease.held_slots(directory, lease.MASTER):
        try:
            found.append(_parse(json.loads(facts_path(directory, slot).read_bytes())))
        except (OSError, ValueError, TypeError):
            continue  # it has leased its slot and written nothing yet
    return sorted(found, key=lambda facts: facts.started)


def _parse(record: list[Any]) -> MasterFacts:
    facts = MasterFacts(*record)
    return facts._replace(
        workers=tuple(WorkerFacts(*worker) for worker in facts.workers),
        listeners=tuple(ListenerFacts(*listener) for listener in facts.listeners),
    )


def namespace(kind: str) -> int:
    """Return the number of a namespace of this process (``pid``, ``net``); 0 where the kernel does not tell."""
    try:
        return Path(f"/proc/self/ns/{kind}").stat().st_ino
    except OSError:
        return 0


def counter_key(name: str, help_: str, **labels: str) -> bytes:
    """Return the key under which a counter is kept in a metric file.

    Args:
        name: without ``_total``.
        help_: what it counts.
        **labels: of this series.
    """
    return json.dumps([name, f"{name}_total", labels, help_], sort_keys=True).encode()
