"""One connection, on which each request is sent exactly once.

HTTP clients send a request again when a connection that they kept turns out to be closed. Here what was sent has to be
known, because it is compared with what Authly counted.
"""

import http.client
import json
import select
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urlencode

# Less than the seconds after which Gunicorn closes what is idle.
_IDLE_SECONDS = 3.0
_PATIENCE = 30.0
# The status of a request that nobody answered.
UNANSWERED = 0


class Answer(NamedTuple):
    """What came back; the status is 0 where nothing did."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self) -> Any:
        """Return the body of a JSON document."""
        return json.loads(self.body)


class Request(NamedTuple):
    """What is told of each request.

    Args:
        method: of HTTP.
        endpoint: the route template, as Authly's counters name it.
        status: of the answer.
        milliseconds: that it took, from the moment at which it was due.
        length: of the answer's body.
        problem: what was wrong; None if nothing was.
    """

    method: str
    endpoint: str
    status: int
    milliseconds: float
    length: int
    problem: Exception | None


class UnexpectedAnswerError(Exception):
    """A flow cannot go on, because of what it was answered; this has been told already."""


class Wire:
    """A connection that is opened when needed.

    Args:
        address: HOST:PORT.
        tell: is told of each request.
        source: the address to come from; empty for any.
    """

    def __init__(self, address: str, tell: Callable[[Request], None], source: str = "") -> None:
        came_from = (source, 0) if source else None
        self._connection = http.client.HTTPConnection(address, timeout=_PATIENCE, source_address=came_from)
        self._tell = tell
        self._used_at = 0.0
        # When the next request was due, by time.perf_counter: it cannot be sent earlier than now, but it may be late.
        self.due: float | None = None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def ask(
        self,
        method: str,
        path: str,
        *,
        endpoint: str = "",
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        expected: tuple[int, ...] = (200,),
    ) -> Answer:
        """Send a request, and wait for the answer.

        Args:
            method: of HTTP.
            path: with the query.
            endpoint: the route template, where it differs from the path.
            form: what to send.
            headers: to send besides.
            expected: statuses that are no failure.

        Raises:
            UnexpectedAnswerError: another status, or no answer.
        """
        endpoint = endpoint or path.partition("?")[0]
        body = None if form is None else urlencode(form)
        sent = {**(headers or {}), **({} if body is None else {"content-type": "application/x-www-form-urlencoded"})}
        started, self.due = self.due or time.perf_counter(), None
        answer = Answer(UNANSWERED, http.client.HTTPMessage(), b"")
        problem: Exception | None = None
        try:
            self._close_what_is_stale()
            self._connection.request(method, path, body, sent)
            response = self._connection.getresponse()
            content = response.read()
            answer = Answer(response.status, response.headers, content)
        except (OSError, http.client.HTTPException) as error:
            problem = error
            self._connection.close()
        finally:
            # Also for what is interrupted: it has been sent.
            self._used_at = time.perf_counter()
            if problem is None and answer.status not in expected:
                what = f"answered {answer.status}" if answer.status else "not waited for"
                problem = UnexpectedAnswerError(f"{method} {endpoint} was {what}")
            taken = (self._used_at - started) * 1e3
            self._tell(Request(method, endpoint, answer.status, taken, len(answer.body), problem))
        if problem is not None:
            raise UnexpectedAnswerError(str(problem)) from problem
        return answer

    def _close_what_is_stale(self) -> None:
        """Close a connection that the server has closed, or is about to."""
        connection = self._connection
        if connection.sock is None:
            return
        readable = True
        with suppress(OSError, ValueError):
            readable = bool(select.select([connection.sock], [], [], 0)[0])
        if readable or time.perf_counter() - self._used_at > _IDLE_SECONDS:
            connection.close()
