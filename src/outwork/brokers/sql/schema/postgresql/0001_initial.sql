-- A job is one row of `job`, written once, and one row in exactly one of `ready`, `scheduled`, `running`, `ended`:
-- that says where it is. Claim and settle move only narrow rows between small tables and leave the wide one alone, so
-- that little is left to vacuum: two dead rows a job, in tables that are vacuumed often. Times are Unix seconds by the
-- server's clock. Texts are compared by their bytes, whatever the database's collation.
-- Every statement ends with a semicolon at the end of its line; that is how they are told apart.

CREATE TABLE {prefix}meta (
    name text PRIMARY KEY,
    value text NOT NULL
);

-- What was asked for. `failures` to `started_at` change on retries and rescues only; claim_id, worker and started_at
-- are those of the last claim while the job waits again, so that a settle repeated is told "already".
CREATE TABLE {prefix}job (
    id text COLLATE "C" PRIMARY KEY,
    task text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    priority integer NOT NULL,
    due double precision NOT NULL,
    enqueued_at double precision NOT NULL,
    max_crashes integer NOT NULL,
    at_most_once boolean NOT NULL,
    expires_at double precision,
    body bytea NOT NULL,
    failures integer NOT NULL DEFAULT 0,
    crashes integer NOT NULL DEFAULT 0,
    misses integer NOT NULL DEFAULT 0,
    errors text,
    claim_id text COLLATE "C",
    worker text,
    started_at double precision
) WITH (autovacuum_vacuum_insert_scale_factor = 0.1);

-- The lines, in the order in which they are served; `turn` is the negative priority. Solo jobs stand in a line of their
-- own, so that a worker that may not take them does not walk over them.
CREATE TABLE {prefix}ready (
    queue text COLLATE "C" NOT NULL,
    solo boolean NOT NULL,
    turn integer NOT NULL,
    due double precision NOT NULL,
    id text COLLATE "C" NOT NULL,
    task text COLLATE "C" NOT NULL,
    expires_at double precision,
    PRIMARY KEY (queue, solo, turn, due, id)
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000
);

CREATE INDEX {prefix}ready_expires ON {prefix}ready (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE {prefix}scheduled (
    queue text COLLATE "C" NOT NULL,
    due double precision NOT NULL,
    id text COLLATE "C" NOT NULL,
    task text COLLATE "C" NOT NULL,
    PRIMARY KEY (queue, due, id)
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0
);

-- Room is left on each page, so that a renewed lease is written beside the old one and no index changes.
CREATE TABLE {prefix}running (
    id text COLLATE "C" PRIMARY KEY,
    queue text COLLATE "C" NOT NULL,
    task text COLLATE "C" NOT NULL,
    claim_id text COLLATE "C" NOT NULL,
    worker text COLLATE "C" NOT NULL,
    lease_until double precision NOT NULL,
    started_at double precision NOT NULL,
    cancel_requested boolean NOT NULL DEFAULT false
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000
);

CREATE TABLE {prefix}ended (
    id text COLLATE "C" PRIMARY KEY,
    state text COLLATE "C" NOT NULL,
    queue text COLLATE "C" NOT NULL,
    task text COLLATE "C" NOT NULL,
    finished_at double precision NOT NULL,
    prune_at double precision NOT NULL,
    claim_id text COLLATE "C",
    worker text,
    started_at double precision,
    cancel_requested boolean NOT NULL DEFAULT false,
    result bytea
) WITH (autovacuum_vacuum_insert_scale_factor = 0.1);

-- One index for two needs: counting from the index alone, and pruning (a range in each of its few groups).
CREATE INDEX {prefix}ended_kind ON {prefix}ended (queue, task, state, prune_at);

-- Failed jobs are few and looked for among many; a successful one costs this index nothing.
CREATE INDEX {prefix}ended_badly ON {prefix}ended (id) WHERE state <> 'SUCCESSFUL';

CREATE TABLE {prefix}worker (
    worker text COLLATE "C" PRIMARY KEY,
    seen_at double precision NOT NULL,
    ttl double precision NOT NULL,
    presence text NOT NULL
);

-- `id` tells this set of tables from every other; every later step sets the version anew.
INSERT INTO {prefix}meta VALUES ('version', '1'), ('id', replace(gen_random_uuid()::text, '-', ''));
