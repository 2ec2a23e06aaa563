-- The first schema. A migration is never edited once it has been released; the next one
-- is added. Foreign keys are not declared: the rows that belong together are written by
-- one method in one transaction, and a check per row would be paid on every queue
-- operation. What a single row must hold is stated by CHECK.
--
-- Times are milliseconds since the epoch, 0 means "not yet". Statuses of executions are
-- the numbers of iot.ExecutionStatus: 1 QUEUED, 2 IN_PROGRESS, 3 SUCCEEDED, 4 FAILED,
-- 5 TIMED_OUT, 6 REJECTED, 7 REMOVED, 8 CANCELED. Statuses of jobs are their ranks in a
-- list of jobs: 1 IN_PROGRESS, 2 SCHEDULED, 3 COMPLETED, 4 CANCELED,
-- 5 DELETION_IN_PROGRESS. Ids and positions come from one counter and are never reused.

CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL CHECK (value >= 0)
) WITHOUT ROWID;
INSERT INTO counters (name, value) VALUES ('sequence', 0), ('published', 0);

CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

-- A deleted thing of which executions are kept stays as a ghost (deleted = 1): it binds
-- the name to the id.
CREATE TABLE things (
    id         INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    deleted    INTEGER NOT NULL DEFAULT 0 CHECK (deleted IN (0, 1)),
    uuid       TEXT NOT NULL,
    type_name  TEXT NOT NULL,
    attributes TEXT NOT NULL,
    version    INTEGER NOT NULL CHECK (version >= 1),
    created_at INTEGER NOT NULL
);
CREATE UNIQUE INDEX things_by_name ON things (name) WHERE deleted = 0;
CREATE UNIQUE INDEX ghosts_by_name ON things (name) WHERE deleted = 1;
CREATE INDEX things_by_type ON things (type_name, name) WHERE deleted = 0 AND type_name <> '';

CREATE TABLE thing_types (
    id            INTEGER PRIMARY KEY,
    name          TEXT NOT NULL UNIQUE,
    uuid          TEXT NOT NULL,
    description   TEXT NOT NULL,
    searchable    TEXT NOT NULL,
    propagating   TEXT NOT NULL,
    created_at    INTEGER NOT NULL,
    deprecated_at INTEGER NOT NULL
);

CREATE TABLE thing_groups (
    id          INTEGER PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    uuid        TEXT NOT NULL UNIQUE,
    parent      INTEGER NOT NULL CHECK (parent <> id), -- 0 for a root
    description TEXT NOT NULL,
    attributes  TEXT NOT NULL,
    version     INTEGER NOT NULL CHECK (version >= 1),
    created_at  INTEGER NOT NULL
);
CREATE INDEX thing_groups_by_parent ON thing_groups (parent, name);

CREATE TABLE members (
    group_id   INTEGER NOT NULL,
    thing_name TEXT NOT NULL,
    thing_id   INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    PRIMARY KEY (group_id, thing_name)
) WITHOUT ROWID;
CREATE INDEX members_by_thing ON members (thing_id);

CREATE TABLE jobs (
    id               INTEGER PRIMARY KEY,
    job_id           TEXT NOT NULL UNIQUE,
    status           INTEGER NOT NULL CHECK (status BETWEEN 1 AND 5),
    selection        TEXT NOT NULL CHECK (selection IN ('SNAPSHOT', 'CONTINUOUS')),
    namespace        TEXT NOT NULL,
    description      TEXT NOT NULL,
    comment          TEXT NOT NULL,
    reason_code      TEXT NOT NULL,
    force_canceled   INTEGER NOT NULL CHECK (force_canceled IN (0, 1)),
    presigned        TEXT NOT NULL,
    package_versions TEXT NOT NULL,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    completed_at     INTEGER NOT NULL,
    phase            TEXT NOT NULL CHECK (phase IN ('', 'rollout', 'cancel', 'delete')),
    due_at           INTEGER NOT NULL,
    rollout_cursor   TEXT NOT NULL,
    members          INTEGER NOT NULL,
    CHECK (phase = '' OR due_at > 0),
    CHECK ((phase = 'delete') = (status = 5)),
    CHECK (phase <> 'cancel' OR status = 4),
    CHECK (CASE status WHEN 1 THEN completed_at = 0 WHEN 2 THEN completed_at = 0
                       WHEN 3 THEN completed_at > 0 AND phase = '' ELSE TRUE END)
);
CREATE INDEX jobs_by_status ON jobs (status, id);
CREATE INDEX jobs_by_due ON jobs (due_at, id) WHERE phase <> '';

