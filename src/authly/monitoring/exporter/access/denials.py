"""How many requests were denied: numbers that outlive this process.

They are in memory that the Gunicorn master keeps and hands to each exporter it starts, like the listening sockets: a
counter that fell to nothing with each new exporter would, added to that of the workers, look like one that went back.
"""

import mmap
from collections.abc import Iterable

from authly.monitoring.labels import SECURITY_EVENTS, SECURITY_EVENTS_HELP, SecurityEvent, Severity
from authly.monitoring.multiprocess.families import Family, Labels, Sample

SIZE = mmap.PAGESIZE
_SEVERITIES = (Severity.LOW, Severity.MEDIUM)
_EVENT = ("event_type", SecurityEvent.METRICS_DENIED.value)


class Denials:
    """Counts denied requests by their severity.

    Args:
        fd: of :data:`SIZE` bytes of memory shared with the next exporter; -1 for memory of this process alone.
    """

    def __init__(self, fd: int = -1) -> None:
        self._counts = memoryview(mmap.mmap(fd, SIZE)).cast("Q")

    def count(self, severity: Severity) -> None:
        """Count one more."""
        self._counts[_SEVERITIES.index(severity)] += 1

    def added_to(self, families: Iterable[Family]) -> list[Family]:
        """Return the families with these denials among them: in the family of security events, if there is one."""
        found = list(families)
        counts: dict[Labels, float] = {
            (_EVENT, ("severity", severity.value)): float(self._counts[i]) for i, severity in enumerate(_SEVERITIES)
        }
        name = f"{SECURITY_EVENTS}_total"
        position = next((i for i, family in enumerate(found) if family.name == SECURITY_EVENTS), len(found))
        for sample in found[position].samples if position < len(found) else ():
            counts[sample.labels] = counts.get(sample.labels, 0.0) + sample.value
        samples = [Sample(name, labels, value) for labels, value in sorted(counts.items())]
        found[position : position + 1] = [Family.of(SECURITY_EVENTS, "counter", SECURITY_EVENTS_HELP, samples)]
        return found
