-- When a key has used up nothing any more, in microseconds since 1970, and what the last request was told.
-- Unlogged: written at nearly every request, and worth nothing after a crash.
CREATE UNLOGGED TABLE rate_limits (
    key      text PRIMARY KEY,
    clear_at bigint NOT NULL,
    allowed  boolean NOT NULL
) WITH (fillfactor = 50);
