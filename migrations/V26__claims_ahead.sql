-- One claim serves many targets, and every rollout updates every home.

ALTER TABLE rollout ADD COLUMN crowded_out uuid, ADD COLUMN crowded_out_at timestamptz;
COMMENT ON COLUMN rollout.crowded_out IS 'The worker that last found all places taken while it had nothing to do.';
COMMENT ON COLUMN rollout.crowded_out_at IS 'When that was: for a short time the others claim nothing ahead, and leave places.';

-- Where a home's page has room, no index changes with it.
ALTER TABLE home SET (fillfactor = 80);
