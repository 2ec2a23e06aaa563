-- The fleet index: what documents, of things and of groups, are found by (package query). A document
-- has the id of its thing or group.

CREATE TABLE index_fields (
    id         INTEGER PRIMARY KEY CHECK (id >= 1),
    index_name TEXT NOT NULL,
    name       TEXT NOT NULL
);
CREATE UNIQUE INDEX index_fields_by_name ON index_fields (index_name, name);

-- field is negative for a phrase. kind: 1 = no value begins with the word, 2 = it is a number, 3 = both.
-- value is '' if it is the word. Numbers are in an order-preserving encoding, 0 if there is none.
CREATE TABLE index_terms (
    document INTEGER NOT NULL,
    field    INTEGER NOT NULL,
    word     TEXT NOT NULL,
    kind     INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 3),
    value    TEXT NOT NULL,
    number   INTEGER NOT NULL,
    PRIMARY KEY (document, field, word, kind, value)
) WITHOUT ROWID;
CREATE INDEX index_terms_by_word ON index_terms (field, word, document);
CREATE INDEX index_terms_by_number ON index_terms (field, number, document) WHERE kind >= 2;
