-- Where a transport stands beside this database: of each waiting job, when a keeper is to send a message for it. A row
-- of `meta` (`outbox`: horizon, grace and stale, in seconds) says that it is kept; else nothing is ever written here.

CREATE TABLE {prefix}outbox (
    id TEXT PRIMARY KEY,
    send_at REAL NOT NULL
) WITHOUT ROWID;

CREATE INDEX {prefix}outbox_next ON {prefix}outbox (send_at);

-- `oldest` is the version whose workers go on beside this one: they neither know nor need what is new.
INSERT OR REPLACE INTO {prefix}meta VALUES ('oldest', '1');

UPDATE {prefix}meta SET value = '2' WHERE name = 'version';
