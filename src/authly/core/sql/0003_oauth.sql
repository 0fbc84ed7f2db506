-- What the OAuth protocol needs to remember. Secrets, codes and refresh tokens are here as SHA-256 hashes only.

CREATE TABLE scopes (
    name        text PRIMARY KEY CHECK (name ~ '^[\x21\x23-\x5B\x5D-\x7E]{1,128}$'),
    description text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);

INSERT INTO scopes (name, description) VALUES
    ('openid', 'Know who you are'),
    ('profile', 'See your name and your profile'),
    ('email', 'See your e-mail address'),
    ('address', 'See your postal address'),
    ('phone', 'See your phone number'),
    ('offline_access', 'Keep access while you are away');

CREATE TABLE clients (
    client_id                     text PRIMARY KEY,
    name                          text NOT NULL,
    type                          text NOT NULL CHECK (type IN ('confidential', 'public')),
    token_endpoint_auth_method    text NOT NULL CHECK (token_endpoint_auth_method IN
                                      ('none', 'client_secret_basic', 'client_secret_post', 'private_key_jwt')),
    secret_hash                   bytea CHECK (length(secret_hash) = 32),
    jwks                          jsonb,
    grant_types                   text[] NOT NULL,
    scopes                        text[] NOT NULL,
    resources                     text[] NOT NULL,
    require_consent               boolean NOT NULL,
    require_pushed_authorization_requests boolean NOT NULL,
    -- Seconds; null is what the settings say.
    access_token_ttl              integer CHECK (access_token_ttl > 0),
    enabled                       boolean NOT NULL DEFAULT true,
    created_at                    timestamptz NOT NULL DEFAULT now(),
    updated_at                    timestamptz NOT NULL DEFAULT now(),
    CHECK ((type = 'public') = (token_endpoint_auth_method = 'none')),
    CHECK ((token_endpoint_auth_method LIKE 'client\_secret\_%') = (secret_hash IS NOT NULL)),
    CHECK ((token_endpoint_auth_method = 'private_key_jwt') = (jwks IS NOT NULL))
);

CREATE TABLE client_redirect_uris (
    client_id text NOT NULL REFERENCES clients ON DELETE CASCADE,
    uri       text NOT NULL,
    PRIMARY KEY (client_id, uri)
);

CREATE TABLE consents (
    user_id    uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    client_id  text NOT NULL REFERENCES clients ON DELETE CASCADE,
    scopes     text[] NOT NULL,
    resources  text[] NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, client_id)
);
CREATE INDEX ON consents (client_id);

-- A family is everything that one user's authorization of one client led to: the code, its refresh tokens, its access
-- tokens. Revoking its row revokes all of them.
CREATE TABLE token_families (
    family_id         uuid PRIMARY KEY,
    client_id         text NOT NULL REFERENCES clients ON DELETE CASCADE,
    user_id           uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    -- Not a reference: a family may outlive the session in which it began.
    session_id        uuid NOT NULL,
    scopes            text[] NOT NULL,
    resources         text[] NOT NULL,
    nonce             text,
    auth_time         timestamptz NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    -- When the last of its members expires.
    expires_at        timestamptz NOT NULL,
    revoked_at        timestamptz,
    revocation_reason text,
    CHECK ((revoked_at IS NULL) = (revocation_reason IS NULL))
);
CREATE INDEX ON token_families (user_id);
CREATE INDEX ON token_families (client_id);
CREATE INDEX ON token_families (session_id);
CREATE INDEX ON token_families (expires_at);

-- A redeemed code stays as long as its family: what is presented again shall revoke it.
CREATE TABLE authorization_codes (
    code_hash      bytea PRIMARY KEY CHECK (length(code_hash) = 32),
    family_id      uuid NOT NULL UNIQUE REFERENCES token_families ON DELETE CASCADE,
    redirect_uri   text NOT NULL,
    code_challenge text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    expires_at     timestamptz NOT NULL,
    redeemed_at    timestamptz
);
CREATE INDEX ON authorization_codes (expires_at);

CREATE TABLE refresh_tokens (
    token_hash   bytea PRIMARY KEY CHECK (length(token_hash) = 32),
    family_id    uuid NOT NULL REFERENCES token_families ON DELETE CASCADE,
    -- Together with the token itself it yields the successor, so that a retry gets the same one.
    salt         bytea NOT NULL CHECK (length(salt) = 16),
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    rotated_at   timestamptz,
    successor    bytea UNIQUE CHECK (length(successor) = 32),
    CHECK ((rotated_at IS NULL) = (successor IS NULL))
);
CREATE INDEX ON refresh_tokens (family_id);
CREATE INDEX ON refresh_tokens (expires_at);
-- One live token in a family, ever.
CREATE UNIQUE INDEX ON refresh_tokens (family_id) WHERE rotated_at IS NULL;

CREATE TABLE access_tokens (
    token_id          uuid PRIMARY KEY,
    client_id         text NOT NULL REFERENCES clients ON DELETE CASCADE,
    family_id         uuid REFERENCES token_families ON DELETE CASCADE,
    scopes            text[] NOT NULL,
    audience          text[] NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    expires_at        timestamptz NOT NULL,
    revoked_at        timestamptz,
    revocation_reason text,
    CHECK ((revoked_at IS NULL) = (revocation_reason IS NULL))
);
CREATE INDEX ON access_tokens (family_id);
CREATE INDEX ON access_tokens (client_id);
CREATE INDEX ON access_tokens (expires_at);

CREATE TABLE pushed_authorization_requests (
    request_uri_hash bytea PRIMARY KEY CHECK (length(request_uri_hash) = 32),
    client_id        text NOT NULL REFERENCES clients ON DELETE CASCADE,
    parameters       jsonb NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    expires_at       timestamptz NOT NULL,
    used_at          timestamptz
);
CREATE INDEX ON pushed_authorization_requests (expires_at);
CREATE INDEX ON pushed_authorization_requests (client_id);

-- Assertions that authenticated a client (RFC 7523): each may do so once.
CREATE TABLE used_assertions (
    client_id  text NOT NULL REFERENCES clients ON DELETE CASCADE,
    jti_hash   bytea NOT NULL CHECK (length(jti_hash) = 32),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (client_id, jti_hash)
);
CREATE INDEX ON used_assertions (expires_at);

-- What a key does follows from its times: published from its creation, signing from active_at until a younger one of
-- its algorithm does, published until expires_at. Nothing has to change a row at the right moment.
CREATE TABLE signing_keys (
    kid         text PRIMARY KEY,
    algorithm   text NOT NULL,
    public_key  jsonb NOT NULL,
    -- AES-256-GCM under a key derived from AUTHLY_SECRET_KEY: nonce, then ciphertext with its tag.
    private_key bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    active_at   timestamptz NOT NULL,
    expires_at  timestamptz
);
-- The youngest key of an algorithm is the one whose end is open; there is one, whoever makes keys at the same time.
CREATE UNIQUE INDEX ON signing_keys (algorithm) WHERE expires_at IS NULL;
