-- The airline whose operations these are, and the airports that it may fly to.

CREATE TABLE airline (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    code text NOT NULL CHECK (code ~ '^[A-Z0-9]{2}$'),
    name text NOT NULL CHECK (name <> ''),
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE airline IS 'One row: the airline itself.';

CREATE TABLE airports (
    code text PRIMARY KEY CHECK (code ~ '^[A-Z0-9]{3}$'),
    name text NOT NULL,
    latitude double precision NOT NULL CHECK (latitude BETWEEN -90 AND 90),
    longitude double precision NOT NULL CHECK (longitude BETWEEN -180 AND 180),
    altitude_feet integer NOT NULL,
    time_zone text
);
COMMENT ON COLUMN airports.code IS 'FAA code.';
