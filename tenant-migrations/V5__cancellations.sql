-- Until now a flight of the past without a departure was taken for cancelled. Say so in the row.

ALTER TABLE flights ADD COLUMN cancelled boolean NOT NULL DEFAULT false;

UPDATE flights
SET cancelled = true
WHERE departed_at IS NULL
  AND scheduled_departure < now() - interval '2 days';

ALTER TABLE flights
    ADD CONSTRAINT flights_cancelled_never_departed CHECK (NOT cancelled OR departed_at IS NULL);
