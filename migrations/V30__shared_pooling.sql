-- Connections of `schema` tenants that share a database may be pooled together.

ALTER TABLE shared_database ADD COLUMN pool_secret uuid REFERENCES secret;
COMMENT ON COLUMN shared_database.pool_secret IS
    'Password of the role that routers log in as for tenants whose connections are pooled together; null while there were none.';

ALTER TABLE home
    ADD COLUMN pool_member boolean NOT NULL DEFAULT false,
    ADD COLUMN is_pooled   boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT home_pooled_is_member CHECK (pool_member OR NOT is_pooled),
    ADD CONSTRAINT home_member_is_in_shared_database CHECK (NOT pool_member OR (isolation = 'schema' AND shared_database IS NOT NULL));
COMMENT ON COLUMN home.pool_member IS
    'Whether the pool''s role may become the home''s roles, or may be on its way to that: set before it is let, cleared after it is no longer.';
COMMENT ON COLUMN home.is_pooled IS 'Whether the route says so: only while the pool''s role is a member.';
