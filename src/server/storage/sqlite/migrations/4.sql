-- How the clock was set when the claims' times were last brought into line with it: one row, or none.
CREATE TABLE clock (
    boot       TEXT    NOT NULL, -- which start of the machine it is about
    started_at INTEGER NOT NULL  -- when that was, by the clock as it was set
) STRICT;
