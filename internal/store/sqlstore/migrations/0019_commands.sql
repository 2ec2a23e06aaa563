-- Commands, and their executions on devices. started_at is that of the device, if it has said so.

CREATE TABLE commands (
    seq           INTEGER PRIMARY KEY,
    id            TEXT NOT NULL UNIQUE,
    description   TEXT NOT NULL, -- JSON: all but the payload
    payload       BLOB NOT NULL, -- or the template
    deprecated_at INTEGER NOT NULL, -- 0: is not
    delete_at     INTEGER NOT NULL, -- 0: stays
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
);
CREATE INDEX commands_by_due ON commands (delete_at, seq) WHERE delete_at > 0;

CREATE TABLE command_executions (
    seq          INTEGER PRIMARY KEY,
    id           TEXT NOT NULL UNIQUE,
    command      TEXT NOT NULL,
    target       TEXT NOT NULL,
    token        TEXT NOT NULL, -- '' for none
    status       TEXT NOT NULL CHECK (status IN ('CREATED', 'IN_PROGRESS', 'SUCCEEDED', 'FAILED', 'REJECTED', 'TIMED_OUT')),
    detail       TEXT NOT NULL, -- JSON
    created_at   INTEGER NOT NULL,
    started_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    completed_at INTEGER NOT NULL, -- 0: has not ended for good
    due_at       INTEGER NOT NULL  -- 0: no timer
);
CREATE INDEX command_executions_by_command ON command_executions (command, started_at, seq);
CREATE INDEX command_executions_by_target ON command_executions (target, started_at, seq);
CREATE INDEX command_executions_ended_by_command ON command_executions (command, completed_at, seq) WHERE completed_at > 0;
CREATE INDEX command_executions_ended_by_target ON command_executions (target, completed_at, seq) WHERE completed_at > 0;
CREATE INDEX command_executions_by_due ON command_executions (due_at, seq) WHERE due_at > 0;
CREATE INDEX command_executions_running ON command_executions (target) WHERE due_at > 0;
CREATE INDEX command_executions_by_token ON command_executions (token) WHERE token <> '';
CREATE INDEX command_executions_by_age ON command_executions (created_at);
