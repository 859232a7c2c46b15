-- Where data may be, how much a cluster takes, and how it is.

CREATE TABLE region_group (
    name        text PRIMARY KEY CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE region_group IS 'A name for several regions, any of which will do for the data of a tenant that names it.';

CREATE TABLE residency (
    residence     text NOT NULL,
    region        text NOT NULL CHECK (region ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    region_group  text REFERENCES region_group ON DELETE CASCADE,
    PRIMARY KEY (residence, region),
    CHECK ((region_group IS NULL) = (residence = region)),
    CHECK (region_group = residence)
);
COMMENT ON TABLE residency IS
    'Which regions will do for a tenant whose region is called so: a region for itself, and each member of a group for the group. Homes refer to it, so that data outside is impossible.';
CREATE INDEX residency_by_region ON residency (region);
CREATE INDEX residency_by_group ON residency (region_group);

-- A name is a region or a group, never both. One lock puts those who make either in order.
CREATE FUNCTION ensure_region() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('tenantry.regions'));
    IF EXISTS (SELECT FROM region_group WHERE name = NEW.region) THEN
        RAISE EXCEPTION '`%` is a region group; name one of its regions', NEW.region
            USING ERRCODE = 'restrict_violation', CONSTRAINT = 'region_is_group';
    END IF;
    INSERT INTO residency (residence, region) VALUES (NEW.region, NEW.region) ON CONFLICT DO NOTHING;
    RETURN NEW;
END
$$;
CREATE TRIGGER cluster_region_is_known BEFORE INSERT OR UPDATE OF region ON cluster
    FOR EACH ROW EXECUTE FUNCTION ensure_region();
INSERT INTO residency (residence, region) SELECT DISTINCT region, region FROM cluster;

CREATE FUNCTION refuse_region_as_group() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('tenantry.regions'));
    IF EXISTS (SELECT FROM cluster WHERE region = NEW.name AND retired_at IS NULL)
       OR EXISTS (SELECT FROM tenant WHERE region = NEW.name AND status <> 'deleted') THEN
        RAISE EXCEPTION '`%` is a region already; choose another name for the group', NEW.name
            USING ERRCODE = 'restrict_violation', CONSTRAINT = 'group_is_region';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER region_group_is_no_region BEFORE INSERT ON region_group
    FOR EACH ROW EXECUTE FUNCTION refuse_region_as_group();

-- A home carries the region of its cluster and what its tenant calls its own, and foreign keys hold the two together,
-- whoever changes what, and in whatever order. A tenant lives in a home of its own, so that nobody is placed outside.
ALTER TABLE cluster ADD CONSTRAINT cluster_with_region UNIQUE (id, region);
ALTER TABLE tenant ADD CONSTRAINT tenant_with_region UNIQUE (id, region);

ALTER TABLE home ADD COLUMN region text, ADD COLUMN residence text,
    ADD COLUMN connections bigint NOT NULL DEFAULT 0 CHECK (connections >= 0);
UPDATE home SET region = cluster.region FROM cluster WHERE cluster.id = home.cluster;
INSERT INTO residency (residence, region) SELECT DISTINCT region, region FROM home ON CONFLICT DO NOTHING;
UPDATE home SET residence = tenant.region FROM tenant WHERE tenant.id = home.tenant AND home.state <> 'released';
ALTER TABLE home ALTER COLUMN region SET NOT NULL,
    ADD CONSTRAINT home_knows_residence
        CHECK ((residence IS NOT NULL) = (tenant IS NOT NULL AND state <> 'released')),
    ADD CONSTRAINT home_region FOREIGN KEY (cluster, region) REFERENCES cluster (id, region) ON UPDATE CASCADE,
    ADD CONSTRAINT home_residence FOREIGN KEY (tenant, residence) REFERENCES tenant (id, region) ON UPDATE CASCADE,
    ADD CONSTRAINT home_residency FOREIGN KEY (residence, region) REFERENCES residency (residence, region),
    ADD CONSTRAINT home_with_tenant UNIQUE (id, tenant);
CREATE INDEX home_by_residency ON home (residence, region) WHERE residence IS NOT NULL;
COMMENT ON COLUMN home.residence IS 'What its tenant calls its region, for as long as it is the tenant''s.';
COMMENT ON COLUMN home.connections IS 'The ceiling of the tenant that it is for, as counted in its cluster.';
ALTER TABLE placement ADD CONSTRAINT placement_in_own_home FOREIGN KEY (home, tenant) REFERENCES home (id, tenant);

