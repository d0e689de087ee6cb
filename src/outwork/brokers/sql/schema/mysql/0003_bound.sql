-- A job that is bound to others (by a unique key, a gate, jobs that wait for it) or held is, while it lives, one row in
-- `bound` and in none of `ready`, `scheduled`, `running`: whatever happens to it may mean something for others, and the
-- statements that move hundreds of free jobs at a time never meet it. Nor do workers of the release before, which would
-- not know what to do: jobs like it wait for a worker that does.
-- DDL commits by itself, so every statement here may be run again; MySQL has no ADD COLUMN IF NOT EXISTS. Names of cells
-- are compared by their bytes, trailing spaces included.

SET @outwork_ddl = (SELECT IF(COUNT(*) > 0, 'DO 0',
    'ALTER TABLE {prefix}job ADD COLUMN ties LONGTEXT, ADD COLUMN progress LONGBLOB')
    FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = '{prefix}job' AND column_name = 'ties');

PREPARE outwork_ddl FROM @outwork_ddl;

EXECUTE outwork_ddl;

DEALLOCATE PREPARE outwork_ddl;

-- `knot` is what a HELD job is held by. What follows `expires_at` is of RUNNING jobs only.
CREATE TABLE IF NOT EXISTS {prefix}bound (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    queue VARCHAR(100) NOT NULL,
    task VARCHAR(255) NOT NULL,
    place VARCHAR(16) NOT NULL,
    knot VARBINARY(2800),
    solo BOOLEAN NOT NULL,
    turn INT NOT NULL,
    due DOUBLE NOT NULL,
    expires_at DOUBLE,
    claim_id VARCHAR(64),
    worker VARCHAR(255),
    lease_until DOUBLE,
    started_at DOUBLE,
    cancel_requested BOOLEAN NOT NULL DEFAULT false,
    KEY {prefix}bound_line (queue, place, solo, turn, due, id),
    KEY {prefix}bound_due (place, queue, due),
    KEY {prefix}bound_held (knot, turn, due, id),
    KEY {prefix}bound_lease (lease_until),
    KEY {prefix}bound_expires (expires_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The books (`outwork.brokers.ledger`): what is counted for a unique key, a gate, a job that waits, a pause, a schedule.
-- To be looked at `at` a time, to be forgotten after `until`.
CREATE TABLE IF NOT EXISTS {prefix}cell (
    name VARBINARY(2800) NOT NULL PRIMARY KEY,
    value LONGTEXT NOT NULL,
    at DOUBLE,
    until DOUBLE,
    KEY {prefix}cell_at (at),
    KEY {prefix}cell_until (until)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

UPDATE {prefix}meta SET value = '3' WHERE name = 'version';
