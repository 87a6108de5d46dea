-- The last result that the rollups have counted. Those after it are counted when they are enough, or when asked for.
CREATE TABLE rolled_up (
    result INTEGER NOT NULL
) STRICT;
INSERT INTO rolled_up SELECT coalesce(max(rowid), 0) FROM results;
