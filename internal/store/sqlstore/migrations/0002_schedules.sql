-- Rates, abort, timeouts, retries, schedules and templates.

-- A job is due whenever due_at says so, in a phase or not: the edges of a schedule are
-- due, too. The table is made anew because its CHECKs change. A job that had nothing to
-- do is not due: the time was not cleared before.
CREATE TABLE jobs2 (
    id               INTEGER PRIMARY KEY,
    job_id           TEXT NOT NULL UNIQUE,
    status           INTEGER NOT NULL CHECK (status BETWEEN 1 AND 5),
    selection        TEXT NOT NULL CHECK (selection IN ('SNAPSHOT', 'CONTINUOUS')),
    namespace        TEXT NOT NULL,
    description      TEXT NOT NULL,
    comment          TEXT NOT NULL,
    reason_code      TEXT NOT NULL,
    force_canceled   INTEGER NOT NULL CHECK (force_canceled IN (0, 1)),
    config           TEXT NOT NULL,
    schedule         TEXT NOT NULL, -- '' if there is none
    package_versions TEXT NOT NULL,
    template_arn     TEXT NOT NULL,
    parameters       TEXT NOT NULL,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    completed_at     INTEGER NOT NULL,
    phase            TEXT NOT NULL CHECK (phase IN ('', 'rollout', 'cancel', 'delete', 'window', 'end')),
    due_at           INTEGER NOT NULL CHECK (due_at >= 0),
    rollout_cursor   TEXT NOT NULL,
    pace             TEXT NOT NULL,
    members          INTEGER NOT NULL,
    CHECK (phase = '' OR due_at > 0),
    CHECK ((phase = 'delete') = (status = 5)),
    CHECK (phase <> 'cancel' OR status = 4),
    CHECK (phase NOT IN ('rollout', 'window', 'end') OR status IN (1, 2)),
    CHECK (CASE status WHEN 1 THEN completed_at = 0 WHEN 2 THEN completed_at = 0
                       WHEN 3 THEN completed_at > 0 AND phase = '' AND due_at = 0 ELSE TRUE END)
);
INSERT INTO jobs2 (id, job_id, status, selection, namespace, description, comment, reason_code, force_canceled,
        config, schedule, package_versions, template_arn, parameters, created_at, updated_at, completed_at,
        phase, due_at, rollout_cursor, pace, members)
    SELECT id, job_id, status, selection, namespace, description, comment, reason_code, force_canceled,
        CASE presigned WHEN '' THEN '{}' ELSE '{"presigned":' || presigned || '}' END, '', package_versions, '', '',
        created_at, updated_at, completed_at, phase, CASE phase WHEN '' THEN 0 ELSE due_at END, rollout_cursor, '{}', members
    FROM jobs;
DROP TABLE jobs;
ALTER TABLE jobs2 RENAME TO jobs;
CREATE INDEX jobs_by_status ON jobs (status, id);
CREATE INDEX jobs_by_due ON jobs (due_at, id) WHERE due_at > 0;
-- The + keeps the planner from looking the statuses up in jobs_by_status, and sorting.
CREATE INDEX jobs_by_end ON jobs (updated_at, id) WHERE +status IN (3, 4) AND phase = '';

-- The things by their most recent execution that ended one of these ways, whether or not
-- a retry of it is pending.
ALTER TABLE job_counts ADD COLUMN executed_succeeded INTEGER NOT NULL DEFAULT 0 CHECK (executed_succeeded >= 0);
ALTER TABLE job_counts ADD COLUMN executed_failed    INTEGER NOT NULL DEFAULT 0 CHECK (executed_failed >= 0);
ALTER TABLE job_counts ADD COLUMN executed_timed_out INTEGER NOT NULL DEFAULT 0 CHECK (executed_timed_out >= 0);
ALTER TABLE job_counts ADD COLUMN executed_rejected  INTEGER NOT NULL DEFAULT 0 CHECK (executed_rejected >= 0);
UPDATE job_counts SET executed_succeeded = succeeded, executed_failed = failed,
    executed_timed_out = timed_out, executed_rejected = rejected;

-- due_at is when the execution times out, the earlier of the two deadlines in the queue;
-- 0 for never. Those that never do are not in the index.
ALTER TABLE executions ADD COLUMN failed_retries    INTEGER NOT NULL DEFAULT 0 CHECK (failed_retries >= 0);
ALTER TABLE executions ADD COLUMN timed_out_retries INTEGER NOT NULL DEFAULT 0 CHECK (timed_out_retries >= 0);
ALTER TABLE executions ADD COLUMN status_before     INTEGER NOT NULL DEFAULT 0 CHECK (status_before IN (0, 3, 4, 5, 6));
ALTER TABLE executions ADD COLUMN windowed          INTEGER NOT NULL DEFAULT 0 CHECK (windowed IN (0, 1));
ALTER TABLE executions ADD COLUMN due_at            INTEGER NOT NULL DEFAULT 0 CHECK (due_at = 0 OR due_at > 0 AND status = 2);
CREATE INDEX executions_by_due ON executions (due_at, seq) WHERE due_at > 0;

CREATE TABLE templates (
    id               INTEGER PRIMARY KEY,
    template_id      TEXT NOT NULL UNIQUE,
    description      TEXT NOT NULL,
    document         TEXT NOT NULL,
    document_source  TEXT NOT NULL,
    config           TEXT NOT NULL,
    windows          TEXT NOT NULL,
    package_versions TEXT NOT NULL,
    created_at       INTEGER NOT NULL
);
