"""Whether what was answered is what was counted: for each method, route template and status."""

import re
import urllib.request
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from loadtests.traffic.wire import UNANSWERED

_LINE = re.compile(r"^authly_http_requests_total\{(?P<labels>[^}]*)\} (?P<value>\S+)", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class Kind(NamedTuple):
    """Of which kind a request was."""

    method: str
    endpoint: str
    status: int


class Entry(NamedTuple):
    """The books of one method and endpoint.

    Args:
        method: of HTTP.
        endpoint: the route template.
        answered: requests that were answered, by status.
        counted: requests that Authly counted, by status.
        unanswered: requests that were sent, and never answered.
        doubtful: requests of those answered that may not have been counted, by status.
    """

    method: str
    endpoint: str
    answered: Mapping[int, int]
    counted: Mapping[int, int]
    unanswered: int
    doubtful: Mapping[int, int] = {}

    @property
    def sent(self) -> int:
        """All requests."""
        return sum(self.answered.values()) + self.unanswered

    def problems(self) -> list[str]:
        """Return what does not agree.

        A request counts before its response starts, so what was answered has been counted. One that was not answered
        because its worker was killed may have been counted or not: answered <= counted <= sent. Where everything was
        answered, this leaves nothing but equality. What was answered while nothing could be stored may have been lost
        with its worker.
        """
        what = f"{self.method} {self.endpoint}"
        found = [
            f"{what}: {count} answered with {status}, {self.counted.get(status, 0)} counted"
            for status, count in sorted(self.answered.items())
            if self.counted.get(status, 0) < count - self.doubtful.get(status, 0)
        ]
        total = sum(self.counted.values())
        if total > self.sent:
            found.append(f"{what}: {self.sent} sent, {total} counted")
        return found


Counted = Mapping[Kind, float]


def counted(metrics_url: str) -> Counted:
    """Scrape the requests that Authly has counted.

    Raises:
        OSError: the exporter does not answer.
    """
    with urllib.request.urlopen(metrics_url, timeout=10) as answer:  # noqa: S310 - the address is the operator's
        return parse(answer.read().decode())


def parse(exposition: str) -> Counted:
    """Return the requests that an exposition has."""
    found = {}
    for line in _LINE.finditer(exposition):
        labels = dict(_LABEL.findall(line["labels"]))
        found[Kind(labels["method"], labels["endpoint"], int(labels["status_code"]))] = float(line["value"])
    return found


def compare(requests: Iterable[Kind], before: Counted, after: Counted, doubtful: Iterable[Kind] = ()) -> list[Entry]:
    """Return the books of a time between two scrapes.

    Args:
        requests: all that were sent meanwhile; status 0 for those that nobody answered.
        before: what had been counted.
        after: what has been counted.
        doubtful: those requests that may not have been counted though they were answered.
    """
    sent = Counter(requests)
    doubts = Counter(doubtful)
    grown = {kind: round(value - before.get(kind, 0.0)) for kind, value in after.items()}
    entries = []
    for method, endpoint in sorted({kind[:2] for kind in (*sent, *grown)}):

        def by_status(counts: Mapping[Kind, int], what: tuple[str, str] = (method, endpoint)) -> dict[int, int]:
            return {
                kind.status: count
                for kind, count in counts.items()
                if kind[:2] == what and count and kind.status != UNANSWERED
            }

        answered, counted_ = by_status(sent), by_status(grown)
        unanswered = sent[Kind(method, endpoint, UNANSWERED)]
        if answered or counted_ or unanswered:
            entries.append(Entry(method, endpoint, answered, counted_, unanswered, by_status(doubts)))
    return entries


def summary(entries: Sequence[Entry]) -> str:
    """Return one line for people."""
    answered = sum(sum(entry.answered.values()) for entry in entries)
    total = sum(sum(entry.counted.values()) for entry in entries)
    sent = sum(entry.sent for entry in entries)
    return f"{answered:,} answered, {total:,} counted, {sent:,} sent"
