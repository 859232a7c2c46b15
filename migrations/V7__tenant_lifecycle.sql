-- Suspensions, deletions that can be taken back, and tenants below tenants.

ALTER TABLE tenant
    ADD COLUMN suspended_for    text CHECK (suspended_for IN ('admin', 'payment', 'trial_ended', 'parent')),
    ADD COLUMN suspended_note   text CHECK (char_length(suspended_note) BETWEEN 1 AND 500),
    ADD COLUMN suspended_by     text,
    ADD COLUMN suspended_since  timestamptz,
    ADD COLUMN suspended_until  timestamptz,
    ADD COLUMN suspended_with   uuid REFERENCES tenant ON DELETE SET NULL,
    ADD COLUMN deletes_at       timestamptz;
COMMENT ON COLUMN tenant.suspended_with IS 'The tenant above whose suspension took this one along.';
COMMENT ON COLUMN tenant.deletes_at IS
    'Up to then a deletion can be taken back: to a suspension, where the columns of one are filled, else to active. Absent once its home is being taken down.';
UPDATE tenant SET suspended_for = 'admin', suspended_by = 'tenantry', suspended_since = updated_at
 WHERE status = 'suspended';
ALTER TABLE tenant
    ADD CONSTRAINT tenant_suspended_why CHECK (status <> 'suspended' OR suspended_for IS NOT NULL),
    ADD CONSTRAINT tenant_suspension_whole CHECK (
        CASE WHEN suspended_for IS NULL
             THEN num_nonnulls(suspended_note, suspended_by, suspended_since, suspended_until, suspended_with) = 0
             ELSE num_nulls(suspended_by, suspended_since) = 0 END),
    ADD CONSTRAINT tenant_suspension_in_place CHECK (
        suspended_for IS NULL OR status = 'suspended' OR status = 'deleting' AND deletes_at IS NOT NULL),
    ADD CONSTRAINT tenant_grace_in_place CHECK (deletes_at IS NULL OR status = 'deleting');
CREATE INDEX tenant_by_suspension_end ON tenant (suspended_until) WHERE status = 'suspended' AND suspended_until IS NOT NULL;
CREATE INDEX tenant_by_trial_end ON tenant (trial_ends_at) WHERE status = 'active' AND trial_ends_at IS NOT NULL;
CREATE INDEX tenant_by_suspended_with ON tenant (suspended_with) WHERE suspended_with IS NOT NULL;

-- A tenant that can be restored lives somewhere, as one that is served does.
CREATE OR REPLACE FUNCTION check_served_is_placed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM tenant
                WHERE id = NEW.id AND (status IN ('active', 'suspended', 'moving') OR deletes_at IS NOT NULL))
       AND NOT EXISTS (SELECT FROM placement WHERE tenant = NEW.id AND until IS NULL) THEN
        RAISE EXCEPTION 'tenant % is served but lives in no home', NEW.id USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END
$$;

-- Everything below a tenant, itself not included. Bounded by the depth that the trigger below allows.
CREATE FUNCTION tenants_below(root uuid) RETURNS SETOF uuid LANGUAGE sql STABLE AS $$
    WITH RECURSIVE below (id) AS (
        SELECT id FROM tenant WHERE parent = root
        UNION
        SELECT tenant.id FROM tenant JOIN below ON tenant.parent = below.id
    )
    SELECT id FROM below
$$;

