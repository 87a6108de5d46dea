-- What handlers printed last, by the row of the result.
CREATE TABLE last_words (
    result INTEGER PRIMARY KEY,
    text   TEXT NOT NULL
) STRICT;

-- By whomever results are taken out, workers of older versions that have the file open among them.
CREATE TRIGGER results_take_last_words AFTER DELETE ON results BEGIN
    DELETE FROM last_words WHERE result = old.rowid;
END;
