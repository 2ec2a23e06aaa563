-- Groups whose members are what a query finds: status is how far they are; '' for static groups.

ALTER TABLE thing_groups ADD COLUMN query TEXT NOT NULL DEFAULT '';
ALTER TABLE thing_groups ADD COLUMN status TEXT NOT NULL DEFAULT '';
CREATE INDEX thing_groups_dynamic ON thing_groups (id) WHERE query <> '';
