-- What the MQTT broker keeps for clients that are away: their sessions, the QoS 1 messages
-- that they do not have yet, retained messages, and wills. Ids and sequence numbers are the
-- broker's. A message that waits for many sessions is one row; mqtt_entries has a row for
-- each of them.

CREATE TABLE mqtt_sessions (
    id            INTEGER PRIMARY KEY,
    client        TEXT NOT NULL UNIQUE,
    version       INTEGER NOT NULL CHECK (version IN (4, 5)),
    expiry        INTEGER NOT NULL CHECK (expiry >= 0),
    expires_at    INTEGER NOT NULL CHECK (expires_at >= 0), -- 0 while the client is connected
    subscriptions BLOB NOT NULL
);

CREATE TABLE mqtt_groups (
    id     INTEGER PRIMARY KEY,
    filter TEXT NOT NULL UNIQUE
);

CREATE TABLE mqtt_messages (
    id         INTEGER PRIMARY KEY,
    topic      TEXT NOT NULL,
    payload    BLOB NOT NULL,
    qos        INTEGER NOT NULL CHECK (qos IN (0, 1)),
    retain     INTEGER NOT NULL CHECK (retain IN (0, 1)),
    expires_at INTEGER NOT NULL,
    properties TEXT NOT NULL
);

CREATE TABLE mqtt_entries (
    seq        INTEGER PRIMARY KEY,
    owner_id   INTEGER NOT NULL, -- of mqtt_sessions or mqtt_groups
    message_id INTEGER NOT NULL,
    retain     INTEGER NOT NULL CHECK (retain IN (0, 1)),
    until_at   INTEGER NOT NULL
);

CREATE TABLE mqtt_retained (
    topic       TEXT NOT NULL UNIQUE,
    payload     BLOB NOT NULL,
    qos         INTEGER NOT NULL CHECK (qos IN (0, 1)),
    expires_at  INTEGER NOT NULL,
    properties  TEXT NOT NULL,
    modified_at INTEGER NOT NULL
);

CREATE TABLE mqtt_wills (
    id         INTEGER PRIMARY KEY,
    client     TEXT NOT NULL,
    topic      TEXT NOT NULL,
    payload    BLOB NOT NULL,
    qos        INTEGER NOT NULL CHECK (qos IN (0, 1)),
    retain     INTEGER NOT NULL CHECK (retain IN (0, 1)),
    properties TEXT NOT NULL,
    life       INTEGER NOT NULL CHECK (life >= 0),
    delay      INTEGER NOT NULL CHECK (delay >= 0),
    due_at     INTEGER NOT NULL CHECK (due_at >= 0) -- 0 while the client is connected
);
