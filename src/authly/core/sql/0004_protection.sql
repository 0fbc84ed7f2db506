-- When a key has used up nothing any more, in microseconds since 1970, and what the last request was told.
-- Unlogged: written at nearly every request, and worth nothing after a crash.
CREATE UNLOGGED TABLE rate_limits (
    key      text PRIMARY KEY,
    clear_at bigint NOT NULL,
    allowed  boolean NOT NULL
) WITH (fillfactor = 50);

-- What the administration interface asks for. Clients get these from operators alone.
INSERT INTO scopes (name, description) VALUES
    ('admin:read', 'See users, clients, sessions and the audit log'),
    ('admin:write', 'Change users, clients and scopes, end sessions, revoke tokens');
