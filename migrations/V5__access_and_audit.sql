-- Who may ask, what was asked, and who follows the routes.

CREATE TABLE token (
    id            uuid PRIMARY KEY,
    name          text NOT NULL,
    hash          bytea NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    scopes        text[] NOT NULL CHECK (cardinality(scopes) > 0),
    tenant        uuid REFERENCES tenant,
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz,
    last_used_at  timestamptz,
    revoked_at    timestamptz
);
COMMENT ON TABLE token IS 'API tokens, as SHA-256 of their text. The text is shown once and kept nowhere.';

CREATE TABLE idempotency_key (
    token         uuid NOT NULL REFERENCES token,
    key           text NOT NULL CHECK (char_length(key) BETWEEN 1 AND 255),
    request_hash  bytea NOT NULL,
    status        smallint,
    body          bytea,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (token, key)
);
COMMENT ON TABLE idempotency_key IS 'Answers kept for requests that may be sent again. No status yet: being worked on.';
CREATE INDEX idempotency_key_by_age ON idempotency_key (created_at);

CREATE TABLE router (
    name             text PRIMARY KEY CHECK (char_length(name) BETWEEN 1 AND 200),
    applied_version  bigint NOT NULL,
    detail           jsonb NOT NULL DEFAULT '{}',
    reported_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE router IS 'What each router last said of itself.';

CREATE TABLE audit_log (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    chain       text NOT NULL,
    actor       text NOT NULL,
    action      text NOT NULL,
    target      text NOT NULL,
    tenant      uuid,
    request_id  uuid,
    operation   uuid,
    before      jsonb,
    after       jsonb,
    hash        bytea NOT NULL CHECK (octet_length(hash) = 32)
);
COMMENT ON TABLE audit_log IS
    'Every change that was asked for. Append-only; each entry hashes the one before it in its chain (a tenant, or the platform).';
CREATE INDEX audit_log_by_chain ON audit_log (chain, id);
CREATE INDEX audit_log_by_action ON audit_log (action, id);
CREATE INDEX audit_log_by_actor ON audit_log (actor, id);
CREATE INDEX audit_log_by_time ON audit_log USING brin (at);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Purging a tenant forgets its operations; it names the tenant for the length of its transaction. The audit log knows
    -- no exception.
    IF TG_TABLE_NAME = 'operation_event' AND TG_OP = 'DELETE' THEN
        IF EXISTS (SELECT FROM operation
                    WHERE id = OLD.operation AND tenant::text = current_setting('tenantry.purge', true)) THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON audit_log FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only_table BEFORE TRUNCATE ON audit_log FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON operation_event FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only_table BEFORE TRUNCATE ON operation_event FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON migration FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only_table BEFORE TRUNCATE ON migration FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
