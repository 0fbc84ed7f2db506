"""How often one client may ask, and what it is told when it asks too often.

Owns the policies, the answers 429 and 503, and the ``RateLimit`` fields. Does not own counting: that is
:mod:`authly.core.rate_limits`.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, Protocol

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authly.api.refusal import refuse
from authly.core.addresses import network_of
from authly.core.rate_limits import Limit, MemoryStore, Store, Verdict

_TIMEOUT = 1.0
_PAUSE = 1.0

_log = structlog.stdlib.get_logger(__name__)


class Policy(StrEnum):
    """What is limited on its own. Scrapes of the metrics are too, by the exporter."""

    LOGIN = "login"
    TOKEN = "token"
    INTROSPECT = "introspect"
    DEFAULT = "default"


class RateLimitMetrics(Protocol):
    """What the limiter tells."""

    def track_rate_limit_hit(self, policy: str, backend: str, /) -> None:
        """Note that a request was refused."""

    def track_rate_limit_check(self, backend: str, seconds: float, /) -> None:
        """Note how long a store took to answer."""

    def track_rate_limit_error(self, backend: str, /) -> None:
        """Note that a store did not answer."""


class RateLimiterUnavailableError(Exception):
    """The store does not answer, and the policy lets nobody through uncounted."""


class RateLimiter:
    """Asks the store, and decides without it while it is away.

    Whoever waits for a store that does not answer waits for a second. After that, nobody asks it for another; then
    one request does, and if it has come back, it is used again.

    Args:
        store: where requests are counted.
        limits: for each policy its limit, or None for none.
        fail_open: the policies whose requests go on while the store is away, counted in this process alone. Those of
            the others are refused.
        metrics: whom to tell.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        store: Store,
        limits: Mapping[Policy, Limit | None],
        fail_open: frozenset[Policy],
        metrics: RateLimitMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self._store = store
        self._fallback = MemoryStore(clock=clock)
        self._fail_open = fail_open
        self._metrics = metrics
        self._clock = clock
        self._ask_again_at: float | None = None
        self._questions: set[asyncio.Task[Verdict]] = set()

    async def hit(self, policy: Policy, client: str) -> Verdict | None:
        """Count a request; return None if its policy has no limit.

        Args:
            policy: what is limited.
            client: whose requests are counted together.

        Raises:
            RateLimiterUnavailableError: nobody can tell, and the policy does not let it through.
        """
        limit = self.limits[policy]
        if limit is None:
            return None
        key = f"{policy}:{client}"
        verdict, backend = await self._ask(key, limit), self._store.name
        if verdict is None:
            if policy not in self._fail_open:
                raise RateLimiterUnavailableError
            verdict, backend = await self._fallback.hit(key, limit), self._fallback.name
        if not verdict.allowed:
            self._metrics.track_rate_limit_hit(policy, backend)
        return verdict

    async def _ask(self, key: str, limit: Limit) -> Verdict | None:
        now = self._clock()
        if self._ask_again_at is not None:
            if now < self._ask_again_at:
                return None
            # This request asks; those that come while it waits do not.
            self._ask_again_at = now + _PAUSE
        # A task, for a query that is cancelled while its database hangs takes seconds to end.
        question = asyncio.create_task(self._store.hit(key, limit))
        self._questions.add(question)
        question.add_done_callback(self._forget)
        await asyncio.wait([question], timeout=_TIMEOUT)
        if not question.done():
            question.cancel()
            self._mark_away(TimeoutError("no answer in time"))
            return None
        if question.cancelled():
            return None
        error = question.exception()
        if error is not None:
            self._mark_away(error)
            return None
        self._metrics.track_rate_limit_check(self._store.name, self._clock() - now)
        if self._ask_again_at is not None:
            self._ask_again_at = None
            _log.info("rate_limit_store_available", backend=self._store.name)
        return question.result()

    def _forget(self, question: "asyncio.Task[Verdict]") -> None:
        self._questions.discard(question)
        if not question.cancelled():
            question.exception()  # asyncio complains about errors that nobody looked at

    def _mark_away(self, error: BaseException) -> None:
        self._metrics.track_rate_limit_error(self._store.name)
        if self._ask_again_at is None:
            # Once, not for each request.
            _log.warning(
                "rate_limit_store_unavailable",
                backend=self._store.name,
                reason=str(error).partition("\n")[0] or type(error).__name__,
                open=sorted(self._fail_open),
                closed=sorted(set(Policy) - self._fail_open),
            )
        self._ask_again_at = self._clock() + _PAUSE


