-- Where a transport stands beside this database: of each waiting job, when a keeper is to send a message for it. A row
-- of `meta` (`outbox`: horizon, grace and stale, in seconds) says that it is kept; else nothing is ever written here.

CREATE TABLE {prefix}outbox (
    id text COLLATE "C" PRIMARY KEY,
    send_at double precision NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0
);

CREATE INDEX {prefix}outbox_next ON {prefix}outbox (send_at);

-- `oldest` is the version whose workers go on beside this one: they neither know nor need what is new.
INSERT INTO {prefix}meta VALUES ('oldest', '1') ON CONFLICT (name) DO UPDATE SET value = excluded.value;

UPDATE {prefix}meta SET value = '2' WHERE name = 'version';
