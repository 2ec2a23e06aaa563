-- Where the document of a job was read from, '' if it was given. Templates have had it from
-- the start.
ALTER TABLE jobs ADD COLUMN document_source TEXT NOT NULL DEFAULT '';