-- No circle, at most 8 levels, nobody newly below a tenant that is suspended or on its way out. Whoever moves a tenant waits for all others
-- that move or add one, so that two changes that are right by themselves are not wrong together; those that only add
-- do not wait for each other.
CREATE FUNCTION guard_hierarchy() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    hierarchy CONSTANT bigint := 7020230107;
    above uuid := NEW.parent;
    depth integer := 1;
    height integer := 1;
    parent_status text;
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM pg_advisory_xact_lock_shared(hierarchy);
    ELSE
        PERFORM pg_advisory_xact_lock(hierarchy);
        WITH RECURSIVE below (id, level) AS (
            SELECT id, 2 FROM tenant WHERE parent = NEW.id
            UNION ALL
            SELECT tenant.id, level + 1 FROM tenant JOIN below ON tenant.parent = below.id WHERE level < 20
        )
        SELECT coalesce(max(level), 1) INTO height FROM below;
    END IF;
    -- Waits for a deletion or suspension of the parent that is under way; those in turn look for children once they have
    -- the row.
    SELECT status INTO parent_status FROM tenant WHERE id = NEW.parent FOR SHARE;
    IF parent_status IN ('suspended', 'deleting', 'deleted') THEN
        RAISE EXCEPTION 'the tenant above is % and takes nobody in', parent_status USING ERRCODE = 'TN101';
    END IF;
    WHILE above IS NOT NULL LOOP
        IF above = NEW.id THEN
            RAISE EXCEPTION 'the tenant would be above itself; choose a parent that is not below it'
                USING ERRCODE = 'TN101';
        END IF;
        depth := depth + 1;
        IF depth + height - 1 > 8 THEN
            RAISE EXCEPTION 'tenants are nested at most 8 deep' USING ERRCODE = 'TN101';
        END IF;
        SELECT parent INTO above FROM tenant WHERE id = above;
    END LOOP;
    RETURN NEW;
END
$$;
CREATE TRIGGER tenant_hierarchy_is_added_to BEFORE INSERT ON tenant
    FOR EACH ROW WHEN (NEW.parent IS NOT NULL) EXECUTE FUNCTION guard_hierarchy();
CREATE TRIGGER tenant_hierarchy_is_changed BEFORE UPDATE OF parent ON tenant
    FOR EACH ROW WHEN (NEW.parent IS NOT NULL AND NEW.parent IS DISTINCT FROM OLD.parent)
    EXECUTE FUNCTION guard_hierarchy();

-- A suspension does not wait for other work on its tenant: it takes the lease away and holds the work back until it is
-- done. What is held is not at work, so one operation at a time still is. The holder may be inserted after the row that
-- names it.
ALTER TABLE operation
    ADD COLUMN held_by uuid REFERENCES operation DEFERRABLE INITIALLY DEFERRED,
    ADD CONSTRAINT operation_held_is_idle CHECK (held_by IS NULL OR lease_owner IS NULL AND finished_at IS NULL),
    ADD CONSTRAINT operation_held_by_another CHECK (held_by <> id);
COMMENT ON COLUMN operation.held_by IS 'The operation that must finish before this one goes on.';
CREATE INDEX operation_by_holder ON operation (held_by) WHERE held_by IS NOT NULL;
DROP INDEX operation_exclusive;
CREATE UNIQUE INDEX operation_exclusive ON operation (tenant) WHERE finished_at IS NULL AND held_by IS NULL;
DROP INDEX operation_due;
CREATE INDEX operation_due ON operation ((kind = 'suspend') DESC, next_run_at)
    WHERE state IN ('queued', 'running', 'waiting', 'undoing') AND held_by IS NULL;

-- The end of an operation lets the next go on that waited for it; the others wait for that one.
CREATE FUNCTION let_held_go() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    next uuid;
BEGIN
    SELECT id INTO next FROM operation WHERE held_by = NEW.id ORDER BY id LIMIT 1 FOR UPDATE;
    IF FOUND THEN
        UPDATE operation
           SET held_by = NULL, next_run_at = clock_timestamp(), updated_at = clock_timestamp(),
               state = CASE state WHEN 'waiting' THEN 'queued' ELSE state END
         WHERE id = next;
        UPDATE operation SET held_by = next WHERE held_by = NEW.id;
        INSERT INTO operation_event (operation, kind, step, detail)
        SELECT next, 'let_go', step, jsonb_build_object('by', NEW.id) FROM operation WHERE id = next;
        PERFORM pg_notify('tenantry', 'operation:' || next);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER operation_lets_held_go AFTER UPDATE OF finished_at ON operation
    FOR EACH ROW WHEN (OLD.finished_at IS NULL AND NEW.finished_at IS NOT NULL) EXECUTE FUNCTION let_held_go();
