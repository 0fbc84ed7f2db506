"""A FastAPI application whose requests are measured, and which counts something of its own."""

from fastapi import FastAPI
from prometheus_client import Counter

from authly.monitoring.middleware import MetricsMiddleware
from authly.monitoring.request_metrics import RequestMetrics

greetings = Counter("greetings", "People who were greeted.")

app = FastAPI()
app.add_middleware(MetricsMiddleware, metrics=RequestMetrics())


@app.get("/hello/{name}")
async def hello(name: str) -> dict[str, str]:
    """Greet somebody."""
    greetings.inc()
    return {"hello": name}
