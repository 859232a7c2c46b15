-- PostgreSQL servers, and what homes on them are made from.

CREATE TABLE feed_clock (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version   bigint NOT NULL DEFAULT 0,
    oldest    bigint NOT NULL DEFAULT 0 CHECK (oldest <= version)
);
COMMENT ON TABLE feed_clock IS
    'The order of all route changes. A transaction takes its version by updating this row as its last lock, so a version is visible only when all lower ones are.';
INSERT INTO feed_clock DEFAULT VALUES;

-- Routers drop what is older than what they have: a clock that went back would silence every change after it.
CREATE FUNCTION guard_feed_clock() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.version >= OLD.version AND NEW.oldest >= OLD.oldest THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'the feed clock only rises' USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER feed_clock_only_rises BEFORE UPDATE OR DELETE ON feed_clock
    FOR EACH ROW EXECUTE FUNCTION guard_feed_clock();

CREATE TABLE migration_set (
    id              text PRIMARY KEY CHECK (id ~ '^[0-9a-f]{64}$'),
    name            text NOT NULL,
    latest_version  bigint NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    promoted_at     timestamptz
);
COMMENT ON TABLE migration_set IS 'An immutable list of SQL files, named by its digest.';
CREATE INDEX migration_set_by_promotion ON migration_set (promoted_at DESC) WHERE promoted_at IS NOT NULL;

CREATE TABLE promotion (
    only_row       boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    migration_set  text REFERENCES migration_set
);
COMMENT ON TABLE promotion IS
    'The set that new tenants start with. Provisions lock the row FOR SHARE, promotions FOR UPDATE, so that the two are ordered.';
INSERT INTO promotion DEFAULT VALUES;

CREATE TABLE migration (
    migration_set  text NOT NULL REFERENCES migration_set ON DELETE CASCADE,
    position       integer NOT NULL,
    version        bigint NOT NULL,
    name           text NOT NULL,
    kind           text NOT NULL CHECK (kind IN ('V', 'U')),
    checksum       numeric(20) NOT NULL,
    transactional  boolean NOT NULL,
    phase          text CHECK (phase IN ('expand', 'contract')),
    sql            text NOT NULL,
    PRIMARY KEY (migration_set, position),
    UNIQUE (migration_set, version)
);
COMMENT ON TABLE migration IS 'One file of a set.';

CREATE TABLE cluster (
    id                 uuid PRIMARY KEY,
    name               text NOT NULL,
    region             text NOT NULL,
    tenancy            text NOT NULL CHECK (tenancy IN ('shared', 'dedicated')),
    provider           text NOT NULL CHECK (provider IN ('registered', 'local')),
    host               text NOT NULL,
    port               integer NOT NULL CHECK (port BETWEEN 1 AND 65535),
    tls_mode           text NOT NULL CHECK (tls_mode IN ('disable', 'require', 'verify_ca', 'verify_full')),
    tls_ca             text,
    admin_user         text NOT NULL,
    admin_database     text NOT NULL,
    admin_secret       uuid REFERENCES secret,
    system_identifier  text NOT NULL,
    server_version     integer NOT NULL CHECK (server_version >= 150000),
    locale             jsonb NOT NULL,
    state              text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'cordoned', 'draining')),
    limits             jsonb NOT NULL,
    findings           jsonb NOT NULL DEFAULT '[]',
    seen_at            timestamptz,
    claimed_by         uuid,
    homes              bigint NOT NULL DEFAULT 0 CHECK (homes >= 0),
    databases          bigint NOT NULL DEFAULT 0 CHECK (databases >= 0),
    version            bigint NOT NULL DEFAULT 0,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    retired_at         timestamptz,
    CHECK (claimed_by IS NULL OR tenancy = 'dedicated'),
    CHECK (retired_at IS NULL OR homes = 0),
    CHECK ((retired_at IS NULL) = (admin_secret IS NOT NULL))
);
COMMENT ON TABLE cluster IS 'One PostgreSQL server and the admin credential for it. A retired one keeps its row for the homes that were there. Triggers count what lives on it, so that placing a tenant does not count a fleet.';
CREATE UNIQUE INDEX cluster_name ON cluster (name) WHERE retired_at IS NULL;
CREATE UNIQUE INDEX cluster_system_identifier ON cluster (system_identifier) WHERE retired_at IS NULL;
CREATE INDEX cluster_version ON cluster (version);
CREATE INDEX cluster_by_region ON cluster (region);

CREATE TABLE shared_database (
    id          uuid PRIMARY KEY,
    cluster     uuid NOT NULL REFERENCES cluster ON DELETE CASCADE,
    name        text NOT NULL,
    state       text NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'ready')),
    homes       bigint NOT NULL DEFAULT 0 CHECK (homes >= 0),
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (cluster, name)
);
COMMENT ON TABLE shared_database IS 'A database whose schemas belong to different tenants. Recorded before it exists.';

CREATE TABLE template (
    id              uuid PRIMARY KEY,
    cluster         uuid NOT NULL REFERENCES cluster ON DELETE CASCADE,
    migration_set   text REFERENCES migration_set,
    name            text NOT NULL,
    schema_version  bigint NOT NULL DEFAULT 0,
    state           text NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'ready', 'retired')),
    created_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (cluster, name)
);
COMMENT ON TABLE template IS 'A golden database per cluster and migration set, cloned for new homes. Recorded before it exists.';
CREATE UNIQUE INDEX template_in_use ON template (cluster, migration_set) NULLS NOT DISTINCT WHERE state <> 'retired';

CREATE FUNCTION count_shared_database() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        UPDATE cluster SET databases = databases + 1 WHERE id = NEW.cluster;
    ELSE
        UPDATE cluster SET databases = databases - 1 WHERE id = OLD.cluster;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER shared_database_is_counted AFTER INSERT OR DELETE ON shared_database
    FOR EACH ROW EXECUTE FUNCTION count_shared_database();
