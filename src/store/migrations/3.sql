CREATE TABLE youtube_quota (
    day  TEXT PRIMARY KEY,
    used INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE youtube_videos (
    id         TEXT PRIMARY KEY,
    video      TEXT NOT NULL,
    fetched_at TEXT NOT NULL
) STRICT;
CREATE INDEX youtube_videos_by_time ON youtube_videos (fetched_at);

-- Which process has stored a result, and reports it.
ALTER TABLE results ADD COLUMN process INTEGER;
