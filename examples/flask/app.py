"""A Flask application whose requests are measured, and which counts something of its own."""

from flask import Flask
from prometheus_client import Counter

from authly.monitoring.request_metrics import RequestMetrics
from authly.monitoring.wsgi_middleware import WSGIMetricsMiddleware

greetings = Counter("greetings", "People who were greeted.")

app = Flask(__name__)
app.wsgi_app = WSGIMetricsMiddleware(app.wsgi_app, RequestMetrics())  # type: ignore[method-assign]


@app.get("/hello/<name>")
def hello(name: str) -> dict[str, str]:
    """Greet somebody."""
    greetings.inc()
    return {"hello": name}
