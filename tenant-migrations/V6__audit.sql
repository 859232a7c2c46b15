-- Who changed what: delays wholly, flights once they are there.

CREATE TABLE audit_entries (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_by text NOT NULL DEFAULT current_user,
    table_name text NOT NULL,
    row_id bigint NOT NULL,
    action text NOT NULL CHECK (action IN ('INSERT', 'UPDATE', 'DELETE')),
    before jsonb,
    after jsonb
);

CREATE INDEX audit_entries_by_row ON audit_entries (table_name, row_id, id);

CREATE FUNCTION record_audit() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO audit_entries (table_name, row_id, action, after)
        VALUES (TG_TABLE_NAME, NEW.id, TG_OP, to_jsonb(NEW));
    ELSIF TG_OP = 'UPDATE' THEN
        INSERT INTO audit_entries (table_name, row_id, action, before, after)
        VALUES (TG_TABLE_NAME, NEW.id, TG_OP, to_jsonb(OLD), to_jsonb(NEW));
    ELSE
        INSERT INTO audit_entries (table_name, row_id, action, before)
        VALUES (TG_TABLE_NAME, OLD.id, TG_OP, to_jsonb(OLD));
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER delays_audit
    AFTER INSERT OR UPDATE OR DELETE ON delays
    FOR EACH ROW EXECUTE FUNCTION record_audit();

CREATE TRIGGER flights_audit
    AFTER UPDATE OR DELETE ON flights
    FOR EACH ROW EXECUTE FUNCTION record_audit();