CREATE TABLE job_documents (
    job      INTEGER PRIMARY KEY,
    document TEXT NOT NULL
);

CREATE TABLE job_targets (
    job      INTEGER NOT NULL,
    position INTEGER NOT NULL,
    arn      TEXT NOT NULL,
    thing_id INTEGER NOT NULL,
    group_id INTEGER NOT NULL,
    PRIMARY KEY (job, position),
    CHECK ((thing_id = 0) <> (group_id = 0))
) WITHOUT ROWID;
CREATE INDEX job_targets_by_group ON job_targets (group_id, job) WHERE group_id <> 0;

CREATE TABLE job_counts (
    job         INTEGER PRIMARY KEY,
    queued      INTEGER NOT NULL DEFAULT 0 CHECK (queued >= 0),
    in_progress INTEGER NOT NULL DEFAULT 0 CHECK (in_progress >= 0),
    succeeded   INTEGER NOT NULL DEFAULT 0 CHECK (succeeded >= 0),
    failed      INTEGER NOT NULL DEFAULT 0 CHECK (failed >= 0),
    timed_out   INTEGER NOT NULL DEFAULT 0 CHECK (timed_out >= 0),
    rejected    INTEGER NOT NULL DEFAULT 0 CHECK (rejected >= 0),
    removed     INTEGER NOT NULL DEFAULT 0 CHECK (removed >= 0),
    canceled    INTEGER NOT NULL DEFAULT 0 CHECK (canceled >= 0)
);

-- One row per execution; it changes only with the execution's status. The version, the
-- details and the last update of a pending one are those in its thing's queue.
CREATE TABLE executions (
    job            INTEGER NOT NULL,
    seq            INTEGER NOT NULL,
    thing_id       INTEGER NOT NULL,
    number         INTEGER NOT NULL CHECK (number >= 1),
    retry_attempt  INTEGER NOT NULL CHECK (retry_attempt >= 0),
    status         INTEGER NOT NULL,
    version        INTEGER NOT NULL CHECK (version >= 1),
    force_canceled INTEGER NOT NULL CHECK (force_canceled IN (0, 1)),
    queued_at      INTEGER NOT NULL,
    started_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    details        BLOB NOT NULL,
    PRIMARY KEY (job, seq),
    -- A queued one has not been started; one in progress has, and so has one whose end
    -- the device reported.
    CHECK (CASE status WHEN 1 THEN started_at = 0
                       WHEN 2 THEN started_at > 0
                       WHEN 3 THEN started_at > 0
                       WHEN 4 THEN started_at > 0
                       WHEN 6 THEN started_at > 0
                       ELSE status IN (5, 7, 8) END)
) WITHOUT ROWID;
CREATE UNIQUE INDEX executions_by_thing ON executions (thing_id, job, number);
CREATE INDEX executions_by_status ON executions (job, status, seq);

-- The pending executions of a thing, encoded (encoding.go). A thing with none has no row.
CREATE TABLE queues (
    thing_id INTEGER PRIMARY KEY,
    body     BLOB NOT NULL
);

-- Positions come from the process: the next one is above the last row and above what
-- has been published, so that deleting old rows never makes a position come back.
-- flags: 1 notify, 2 notify-next, 4 the body is an encoded execution and not JSON.
CREATE TABLE journal (
    id     INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL,
    kind   TEXT NOT NULL,
    actor  TEXT NOT NULL,
    job_id TEXT NOT NULL,
    flags  INTEGER NOT NULL,
    body   BLOB NOT NULL
);

CREATE TABLE tags (
    arn   TEXT NOT NULL,
    key   TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (arn, key)
) WITHOUT ROWID;
