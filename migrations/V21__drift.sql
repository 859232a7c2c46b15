-- Homes whose schema is not what their migrations make.

CREATE TABLE drift_reference (
    digest        text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
    server_major  integer NOT NULL,
    format        integer NOT NULL,
    version       bigint NOT NULL,
    fingerprint   text NOT NULL,
    objects       jsonb NOT NULL CHECK (jsonb_typeof(objects) = 'array'),
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (digest, server_major, format)
);
COMMENT ON TABLE drift_reference IS
    'What a set of files makes on servers of one major version. Named by the digest of the files up to a version, so that sets that begin alike share it.';

CREATE TABLE drift (
    tenant        uuid PRIMARY KEY REFERENCES tenant ON DELETE CASCADE,
    home          uuid NOT NULL REFERENCES home ON DELETE CASCADE,
    attempted_at  timestamptz NOT NULL,
    error         text,
    checked_at    timestamptz,
    state         text CHECK (state IN ('clean', 'drifted', 'diverged')),
    version       bigint,
    fingerprint   text,
    reason        text,
    missing       bigint NOT NULL DEFAULT 0 CHECK (missing >= 0),
    unexpected    bigint NOT NULL DEFAULT 0 CHECK (unexpected >= 0),
    changed       bigint NOT NULL DEFAULT 0 CHECK (changed >= 0),
    differences   jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(differences) = 'array'),
    since         timestamptz,
    CHECK ((state IS NULL) = (checked_at IS NULL)),
    CHECK ((state IS NULL) = (fingerprint IS NULL)),
    CHECK ((state IN ('drifted', 'diverged')) IS NOT TRUE OR since IS NOT NULL AND reason IS NOT NULL)
);
COMMENT ON TABLE drift IS
    'What the last look at each tenant''s schema found. An attempt that came to nothing leaves what the last good one found.';
CREATE INDEX drift_due ON drift (attempted_at);
CREATE INDEX drift_found ON drift (tenant) WHERE state <> 'clean';

-- A database in which a reference is made is a template that nobody clones: in use as long as it is made, then retired.
ALTER TABLE template DROP CONSTRAINT template_state_check;
ALTER TABLE template ADD CONSTRAINT template_state_check CHECK (state IN ('planned', 'ready', 'retired', 'scratch'));
DROP INDEX template_in_use;
CREATE UNIQUE INDEX template_in_use ON template (cluster, migration_set) NULLS NOT DISTINCT
    WHERE state IN ('planned', 'ready');
