-- A job that is bound to others (by a unique key, a gate, jobs that wait for it) or held is, while it lives, one row in
-- `bound` and in none of `ready`, `scheduled`, `running`: whatever happens to it may mean something for others, and the
-- statements that move hundreds of free jobs at a time never meet it. Nor do workers of the release before, which would
-- not know what to do: jobs like it wait for a worker that does.

ALTER TABLE {prefix}job ADD COLUMN ties TEXT;

-- How far a running job says it is, as JSON.
ALTER TABLE {prefix}job ADD COLUMN progress TEXT;

-- `knot` is what a HELD job is held by. What follows `expires_at` is of RUNNING jobs only.
CREATE TABLE {prefix}bound (
    id TEXT PRIMARY KEY,
    queue TEXT NOT NULL,
    task TEXT NOT NULL,
    place TEXT NOT NULL,
    knot TEXT,
    solo INTEGER NOT NULL,
    rank INTEGER NOT NULL,
    due REAL NOT NULL,
    expires_at REAL,
    claim_id TEXT,
    worker TEXT,
    lease_until REAL,
    started_at REAL,
    cancel_requested INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE INDEX {prefix}bound_line ON {prefix}bound (queue, place, solo, rank, due, id);

CREATE INDEX {prefix}bound_due ON {prefix}bound (queue, due) WHERE place = 'SCHEDULED';

CREATE INDEX {prefix}bound_held ON {prefix}bound (knot, rank, due, id) WHERE knot IS NOT NULL;

CREATE INDEX {prefix}bound_lease ON {prefix}bound (lease_until) WHERE lease_until IS NOT NULL;

CREATE INDEX {prefix}bound_expires ON {prefix}bound (expires_at) WHERE expires_at IS NOT NULL;

-- The books (`outwork.brokers.ledger`): what is counted for a unique key, a gate, a job that waits, a pause, a schedule.
-- To be looked at `at` a time, to be forgotten after `until`.
CREATE TABLE {prefix}cell (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    at REAL,
    until REAL
) WITHOUT ROWID;

CREATE INDEX {prefix}cell_at ON {prefix}cell (at) WHERE at IS NOT NULL;

CREATE INDEX {prefix}cell_until ON {prefix}cell (until) WHERE until IS NOT NULL;

-- Every worker asks every second which of its jobs are to stop.
CREATE INDEX {prefix}running_stopping ON {prefix}running (worker) WHERE cancel_requested;

UPDATE {prefix}meta SET value = '3' WHERE name = 'version';
