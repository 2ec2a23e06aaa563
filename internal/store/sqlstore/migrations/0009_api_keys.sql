-- API keys. The secret is sealed with a key that is not in the database.

CREATE TABLE api_keys (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    policy     TEXT NOT NULL,
    sealed     TEXT NOT NULL, -- hexadecimal
    created_at INTEGER NOT NULL
) WITHOUT ROWID;
