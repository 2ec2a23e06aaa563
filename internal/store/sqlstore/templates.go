package sqlstore

import (
	"cmp"

	"drover/internal/iot"
	"drover/internal/store"
)

const (
	templateByID = `SELECT id, template_id, description, document, document_source, config, windows, package_versions, created_at
		FROM templates WHERE template_id = $1`
	templates = `SELECT id, template_id, description, '', document_source, config, windows, package_versions, created_at
		FROM templates WHERE id < $1 ORDER BY id DESC LIMIT $2`
	countTemplates = `SELECT count(*) FROM templates`
	insertTemplate = `INSERT INTO templates (id, template_id, description, document, document_source, config, windows,
		package_versions, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`
)

func scanTemplate(r *row) (*iot.Template, error) {
	t := &iot.Template{ID: r.int(), TemplateID: r.text(), Description: r.text(), Document: r.text(), DocumentSource: r.text()}
	for _, into := range []any{&t.Config, &t.Windows, &t.PackageVersions} {
		if err := fromJSON(r.text(), into); err != nil {
			return nil, err
		}
	}
	t.CreatedAt = r.time()
	return t, nil
}

// TemplateByID implements store.TemplateReader.
func (r reader) TemplateByID(id string) (t *iot.Template, err error) {
	err = r.c.one(templateByID, func(row *row) (err error) {
		t, err = scanTemplate(row)
		return err
	}, id)
	return t, err
}

// Templates implements store.TemplateReader.
func (r reader) Templates(before int64, limit int) (list []*iot.Template, err error) {
	err = r.c.list(templates, func(row *row) error {
		t, err := scanTemplate(row)
		list = append(list, t)
		return err
	}, cmp.Or(before, maxID), limit)
	return list, err
}

// CountTemplates implements store.TemplateReader.
func (r reader) CountTemplates() (int, error) {
	n, err := r.c.number(countTemplates)
	return int(n), err
}

// InsertTemplate implements store.TemplateWriter.
func (t *tx) InsertTemplate(template *iot.Template) error {
	columns, err := allJSON(template.Config, template.Windows, template.PackageVersions)
	if err != nil {
		return t.failing(err)
	}
	id, err := t.Sequence(1)
	if err != nil {
		return err
	}
	_, err = t.exec(insertTemplate, id, template.TemplateID, template.Description, template.Document, template.DocumentSource,
		columns[0], columns[1], columns[2], template.CreatedAt)
	if err == nil {
		template.ID = id
	}
	return err
}

// DeleteTemplate implements store.TemplateWriter.
func (t *tx) DeleteTemplate(template *iot.Template) error {
	_, err := t.exec(`DELETE FROM templates WHERE id = $1`, template.ID)
	return err
}

var (
	_ store.TemplateReader = reader{}
	_ store.TemplateWriter = (*tx)(nil)
)
