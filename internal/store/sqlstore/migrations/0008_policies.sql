-- Policies, their versions, and what they are attached to. The number of a policy is the order of
-- its creation and is never used again; a version never changes.

CREATE TABLE policies (
    id              INTEGER PRIMARY KEY,
    name            TEXT NOT NULL UNIQUE,
    uuid            TEXT NOT NULL,
    default_version INTEGER NOT NULL CHECK (default_version BETWEEN 1 AND latest_version),
    latest_version  INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    modified_at     INTEGER NOT NULL
);

CREATE TABLE policy_versions (
    policy     INTEGER NOT NULL,
    version    INTEGER NOT NULL CHECK (version >= 1),
    document   TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (policy, version)
) WITHOUT ROWID;

CREATE TABLE policy_targets (
    kind   TEXT NOT NULL CHECK (kind IN ('cert', 'thinggroup')),
    name   TEXT NOT NULL,
    policy INTEGER NOT NULL,
    PRIMARY KEY (kind, name, policy)
) WITHOUT ROWID;
CREATE UNIQUE INDEX policy_targets_by_policy ON policy_targets (policy, kind, name);
