-- Files that devices fetch over MQTT.

CREATE TABLE streams (
    seq         INTEGER PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE,
    version     INTEGER NOT NULL CHECK (version >= 1),
    description TEXT NOT NULL,
    files       TEXT NOT NULL, -- JSON
    role_arn    TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL
);
