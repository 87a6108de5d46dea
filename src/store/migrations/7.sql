-- Which types a process does not claim for a while, and why.
CREATE TABLE unclaimed_types (
    process   INTEGER NOT NULL,
    task_type TEXT NOT NULL,
    cause     TEXT NOT NULL,
    until     TEXT NOT NULL,
    reason    TEXT NOT NULL,
    PRIMARY KEY (process, task_type, cause)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER workers_take_unclaimed_types AFTER DELETE ON workers BEGIN
    DELETE FROM unclaimed_types WHERE process = old.process;
END;
