"""Puts Authly under the load of its real flows, and judges what comes of it: ``python -m loadtests``, or ``make load``.

Owns the overhead gate, the chaos soak, their bookkeeping and their reports. ``traffic`` is the load itself: it runs
under Locust in an environment of its own, and imports nothing of Authly. All else runs in Authly's environment and
imports nothing of Locust; the two meet in a file of seeds, in ``LOAD_*`` variables and in a file of records.
"""
