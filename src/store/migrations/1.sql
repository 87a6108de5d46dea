CREATE TABLE workers (
    process         INTEGER PRIMARY KEY,
    worker_id       TEXT NOT NULL,
    api_url         TEXT NOT NULL,
    pid             INTEGER NOT NULL,
    mark            TEXT NOT NULL UNIQUE,
    started_at      TEXT NOT NULL,
    last_poll_at    TEXT,
    stopped_at      TEXT,
    tasks_completed INTEGER NOT NULL DEFAULT 0,
    tasks_failed    INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE claims (
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
) STRICT;

CREATE TABLE deaths (
    api_url TEXT NOT NULL,
    task_id INTEGER NOT NULL,
    count   INTEGER NOT NULL,
    PRIMARY KEY (api_url, task_id)
) STRICT;

CREATE TABLE results (
    task_id     INTEGER NOT NULL,
    task_type   TEXT NOT NULL,
    attempt     INTEGER NOT NULL,
    worker_id   TEXT NOT NULL,
    api_url     TEXT NOT NULL,
    status      TEXT NOT NULL CHECK (status IN ('completed', 'failed', 'lost')),
    params      TEXT NOT NULL,
    data        TEXT,
    message     TEXT,
    error       TEXT,
    error_type  TEXT,
    retryable   INTEGER,
    claimed_at  TEXT NOT NULL,
    started_at  TEXT NOT NULL,
    finished_at TEXT NOT NULL,
    duration_ms INTEGER NOT NULL,
    reported_at TEXT,
    metadata    TEXT
) STRICT;
CREATE INDEX results_by_task ON results (task_id);
CREATE INDEX results_by_time ON results (finished_at);
CREATE INDEX results_unreported ON results (api_url) WHERE reported_at IS NULL;
