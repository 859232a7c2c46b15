-- Who follows the feed now, and what is left of routes that are gone.

ALTER TABLE router
    ADD COLUMN replica       uuid,
    ADD COLUMN connection    uuid,
    ADD COLUMN connected_at  timestamptz,
    ADD CONSTRAINT router_connection_is_whole CHECK (num_nonnulls(replica, connection, connected_at) IN (0, 3));
COMMENT ON COLUMN router.replica IS
    'The replica that its feed comes from. No foreign key: a replica that crashed leaves it behind, and counts for nothing once it is silent.';
COMMENT ON COLUMN router.connection IS 'Which of its connections that is: the end of an older one changes nothing.';

CREATE INDEX route_by_removal ON route (removed_at) WHERE state = 'removed';
