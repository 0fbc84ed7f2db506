"""The life of a worker's resources: the connection pool, the migrations, and their shutdown.

Owns when they start and stop, and whether the worker is ready. It never keeps the worker from starting: a worker that
fails to start ends the whole service, so a database that is away is waited for in the background.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

import structlog
from psycopg_pool import PoolTimeout

from authly.core.cancellation import cancel
from authly.core.database import FULL, Pool, connect, create_pool, explain
from authly.core.migrations import MigrationError, installation_id, migrate
from authly.core.repository import DatabaseUnavailableError
from authly.monitoring.labels import Dependency, StartupPhase

_FIRST_DELAY, _LONGEST_DELAY = 0.2, 5.0
_POOL_TIMEOUT, _ASK_TIMEOUT, _JUDGE_TIMEOUT = 0.4, 0.5, 0.4
_STOP_TIMEOUT = 0.5
# Longer than an attempt to connect to a server that hangs, much shorter than Gunicorn's patience with a worker.
_START_TIMEOUT = 5.0

_log = structlog.get_logger()


class FirstStepError(RuntimeError):
    """What has to be done before the first request cannot be done; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether requests can be served, and if not, why."""

    ready: bool
    reason: str


class ResourceMetrics(Protocol):
    """What is told of the start, and of whether the database can be used."""

    def update_startup_duration(self, phase: StartupPhase, seconds: float) -> None:
        """Note how long a phase of the start took."""

    def update_dependency(self, dependency: Dependency, *, up: bool) -> None:
        """Note whether a dependency can be used."""

    def update_dependency_connect_duration(self, dependency: Dependency, seconds: float) -> None:
        """Note how long it took to connect."""

    def update_config_valid(self, *, valid: bool) -> None:
        """Note whether the configuration can be used."""


class NullResourceMetrics:
    """Is told in vain."""

    def update_startup_duration(self, phase: StartupPhase, seconds: float) -> None:
        """Do nothing."""

    def update_dependency(self, dependency: Dependency, *, up: bool) -> None:
        """Do nothing."""

    def update_dependency_connect_duration(self, dependency: Dependency, seconds: float) -> None:
        """Do nothing."""

    def update_config_valid(self, *, valid: bool) -> None:
        """Do nothing."""


class ResourceManager:
    """Keep a worker connected to its database.

    Args:
        database_url: the PostgreSQL to use.
        pool_size: connections at most.
        metrics: is told of the start, and of whether the database can be used.
        began: when the worker began to start, by the clock.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        database_url: str,
        pool_size: int,
        metrics: ResourceMetrics | None = None,
        began: float | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.pool: Pool = create_pool(database_url, pool_size)
        self.installation: UUID | None = None
        self._url = database_url
        self._readiness = Readiness(ready=False, reason="migrations have not run yet")
        # Set when somebody doubts that the database answers; when that has been found out.
        self._lost = asyncio.Event()
        self._judged = asyncio.Event()
        self._questions: set[asyncio.Task[None]] = set()
        self._supervisor: asyncio.Task[None] | None = None
        self._away = True
        self._first_steps: list[Callable[[], Awaitable[None]]] = []
        self._metrics = metrics or NullResourceMetrics()
        self._clock = clock
        self._began = clock() if began is None else began
        self._has_started = False

    def before_ready(self, step: Callable[[], Awaitable[None]]) -> None:
        """Take a step when the pool is open for the first time, again and again until it succeeds."""
        self._first_steps.append(step)

    async def start(self) -> None:
        """Begin to connect, and wait until the first attempt has succeeded or failed; go on in the background.

        A worker takes requests when this returns. One that replaces another would answer them with 503 if it did not
        wait for what takes a fraction of a second where the database is well.
        """
        if self._supervisor is None:
            self._supervisor = asyncio.create_task(self._supervise(), name="authly-database")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._judged.wait(), _START_TIMEOUT)

    def is_away(self) -> bool:
        """Tell whether the database is known not to answer."""
        return self._away

    def doubt(self) -> None:
        """Have it found out, soon, whether the database answers."""
        self._lost.set()

    async def check(self) -> Readiness:
        """Ask the database and tell whether it answers. Takes a second at most.

        While it is known to be away, the last of the repeated attempts to reach it answers.
        """
        known = self._readiness
        if not known.ready:
            return known
        # A task, for a query that is cancelled while the database hangs takes seconds to end.
        question = asyncio.create_task(self._ask(), name="authly-readiness")
        self._questions.add(question)
        question.add_done_callback(self._forget)
        await asyncio.wait([question], timeout=_ASK_TIMEOUT)
        if question.cancelled():  # by stop()
            return self._readiness
        error = question.exception() if question.done() else None
        if question.done() and error is None:
            return self._readiness
        question.cancel()
        # The supervisor finds out what is the matter, and is the only one to log it.
        self._judged.clear()
        self._lost.set()
        try:
            await asyncio.wait_for(self._judged.wait(), _JUDGE_TIMEOUT)
        except TimeoutError as silence:
            return Readiness(ready=False, reason=f"database unreachable: {explain(silence, self._url)}")
        if self._readiness.ready and isinstance(error, PoolTimeout):
            return Readiness(ready=False, reason="no connection of the pool is free")
        return self._readiness

    async def stop(self) -> None:
        """Close everything, within a few seconds even if the database does not answer."""
        self._readiness = Readiness(ready=False, reason="shutting down")
        tasks = set(self._questions)
        if self._supervisor is not None:
            tasks.add(self._supervisor)
            self._supervisor = None
        await cancel(tasks)
        await _within(2 * _STOP_TIMEOUT, self.pool.close(timeout=_STOP_TIMEOUT))

    async def _supervise(self) -> None:
        delay = _FIRST_DELAY
        while True:
            self._lost.clear()
            try:
                await self._connect()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next attempt may succeed
                self._mark_away(error)
                await asyncio.sleep(delay)
                delay = min(delay * 2, _LONGEST_DELAY)
            else:
                delay = _FIRST_DELAY
                await self._lost.wait()

    async def _connect(self) -> None:
        began = self._clock()
        connection = await connect(self._url)
        connected = self._clock()
        self._metrics.update_dependency_connect_duration(Dependency.DATABASE, connected - began)
        try:
            applied = await migrate(connection)
            migrated = self._clock()
            self.installation = await installation_id(connection)
        finally:
            await connection.close()
        if self.pool.closed:
            await self.pool.open(wait=False)
        else:
            # Replaces connections that broke, now rather than when a request finds them.
            await self.pool.check()
        self._away = False
        self._metrics.update_dependency(Dependency.DATABASE, up=True)
        await self._take_first_steps()
        self._metrics.update_config_valid(valid=True)
        if not self._has_started:
            self._has_started = True
            self._metrics.update_startup_duration(StartupPhase.DATABASE, connected - began)
            self._metrics.update_startup_duration(StartupPhase.MIGRATIONS, migrated - connected)
            self._metrics.update_startup_duration(StartupPhase.TOTAL, self._clock() - self._began)
        if not self._readiness.ready:
            _log.info(
                "database_available",
                installation=str(self.installation),
                migrations_applied=[str(migration) for migration in applied],
            )
        self._readiness = Readiness(ready=True, reason="ready")
        self._judged.set()

    async def _take_first_steps(self) -> None:
        while self._first_steps:
            try:
                await self._first_steps[0]()
            except DatabaseUnavailableError:
                raise
            except Exception as error:
                raise FirstStepError(str(error)) from error
            del self._first_steps[0]

    async def _ask(self) -> None:
        async with self.pool.connection(_POOL_TIMEOUT) as connection:
            await connection.execute("SELECT 1")

    def _forget(self, question: asyncio.Task[None]) -> None:
        self._questions.discard(question)
        if not question.cancelled():
            question.exception()  # asyncio complains about errors that nobody looked at

    def _mark_away(self, error: Exception) -> None:
        if isinstance(error, DatabaseUnavailableError) and isinstance(error.__cause__, Exception):
            error = error.__cause__
        if isinstance(error, MigrationError):
            trouble, detail = "migrations failed", str(error)
        elif isinstance(error, FirstStepError):
            trouble, detail = "first start failed", str(error)
            # What the settings ask for is refused; the database answered.
            self._metrics.update_config_valid(valid=False)
        else:
            trouble, detail = "database unreachable", explain(error, self._url)
        self._away = detail != FULL or self.pool.closed
        if self._away and not isinstance(error, FirstStepError):
            self._metrics.update_dependency(Dependency.DATABASE, up=False)
        # Once, not for each attempt.
        if not self._readiness.reason.startswith(trouble):
            _log.warning("database_unavailable", reason=f"{trouble}: {detail}")
        self._readiness = Readiness(ready=False, reason=f"{trouble}: {detail}")
        self._judged.set()


async def _within(seconds: float, work: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(work, seconds)
