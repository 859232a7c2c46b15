-- phase: expand
-- The list shows the reported minutes of each flight; summing them for each page became slow.

ALTER TABLE flights ADD COLUMN reported_delay_minutes integer NOT NULL DEFAULT 0;

DO $backfill$
DECLARE
    total record;
BEGIN
    FOR total IN SELECT flight_id, sum(minutes) AS minutes FROM delays GROUP BY flight_id LOOP
        UPDATE flights SET reported_delay_minutes = total.minutes WHERE id = total.flight_id;
    END LOOP;
END
$backfill$;

CREATE FUNCTION sum_reported_delays() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        UPDATE flights SET reported_delay_minutes = reported_delay_minutes - OLD.minutes WHERE id = OLD.flight_id;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        UPDATE flights SET reported_delay_minutes = reported_delay_minutes + NEW.minutes WHERE id = NEW.flight_id;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER delays_sum
    AFTER INSERT OR UPDATE OF flight_id, minutes OR DELETE ON delays
    FOR EACH ROW EXECUTE FUNCTION sum_reported_delays();
