-- Instants are timestamptz. Arrivals come from the stations as local clock times (24:00 is one), without a date.

CREATE TABLE flights (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    flight_number integer NOT NULL CHECK (flight_number BETWEEN 1 AND 9999),
    origin text NOT NULL REFERENCES airports (code),
    destination text NOT NULL REFERENCES airports (code),
    tail_number text REFERENCES aircraft (tail_number),
    scheduled_departure timestamptz NOT NULL,
    departed_at timestamptz,
    departure_delay_minutes integer GENERATED ALWAYS AS
        ((extract(epoch FROM departed_at - scheduled_departure) / 60)::integer) STORED,
    scheduled_arrival_local time NOT NULL,
    arrived_local time,
    arrival_delay_minutes integer,
    air_time_minutes integer CHECK (air_time_minutes > 0),
    distance_miles integer NOT NULL CHECK (distance_miles > 0),
    UNIQUE (flight_number, origin, scheduled_departure)
);
COMMENT ON COLUMN flights.tail_number IS 'Not known before an aircraft is assigned.';
