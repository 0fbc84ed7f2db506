"""Whether this process lives, and whether it can do its work."""

from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

from fastapi import APIRouter, Response
from pydantic import BaseModel


class Readiness(Protocol):
    """What a check found."""

    @property
    def ready(self) -> bool:
        """Whether requests can be answered."""

    @property
    def reason(self) -> str:
        """If not, why."""


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"] = "live"


class Ready(BaseModel):
    """Whether the process can do its work, and if not, why."""

    status: Literal["ready", "not_ready"]
    reason: str = ""


def health_router(check: Callable[[], Awaitable[Readiness]]) -> APIRouter:
    """Return the routes below ``/health``.

    Args:
        check: asks what the application depends on.
    """
    router = APIRouter(prefix="/health", tags=["health"])

    @router.get("/live", summary="The process lives")
    async def live() -> Live:
        return Live()

    @router.get("/ready", summary="The process can do its work", responses={503: {"model": Ready}})
    async def ready(response: Response) -> Ready:
        found = await check()
        if found.ready:
            return Ready(status="ready")
        response.status_code = 503
        response.headers["retry-after"] = "1"
        return Ready(status="not_ready", reason=found.reason)

    return router
