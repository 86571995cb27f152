-- Most jobs have ended and are due no more, and most have no unique key. They need no entries in the indexes of these
-- columns. No statement looks for due jobs of all kinds any more.
DROP INDEX jobs_due;
DROP INDEX jobs_waiting;
DROP INDEX jobs_queue;
DROP INDEX jobs_unique_key;
DROP INDEX jobs_finished;

CREATE UNIQUE INDEX jobs_waiting ON jobs (waiting) WHERE waiting IS NOT NULL;
CREATE INDEX jobs_queue ON jobs (kind, priority, due_at, id) WHERE due_at IS NOT NULL;
CREATE INDEX jobs_unique_key ON jobs (kind, unique_key) WHERE unique_key IS NOT NULL;
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
