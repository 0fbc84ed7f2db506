"""Own the process that answers scrapes: its sockets, HTTP/1.1, and the choice of an exposition format.

It is a light process of its own, started by the Gunicorn master, so nothing here imports a web framework, asyncio
(``client`` excepted, which runs in the application's workers) or prometheus_client. What the metric files look like
is the business of ``authly.monitoring.multiprocess``.
"""
