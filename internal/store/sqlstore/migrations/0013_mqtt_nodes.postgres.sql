-- What the broker keeps belongs to a node; 0: to none. A shared subscription may have messages at
-- several. Nodes find what they take over by these indexes, which SQLite, with its one node, has no
-- use for.

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

CREATE INDEX mqtt_sessions_by_node ON mqtt_sessions (node);
CREATE INDEX mqtt_groups_by_node ON mqtt_groups (node);
CREATE INDEX mqtt_wills_by_node ON mqtt_wills (node);
CREATE INDEX mqtt_wills_by_client ON mqtt_wills (client);
CREATE INDEX mqtt_entries_by_owner ON mqtt_entries (owner_id, seq);
