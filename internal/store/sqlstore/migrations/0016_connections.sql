-- Who is connected, for the fleet index: the MQTT clients that have the names of things. There is
-- nothing here while connections are not indexed.

CREATE TABLE connections (
    thing_id  INTEGER PRIMARY KEY,
    node      INTEGER NOT NULL, -- that it is, or was, connected to
    session   TEXT NOT NULL,
    connected INTEGER NOT NULL CHECK (connected IN (0, 1)),
    at        INTEGER NOT NULL, -- when it connected or disconnected
    reason    TEXT NOT NULL     -- of the end; '' while connected
);
CREATE INDEX connections_by_node ON connections (node, thing_id) WHERE connected = 1;
