CREATE VIEW departure_board WITH (security_invoker = true) AS
SELECT
    flights.id,
    (SELECT code FROM airline) || flights.flight_number::text AS designator,
    flights.origin,
    flights.destination,
    airports.name AS destination_name,
    flights.scheduled_departure,
    flights.departed_at,
    flights.departure_delay_minutes,
    flights.cancelled
FROM flights
JOIN airports ON airports.code = flights.destination;
