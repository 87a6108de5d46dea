-- The last result that the rollups have counted. Those after it are counted when they are enough, or when asked for.
CREATE TABLE rolled_up (
    result INTEGER NOT NULL
) STRICT;
INSERT INTO rolled_up SELECT coalesce(max(rowid), 0) FROM results;

-- The same columns; one tree of pages is written for each claim, not two.
CREATE TABLE claims_by_task (
    api_url     TEXT NOT NULL,
    task_id     INTEGER NOT NULL,
    task_type   TEXT NOT NULL,
    attempt     INTEGER NOT NULL,
    priority    INTEGER NOT NULL,
    params      TEXT NOT NULL,
    worker_id   TEXT NOT NULL,
    process     INTEGER REFERENCES workers (process),
    running     INTEGER NOT NULL,
    claimed_at  TEXT NOT NULL,
    deadline    TEXT NOT NULL,
    PRIMARY KEY (api_url, task_id)
) STRICT, WITHOUT ROWID;
INSERT INTO claims_by_task SELECT * FROM claims;
DROP TABLE claims;
ALTER TABLE claims_by_task RENAME TO claims;
