-- Repeatable migrations: without a version, applied after the others and again whenever their content changes.

CREATE TABLE repeatable (
    migration_set  text NOT NULL REFERENCES migration_set ON DELETE CASCADE,
    name           text COLLATE "C" NOT NULL,
    checksum       numeric(20) NOT NULL,
    transactional  boolean NOT NULL,
    phase          text CHECK (phase IN ('expand', 'contract')),
    sql            text NOT NULL,
    PRIMARY KEY (migration_set, name)
);
COMMENT ON TABLE repeatable IS 'One repeatable file of a set. They are applied in the order of their names.';

ALTER TABLE migration_set ADD COLUMN repeatables text NOT NULL DEFAULT '' CHECK (repeatables ~ '^([0-9a-f]{64})?$');
COMMENT ON COLUMN migration_set.repeatables IS 'The digest of its repeatable files; empty where it has none.';
ALTER TABLE home ADD COLUMN repeatables text NOT NULL DEFAULT '';
COMMENT ON COLUMN home.repeatables IS 'The digest of the repeatable files that it was brought to last.';
ALTER TABLE tenant ADD COLUMN repeatables text NOT NULL DEFAULT '';
COMMENT ON COLUMN tenant.repeatables IS 'The same of the home that it lives in.';

-- Whether somebody at a version, with repeatable files, has something of a set yet to come. A set without repeatable files
-- leaves those that are there as they are; one that ends below somebody's version has nothing for them.
CREATE FUNCTION is_behind(version bigint, repeatables text, set_version bigint, set_repeatables text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN version < set_version OR version = set_version AND set_repeatables <> '' AND repeatables <> set_repeatables;
