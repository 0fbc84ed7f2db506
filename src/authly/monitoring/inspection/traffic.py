"""What an exposition says about the work of an instance: its endpoints, its workers.

Between two moments, or since the instance began to count. Names are those of ``authly.monitoring.metrics`` and of the
Gunicorn collector; families that are not there leave their part empty.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from authly.monitoring.inspection.snapshot import Series, Snapshot

_REQUESTS = "authly_http_requests_total"
_DURATION = "authly_http_request_duration_seconds"
_IN_PROGRESS = "authly_http_requests_in_progress"


class Endpoint(NamedTuple):
    """What one route was asked for.

    Args:
        method: of the requests.
        endpoint: the route's template.
        requests: how many there were.
        per_second: how many in each second; None where the time is not known.
        failed: the share with a 5xx status, 0 to 1.
        refused: the share with a 4xx status, 0 to 1.
        mean: seconds; None where no request ended.
        p50: seconds, estimated from buckets; None where no request ended.
        p95: seconds, estimated likewise.
        p99: seconds, estimated likewise.
    """

    method: str
    endpoint: str
    requests: float
    per_second: float | None
    failed: float
    refused: float
    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None


class Worker(NamedTuple):
    """What one worker does; what is not known is None.

    Args:
        worker: the number of its slot.
        in_progress: requests it is answering.
        memory_bytes: what it takes.
        cpu: the share of one processor it uses, between two moments.
        age: seconds since it started.
        heartbeat_age: seconds since its last sign of life.
    """

    worker: str
    in_progress: float | None
    memory_bytes: float | None
    cpu: float | None
    age: float | None
    heartbeat_age: float | None


class Traffic(NamedTuple):
    """The work of an instance.

    Args:
        seconds: what the numbers are about; None for everything since the instance began to count.
        requests: how many there were.
        per_second: how many in each second; None where the time is not known.
        failed: the share with a 5xx status, 0 to 1.
        in_progress: requests that are being answered now.
        endpoints: the busiest first.
        workers: in the order of their slots.
        states: how many workers are desired, alive, booting, busy.
        exits: how many workers ended, by reason.
        backlog: connections that wait to be accepted, by listener.
    """

    seconds: float | None
    requests: float
    per_second: float | None
    failed: float
    in_progress: float
    endpoints: list[Endpoint]
    workers: list[Worker]
    states: dict[str, float]
    exits: dict[str, float]
    backlog: dict[str, float]


def traffic(after: Snapshot, before: Snapshot | None = None) -> Traffic:
    """Compute what happened between two moments, or until one where no earlier is given."""
    seconds = after.moment - before.moment if before is not None else None
    if seconds is not None and seconds <= 0:
        seconds = None
    grown = _growth(after, before)
    statuses: dict[tuple[str, str], dict[str, float]] = {}
    buckets: dict[tuple[str, str], list[tuple[float, float]]] = {}
    sums: dict[tuple[str, str], float] = {}
    counts: dict[tuple[str, str], float] = {}
    for (name, labels), value in grown.items():
        if not name.startswith((_REQUESTS, _DURATION)):
            continue
        has = dict(labels)
        key = has.get("method", ""), has.get("endpoint", "")
        if name == _REQUESTS:
            by_class = statuses.setdefault(key, {})
            status = has.get("status_code", "")[:1]
            by_class[status] = by_class.get(status, 0.0) + value
        elif name == f"{_DURATION}_bucket":
            buckets.setdefault(key, []).append((float(has["le"]), value))
        elif name == f"{_DURATION}_sum":
            sums[key] = value
        elif name == f"{_DURATION}_count":
            counts[key] = value
    endpoints = []
    for key, by_class in statuses.items():
        requests = sum(by_class.values())
        if not requests:
            continue
        count = counts.get(key, 0.0)
        edges = sorted(buckets.get(key, []))
        endpoints.append(
            Endpoint(
                *key,
                requests,
                requests / seconds if seconds else None,
                by_class.get("5", 0.0) / requests,
                by_class.get("4", 0.0) / requests,
                sums.get(key, 0.0) / count if count else None,
                *(quantile(q, edges) for q in (0.5, 0.95, 0.99)),
            )
        )
    endpoints.sort(key=lambda each: (-each.requests, each.endpoint, each.method))
    total = sum(endpoint.requests for endpoint in endpoints)
    return Traffic(
        seconds,
        total,
        total / seconds if seconds else None,
        sum(endpoint.failed * endpoint.requests for endpoint in endpoints) / total if total else 0.0,
        sum(value for _, value in after.find(_IN_PROGRESS)),
        endpoints,
        _workers(after, grown, seconds),
        _by(after, "gunicorn_workers", "state"),
        _by(after, "gunicorn_worker_exits_total", "reason"),
        _by(after, "gunicorn_listen_backlog", "listener"),
    )


def quantile(q: float, buckets: Sequence[tuple[float, float]]) -> float | None:
    """Estimate a quantile from cumulative buckets, as PromQL's ``histogram_quantile`` does.

    Args:
        q: from 0 to 1.
        buckets: upper edge and cumulative count, in the order of the edges; the last edge is infinite.

    Returns:
        The estimate; the last finite edge for what lies beyond it; None where nothing was observed.
    """
    if len(buckets) < 2 or not buckets[-1][1] or not math.isinf(buckets[-1][0]):
        return None
    rank = q * buckets[-1][1]
    lower, below = 0.0, 0.0
    for edge, count in buckets:
        if count >= rank and count > below:
            if math.isinf(edge):
                return lower
            if edge <= 0:
                return edge
            return lower + (edge - lower) * (rank - below) / (count - below)
        lower, below = edge, max(count, below)
    return buckets[-2][0]


def _growth(after: Snapshot, before: Snapshot | None) -> dict[Series, float]:
    """Return by how much each cumulative series grew; what fell began again at 0."""
    grown = {}
    for series, value in after.values.items():
        if series[0] in after.cumulative:
            old = before.values.get(series, 0.0) if before is not None else 0.0
            grown[series] = value - old if value >= old else value
    return grown


def _workers(after: Snapshot, grown: dict[Series, float], seconds: float | None) -> list[Worker]:
    in_progress = _by(after, "gunicorn_worker_requests_in_progress", "worker")
    memory = _memory(after)
    age = _by(after, "gunicorn_worker_age_seconds", "worker")
    heartbeat = _by(after, "gunicorn_worker_heartbeat_age_seconds", "worker")
    cpu: dict[str, float] = {}
    for (name, labels), value in grown.items():
        if name == "gunicorn_worker_cpu_seconds_total":
            worker = dict(labels).get("worker", "")
            cpu[worker] = cpu.get(worker, 0.0) + value
    names = sorted({*in_progress, *memory, *age, *heartbeat}, key=lambda name: (len(name), name))
    return [
        Worker(
            name,
            in_progress.get(name),
            memory.get(name),
            cpu[name] / seconds if seconds and name in cpu else None,
            age.get(name),
            heartbeat.get(name),
        )
        for name in names
    ]


def _memory(snapshot: Snapshot) -> dict[str, float]:
    """Return the memory of each worker; of several kinds the resident one."""
    found: dict[str, float] = {}
    for labels, value in snapshot.find("gunicorn_worker_memory_bytes"):
        if labels.get("type", "rss") == "rss":
            found[labels.get("worker", "")] = value
    return found


def _by(snapshot: Snapshot, name: str, label: str) -> dict[str, float]:
    """Return the sum of a metric for each value of a label."""
    found: dict[str, float] = {}
    for labels, value in snapshot.find(name):
        found[labels.get(label, "")] = found.get(labels.get(label, ""), 0.0) + value
    return found
