-- Telling others what happens, and what new homes are filled with.

CREATE TABLE webhook (
    id               uuid PRIMARY KEY,
    url              text NOT NULL CHECK (char_length(url) BETWEEN 1 AND 2000),
    description      text NOT NULL DEFAULT '' CHECK (char_length(description) <= 500),
    events           text[] NOT NULL DEFAULT '{}',
    enabled          boolean NOT NULL DEFAULT true,
    disabled_reason  text,
    secret           uuid NOT NULL REFERENCES secret,
    previous_secret  uuid REFERENCES secret,
    previous_until   timestamptz,
    failing_since    timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    deleted_at       timestamptz,
    CHECK ((previous_secret IS NULL) = (previous_until IS NULL)),
    CHECK (deleted_at IS NULL OR NOT enabled)
);
COMMENT ON TABLE webhook IS
    'Who wants to hear of which events; no event named means all. A deleted one stays a while, because transactions that saw it may still add deliveries.';

CREATE TABLE webhook_event (
    id         uuid PRIMARY KEY,
    sequence   bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT webhook_event_sequence UNIQUE,
    kind       text NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    tenant     uuid,
    cluster    uuid,
    operation  uuid,
    about      jsonb NOT NULL,
    detail     jsonb NOT NULL
);
COMMENT ON TABLE webhook_event IS
    'What happened, as it was at that moment. Written with the change it tells of, and only where a webhook wants it.';
CREATE INDEX webhook_event_by_age ON webhook_event (at);

CREATE TABLE webhook_delivery (
    id               uuid PRIMARY KEY,
    number           bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT webhook_delivery_number UNIQUE,
    webhook          uuid NOT NULL REFERENCES webhook,
    event            uuid NOT NULL REFERENCES webhook_event,
    tenant           uuid,
    sequence         bigint NOT NULL,
    state            text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'failed')),
    attempts         integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    queued_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    next_attempt_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease_owner      uuid,
    lease_until      timestamptz,
    attempted_at     timestamptz,
    status           integer,
    error            text,
    response         text,
    duration_ms      bigint,
    finished_at      timestamptz,
    CHECK ((state = 'pending') = (finished_at IS NULL)),
    CHECK ((lease_owner IS NULL) = (lease_until IS NULL)),
    CHECK (state = 'pending' OR lease_owner IS NULL)
);
COMMENT ON TABLE webhook_delivery IS
    'One event for one webhook. Claimed with a lease while it is sent; sent again under the same id until somebody takes it or time is up.';
CREATE INDEX webhook_delivery_due ON webhook_delivery (webhook, next_attempt_at) WHERE state = 'pending';
CREATE INDEX webhook_delivery_in_order ON webhook_delivery (webhook, tenant, sequence) WHERE state = 'pending';
CREATE INDEX webhook_delivery_by_webhook ON webhook_delivery (webhook, number);
CREATE INDEX webhook_delivery_by_event ON webhook_delivery (event);
CREATE INDEX webhook_delivery_finished ON webhook_delivery (finished_at) WHERE state <> 'pending';

CREATE TABLE seed (
    id          text PRIMARY KEY CHECK (id ~ '^[0-9a-f]{64}$'),
    name        text NOT NULL CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    sql         text NOT NULL CHECK (octet_length(sql) BETWEEN 1 AND 1048576),
    number      bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT seed_number UNIQUE,
    created_at  timestamptz NOT NULL DEFAULT now(),
    retired_at  timestamptz
);
COMMENT ON TABLE seed IS
    'SQL that fills a new home once. Its id is the digest of name and text, so it never changes; a name stands for the newest that is not retired.';
CREATE INDEX seed_by_name ON seed (name, number);

CREATE TABLE plan_seed (
    plan  text PRIMARY KEY REFERENCES plan ON DELETE CASCADE,
    seed  text NOT NULL
);
COMMENT ON TABLE plan_seed IS 'The name of the seed that tenants of a plan get when they name none.';
