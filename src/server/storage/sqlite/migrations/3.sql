-- With the status, the last hour is counted from this index alone.
DROP INDEX tasks_by_end;
CREATE INDEX tasks_by_end ON tasks (completed_at, status) WHERE completed_at IS NOT NULL;

-- Attempts of which the row of their task tells no more. What it tells is of the last one.
CREATE TABLE past_attempts (
    id         INTEGER PRIMARY KEY,
    task_id    INTEGER NOT NULL,
    attempt    INTEGER NOT NULL,
    worker_id  TEXT,
    claimed_at INTEGER,
    ended_at   INTEGER,          -- when the task ended with it; null where the task went on
    left_at    INTEGER NOT NULL, -- when the task was free for another attempt
    fate       TEXT    NOT NULL CHECK (fate IN ('failed', 'expired', 'put back')),
    error      TEXT              -- the start of it
) STRICT;

CREATE INDEX past_attempts_by_task ON past_attempts (task_id, id);
