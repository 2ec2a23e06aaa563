-- The processes that work on the database, each a node, and those of former times that have left
-- something to publish. On SQLite there is one, number 1, which is never seen to end. owner takes
-- care of what the node leaves: it is the node itself, until another takes over. lease_until and
-- since, when the node began to hold its leases without a gap, are by the clock of the database.
-- Everything that the node has put into the journal up to published has been published.

CREATE TABLE nodes (
    id          INTEGER PRIMARY KEY CHECK (id >= 1),
    name        TEXT NOT NULL,
    owner       INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,
    since       INTEGER NOT NULL,
    published   INTEGER NOT NULL CHECK (published >= 0)
);
INSERT INTO nodes (id, name, owner, lease_until, since, published) SELECT 1, '', 1, 0, 0, value FROM counters WHERE name = 'published';
DELETE FROM counters WHERE name = 'published';
ALTER TABLE journal ADD COLUMN node INTEGER NOT NULL DEFAULT 1;

-- What the table calls a process is a node from now on.
DELETE FROM commits;
