-- Lists of one type read it alone, and so do claims by id. One index serves both.
DROP INDEX pending_by_id;
CREATE INDEX tasks_by_type ON tasks (type_id, status, id);

CREATE INDEX tasks_by_end ON tasks (completed_at) WHERE completed_at IS NOT NULL;
