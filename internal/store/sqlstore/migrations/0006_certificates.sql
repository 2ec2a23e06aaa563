-- Client certificates, CA certificates, and what certificates are attached to. An id is the
-- SHA-256 of the certificate; seq is the order of registration.

CREATE TABLE certificates (
    seq         INTEGER PRIMARY KEY,
    id          TEXT NOT NULL UNIQUE CHECK (length(id) = 64),
    pem         TEXT NOT NULL,
    status      TEXT NOT NULL CHECK (status IN ('ACTIVE', 'INACTIVE', 'REVOKED', 'PENDING_ACTIVATION')),
    mode        TEXT NOT NULL CHECK (mode IN ('DEFAULT', 'SNI_ONLY')),
    ca          TEXT NOT NULL, -- '' if it was registered without one
    key_hash    TEXT NOT NULL, -- of the public key
    not_before  INTEGER NOT NULL,
    not_after   INTEGER NOT NULL,
    version     INTEGER NOT NULL CHECK (version >= 1),
    created_at  INTEGER NOT NULL,
    modified_at INTEGER NOT NULL
);
CREATE INDEX certificates_revoked ON certificates (key_hash) WHERE status = 'REVOKED';
CREATE INDEX certificates_by_ca ON certificates (ca, seq) WHERE ca <> '';

CREATE TABLE ca_certificates (
    seq               INTEGER PRIMARY KEY,
    id                TEXT NOT NULL UNIQUE CHECK (length(id) = 64),
    pem               TEXT NOT NULL,
    subject           TEXT NOT NULL, -- hexadecimal
    active            INTEGER NOT NULL CHECK (active IN (0, 1)),
    auto_registration INTEGER NOT NULL CHECK (auto_registration IN (0, 1)),
    registration      TEXT NOT NULL, -- '' if there is none
    template_name     TEXT NOT NULL, -- the one in registration
    mode              TEXT NOT NULL CHECK (mode IN ('DEFAULT', 'SNI_ONLY')),
    not_before        INTEGER NOT NULL,
    not_after         INTEGER NOT NULL,
    version           INTEGER NOT NULL CHECK (version >= 1),
    created_at        INTEGER NOT NULL,
    modified_at       INTEGER NOT NULL
);
CREATE INDEX ca_certificates_by_subject ON ca_certificates (subject, seq);
CREATE INDEX ca_certificates_by_template ON ca_certificates (template_name, seq) WHERE template_name <> '';

CREATE TABLE thing_principals (
    certificate TEXT NOT NULL,
    thing_name  TEXT NOT NULL,
    thing_id    INTEGER NOT NULL,
    exclusive   INTEGER NOT NULL CHECK (exclusive IN (0, 1)),
    PRIMARY KEY (certificate, thing_name)
) WITHOUT ROWID;
CREATE UNIQUE INDEX thing_principals_by_thing ON thing_principals (thing_id, certificate);
-- An exclusive certificate has one thing; that it has no other is for the registry to see to.
CREATE UNIQUE INDEX thing_principals_exclusive ON thing_principals (certificate) WHERE exclusive = 1;
