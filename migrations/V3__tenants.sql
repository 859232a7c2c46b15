-- Customer organisations, and where they live.

CREATE TABLE tenant (
    id              uuid PRIMARY KEY,
    slug            text NOT NULL CONSTRAINT tenant_slug UNIQUE CHECK (slug ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    name            text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 200),
    plan            text NOT NULL REFERENCES plan,
    region          text NOT NULL,
    isolation       text NOT NULL CHECK (isolation IN ('row', 'schema', 'database', 'cluster')),
    parent          uuid REFERENCES tenant CHECK (parent <> id),
    labels          jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(labels) = 'object'),
    overrides       jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(overrides) = 'object'),
    status          text NOT NULL CHECK (status IN
                        ('provisioning', 'active', 'suspended', 'moving', 'deleting', 'deleted', 'failed')),
    status_reason   text,
    operation       uuid,
    generation      bigint NOT NULL DEFAULT 0 CHECK (generation >= 0),
    schema_version  bigint NOT NULL DEFAULT 0,
    trial_ends_at   timestamptz,
    deleted_at      timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CHECK ((status = 'deleted') = (deleted_at IS NOT NULL)),
    CHECK (status NOT IN ('provisioning', 'deleting', 'moving') OR operation IS NOT NULL),
    CHECK (status NOT IN ('active', 'suspended', 'moving') OR generation > 0),
    CHECK (status NOT IN ('failed', 'suspended') OR status_reason IS NOT NULL)
);
COMMENT ON TABLE tenant IS 'One customer organisation. A tombstone keeps the id and the slug of a deleted one.';
CREATE INDEX tenant_by_slug_prefix ON tenant (slug text_pattern_ops);
CREATE INDEX tenant_by_labels ON tenant USING gin (labels);
CREATE INDEX tenant_by_status ON tenant (status, id);
CREATE INDEX tenant_by_schema_version ON tenant (schema_version, id);
CREATE INDEX tenant_by_parent ON tenant (parent) WHERE parent IS NOT NULL;
ALTER TABLE cluster ADD CONSTRAINT cluster_claimed_by UNIQUE (claimed_by),
    ADD FOREIGN KEY (claimed_by) REFERENCES tenant;

CREATE TABLE host (
    name        text PRIMARY KEY,
    tenant      uuid NOT NULL REFERENCES tenant,
    created_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE host IS 'DNS names by which a tenant is reached, besides its slug under a router''s base domain.';
CREATE INDEX host_by_tenant ON host (tenant);

-- One sequence for all leases: a home's fence outlives an operation, so the next operation on it must come with a higher
-- epoch than any before.
CREATE SEQUENCE lease_epoch;

CREATE TABLE operation (
    id                uuid PRIMARY KEY,
    kind              text NOT NULL CHECK (kind IN ('provision', 'delete')),
    code_version      integer NOT NULL,
    tenant            uuid REFERENCES tenant,
    cluster           uuid,
    input             jsonb NOT NULL,
    progress          jsonb,
    idempotency_key   text CONSTRAINT operation_idempotency_key UNIQUE,
    step              text,
    state             text NOT NULL DEFAULT 'queued' CHECK (state IN
                          ('queued', 'running', 'waiting', 'parked', 'undoing', 'succeeded', 'failed', 'cancelled')),
    attempt           integer NOT NULL DEFAULT 0,
    error             jsonb,
    cancel_requested  boolean NOT NULL DEFAULT false,
    undoing           boolean NOT NULL DEFAULT false,
    next_run_at       timestamptz NOT NULL DEFAULT now(),
    lease_owner       uuid,
    lease_epoch       bigint NOT NULL DEFAULT 0,
    lease_until       timestamptz,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    finished_at       timestamptz,
    CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
    CHECK ((lease_owner IS NULL) = (lease_until IS NULL)),
    CHECK (state IN ('running', 'undoing') OR lease_owner IS NULL),
    CHECK (state <> 'undoing' OR undoing)
);
COMMENT ON TABLE operation IS
    'Durable work. Whoever writes it carries the lease epoch and stops at zero rows. Once it walks back it stays undoing, through parking too.';
CREATE UNIQUE INDEX operation_exclusive ON operation (tenant) WHERE finished_at IS NULL;
CREATE INDEX operation_due ON operation (next_run_at) WHERE state IN ('queued', 'running', 'waiting', 'undoing');
CREATE INDEX operation_by_tenant ON operation (tenant, id);
CREATE INDEX operation_by_cluster ON operation (cluster, id) WHERE cluster IS NOT NULL;
CREATE INDEX operation_by_state ON operation (state, id);

CREATE TABLE operation_event (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    operation  uuid NOT NULL REFERENCES operation,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind       text NOT NULL,
    step       text,
    detail     jsonb NOT NULL
);
COMMENT ON TABLE operation_event IS 'What happened in an operation. Append-only.';
CREATE INDEX operation_event_by_operation ON operation_event (operation, id);

CREATE TABLE home (
    id               uuid PRIMARY KEY,
    cluster          uuid NOT NULL REFERENCES cluster,
    isolation        text NOT NULL CHECK (isolation IN ('row', 'schema', 'database', 'cluster')),
    database_name    text NOT NULL,
    schema_name      text NOT NULL,
    shared_database  uuid REFERENCES shared_database,
    migration_set    text REFERENCES migration_set,
    schema_version   bigint NOT NULL DEFAULT 0,
    state            text NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'ready', 'released')),
    login_slot       text NOT NULL CHECK (login_slot IN ('a', 'b')),
    login_secret     uuid REFERENCES secret,
    read_only_secret uuid REFERENCES secret,
    migrator_secret  uuid REFERENCES secret,
    created_at       timestamptz NOT NULL DEFAULT now(),
    UNIQUE (cluster, database_name, schema_name),
    CHECK ((isolation = 'schema') = (shared_database IS NOT NULL)),
    CHECK ((state = 'released') = (login_secret IS NULL)),
    CHECK (login_secret IS NULL OR (read_only_secret IS NOT NULL AND migrator_secret IS NOT NULL))
);
COMMENT ON TABLE home IS 'A physical place for one tenant. Its id, and so its names, are never used again; its secrets end with it.';
CREATE INDEX home_by_cluster ON home (cluster) WHERE state <> 'released';

