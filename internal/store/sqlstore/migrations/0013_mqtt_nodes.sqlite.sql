-- What the broker keeps belongs to a node. A shared subscription may have messages at several.

ALTER TABLE mqtt_sessions ADD COLUMN node INTEGER NOT NULL DEFAULT 1;
ALTER TABLE mqtt_wills ADD COLUMN node INTEGER NOT NULL DEFAULT 1;

ALTER TABLE mqtt_groups RENAME TO mqtt_former_groups;
CREATE TABLE mqtt_groups (
    id     INTEGER PRIMARY KEY,
    filter TEXT NOT NULL,
    node   INTEGER NOT NULL DEFAULT 1
);
INSERT INTO mqtt_groups (id, filter) SELECT id, filter FROM mqtt_former_groups;
DROP TABLE mqtt_former_groups;
