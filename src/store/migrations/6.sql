-- Why the TaskManager refused the report of a result that it has not confirmed, by the row of the result.
CREATE TABLE refused_reports (
    result INTEGER PRIMARY KEY,
    error  TEXT NOT NULL
) STRICT;

-- By whomever a result is reported or taken out, workers of older versions that have the file open among them.
CREATE TRIGGER results_take_refusals AFTER DELETE ON results BEGIN
    DELETE FROM refused_reports WHERE result = old.rowid;
END;
CREATE TRIGGER reports_take_refusals AFTER UPDATE OF reported_at ON results WHEN new.reported_at IS NOT NULL BEGIN
    DELETE FROM refused_reports WHERE result = new.rowid;
END;
