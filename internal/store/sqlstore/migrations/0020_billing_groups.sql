-- Billing groups. A thing is in one at most, by its name: '' for none.

CREATE TABLE billing_groups (
    name        TEXT PRIMARY KEY,
    uuid        TEXT NOT NULL,
    version     INTEGER NOT NULL CHECK (version >= 1),
    description TEXT NOT NULL,
    created_at  INTEGER NOT NULL
) WITHOUT ROWID;

ALTER TABLE things ADD COLUMN billing_group TEXT NOT NULL DEFAULT '';
CREATE INDEX things_by_billing_group ON things (billing_group, name) WHERE billing_group <> '';
