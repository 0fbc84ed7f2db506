-- Users, what they prove themselves with, their sessions, and the audit log.

CREATE TABLE users (
    user_id        uuid PRIMARY KEY,
    -- ASCII only (see users/models.py), so that lower() folds all there is to fold.
    username       text NOT NULL,
    email          text,
    email_verified boolean NOT NULL DEFAULT false,
    name           text,
    -- Further standard claims of OpenID Connect Core 5.1, by their name.
    claims         jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(claims) = 'object'),
    is_admin       boolean NOT NULL DEFAULT false,
    disabled_at    timestamptz,
    created_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    CHECK (email IS NOT NULL OR NOT email_verified)
);

CREATE UNIQUE INDEX users_username ON users (lower(username));
-- An address that nobody has proved to own keeps nobody else from using it.
CREATE UNIQUE INDEX users_verified_email ON users (lower(email)) WHERE email_verified;
CREATE INDEX users_created_at ON users (created_at, user_id);

CREATE TABLE credentials (
    user_id       uuid PRIMARY KEY REFERENCES users ON DELETE CASCADE,
    password_hash text NOT NULL,
    changed_at    timestamptz NOT NULL
);

-- Browsers in which somebody logged in as a user: failures elsewhere do not delay a login in these.
CREATE TABLE known_devices (
    device_hash bytea NOT NULL CHECK (length(device_hash) = 32),
    user_id     uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (device_hash, user_id)
);

CREATE INDEX known_devices_user ON known_devices (user_id);
CREATE INDEX known_devices_expires_at ON known_devices (expires_at);

-- Failed logins by what they have in common: an account, an account and a network, an account and a device.
CREATE TABLE login_failures (
    key           bytea PRIMARY KEY CHECK (length(key) = 32),
    failures      integer NOT NULL,
    last_at       timestamptz NOT NULL,
    blocked_until timestamptz
);

CREATE INDEX login_failures_last_at ON login_failures (last_at);

CREATE TABLE sessions (
    -- SHA-256 of the cookie's value: whoever reads this table can take over no session.
    token_hash       bytea PRIMARY KEY CHECK (length(token_hash) = 32),
    session_id       uuid NOT NULL UNIQUE,
    user_id          uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    authenticated_at timestamptz NOT NULL,
    amr              text[] NOT NULL,
    client_address   text,
    user_agent       text,
    created_at       timestamptz NOT NULL,
    last_seen_at     timestamptz NOT NULL,
    expires_at       timestamptz NOT NULL,
    ended_at         timestamptz
);

CREATE INDEX sessions_user ON sessions (user_id, created_at) WHERE ended_at IS NULL;
CREATE INDEX sessions_expires_at ON sessions (expires_at);

-- No foreign keys: what happened stays true when those who did it are gone.
CREATE TABLE audit_log (
    audit_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    occurred_at    timestamptz NOT NULL,
    event          text NOT NULL,
    actor_kind     text NOT NULL,
    actor_id       text,
    subject_kind   text,
    subject_id     text,
    client_address text,
    request_id     text,
    detail         jsonb NOT NULL DEFAULT '{}'
);

CREATE INDEX audit_log_occurred_at ON audit_log (occurred_at);
CREATE INDEX audit_log_actor ON audit_log (actor_kind, actor_id, audit_id);
CREATE INDEX audit_log_subject ON audit_log (subject_kind, subject_id, audit_id);
CREATE INDEX audit_log_event ON audit_log (event, audit_id);

-- Set by whoever creates the first administrator, once in the life of an installation.
ALTER TABLE installation ADD COLUMN administrator_created_at timestamptz;