class _Endpoint(NamedTuple):
    """Stands for the route that a refused request would have taken, for whoever counts by routes."""

    path: str


class RateLimitMiddleware:
    """Counts each request of a client under the policy of what it asks for.

    Args:
        app: the application.
        limiter: who counts.
        policies: the policy of a method and a path; what is not in it falls under the default policy.
        exempt: paths that are not counted, and beginnings of paths, which end with a slash: what has to answer whatever
            happens, and what is the same for everybody.
        refused: for some methods and paths, what is called where a request is refused.
    """

    def __init__(
        self,
        app: ASGIApp,
        limiter: RateLimiter,
        policies: Mapping[tuple[str, str], Policy],
        exempt: tuple[str, ...],
        refused: Mapping[tuple[str, str], Callable[[], None]] = MappingProxyType({}),
    ) -> None:
        self._refused = refused
        self._app = app
        self._limiter = limiter
        self._policies = policies
        self._exempt = frozenset(exempt)
        self._exempt_below = tuple(path for path in exempt if path.endswith("/"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on if it is within its limit; anything but HTTP goes straight through."""
        if scope["type"] != "http" or self._is_exempt(scope["path"]):
            await self._app(scope, receive, send)
            return
        policy = self._policies.get((scope["method"], scope["path"]))
        if policy is None:
            policy = Policy.DEFAULT
        else:
            # The router puts the route in its place.
            scope["route"] = _Endpoint(scope["path"])
        try:
            verdict = await self._limiter.hit(policy, network_of((scope.get("client") or ("",))[0]))
        except RateLimiterUnavailableError:
            await refuse(
                scope,
                send,
                503,
                "temporarily_unavailable",
                "Authly cannot tell at the moment how often you have asked. Try again in a moment.",
                [(b"retry-after", str(math.ceil(_PAUSE)).encode())],
            )
            return
        limit = self._limiter.limits[policy]
        if verdict is None or limit is None:
            await self._app(scope, receive, send)
            return
        fields = _fields(policy, limit, verdict)
        if verdict.allowed:

            async def send_with_fields(message: Message) -> None:
                if message["type"] == "http.response.start":
                    headers = MutableHeaders(scope=message)
                    for name, value in fields:
                        headers[name.decode()] = value.decode()
                await send(message)

            await self._app(scope, receive, send_with_fields)
            return
        wait = math.ceil(verdict.wait)
        if (tell := self._refused.get((scope["method"], scope["path"]))) is not None:
            tell()
        _log.debug("rate_limited", policy=policy, wait_seconds=wait)
        await refuse(
            scope,
            send,
            429,
            "temporarily_unavailable",
            f"Too many requests. Try again in {wait} second{'' if wait == 1 else 's'}.",
            [(b"retry-after", str(wait).encode()), *fields],
        )

    def _is_exempt(self, path: str) -> bool:
        return path in self._exempt or path.startswith(self._exempt_below)


def _fields(policy: Policy, limit: Limit, verdict: Verdict) -> list[tuple[bytes, bytes]]:
    """Return the fields of draft-ietf-httpapi-ratelimit-headers."""
    reset = math.ceil(verdict.reset)
    return [
        (b"ratelimit-policy", f'"{policy}";q={limit.count};w={limit.period}'.encode()),
        (b"ratelimit", f'"{policy}";r={verdict.remaining};t={reset}'.encode()),
    ]
