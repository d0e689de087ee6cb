-- As in PostgreSQL: a job is one row of `job`, and one row in exactly one of `ready`, `scheduled`, `running`, `ended`.
-- `ready` and `scheduled` are clustered in the order in which they are served. Texts are compared by their bytes.
-- DDL commits by itself, so every statement here may be run again.
-- Every statement ends with a semicolon at the end of its line; that is how they are told apart.

CREATE TABLE IF NOT EXISTS {prefix}meta (
    name VARCHAR(64) NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- `token` is that of the enqueue that wrote the row: a repeated one gives a place to nothing that was there before.
CREATE TABLE IF NOT EXISTS {prefix}job (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    task VARCHAR(255) NOT NULL,
    queue VARCHAR(100) NOT NULL,
    priority INT NOT NULL,
    due DOUBLE NOT NULL,
    enqueued_at DOUBLE NOT NULL,
    max_crashes INT NOT NULL,
    at_most_once BOOLEAN NOT NULL,
    expires_at DOUBLE,
    body LONGBLOB NOT NULL,
    token CHAR(32) NOT NULL,
    failures INT NOT NULL DEFAULT 0,
    crashes INT NOT NULL DEFAULT 0,
    misses INT NOT NULL DEFAULT 0,
    errors LONGTEXT,
    claim_id VARCHAR(64),
    worker VARCHAR(255),
    started_at DOUBLE
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS {prefix}ready (
    queue VARCHAR(100) NOT NULL,
    solo BOOLEAN NOT NULL,
    turn INT NOT NULL,
    due DOUBLE NOT NULL,
    id VARCHAR(64) NOT NULL,
    task VARCHAR(255) NOT NULL,
    expires_at DOUBLE,
    PRIMARY KEY (queue, solo, turn, due, id),
    KEY {prefix}ready_expires (expires_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS {prefix}scheduled (
    queue VARCHAR(100) NOT NULL,
    due DOUBLE NOT NULL,
    id VARCHAR(64) NOT NULL,
    task VARCHAR(255) NOT NULL,
    PRIMARY KEY (queue, due, id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS {prefix}running (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    queue VARCHAR(100) NOT NULL,
    task VARCHAR(255) NOT NULL,
    claim_id VARCHAR(64) NOT NULL,
    worker VARCHAR(255) NOT NULL,
    lease_until DOUBLE NOT NULL,
    started_at DOUBLE NOT NULL,
    cancel_requested BOOLEAN NOT NULL DEFAULT false
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS {prefix}ended (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    state VARCHAR(16) NOT NULL,
    queue VARCHAR(100) NOT NULL,
    task VARCHAR(255) NOT NULL,
    finished_at DOUBLE NOT NULL,
    prune_at DOUBLE NOT NULL,
    claim_id VARCHAR(64),
    worker VARCHAR(255),
    started_at DOUBLE,
    cancel_requested BOOLEAN NOT NULL DEFAULT false,
    result LONGBLOB,
    KEY {prefix}ended_kind (queue, task, state, prune_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS {prefix}worker (
    worker VARCHAR(255) NOT NULL PRIMARY KEY,
    seen_at DOUBLE NOT NULL,
    ttl DOUBLE NOT NULL,
    presence LONGTEXT NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- `id` tells this set of tables from every other; every later step sets the version anew.
INSERT IGNORE INTO {prefix}meta VALUES ('version', '1'), ('id', replace(uuid(), '-', ''));
