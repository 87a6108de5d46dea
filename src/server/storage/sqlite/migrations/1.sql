CREATE TABLE task_types (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    name         TEXT    NOT NULL UNIQUE,
    version      TEXT    NOT NULL,
    param_schema TEXT    NOT NULL,           -- JSON
    is_active    INTEGER NOT NULL DEFAULT 1, -- no call changes it; an operator may
    created_at   INTEGER NOT NULL,           -- here and below: microseconds since 1970, UTC
    updated_at   INTEGER NOT NULL
) STRICT;

-- The wide columns come last: SQLite reads a row from its start and stops at the last column asked for.
CREATE TABLE tasks (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    type_id       INTEGER NOT NULL REFERENCES task_types (id),
    status        TEXT    NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'claimed', 'completed', 'failed')),
    priority      INTEGER NOT NULL,
    progress      INTEGER NOT NULL DEFAULT 0,
    attempts      INTEGER NOT NULL DEFAULT 0,
    claimed_by    TEXT,
    claimed_at    INTEGER,
    completed_at  INTEGER,
    created_at    INTEGER NOT NULL,
    dedupe_key    TEXT    NOT NULL UNIQUE,
    error_message TEXT,
    params        TEXT    NOT NULL, -- JSON
    result        TEXT              -- JSON
) STRICT;

CREATE INDEX tasks_by_status ON tasks (status, id);

-- One for each order in which tasks are claimed, so that a claim reads one row however many wait. Among tasks of the
-- same priority or attempts the oldest goes first in either direction, which one index cannot serve both ways.
CREATE INDEX pending_by_created_at ON tasks (type_id, created_at, id) WHERE status = 'pending';
CREATE INDEX pending_by_id ON tasks (type_id, id) WHERE status = 'pending';
CREATE INDEX pending_by_priority ON tasks (type_id, priority, id) WHERE status = 'pending';
CREATE INDEX pending_by_priority_desc ON tasks (type_id, priority DESC, id) WHERE status = 'pending';
CREATE INDEX pending_by_attempts ON tasks (type_id, attempts, id) WHERE status = 'pending';
CREATE INDEX pending_by_attempts_desc ON tasks (type_id, attempts DESC, id) WHERE status = 'pending';
CREATE INDEX claimed_by_age ON tasks (type_id, claimed_at, id) WHERE status = 'claimed';
