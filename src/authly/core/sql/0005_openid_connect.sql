-- What OpenID Connect has to remember besides.

ALTER TABLE clients
    ADD COLUMN require_pkce boolean NOT NULL DEFAULT true,
    ADD COLUMN subject_type text NOT NULL DEFAULT 'public' CHECK (subject_type IN ('public', 'pairwise')),
    -- Clients of one sector know a user by the same pairwise subject. Null is the host of the redirect URIs.
    ADD COLUMN sector_identifier text,
    ADD COLUMN id_token_signed_response_alg text NOT NULL DEFAULT 'RS256',
    -- Null is plain JSON.
    ADD COLUMN userinfo_signed_response_alg text,
    ADD COLUMN post_logout_redirect_uris text[] NOT NULL DEFAULT '{}',
    ADD COLUMN backchannel_logout_uri text,
    ADD CHECK (require_pkce OR type = 'confidential');

-- Null is a client that is exempt from PKCE and sent none.
ALTER TABLE authorization_codes ALTER COLUMN code_challenge DROP NOT NULL;

-- What ID tokens say again and again, as it was when the user authenticated.
ALTER TABLE token_families
    ADD COLUMN subject text,
    ADD COLUMN amr text[] NOT NULL DEFAULT '{}',
    ADD COLUMN claims jsonb NOT NULL DEFAULT '{}';
UPDATE token_families SET subject = user_id::text;
ALTER TABLE token_families ALTER COLUMN subject SET NOT NULL;

-- Which clients were told of a session, and by what subject: they may want to know of its end, long after their tokens
-- are gone.
CREATE TABLE session_clients (
    session_id uuid NOT NULL REFERENCES sessions (session_id) ON DELETE CASCADE,
    client_id  text NOT NULL REFERENCES clients ON DELETE CASCADE,
    subject    text NOT NULL,
    PRIMARY KEY (session_id, client_id)
);
CREATE INDEX ON session_clients (client_id);

-- Ends of sessions that clients are yet to be told of.
CREATE TABLE backchannel_logouts (
    logout_id  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    client_id  text NOT NULL REFERENCES clients ON DELETE CASCADE,
    session_id uuid NOT NULL,
    subject    text NOT NULL,
    attempts   integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    due_at     timestamptz NOT NULL DEFAULT now(),
    UNIQUE (client_id, session_id)
);
CREATE INDEX ON backchannel_logouts (due_at);
