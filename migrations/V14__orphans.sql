-- What is on a cluster and in no record, or the other way round.

CREATE TABLE orphan (
    id               uuid PRIMARY KEY,
    cluster          uuid NOT NULL REFERENCES cluster ON DELETE CASCADE,
    kind             text NOT NULL CHECK (kind IN ('database', 'role', 'schema', 'slot', 'backend', 'directory')),
    name             text NOT NULL,
    parent           text NOT NULL DEFAULT '',
    verdict          text NOT NULL CHECK (verdict IN ('ours', 'foreign', 'missing')),
    reason           text NOT NULL,
    first_seen       timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_seen        timestamptz NOT NULL DEFAULT clock_timestamp(),
    removable_after  timestamptz,
    gone_at          timestamptz,
    removed          boolean NOT NULL DEFAULT false,
    error            text,
    CHECK ((verdict = 'ours') = (removable_after IS NOT NULL)),
    CHECK (NOT removed OR gone_at IS NOT NULL)
);
COMMENT ON TABLE orphan IS
    'What the catalog and a cluster disagree on. Only what is provably ours is ever removed, once its delay is over.';
CREATE UNIQUE INDEX orphan_open ON orphan (cluster, kind, parent, name) WHERE gone_at IS NULL;
CREATE INDEX orphan_removable ON orphan (removable_after) WHERE gone_at IS NULL AND verdict = 'ours';
CREATE INDEX orphan_by_end ON orphan (gone_at) WHERE gone_at IS NOT NULL;

CREATE TABLE bygone (
    cluster  uuid NOT NULL,
    name     text NOT NULL,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (cluster, name)
);
COMMENT ON TABLE bygone IS
    'Physical names whose rows are forgotten. They are never used again, so whatever bears one later is ours and late.';

CREATE FUNCTION remember_bygone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'home' THEN
        INSERT INTO bygone (cluster, name) VALUES (OLD.cluster, 'h_' || replace(OLD.id::text, '-', ''))
        ON CONFLICT DO NOTHING;
    ELSE
        INSERT INTO bygone (cluster, name) VALUES (OLD.cluster, OLD.name) ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER home_is_remembered AFTER DELETE ON home FOR EACH ROW EXECUTE FUNCTION remember_bygone();
CREATE TRIGGER template_is_remembered AFTER DELETE ON template FOR EACH ROW EXECUTE FUNCTION remember_bygone();
CREATE TRIGGER shared_database_is_remembered AFTER DELETE ON shared_database
    FOR EACH ROW EXECUTE FUNCTION remember_bygone();
