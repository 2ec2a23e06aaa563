-- Updates over the air, whose jobs and streams are made and deleted in the background.

CREATE TABLE ota_updates (
    seq         INTEGER PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE,
    status      TEXT NOT NULL CHECK (status IN ('CREATE_PENDING', 'CREATE_IN_PROGRESS', 'CREATE_COMPLETE', 'CREATE_FAILED', 'DELETE_IN_PROGRESS', 'DELETE_FAILED')),
    stream      TEXT NOT NULL, -- '' for none
    definition  TEXT NOT NULL, -- JSON
    created_at  INTEGER NOT NULL,
    modified_at INTEGER NOT NULL
);
CREATE INDEX ota_updates_by_status ON ota_updates (status, seq);
CREATE INDEX ota_updates_by_stream ON ota_updates (stream) WHERE stream <> '';