-- Counted where it changes. The cluster's row is locked by that, which puts placements on one cluster in order.
CREATE FUNCTION count_home() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    change bigint := 0;
BEGIN
    IF TG_OP = 'INSERT' AND NEW.state <> 'released' THEN
        change := 1;
    ELSIF TG_OP = 'UPDATE' AND OLD.state <> 'released' AND NEW.state = 'released' THEN
        change := -1;
    END IF;
    IF change <> 0 THEN
        UPDATE cluster
           SET homes = homes + change,
               databases = databases + CASE WHEN NEW.shared_database IS NULL THEN change ELSE 0 END
         WHERE id = NEW.cluster;
        UPDATE shared_database SET homes = homes + change WHERE id = NEW.shared_database;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER home_is_counted AFTER INSERT OR UPDATE OF state ON home FOR EACH ROW EXECUTE FUNCTION count_home();

CREATE FUNCTION keep_released() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'home % is released or in use', OLD.id USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER home_is_never_revived BEFORE UPDATE OF state ON home FOR EACH ROW
    WHEN (OLD.state = 'released' AND NEW.state <> 'released') EXECUTE FUNCTION keep_released();
CREATE TRIGGER home_is_released_first BEFORE DELETE ON home FOR EACH ROW
    WHEN (OLD.state <> 'released') EXECUTE FUNCTION keep_released();

CREATE TABLE placement (
    tenant  uuid NOT NULL REFERENCES tenant,
    home    uuid NOT NULL CONSTRAINT placement_home UNIQUE REFERENCES home,
    since   bigint NOT NULL CHECK (since > 0),
    until   bigint CHECK (until > since),
    PRIMARY KEY (tenant, since)
);
COMMENT ON TABLE placement IS 'A tenant lives in a home from one generation to the next.';
CREATE UNIQUE INDEX placement_current ON placement (tenant) WHERE until IS NULL;

-- Served means placed. Looked at when the transaction commits, because the two rows are written one after the other.
CREATE FUNCTION check_served_is_placed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM tenant WHERE id = NEW.id AND status IN ('active', 'suspended', 'moving'))
       AND NOT EXISTS (SELECT FROM placement WHERE tenant = NEW.id AND until IS NULL) THEN
        RAISE EXCEPTION 'tenant % is served but lives in no home', NEW.id USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER tenant_served_is_placed AFTER INSERT OR UPDATE OF status ON tenant
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION check_served_is_placed();

CREATE TABLE resource (
    id          uuid PRIMARY KEY,
    home        uuid REFERENCES home,
    operation   uuid NOT NULL REFERENCES operation,
    cluster     uuid NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('role', 'database', 'schema', 'cluster')),
    name        text NOT NULL,
    parent      text,
    position    bigint GENERATED ALWAYS AS IDENTITY,
    state       text NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'created', 'dropped')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    CHECK ((kind = 'cluster') = (home IS NULL)),
    CHECK ((kind = 'schema') = (parent IS NOT NULL))
);
COMMENT ON TABLE resource IS
    'A physical object, committed as planned before it is created. No foreign key to the cluster: a cluster of the tenant''s own is recorded here before it has a row.';
CREATE UNIQUE INDEX resource_name ON resource (cluster, kind, parent, name) NULLS NOT DISTINCT;
CREATE INDEX resource_by_operation ON resource (operation) WHERE state <> 'dropped';
CREATE INDEX resource_by_home ON resource (home);

CREATE TABLE route (
    tenant      uuid PRIMARY KEY,
    version     bigint NOT NULL CONSTRAINT route_version UNIQUE,
    state       text NOT NULL CHECK (state IN ('provisioning', 'active', 'suspended', 'moving', 'removed')),
    generation  bigint NOT NULL CHECK (generation >= 0),
    home        uuid REFERENCES home,
    removed_at  timestamptz,
    CHECK ((state = 'removed') = (removed_at IS NOT NULL)),
    CHECK (state NOT IN ('active', 'suspended', 'moving') OR home IS NOT NULL)
);
COMMENT ON TABLE route IS
    'What a router needs to reach a tenant: the newest change of each, so the table is a compacted log ordered by version. Removed ones stay as marks.';

-- Readers drop lower generations of a tenant, so none is ever published.
CREATE FUNCTION guard_route() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.generation < OLD.generation OR NEW.version <= OLD.version THEN
        RAISE EXCEPTION 'generation and version of route % only rise', NEW.tenant USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER route_only_rises BEFORE UPDATE OF version, generation ON route
    FOR EACH ROW EXECUTE FUNCTION guard_route();
