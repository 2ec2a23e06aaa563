-- People who sign in to the console. Passwords are hashed; the keys of one-time codes are sealed with a
-- key that is not in the database.

CREATE TABLE console_users (
    name       TEXT PRIMARY KEY,
    role       TEXT NOT NULL, -- '': policy is his own
    policy     TEXT NOT NULL,
    password   TEXT NOT NULL,
    totp       TEXT NOT NULL, -- hexadecimal; '': none
    code_step  INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) WITHOUT ROWID;
