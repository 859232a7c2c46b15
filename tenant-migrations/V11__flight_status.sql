-- A flight that left and never reported an arrival delay was diverted or is still under way: both are 'departed'.

ALTER TABLE flights ADD COLUMN status text NOT NULL GENERATED ALWAYS AS (
    CASE
        WHEN cancelled THEN 'cancelled'
        WHEN arrival_delay_minutes IS NOT NULL THEN 'arrived'
        WHEN departed_at IS NOT NULL THEN 'departed'
        ELSE 'scheduled'
    END
) STORED;

CREATE INDEX flights_disturbed ON flights (scheduled_departure, id)
    WHERE cancelled OR departure_delay_minutes >= 15;
