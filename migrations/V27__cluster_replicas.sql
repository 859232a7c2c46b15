-- Physical standbys of clusters, from which routers may read.

CREATE TABLE cluster_replica (
    id          uuid PRIMARY KEY,
    cluster     uuid NOT NULL REFERENCES cluster ON DELETE CASCADE,
    host        text NOT NULL,
    port        integer NOT NULL CHECK (port BETWEEN 1 AND 65535),
    tls_mode    text CHECK (tls_mode IN ('disable', 'require', 'verify_ca', 'verify_full')),
    tls_ca      text,
    lag_max_ms  integer NOT NULL CHECK (lag_max_ms BETWEEN 1 AND 86400000),
    is_standby  boolean NOT NULL DEFAULT true,
    lag_ms      bigint CHECK (lag_ms >= 0),
    failures    integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    error       text,
    checked_at  timestamptz NOT NULL DEFAULT now(),
    seen_at     timestamptz NOT NULL DEFAULT now(),
    created_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT cluster_replica_endpoint UNIQUE (cluster, host, port),
    CHECK (is_standby OR error IS NOT NULL),
    CHECK ((failures > 0 OR NOT is_standby) = (error IS NOT NULL))
);
COMMENT ON TABLE cluster_replica IS 'A physical standby of a cluster, and what the last look at it found. Its roles, passwords and databases are the cluster''s.';
COMMENT ON COLUMN cluster_replica.tls_mode IS 'NULL: as the cluster''s; likewise tls_ca.';
COMMENT ON COLUMN cluster_replica.lag_max_ms IS 'Further behind than this, routers do not read from it.';
COMMENT ON COLUMN cluster_replica.is_standby IS 'Whether it was still a standby of the cluster when it last answered; routers do not hear of one that is not.';
COMMENT ON COLUMN cluster_replica.lag_ms IS 'How far it was behind when it last answered; NULL: nobody can tell.';
