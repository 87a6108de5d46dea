-- Each index of `tasks` makes claims and reports slower. Tasks are created in the order of their ids, the highest
-- priorities or attempts are found in the index of the lowest, and lists of a status merge those of its types.
DROP INDEX pending_by_created_at;
DROP INDEX pending_by_priority_desc;
DROP INDEX pending_by_attempts_desc;
DROP INDEX tasks_by_status;
