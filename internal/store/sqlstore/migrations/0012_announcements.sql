-- What nodes tell each other: that something has changed which others may remember. The table holds
-- some minutes of it, by the clock of the database. On SQLite there is nobody to tell.
CREATE TABLE announcements (
    id   INTEGER PRIMARY KEY, -- from the sequence, in the order of the commits
    node INTEGER NOT NULL,
    at   INTEGER NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX announcements_by_time ON announcements (at);
