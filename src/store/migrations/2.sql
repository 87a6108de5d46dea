CREATE TABLE rollups (
    kind              TEXT NOT NULL CHECK (kind IN ('type', 'worker', 'earlier workers')),
    hour              TEXT NOT NULL,
    name              TEXT NOT NULL,
    completed         INTEGER NOT NULL,
    failed            INTEGER NOT NULL,
    lost              INTEGER NOT NULL,
    duration_ms       INTEGER NOT NULL,
    first_started_at  TEXT NOT NULL,
    last_finished_at  TEXT NOT NULL,
    durations         BLOB NOT NULL,
    PRIMARY KEY (kind, hour, name)
) STRICT, WITHOUT ROWID;

ALTER TABLE deaths ADD COLUMN last_at TEXT;
UPDATE deaths SET last_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now');
