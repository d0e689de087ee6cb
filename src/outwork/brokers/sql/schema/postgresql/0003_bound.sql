-- A job that is bound to others (by a unique key, a gate, jobs that wait for it) or held is, while it lives, one row in
-- `bound` and in none of `ready`, `scheduled`, `running`: whatever happens to it may mean something for others, and the
-- statements that move hundreds of free jobs at a time never meet it. Nor do workers of the release before, which would
-- not know what to do: jobs like it wait for a worker that does.

ALTER TABLE {prefix}job ADD COLUMN ties text;

-- How far a running job says it is, as JSON.
ALTER TABLE {prefix}job ADD COLUMN progress bytea;

-- `knot` is what a HELD job is held by. What follows `expires_at` is of RUNNING jobs only.
CREATE TABLE {prefix}bound (
    id text COLLATE "C" PRIMARY KEY,
    queue text COLLATE "C" NOT NULL,
    task text COLLATE "C" NOT NULL,
    place text COLLATE "C" NOT NULL,
    knot text COLLATE "C",
    solo boolean NOT NULL,
    turn integer NOT NULL,
    due double precision NOT NULL,
    expires_at double precision,
    claim_id text COLLATE "C",
    worker text COLLATE "C",
    lease_until double precision,
    started_at double precision,
    cancel_requested boolean NOT NULL DEFAULT false
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000
);

CREATE INDEX {prefix}bound_line ON {prefix}bound (queue, place, solo, turn, due, id);

CREATE INDEX {prefix}bound_due ON {prefix}bound (queue, due) WHERE place = 'SCHEDULED';

CREATE INDEX {prefix}bound_held ON {prefix}bound (knot, turn, due, id) WHERE knot IS NOT NULL;

CREATE INDEX {prefix}bound_lease ON {prefix}bound (lease_until) WHERE lease_until IS NOT NULL;

CREATE INDEX {prefix}bound_expires ON {prefix}bound (expires_at) WHERE expires_at IS NOT NULL;

-- The books (`outwork.brokers.ledger`): what is counted for a unique key, a gate, a job that waits, a pause, a schedule.
-- To be looked at `at` a time, to be forgotten after `until`.
CREATE TABLE {prefix}cell (
    name text COLLATE "C" PRIMARY KEY,
    value text NOT NULL,
    at double precision,
    until double precision
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0
);

CREATE INDEX {prefix}cell_at ON {prefix}cell (at) WHERE at IS NOT NULL;

CREATE INDEX {prefix}cell_until ON {prefix}cell (until) WHERE until IS NOT NULL;

-- Every worker asks every second which of its jobs are to stop.
CREATE INDEX {prefix}running_stopping ON {prefix}running (worker) WHERE cancel_requested;

UPDATE {prefix}meta SET value = '3' WHERE name = 'version';
