"""The exposition on the application port, for deployments that can expose only one."""

import asyncio
import time

import structlog
from fastapi import APIRouter, Request, Response

from authly.core.addresses import network_of
from authly.monitoring.exporter import client
from authly.monitoring.exporter.application import CLIENT_HEADER, Application, Configuration
from authly.monitoring.exporter.client import ExporterUnavailable
from authly.monitoring.exporter.http import Request as ExporterRequest
from authly.monitoring.exporter.http import Response as ExporterResponse

_PASSED_ON = ("accept", "accept-encoding")
_SECONDS_FOR_EXPORTER = 2.0
_log = structlog.stdlib.get_logger(__name__)


class Scraper:
    """Asks the exporter, and aggregates in a thread of its own where none answers.

    Args:
        configuration: how the exporter of this instance is set up.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._local = Application(configuration, time.monotonic, _log.warning)
        # One aggregation at a time: a second one would find the same numbers, and take the time of requests.
        self._aggregating = asyncio.Lock()

    async def scrape(self, client_key: str, headers: dict[str, str]) -> ExporterResponse:
        """Return the exposition.

        Args:
            client_key: whom to hold to the rate limit.
            headers: what the client said it accepts.
        """
        headers = {**headers, CLIENT_HEADER: client_key}
        path = self._configuration.path
        if self._configuration.directory is not None:
            try:
                return await client.fetch(self._configuration.directory, path, headers, _SECONDS_FOR_EXPORTER)
            except ExporterUnavailable as reason:
                _log.debug("no exporter answers; aggregating in this process", reason=str(reason))
        request = ExporterRequest(method="GET", path=path, query="", headers=headers, peer="", is_local=True)
        async with self._aggregating:
            return await asyncio.to_thread(self._local.respond, request)


def metrics_router(path: str, scraper: Scraper) -> APIRouter:
    """Return the route of the exposition; it is no part of the OpenAPI document.

    Args:
        path: where it is.
        scraper: where it comes from.
    """
    router = APIRouter()

    @router.api_route(path, methods=["GET", "HEAD"], include_in_schema=False)
    async def metrics(request: Request) -> Response:
        headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
        answer = await scraper.scrape(network_of(request.client.host if request.client else ""), headers)
        return Response(answer.body, answer.status, {"content-type": answer.content_type, **dict(answer.headers)})

    return router
