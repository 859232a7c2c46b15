-- Secrets are sealed with data keys that master keys wrap; the audit log's chains know how long they are.

CREATE TABLE master_key (
    version        integer PRIMARY KEY CHECK (version > 0),
    fingerprint    bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
    is_current     boolean NOT NULL DEFAULT false,
    created_at     timestamptz NOT NULL DEFAULT now(),
    current_since  timestamptz,
    CHECK (NOT is_current OR current_since IS NOT NULL)
);
COMMENT ON TABLE master_key IS
    'Which master keys there are and which one wraps. The keys are elsewhere; a fingerprint tells a wrong one under a known version.';
CREATE UNIQUE INDEX master_key_current ON master_key (is_current) WHERE is_current;

CREATE TABLE data_key (
    id           uuid PRIMARY KEY,
    home         uuid CONSTRAINT data_key_home UNIQUE REFERENCES home DEFERRABLE INITIALLY DEFERRED,
    key_version  integer NOT NULL CHECK (key_version > 0),
    nonce        bytea NOT NULL CHECK (octet_length(nonce) = 12),
    ciphertext   bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    wrapped_at   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE data_key IS
    'Keys that seal secrets, each wrapped by a master key: one per home, which thereby is the key of whoever lives there, and one of the platform (no home). Without its row nothing that it sealed is ever read again.';
CREATE UNIQUE INDEX data_key_platform ON data_key ((home IS NULL)) WHERE home IS NULL;
CREATE INDEX data_key_by_version ON data_key (key_version, id);

ALTER TABLE secret
    ADD COLUMN data_key uuid REFERENCES data_key,
    ALTER COLUMN key_version DROP NOT NULL,
    ADD CONSTRAINT secret_one_key CHECK ((data_key IS NULL) = (key_version IS NOT NULL));
COMMENT ON TABLE secret IS
    'Passwords, sealed with AES-256-GCM under a data key. Id, purpose and the key''s owner are authenticated too, so that a row serves nowhere else. A row that names a key version was sealed by that master key itself, before there were data keys.';
CREATE INDEX secret_by_data_key ON secret (data_key);
CREATE INDEX secret_without_data_key ON secret (key_version, id) WHERE data_key IS NULL;

CREATE VIEW sealed_secret AS
SELECT s.id, s.purpose, s.key_version, s.nonce, s.ciphertext, s.data_key, k.home AS owner,
       k.key_version AS wrapped_version, k.nonce AS wrapped_nonce, k.ciphertext AS wrapped_key
  FROM secret s LEFT JOIN data_key k ON k.id = s.data_key;
COMMENT ON VIEW sealed_secret IS 'Secrets, each with the wrapped key that opens it.';

CREATE TABLE replica (
    id                   uuid PRIMARY KEY,
    master_key_versions  integer[] NOT NULL,
    wraps_with           integer NOT NULL,
    seen_at              timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE replica IS
    'Replicas of the control plane that are alive, and which master keys each has: a new one wraps only once all have it.';

CREATE TABLE audit_chain (
    chain       text PRIMARY KEY,
    tenant      uuid,
    entries     bigint NOT NULL DEFAULT 0 CHECK (entries >= 0),
    head        bytea CHECK (octet_length(head) = 32),
    last_entry  bigint,
    CHECK ((entries = 0) = (head IS NULL)),
    CHECK ((head IS NULL) = (last_entry IS NULL))
);
COMMENT ON TABLE audit_chain IS
    'How long each chain of the audit log is and what it ends with, so that a tail that was cut off is missed. Appending locks the row, which puts the entries of a chain in order.';
INSERT INTO audit_chain (chain, tenant, entries, head, last_entry)
SELECT a.chain, max(a.tenant::text)::uuid, count(*),
       (SELECT l.hash FROM audit_log l WHERE l.chain = a.chain ORDER BY l.id DESC LIMIT 1), max(a.id)
  FROM audit_log a GROUP BY a.chain;

CREATE FUNCTION guard_audit_chain() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.chain = OLD.chain AND NEW.tenant IS NOT DISTINCT FROM OLD.tenant THEN
        IF NEW IS NOT DISTINCT FROM OLD THEN
            RETURN NEW;
        END IF;
        IF NEW.entries = OLD.entries + 1 AND NEW.last_entry > coalesce(OLD.last_entry, 0) THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'an audit chain only grows, by one entry at a time' USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER audit_chain_only_grows BEFORE UPDATE OR DELETE ON audit_chain
    FOR EACH ROW EXECUTE FUNCTION guard_audit_chain();
CREATE TRIGGER audit_chain_stays BEFORE TRUNCATE ON audit_chain
    FOR EACH STATEMENT EXECUTE FUNCTION guard_audit_chain();
