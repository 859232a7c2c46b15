-- Schedules name airports and aircraft that no register has listed yet. A flight is a fact and must not be turned away
-- for that: a row of its own stands in until the register catches up.

ALTER TABLE airports
    ADD COLUMN listed boolean NOT NULL DEFAULT true,
    ALTER COLUMN latitude DROP NOT NULL,
    ALTER COLUMN longitude DROP NOT NULL,
    ALTER COLUMN altitude_feet DROP NOT NULL;
ALTER TABLE airports
    ADD CONSTRAINT airports_listed_are_located
    CHECK (NOT listed OR (latitude IS NOT NULL AND longitude IS NOT NULL AND altitude_feet IS NOT NULL));

ALTER TABLE aircraft
    ADD COLUMN listed boolean NOT NULL DEFAULT true,
    ALTER COLUMN kind DROP NOT NULL,
    ALTER COLUMN manufacturer DROP NOT NULL,
    ALTER COLUMN model DROP NOT NULL,
    ALTER COLUMN engine DROP NOT NULL,
    ALTER COLUMN engines DROP NOT NULL,
    ALTER COLUMN seats DROP NOT NULL;
ALTER TABLE aircraft
    ADD CONSTRAINT aircraft_listed_are_described
    CHECK (NOT listed OR (kind IS NOT NULL AND manufacturer IS NOT NULL AND model IS NOT NULL
                          AND engine IS NOT NULL AND engines IS NOT NULL AND seats IS NOT NULL));

CREATE FUNCTION stand_in_for_unlisted() RETURNS trigger
LANGUAGE plpgsql
SET search_path FROM CURRENT
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM airports WHERE code = NEW.origin) THEN
        INSERT INTO airports (code, name, listed) VALUES (NEW.origin, NEW.origin, false)
        ON CONFLICT DO NOTHING;
    END IF;
    IF NOT EXISTS (SELECT FROM airports WHERE code = NEW.destination) THEN
        INSERT INTO airports (code, name, listed) VALUES (NEW.destination, NEW.destination, false)
        ON CONFLICT DO NOTHING;
    END IF;
    IF NEW.tail_number IS NOT NULL
        AND NOT EXISTS (SELECT FROM aircraft WHERE tail_number = NEW.tail_number)
    THEN
        INSERT INTO aircraft (tail_number, listed) VALUES (NEW.tail_number, false)
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER flights_stand_in_for_unlisted
    BEFORE INSERT OR UPDATE OF origin, destination, tail_number ON flights
    FOR EACH ROW EXECUTE FUNCTION stand_in_for_unlisted();
