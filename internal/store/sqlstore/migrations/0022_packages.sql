-- The software package catalog, and what jobs that install versions came to when they started.

CREATE TABLE packages (
    name            TEXT PRIMARY KEY,
    description     TEXT NOT NULL,
    default_version TEXT NOT NULL,
    created_at      INTEGER NOT NULL,
    modified_at     INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE package_versions (
    package      TEXT NOT NULL,
    name         TEXT NOT NULL,
    status       TEXT NOT NULL CHECK (status IN ('DRAFT', 'PUBLISHED', 'DEPRECATED')),
    sbom_pending INTEGER NOT NULL, -- the number of the association that waits for its validation, or 0
    body         TEXT NOT NULL, -- JSON
    PRIMARY KEY (package, name)
) WITHOUT ROWID;
CREATE INDEX package_versions_by_sbom ON package_versions (sbom_pending) WHERE sbom_pending > 0;

CREATE TABLE deployments (
    job      INTEGER PRIMARY KEY,
    versions TEXT NOT NULL, -- JSON
    document TEXT NOT NULL  -- '': that of the job
);

-- Requests that are carried out once however often they are sent.
CREATE TABLE client_tokens (
    token      TEXT PRIMARY KEY,
    request    TEXT NOT NULL, -- hash
    answer     TEXT NOT NULL, -- JSON
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX client_tokens_by_expiry ON client_tokens (expires_at);
