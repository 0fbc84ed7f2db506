"""Metrics of many processes in one directory.

Owns the directory (who may use it, what is cleared from it), the slots that processes lease in it, the files that
bear a slot's number, and the way from those files to one exposition. Knows nothing of HTTP, Gunicorn or OAuth.

The write side is ``values`` on ``value_file`` and ``lease``, and ``metrics`` on top of it; the read side is ``reader``
to ``aggregation`` to ``exposition``. Both sides meet in ``file_format``, ``dense_file`` and ``exemplars`` alone. Only
``values``, ``bound`` and ``metrics`` import prometheus-client, so a process that merely reads stays small.
"""
