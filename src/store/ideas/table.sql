CREATE TABLE IdeaInspiration (
    id                         INTEGER PRIMARY KEY AUTOINCREMENT,
    title                      TEXT NOT NULL,
    description                TEXT,
    content                    TEXT,
    keywords                   TEXT,
    source_type                TEXT,
    metadata                   TEXT,
    source_id                  TEXT,
    source_url                 TEXT,
    source_platform            TEXT,
    source_created_by          TEXT,
    source_created_at          TEXT,
    score                      INTEGER,
    category                   TEXT,
    subcategory_relevance      TEXT,
    contextual_category_scores TEXT,
    created_at                 TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    updated_at                 TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS IdeaInspiration_by_source ON IdeaInspiration (source_id, source_platform);
