"""Measuring an application that many processes serve.

Owns every metric of Authly, the middleware that counts requests, the files in which processes keep their numbers, the
exporter that reads them, and the Gunicorn hooks that hold it all together. Imports nothing of the rest of Authly, and
``multiprocess``, ``exporter``, ``gunicorn`` and ``middleware`` know nothing of OAuth: any Gunicorn application can
use them.

This module imports nothing, so that the exporter and the Gunicorn master, which only read, stay small. A process
becomes a writer with ``authly.monitoring.multiprocess.values.install``, which the Gunicorn hooks call in each worker
before it loads its application.
"""
