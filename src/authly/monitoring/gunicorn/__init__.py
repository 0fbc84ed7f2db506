"""The Gunicorn hooks: the directory before the workers, an exporter beside them, a slot in each of them.

Owns what happens in the master: the life of the exporter's process, and the record of the workers' lives. Works for
any Gunicorn application; ``gunicorn.conf.py`` needs one object and a line for each hook::

    from pathlib import Path
    from authly.monitoring.gunicorn import Configuration, monitoring

    _monitoring = monitoring(Configuration(Path("/run/app/metrics")), "127.0.0.1:9464")

    def on_starting(server):
        _monitoring.on_starting(server)

and likewise ``when_ready``, ``post_fork``, ``pre_exec`` and ``on_exit``.

Hooks run in the master, whose end is the end of everything: they start no threads, wait for nothing, and what can
fail in them fails with a line in the log.
"""

from authly.monitoring.exporter.application import Configuration
from authly.monitoring.gunicorn.arbiter import at_each_turn
from authly.monitoring.gunicorn.hooks import Hooks, Monitoring, NullMonitoring, StartRefusedError, monitoring

__all__ = ["Configuration", "Hooks", "Monitoring", "NullMonitoring", "StartRefusedError", "at_each_turn", "monitoring"]
