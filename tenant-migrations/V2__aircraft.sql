CREATE TABLE aircraft (
    tail_number text PRIMARY KEY CHECK (tail_number ~ '^[A-Z0-9-]{1,10}$'),
    kind text NOT NULL,
    manufacturer text NOT NULL,
    model text NOT NULL,
    engine text NOT NULL,
    engines integer NOT NULL CHECK (engines > 0),
    seats integer NOT NULL CHECK (seats > 0),
    built_year integer CHECK (built_year BETWEEN 1900 AND 2100)
);
COMMENT ON TABLE aircraft IS 'As the register of aircraft describes them.';
