-- What is given to tenants by default, and what must not be seen.

CREATE TABLE plan (
    name        text PRIMARY KEY CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    isolation   text NOT NULL CHECK (isolation IN ('row', 'schema', 'database', 'cluster')),
    quotas      jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(quotas) = 'object'),
    features    text[] NOT NULL DEFAULT '{}',
    limits      jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(limits) = 'object'),
    price       jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(price) = 'object'),
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE plan IS 'Quotas, features, default isolation and limits that tenants get.';

INSERT INTO plan (name, isolation, features, limits) VALUES
    ('developer', 'schema', '{}',
     '{"connections": 10, "pool_size": 4, "statement_timeout_ms": 30000, "idle_in_transaction_timeout_ms": 60000}'),
    ('team', 'database', '{}',
     '{"connections": 30, "pool_size": 8, "statement_timeout_ms": 60000, "idle_in_transaction_timeout_ms": 60000, "temporary_tables": true}'),
    ('enterprise', 'cluster', '{}',
     '{"connections": 80, "pool_size": 16, "statement_timeout_ms": 300000, "idle_in_transaction_timeout_ms": 300000, "temporary_tables": true}');

CREATE TABLE secret (
    id           uuid PRIMARY KEY,
    purpose      text NOT NULL,
    key_version  integer NOT NULL CHECK (key_version > 0),
    nonce        bytea NOT NULL CHECK (octet_length(nonce) = 12),
    ciphertext   bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE secret IS
    'Passwords, sealed with AES-256-GCM. Id and purpose are authenticated too, so that a row serves nowhere else.';
