package sqlstore

import (
	"errors"

	"drover/internal/iot"
	"drover/internal/store"
)

const eventConfigurations = "event_configurations" // in settings

// Tags implements store.TagReader.
func (r reader) Tags(arn string) (tags []iot.Tag, err error) {
	err = r.c.list(`SELECT key, value FROM tags WHERE arn = $1 ORDER BY key`, func(row *row) error {
		tags = append(tags, iot.Tag{Key: row.text(), Value: row.text()})
		return nil
	}, arn)
	return tags, err
}

// EventConfigurations implements store.TagReader. Before the first
// SaveEventConfigurations it is the zero value.
func (r reader) EventConfigurations() (c iot.EventConfigurations, err error) {
	err = r.c.one(`SELECT value FROM settings WHERE name = $1`, func(row *row) error {
		return fromJSON(row.text(), &c)
	}, eventConfigurations)
	if errors.Is(err, store.ErrNotFound) {
		return c, nil
	}
	return c, err
}

// PutTags implements store.TagWriter.
func (t *tx) PutTags(arn string, tags []iot.Tag) error {
	return t.write(`INSERT INTO tags (arn, key, value) VALUES ($1, $2, $3) ON CONFLICT (arn, key) DO UPDATE SET value = excluded.value`,
		len(tags), func(i int, a *args) {
			a.text(arn)
			a.text(tags[i].Key)
			a.text(tags[i].Value)
		}, nil)
}

// DeleteTags implements store.TagWriter.
func (t *tx) DeleteTags(arn string, keys []string) error {
	if keys == nil {
		_, err := t.exec(`DELETE FROM tags WHERE arn = $1`, arn)
		return err
	}
	return t.later(`DELETE FROM tags WHERE arn = $1 AND key = $2`, len(keys), func(i int, a *args) {
		a.text(arn)
		a.text(keys[i])
	})
}

// SaveEventConfigurations implements store.TagWriter.
func (t *tx) SaveEventConfigurations(c iot.EventConfigurations) error {
	text, err := toJSON(c)
	if err != nil {
		return t.failing(err)
	}
	_, err = t.exec(`INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
		eventConfigurations, text)
	return err
}
