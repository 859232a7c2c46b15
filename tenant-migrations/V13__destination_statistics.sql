-- Percentiles are over flights that left; early departures count with their negative minutes.

CREATE FUNCTION destination_statistics(since timestamptz, until timestamptz)
RETURNS TABLE (
    destination text,
    destination_name text,
    flights bigint,
    cancelled bigint,
    delay_minutes_p50 double precision,
    delay_minutes_p90 double precision
)
LANGUAGE sql
STABLE
SET search_path FROM CURRENT
AS $$
    SELECT
        flights.destination,
        airports.name,
        count(*),
        count(*) FILTER (WHERE flights.cancelled),
        percentile_cont(0.5) WITHIN GROUP (ORDER BY flights.departure_delay_minutes),
        percentile_cont(0.9) WITHIN GROUP (ORDER BY flights.departure_delay_minutes)
    FROM flights
    JOIN airports ON airports.code = flights.destination
    WHERE flights.scheduled_departure >= since
      AND flights.scheduled_departure < until
    GROUP BY flights.destination, airports.name
$$;

CREATE VIEW daily_punctuality WITH (security_invoker = true) AS
SELECT
    (scheduled_departure AT TIME ZONE 'UTC')::date AS day,
    count(*) AS flights,
    count(*) FILTER (WHERE cancelled) AS cancelled,
    count(*) FILTER (WHERE departure_delay_minutes < 15) AS punctual
FROM flights
GROUP BY 1;
