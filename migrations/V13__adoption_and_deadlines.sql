-- Homes that were made elsewhere and taken over as they are, and a time by which an operation should have ended.

ALTER TABLE operation DROP CONSTRAINT operation_kind_check, ADD CONSTRAINT operation_kind_check
    CHECK (kind IN ('provision', 'delete', 'suspend', 'resume', 'rotate_credentials', 'adopt', 'adopt_confirm',
                    'adopt_cancel', 'prepare_home', 'drop_home')),
    ADD COLUMN deadline_at timestamptz;
COMMENT ON COLUMN operation.deadline_at IS
    'Past it the operation is walked back, or parked behind its pivot. Set when a worker first takes it up, so that a long queue costs nobody; a person''s retry sets it anew.';

-- An adopted database or schema keeps the name that it came with. Given back, the same one may be adopted again.
ALTER TABLE home ADD COLUMN is_adopted boolean NOT NULL DEFAULT false,
    DROP CONSTRAINT home_check,
    DROP CONSTRAINT home_cluster_database_name_schema_name_key,
    ADD CONSTRAINT home_shared_database
        CHECK ((isolation = 'schema' AND NOT is_adopted) = (shared_database IS NOT NULL)),
    ADD CONSTRAINT home_adopted_isolation CHECK (NOT is_adopted OR isolation IN ('schema', 'database'));
CREATE UNIQUE INDEX home_place ON home (cluster, database_name, schema_name)
    WHERE NOT is_adopted OR state <> 'released';

ALTER TABLE resource ADD COLUMN is_adopted boolean NOT NULL DEFAULT false;
DROP INDEX resource_name;
CREATE UNIQUE INDEX resource_name ON resource (cluster, kind, parent, name) NULLS NOT DISTINCT
    WHERE NOT is_adopted OR state <> 'dropped';

-- Nobody adopts what belongs to a tenant already, whole or in part. The cluster's row puts adoptions there in order.
CREATE FUNCTION guard_adoption() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM cluster WHERE id = NEW.cluster FOR NO KEY UPDATE;
    IF EXISTS (SELECT FROM home
                WHERE cluster = NEW.cluster AND database_name = NEW.database_name AND state <> 'released'
                  AND (NOT is_adopted OR isolation <> 'schema' OR NEW.isolation <> 'schema'))
       OR EXISTS (SELECT FROM shared_database WHERE cluster = NEW.cluster AND name = NEW.database_name)
       OR EXISTS (SELECT FROM template WHERE cluster = NEW.cluster AND name = NEW.database_name) THEN
        RAISE EXCEPTION 'database % holds a home already', NEW.database_name
            USING ERRCODE = 'unique_violation', CONSTRAINT = 'home_place';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER adoption_is_alone BEFORE INSERT ON home FOR EACH ROW WHEN (NEW.is_adopted)
    EXECUTE FUNCTION guard_adoption();

CREATE TABLE adoption (
    tenant      uuid PRIMARY KEY REFERENCES tenant ON DELETE CASCADE,
    home        uuid NOT NULL UNIQUE REFERENCES home ON DELETE CASCADE,
    operation   uuid NOT NULL REFERENCES operation ON DELETE CASCADE,
    state       text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'confirmed', 'cancelled')),
    before      jsonb,
    created_at  timestamptz NOT NULL DEFAULT now(),
    decided_at  timestamptz,
    CHECK ((state = 'open') = (decided_at IS NULL))
);
COMMENT ON TABLE adoption IS
    'A database or schema that was taken over, and who owned what in it before. While it is open everything can be put back, so nothing of it may be dropped.';

-- To delete is to drop what belongs to the home's roles. Until an adoption is decided, that is somebody else's data.
CREATE FUNCTION guard_open_adoption() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM adoption WHERE tenant = NEW.tenant AND state = 'open') THEN
        RAISE EXCEPTION 'the adoption of tenant % is not decided', NEW.tenant
            USING ERRCODE = 'unique_violation', CONSTRAINT = 'adoption_open';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER adoption_is_decided_first BEFORE INSERT ON operation FOR EACH ROW WHEN (NEW.kind = 'delete')
    EXECUTE FUNCTION guard_open_adoption();
