"""What is kept of each request: not only statistics of it, as Locust keeps."""

import json
import time
from pathlib import Path
from typing import Any

from loadtests.traffic.wire import Request


class Records:
    """Every request of a run, in the order of their ends."""

    def __init__(self) -> None:
        self.started = time.time()
        self._requests: list[tuple[float, str, str, int, float]] = []
        self._scrapes: list[tuple[float, int, float, int]] = []

    def add(self, request: Request) -> None:
        """Keep a request to the application."""
        at = round(time.time() - self.started, 4)
        self._requests.append((at, request.method, request.endpoint, request.status, round(request.milliseconds, 3)))

    def add_scrape(self, request: Request) -> None:
        """Keep a request to the exporter."""
        at = round(time.time() - self.started, 4)
        self._scrapes.append((at, request.status, round(request.milliseconds, 3), request.length))

    def write(self, path: Path, **facts: Any) -> None:
        """Write all of it, for programs."""
        path.write_text(
            json.dumps({"started": self.started, **facts, "requests": self._requests, "scrapes": self._scrapes})
        )
