-- How routers share the connections of a cluster.

-- Whoever changes leases holds its row until the commit, so serials become visible in their order.
CREATE TABLE lease_clock (
    is_only  boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    serial   bigint NOT NULL DEFAULT 0
);
INSERT INTO lease_clock DEFAULT VALUES;
COMMENT ON TABLE lease_clock IS 'The newest serial of a lease of connections.';

CREATE TABLE connection_lease (
    router   text NOT NULL REFERENCES router ON DELETE CASCADE,
    cluster  uuid NOT NULL REFERENCES cluster ON DELETE CASCADE,
    granted  integer CHECK (granted >= 0),
    serial   bigint NOT NULL DEFAULT 0,
    held     integer NOT NULL CHECK (held >= 0),
    wanted   integer NOT NULL CHECK (wanted >= 0),
    PRIMARY KEY (router, cluster)
);
COMMENT ON TABLE connection_lease IS 'What each router may hold of a cluster''s connections, and what it needs.';
COMMENT ON COLUMN connection_lease.granted IS 'Connections that the router was last told that it may hold; null before it is told, and once what it had is taken back.';
COMMENT ON COLUMN connection_lease.serial IS 'Of that. The router acknowledges it once it holds no more.';
COMMENT ON COLUMN connection_lease.held IS 'Connections that it may hold beyond that as far as is known: the highest lease of which it has not acknowledged a lower one, or those that are open.';
COMMENT ON COLUMN connection_lease.wanted IS 'Connections that it said it would use: in use, and waited for.';
CREATE INDEX connection_lease_by_cluster ON connection_lease (cluster);
CREATE INDEX connection_lease_by_serial ON connection_lease (serial);
