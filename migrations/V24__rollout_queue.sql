-- Rollouts wait for each other, for their time and for their hours.

ALTER TABLE rollout
    ADD COLUMN priority   integer NOT NULL DEFAULT 0,
    ADD COLUMN not_before timestamptz,
    ADD COLUMN hours      text,
    ADD COLUMN began_at   timestamptz;
COMMENT ON COLUMN rollout.priority IS 'Among those that wait, the highest begins first; of equals the oldest.';
COMMENT ON COLUMN rollout.not_before IS 'It waits at least until then.';
COMMENT ON COLUMN rollout.hours IS 'Targets are begun only within these hours.';
COMMENT ON COLUMN rollout.began_at IS 'Since when it has targets. Until then it waits its turn.';
UPDATE rollout SET began_at = created_at;

DROP INDEX rollout_exclusive;
CREATE UNIQUE INDEX rollout_exclusive ON rollout ((true)) WHERE finished_at IS NULL AND began_at IS NOT NULL;
CREATE INDEX rollout_waiting ON rollout (priority DESC, id) WHERE finished_at IS NULL AND began_at IS NULL;
COMMENT ON TABLE rollout IS 'One run that brings every live tenant to a set. One is carried out at a time; others wait.';
