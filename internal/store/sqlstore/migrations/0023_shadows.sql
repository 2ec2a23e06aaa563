-- The shadow $package of things, and what jobs have installed and is not in a shadow yet.

CREATE TABLE shadows (
    thing_id INTEGER PRIMARY KEY,
    version  INTEGER NOT NULL,
    present  INTEGER NOT NULL CHECK (present IN (0, 1)), -- 0: deleted
    body     TEXT NOT NULL -- JSON
);

CREATE TABLE installs (
    seq      INTEGER PRIMARY KEY,
    thing_id INTEGER NOT NULL,
    job      INTEGER NOT NULL
);
