"""The application that is measured: a small one, so that what is added to it shows."""

from fastapi import FastAPI

from authly.monitoring.metrics import compose
from authly.monitoring.middleware import MetricsMiddleware
from benchmarks.workers import Series


def bare() -> FastAPI:
    """Return an application that measures nothing."""
    app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False})

    async def item(number: int) -> dict[str, int]:
        return {"number": number}

    app.add_api_route("/items/{number}", item)
    return app


def measured(app: FastAPI) -> FastAPI:
    """Add what Authly measures requests with."""
    app.add_middleware(MetricsMiddleware, metrics=compose().http)
    return app


def with_many_series() -> FastAPI:
    """Return an application with as many series as one of 50 endpoints has, for Gunicorn."""
    app = measured(bare())
    app.state.series = Series(50, 0)
    return app
