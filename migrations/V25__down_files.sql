-- Files that undo others, and tenants that go back by them.

ALTER TABLE migration ADD COLUMN down text;
COMMENT ON COLUMN migration.down IS 'What undoes it, where its set has a file for that.';

ALTER TABLE operation DROP CONSTRAINT operation_kind_check, ADD CONSTRAINT operation_kind_check
    CHECK (kind IN ('provision', 'delete', 'suspend', 'resume', 'rotate_credentials', 'adopt', 'adopt_confirm',
                    'adopt_cancel', 'prepare_home', 'drop_home', 'migrate_down'));
