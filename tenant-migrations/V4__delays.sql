CREATE TYPE delay_cause AS ENUM ('carrier', 'weather', 'air_traffic', 'security');

CREATE TABLE delays (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    flight_id bigint NOT NULL REFERENCES flights (id) ON DELETE CASCADE,
    cause delay_cause NOT NULL,
    minutes integer NOT NULL CHECK (minutes BETWEEN 1 AND 2880),
    note text CHECK (length(note) <= 500),
    reported_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE delays IS 'What dispatchers report, one row per cause; the sum need not be the measured delay.';

CREATE INDEX delays_by_flight ON delays (flight_id, id);
