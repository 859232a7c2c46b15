-- Plans that change, credentials that rotate, and roles that are set right.

ALTER TABLE plan ADD COLUMN told_upto uuid;
COMMENT ON COLUMN plan.told_upto IS
    'Its limits changed: tenants of the plan up to this id have been told. Absent once all have been.';
CREATE INDEX plan_untold ON plan (name) WHERE told_upto IS NOT NULL;
CREATE INDEX tenant_by_plan ON tenant (plan, id);

ALTER TABLE home
    ADD COLUMN next_login_secret uuid REFERENCES secret,
    ADD COLUMN next_read_only_secret uuid REFERENCES secret,
    ADD COLUMN roles_due boolean NOT NULL DEFAULT false,
    ADD COLUMN passwords_set_at timestamptz NOT NULL DEFAULT now(),
    ADD CONSTRAINT home_next_secrets CHECK ((next_login_secret IS NULL) = (next_read_only_secret IS NULL)),
    ADD CONSTRAINT home_released_next_secrets CHECK (state <> 'released' OR next_login_secret IS NULL);
COMMENT ON COLUMN home.next_login_secret IS
    'What a rotation under way brings: kept here before the cluster hears of it, so that a repetition sets the same.';
COMMENT ON COLUMN home.roles_due IS 'What its roles should be has changed; they are set right next.';
COMMENT ON COLUMN home.passwords_set_at IS
    'When its roles last got their passwords: where the server does not show verifiers, they are given again now and then.';
CREATE INDEX home_roles_due ON home (cluster, id) WHERE roles_due;
