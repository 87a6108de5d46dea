-- Claims last for different times, and renewals prolong them. Null where a server without this column made the claim.
ALTER TABLE tasks ADD COLUMN expires_at INTEGER;

DROP INDEX claimed_by_age;
CREATE INDEX claimed_by_expiry ON tasks (type_id, expires_at, id) WHERE status = 'claimed';
