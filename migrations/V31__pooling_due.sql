-- Which homes may have to be let into their pool or taken out of it is written down when something changes, so that upkeep
-- looks at those alone.

ALTER TABLE home ADD COLUMN pooling_due boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN home.pooling_due IS
    'Limits, plan or state of its tenant changed, so it may have to be let into the pool of its database or taken out. Cleared once it is seen to be as it should.';
CREATE INDEX home_pooling_due ON home (id) WHERE pooling_due;
-- Those that are on their way now, and whatever changed that nobody has looked at.
UPDATE home SET pooling_due = true WHERE shared_database IS NOT NULL AND state = 'ready';
