"""The limiter's decisions while its store is there, and while it is not."""

import asyncio

import pytest
from starlette.types import Receive, Send
from starlette.types import Scope as ASGIScope

from authly.api.rate_limiter import Policy, RateLimiter, RateLimiterUnavailableError, RateLimitMiddleware
from authly.core.rate_limits import Limit, MemoryStore, Verdict
from authly.monitoring.middleware import route_template
from tests.asgi import Echo, ask

pytestmark = pytest.mark.anyio


class Recorded:
    """Notes what the limiter tells."""

    def __init__(self) -> None:
        self.hits: list[tuple[str, str]] = []
        self.checks: list[str] = []
        self.errors: list[str] = []

    def track_rate_limit_hit(self, policy: str, backend: str) -> None:
        """Note a refusal."""
        self.hits.append((policy, backend))

    def track_rate_limit_check(self, backend: str, seconds: float) -> None:
        """Note a check."""
        assert seconds >= 0
        self.checks.append(backend)

    def track_rate_limit_error(self, backend: str) -> None:
        """Note an error."""
        self.errors.append(backend)


class Store(MemoryStore):
    """A store that can be away, or hang."""

    name = "redis"

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.hangs = False
        self.asked = 0

    async def hit(self, key: str, limit: Limit) -> Verdict:
        """Count, fail or hang."""
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.away:
            raise ConnectionError("on purpose")
        return await super().hit(key, limit)


class Scene:
    """A limiter with a store and a clock of the test's."""

    def __init__(self) -> None:
        self.store, self.metrics, self.now = Store(), Recorded(), 0.0
        limits = {Policy.LOGIN: Limit(2, 60), Policy.TOKEN: Limit(3, 60), Policy.INTROSPECT: None, Policy.DEFAULT: None}
        self.limiter = RateLimiter(
            self.store, limits, frozenset({Policy.TOKEN, Policy.DEFAULT}), self.metrics, lambda: self.now
        )
        self.app = RateLimitMiddleware(
            Echo(), self.limiter, {("POST", "/login"): Policy.LOGIN, ("POST", "/token"): Policy.TOKEN}, ("/health/",)
        )


@pytest.fixture
def scene() -> Scene:
    """A limiter."""
    return Scene()


async def test_within_and_beyond(scene: Scene) -> None:
    """Answers say what is left; beyond the limit the client is told when to come again."""
    answers = [await ask(scene.app, "POST", "/login") for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert [answer.headers["ratelimit"] for answer in answers] == [
        '"login";r=1;t=30',
        '"login";r=0;t=60',
        '"login";r=0;t=60',
    ]
    assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"login";q=2;w=60'}
    assert answers[2].headers["retry-after"] == "30"
    assert b"Try again in 30 seconds" in answers[2].body
    assert scene.metrics.hits == [("login", "redis")]
    assert scene.metrics.checks == ["redis"] * 3


async def test_clients_and_policies_are_counted_apart(scene: Scene) -> None:
    """Neither another address nor another policy is affected; addresses of one IPv6 network are one."""
    for _ in range(3):
        await ask(scene.app, "POST", "/login", client="2001:db8::1")
    assert (await ask(scene.app, "POST", "/login", client="2001:db8::2")).status == 429
    assert (await ask(scene.app, "POST", "/login", client="2001:db8:0:1::1")).status == 200
    assert (await ask(scene.app, "POST", "/token", client="2001:db8::1")).status == 200


async def test_a_refused_request_counts_for_its_endpoint(scene: Scene) -> None:
    """Whoever counts by routes finds the one that a refused request would have taken."""
    templates = []

    async def counting(scope: ASGIScope, receive: Receive, send: Send) -> None:
        await scene.app(scope, receive, send)
        templates.append(route_template(scope))

    for _ in range(3):
        await ask(counting, "POST", "/login")
    await ask(counting, "POST", "/made-up")
    assert templates == ["/login", "/login", "/login", "unmatched"]


async def test_no_limit(scene: Scene) -> None:
    """What has no limit, or is exempt, asks nobody."""
    assert (await ask(scene.app, "GET", "/login")).headers == {}
    assert (await ask(scene.app, "GET", "/health/live")).status == 200
    assert scene.store.asked == 0


async def test_closed_while_the_store_is_away(scene: Scene) -> None:
    """A policy that is closed answers 503 with Retry-After, and is itself again when the store is back."""
    scene.store.away = True
    answer = await ask(scene.app, "POST", "/login")
    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    assert b"temporarily_unavailable" in answer.body
    scene.store.away = False
    assert (await ask(scene.app, "POST", "/login")).status == 503
    scene.now += 1
    assert (await ask(scene.app, "POST", "/login")).status == 200
    assert (await ask(scene.app, "POST", "/login")).status == 200
    assert scene.metrics.errors == ["redis"]


async def test_open_while_the_store_is_away(scene: Scene) -> None:
    """A policy that is open is kept by the worker alone."""
    scene.store.away = True
    answers = [await ask(scene.app, "POST", "/token") for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert scene.metrics.hits == [("token", "memory")]


async def test_a_store_that_is_away_is_asked_once_a_second(scene: Scene) -> None:
    """Requests do not wait for it one after the other."""
    scene.store.away = True
    for _ in range(5):
        for _ in range(10):
            with pytest.raises(RateLimiterUnavailableError):
                await scene.limiter.hit(Policy.LOGIN, "a")
        scene.now += 1
    assert scene.store.asked == 5
    assert scene.metrics.errors == ["redis"] * 5


async def test_a_store_that_hangs(scene: Scene) -> None:
    """The wait for an answer is bounded, and those that come meanwhile, once it is known to be away, do not wait."""
    scene.store.hangs = True
    with pytest.raises(RateLimiterUnavailableError):
        await scene.limiter.hit(Policy.LOGIN, "a")
    scene.now += 1
    asking = asyncio.create_task(scene.limiter.hit(Policy.LOGIN, "a"))
    await asyncio.sleep(0)
    with pytest.raises(RateLimiterUnavailableError):
        await asyncio.wait_for(scene.limiter.hit(Policy.LOGIN, "a"), 0.1)
    with pytest.raises(RateLimiterUnavailableError):
        await asking
    assert scene.store.asked == 2