CREATE FUNCTION fill_home_region() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT region INTO NEW.region FROM cluster WHERE id = NEW.cluster;
    NEW.residence := NULL;
    IF NEW.tenant IS NOT NULL AND NEW.state <> 'released' THEN
        SELECT region INTO NEW.residence FROM tenant WHERE id = NEW.tenant;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER home_has_region BEFORE INSERT OR UPDATE OF cluster, tenant, state ON home
    FOR EACH ROW EXECUTE FUNCTION fill_home_region();

-- Capacity. Whoever counts takes the cluster's row, so the last place is given once.
ALTER TABLE cluster ADD COLUMN connections bigint NOT NULL DEFAULT 0 CHECK (connections >= 0);
COMMENT ON COLUMN cluster.connections IS 'The ceilings of all its homes together.';

CREATE FUNCTION count_connections() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    change bigint := CASE WHEN NEW.state = 'released' THEN 0 ELSE NEW.connections END;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        change := change - CASE WHEN OLD.state = 'released' THEN 0 ELSE OLD.connections END;
    END IF;
    IF change <> 0 THEN
        UPDATE cluster SET connections = connections + change WHERE id = NEW.cluster;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER home_connections_are_counted AFTER INSERT OR UPDATE OF connections, state ON home
    FOR EACH ROW EXECUTE FUNCTION count_connections();

CREATE FUNCTION guard_cluster_limits() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    -- Homes that wait for a tenant never stand in one's way, and give way by themselves.
    homes bigint := NEW.homes - NEW.warm_homes;
    databases bigint := NEW.databases - NEW.warm_homes;
    reached text := CASE
        WHEN homes > OLD.homes - OLD.warm_homes AND homes > (NEW.limits ->> 'tenants')::bigint THEN 'tenants'
        WHEN databases > OLD.databases - OLD.warm_homes AND databases > (NEW.limits ->> 'databases')::bigint
            THEN 'databases'
        -- A ceiling that a plan raised is counted and not refused: its tenant lives there already.
        WHEN NEW.connections > OLD.connections AND NEW.connections > (NEW.limits ->> 'connections')::bigint
             AND current_setting('tenantry.recount', true) IS DISTINCT FROM 'on' THEN 'connections'
    END;
BEGIN
    IF reached IS NOT NULL THEN
        RAISE EXCEPTION 'cluster % has as many % as its limit allows', NEW.name, reached
            USING ERRCODE = 'check_violation', CONSTRAINT = 'cluster_limit_' || reached;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER cluster_keeps_its_limits BEFORE UPDATE OF homes, databases, warm_homes, connections ON cluster
    FOR EACH ROW EXECUTE FUNCTION guard_cluster_limits();

CREATE FUNCTION guard_shared_database() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.homes > (SELECT (limits ->> 'schemas_per_database')::bigint FROM cluster WHERE id = NEW.cluster) THEN
        RAISE EXCEPTION 'shared database % has as many schemas as its limit allows', NEW.name
            USING ERRCODE = 'check_violation', CONSTRAINT = 'cluster_limit_schemas_per_database';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER shared_database_keeps_its_limit BEFORE UPDATE OF homes ON shared_database
    FOR EACH ROW WHEN (NEW.homes > OLD.homes) EXECUTE FUNCTION guard_shared_database();

-- What was seen of a cluster. In a table of its own, because the cluster's row is what placements wait for.
CREATE TABLE cluster_health (
    cluster     uuid PRIMARY KEY REFERENCES cluster ON DELETE CASCADE,
    reachable   boolean NOT NULL,
    failures    integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    checked_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at     timestamptz,
    error       text,
    observed    jsonb,
    checks      jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(checks) = 'array'),
    CHECK (reachable = (failures = 0))
);
COMMENT ON TABLE cluster_health IS 'What the last look at each cluster found, and since how many looks it has not answered.';

-- Whom a tenant should live beside, and whom not.
ALTER TABLE tenant ADD COLUMN affinity jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(affinity) = 'object');
ALTER TABLE plan ADD COLUMN affinity jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(affinity) = 'object');
