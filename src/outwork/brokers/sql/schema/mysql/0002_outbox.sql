-- Where a transport stands beside this database: of each waiting job, when a keeper is to send a message for it. A row
-- of `meta` (`outbox`: horizon, grace and stale, in seconds) says that it is kept; else nothing is ever written here.

CREATE TABLE IF NOT EXISTS {prefix}outbox (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    send_at DOUBLE NOT NULL,
    KEY {prefix}outbox_next (send_at)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- `oldest` is the version whose workers go on beside this one: they neither know nor need what is new.
REPLACE INTO {prefix}meta VALUES ('oldest', '1');

UPDATE {prefix}meta SET value = '2' WHERE name = 'version';
