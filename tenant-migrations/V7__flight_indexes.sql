-- The list is read page by page in this order, mostly for one end of the route.

CREATE INDEX flights_by_departure ON flights (scheduled_departure, id);
CREATE INDEX flights_by_origin ON flights (origin, scheduled_departure, id);
CREATE INDEX flights_by_destination ON flights (destination, scheduled_departure, id);
CREATE INDEX flights_by_tail_number ON flights (tail_number, scheduled_departure) WHERE tail_number IS NOT NULL;
