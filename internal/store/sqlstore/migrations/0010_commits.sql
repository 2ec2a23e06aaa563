-- The last transaction of each process that works on the database: who lost the answer to a
-- COMMIT looks here. SQLite always answers, and has no rows.

CREATE TABLE commits (
    process INTEGER PRIMARY KEY,
    number  INTEGER NOT NULL
);
