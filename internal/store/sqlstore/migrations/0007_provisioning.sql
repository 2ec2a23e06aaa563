-- Custom authorizers, provisioning templates with their versions, and what is known of devices
-- that are being provisioned.

CREATE TABLE authorizers (
    seq              INTEGER PRIMARY KEY,
    name             TEXT NOT NULL UNIQUE,
    function         TEXT NOT NULL,
    token_key        TEXT NOT NULL, -- '' for none
    keys             TEXT NOT NULL, -- JSON: name → PEM
    active           INTEGER NOT NULL CHECK (active IN (0, 1)),
    signing_disabled INTEGER NOT NULL CHECK (signing_disabled IN (0, 1)),
    cache_http       INTEGER NOT NULL CHECK (cache_http IN (0, 1)),
    created_at       INTEGER NOT NULL,
    modified_at      INTEGER NOT NULL
);

CREATE TABLE provisioning_templates (
    name            TEXT PRIMARY KEY,
    description     TEXT NOT NULL,
    type            TEXT NOT NULL CHECK (type IN ('FLEET_PROVISIONING', 'JITP')),
    enabled         INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    role_arn        TEXT NOT NULL,
    hook            TEXT NOT NULL, -- JSON, '' for none
    default_version INTEGER NOT NULL CHECK (default_version >= 1),
    last_version    INTEGER NOT NULL CHECK (last_version >= default_version),
    created_at      INTEGER NOT NULL,
    modified_at     INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE provisioning_versions (
    template   TEXT NOT NULL,
    id         INTEGER NOT NULL CHECK (id >= 1),
    body       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (template, id)
);

CREATE TABLE ownerships (
    hash        TEXT PRIMARY KEY CHECK (length(hash) = 64),
    certificate TEXT NOT NULL,
    expires_at  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX ownerships_by_expiry ON ownerships (expires_at, hash);

CREATE TABLE claims (
    certificate TEXT PRIMARY KEY CHECK (length(certificate) = 64),
    pem         TEXT NOT NULL,
    template    TEXT NOT NULL,
    expires_at  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX claims_by_expiry ON claims (expires_at);
