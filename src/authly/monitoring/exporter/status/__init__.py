"""Own the exporter's page for people: what it remembers, what it finds wrong, how it is written as HTML.

Shows the families that a scrape would give, and what Gunicorn's collector saw; measures nothing of its own. Does not
decide who may look. Nothing that a client can choose is shown: no label value but those of closed vocabularies.

``journal`` and ``lookup`` are imported by every exporter and stay small; the rest when somebody first looks.
"""
