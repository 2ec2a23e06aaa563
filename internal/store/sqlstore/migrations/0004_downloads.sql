-- What devices fetched from the object store in the box, by job.
CREATE TABLE downloads (
    job       INTEGER PRIMARY KEY,
    bytes     INTEGER NOT NULL CHECK (bytes >= 0),
    requests  INTEGER NOT NULL CHECK (requests >= 0),
    refused   INTEGER NOT NULL CHECK (refused >= 0),
    started   INTEGER NOT NULL CHECK (started >= completed),
    completed INTEGER NOT NULL CHECK (completed >= 0)
);

-- The devices that are counted in it, so that each is once.
CREATE TABLE download_devices (
    job       INTEGER NOT NULL,
    thing     TEXT NOT NULL,
    completed INTEGER NOT NULL CHECK (completed IN (0, 1)),
    PRIMARY KEY (job, thing)
) WITHOUT ROWID;
