"""What every part of Authly stands on: the database, its schema, and the embedded PostgreSQL.

Owns connections, migrations and the life of an embedded server. Knows nothing of OAuth, HTTP or metrics, reads no
settings (they are passed in), and holds no SQL but its own migrations and health check.
"""
