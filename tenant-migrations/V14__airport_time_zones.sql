-- The first imports wrote the word NA where the register knows no time zone.

UPDATE airports SET time_zone = NULL WHERE time_zone IN ('NA', '', '\N');

ALTER TABLE airports
    ADD CONSTRAINT airports_time_zone_is_a_name CHECK (time_zone ~ '^[A-Za-z_]+(/[A-Za-z0-9_+-]+)+$') NOT VALID;
ALTER TABLE airports VALIDATE CONSTRAINT airports_time_zone_is_a_name;
