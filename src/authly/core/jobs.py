"""Work that is done again and again, by one worker of all.

Owns the election of that worker, the schedule, and what happens to a run that fails or does not end. Does not own what
the jobs do, which is handed in.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from authly.core.cancellation import cancel

# Any number does, as long as nobody else uses it in this database: "authjb" in ASCII.
JOBS_LOCK = 0x617574686A62
_ASK_TIMEOUT = 2.0

_log = structlog.stdlib.get_logger(__name__)

Connect = Callable[[], Awaitable[AsyncConnection[TupleRow]]]


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do at intervals, in batches.

    Args:
        name: one or two words, in a closed set: it becomes a label value.
        interval: seconds between the beginnings of two runs.
        run_batch: does a part of the work of at most so many rows, and returns how many there were.
        batch: rows at a time.
        max_batches: in one run; what is left waits for the next.
        timeout: seconds that a run may take.
    """

    name: str
    interval: float
    run_batch: Callable[[int], Awaitable[int]]
    batch: int = 1000
    max_batches: int = 100
    timeout: float = 60.0


class JobMetrics(Protocol):
    """What is told of each run."""

    def track_cleanup_run(self, task: str, status: str, rows: int) -> None:
        """Note that a run ended, as ``success``, ``error`` or ``timeout``, and what it had done by then."""


class Election:
    """One member of all is elected: who holds an advisory lock, for as long as its connection lasts.

    The lock ends with the connection, however that ends, so a member that is killed is followed by another one. A
    transaction pooler between Authly and PostgreSQL breaks this; the jobs then run more often than needed, which is all
    that can happen.

    Args:
        connect: opens a connection for the lock.
        lock: which one.
    """

    def __init__(self, connect: Connect, lock: int) -> None:
        self._connect = connect
        self._lock = lock
        self._connection: AsyncConnection[TupleRow] | None = None

    async def is_won(self) -> bool:
        """Tell whether this member is elected, standing for election if nobody is.

        Raises:
            psycopg.OperationalError: the database is away, and nobody is elected.
        """
        try:
            async with asyncio.timeout(_ASK_TIMEOUT):
                if self._connection is not None:
                    # The lock is held for as long as the connection answers.
                    await self._connection.execute("SELECT 1")
                    return True
                connection = await self._connect()
                try:
                    row = await (await connection.execute("SELECT pg_try_advisory_lock(%s)", (self._lock,))).fetchone()
                    if row == (True,):
                        self._connection = connection
                finally:
                    if self._connection is None:
                        await connection.close()
        except BaseException:
            await self.resign()
            raise
        return self._connection is not None

    async def resign(self) -> None:
        """Give the office up, if it is held."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                await connection.close()


class Jobs:
    """Runs jobs at their intervals while this worker is the elected one.

    The next run of a job is set before it works, so that no failure can end the schedule. Jobs run one after the other;
    one that is late runs as soon as it can, and once.

    Args:
        election: who runs them.
        jobs: what to run.
        metrics: whom to tell.
        stand_interval: seconds between two attempts to be elected.
        clock: a monotonic clock, in seconds.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        election: Election,
        jobs: Sequence[Job],
        metrics: JobMetrics,
        stand_interval: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._election = election
        self._jobs = list(jobs)
        self._metrics = metrics
        self._stand_interval = stand_interval
        self._clock = clock
        self._sleep = sleep
        self._is_elected = False
        self._due: dict[str, float] = {}
        self._failing: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin, in the background."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="authly-jobs")

    async def stop(self) -> None:
        """End what runs, and leave the office to another worker."""
        task, self._task = self._task, None
        if task is not None:
            await cancel([task])
        await self._election.resign()

    async def _run(self) -> None:
        while True:
            try:
                await self.turn()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next turn may succeed
                # The resource manager has said by now that the database is away.
                _log.debug("jobs_waiting", reason=str(error))
            await self._sleep(self._pause())

    async def turn(self) -> None:
        """Stand for election if nobody is elected, and run what is due if it is this worker."""
        for job in [None, *self._jobs]:
            if job is not None and self._due.get(job.name, 0.0) > self._clock():
                continue
            # Before each of them: the one before may have taken a while.
            if not await self._holds_office():
                return
            if job is not None:
                self._due[job.name] = self._clock() + job.interval
                await self._run_job(job)

    def _pause(self) -> float:
        if not self._is_elected:
            return self._stand_interval
        next_due = min((self._due.get(job.name, 0.0) for job in self._jobs), default=self._clock() + 60.0)
        # Every so often in any case, to notice that the office was lost.
        return min(max(next_due - self._clock(), 0.05), self._stand_interval)

    async def _holds_office(self) -> bool:
        was, self._is_elected = self._is_elected, False
        self._is_elected = await self._election.is_won()
        if self._is_elected and not was:
            self._due.clear()
            _log.info("jobs_elected", jobs=[job.name for job in self._jobs])
        return self._is_elected

    async def _run_job(self, job: Job) -> None:
        rows, status = 0, "success"
        try:
            async with asyncio.timeout(job.timeout):
                for _ in range(job.max_batches):
                    done = await job.run_batch(job.batch)
                    rows += done
                    if done < job.batch:
                        break
        except Exception as error:  # noqa: BLE001 - a job that fails shall not keep the others from running
            status = "timeout" if isinstance(error, TimeoutError) else "error"
            # Once, until it succeeds again.
            if job.name not in self._failing:
                self._failing.add(job.name)
                _log.warning("job_failed", job=job.name, status=status, rows=rows, reason=str(error), exc_info=error)
        else:
            if job.name in self._failing:
                self._failing.discard(job.name)
                _log.info("job_recovered", job=job.name)
            if rows:
                _log.info("job_done", job=job.name, rows=rows)
        finally:
            self._metrics.track_cleanup_run(job.name, status, rows)
