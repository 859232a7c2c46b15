-- Homes that are made before anyone needs them, and whose each home is.

ALTER TABLE operation DROP CONSTRAINT operation_kind_check, ADD CONSTRAINT operation_kind_check
    CHECK (kind IN ('provision', 'delete', 'suspend', 'resume', 'rotate_credentials', 'adopt', 'prepare_home',
                    'drop_home'));

ALTER TABLE home
    ADD COLUMN tenant uuid REFERENCES tenant,
    ADD COLUMN claimed_at timestamptz,
    ADD COLUMN released_at timestamptz,
    DROP CONSTRAINT home_state_check;
UPDATE home SET tenant = o.tenant, claimed_at = home.created_at
  FROM resource r JOIN operation o ON o.id = r.operation WHERE r.home = home.id;
UPDATE home SET released_at = now() WHERE state = 'released';
ALTER TABLE home
    ADD CONSTRAINT home_state_check
        CHECK (state IN ('planned', 'warm', 'claimed', 'ready', 'retired', 'released')),
    ADD CONSTRAINT home_tenant_check
        CHECK (CASE WHEN state IN ('warm', 'retired') THEN tenant IS NULL
                    WHEN state IN ('claimed', 'ready') THEN tenant IS NOT NULL ELSE true END),
    ADD CONSTRAINT home_claimed_at_check CHECK ((tenant IS NULL) = (claimed_at IS NULL)),
    ADD CONSTRAINT home_released_at_check CHECK ((state = 'released') = (released_at IS NOT NULL));
COMMENT ON TABLE home IS
    'A physical place for one tenant, whose it is for good once claimed; warm ones wait for theirs, retired ones never get one. Its id, and so its names, are never used again; its secrets end with it.';
CREATE INDEX home_by_tenant ON home (tenant) WHERE tenant IS NOT NULL;
CREATE INDEX home_without_tenant ON home (cluster, created_at) WHERE tenant IS NULL AND state <> 'released';
CREATE INDEX home_never_claimed ON home (released_at) WHERE tenant IS NULL AND state = 'released';
CREATE INDEX home_in_the_making ON home (cluster, migration_set) WHERE state IN ('planned', 'claimed');
CREATE INDEX home_by_claim ON home (cluster, claimed_at) WHERE isolation = 'database';

ALTER TABLE cluster
    ADD COLUMN warm_homes bigint NOT NULL DEFAULT 0 CHECK (warm_homes >= 0),
    ADD CHECK (warm_homes <= homes);

CREATE OR REPLACE FUNCTION count_home() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    was boolean := TG_OP = 'UPDATE' AND OLD.state <> 'released';
    is_now boolean := NEW.state <> 'released';
    change bigint := is_now::integer - was::integer;
    change_warm bigint := (is_now AND NEW.tenant IS NULL)::integer;
BEGIN
    IF was AND OLD.tenant IS NULL THEN
        change_warm := change_warm - 1;
    END IF;
    IF change <> 0 OR change_warm <> 0 THEN
        UPDATE cluster
           SET homes = homes + change,
               databases = databases + CASE WHEN NEW.shared_database IS NULL THEN change ELSE 0 END,
               warm_homes = warm_homes + change_warm
         WHERE id = NEW.cluster;
        UPDATE shared_database SET homes = homes + change WHERE id = NEW.shared_database;
    END IF;
    RETURN NULL;
END
$$;
DROP TRIGGER home_is_counted ON home;
CREATE TRIGGER home_is_counted AFTER INSERT OR UPDATE OF state, tenant ON home
    FOR EACH ROW EXECUTE FUNCTION count_home();

-- Whose a home is, is decided once.
CREATE TRIGGER home_is_claimed_once BEFORE UPDATE OF tenant ON home FOR EACH ROW
    WHEN (OLD.tenant IS NOT NULL AND NEW.tenant IS DISTINCT FROM OLD.tenant) EXECUTE FUNCTION keep_released();

ALTER TABLE template ADD COLUMN retired_at timestamptz;
UPDATE template SET retired_at = now() WHERE state = 'retired';
ALTER TABLE template ADD CHECK ((state = 'retired') = (retired_at IS NOT NULL));

-- Homes that nobody ever claimed leave rows behind that no purge of a tenant takes along.
CREATE INDEX operation_for_nobody ON operation (finished_at)
    WHERE tenant IS NULL AND kind IN ('prepare_home', 'drop_home');
CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Purging a tenant forgets its operations, and upkeep those of homes that were never claimed; each says so for the
    -- length of its transaction. The audit log knows no exception.
    IF TG_TABLE_NAME = 'operation_event' AND TG_OP = 'DELETE' THEN
        IF EXISTS (SELECT FROM operation
                    WHERE id = OLD.operation
                      AND (tenant::text = current_setting('tenantry.purge', true)
                           OR tenant IS NULL AND kind IN ('prepare_home', 'drop_home')
                              AND current_setting('tenantry.purge', true) = 'homes never claimed')) THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;
