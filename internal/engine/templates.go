package engine

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"strings"

	"drover/internal/iot"
	"drover/internal/store"
)

// maxTemplates is how many custom templates there can be (spec §15.1).
const maxTemplates = 100

// CreateTemplate stores a template, made from a job or from what is given, which wins.
// Errors: InvalidRequest; NotFound for the job; AlreadyExists; LimitExceeded.
func (e *Engine) CreateTemplate(ctx context.Context, in iot.NewTemplate) (*iot.Template, error) {
	t := &iot.Template{
		TemplateID: in.TemplateID, Description: in.Description, Document: in.Document, DocumentSource: in.DocumentSource, Config: in.Config,
		Windows: in.Windows, PackageVersions: in.PackageVersions,
	}
	err := e.update(ctx, in.Actor, func(w *work) error {
		if in.JobARN != "" {
			if err := e.templateOf(w.tx, t, in.JobARN); err != nil {
				return err
			}
		}
		doc, err := iot.ParseDocument(t.Document, e.documents.objects)
		if err != nil {
			return err
		}
		if err := e.checkDestinations(doc, t.PackageVersions); err != nil {
			return err
		}
		if err := t.Config.Check(); err != nil {
			return err
		}
		if len(t.Windows) > 0 {
			s := iot.Schedule{Windows: t.Windows}
			if err := s.Check(w.now, iot.Continuous); err != nil {
				return err
			}
		}
		n, err := w.tx.CountTemplates()
		if err != nil {
			return err
		}
		_, err = w.tx.TemplateByID(in.TemplateID)
		switch {
		case err == nil:
			return e.templateExists(in.TemplateID)
		case !errors.Is(err, store.ErrNotFound):
			return err
		case n >= maxTemplates:
			return iot.Errorf(iot.LimitExceeded, "There are %d job templates, which is the limit", n)
		}
		t.CreatedAt = w.now
		if err := w.tx.InsertTemplate(t); err != nil {
			return err
		}
		if len(in.Tags) == 0 {
			return nil
		}
		return w.tx.PutTags(e.realm.ARN(iot.KindTemplate, in.TemplateID), in.Tags)
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

func (e *Engine) templateExists(id string) error {
	err := iot.Errorf(iot.AlreadyExists, "Job template %s already exists", id)
	err.ResourceID, err.ResourceARN = id, e.realm.ARN(iot.KindTemplate, id)
	return err
}

// templateOf fills in from a job what t does not say.
func (e *Engine) templateOf(tx store.Reader, t *iot.Template, arn string) error {
	kind, name, err := e.realm.ParseARN(arn)
	if err != nil {
		return err
	}
	if kind != iot.KindJob {
		return iot.Errorf(iot.InvalidRequest, "%s is not the ARN of a job", arn)
	}
	j, err := job(tx, iot.JobID(name))
	if err != nil {
		return err
	}
	if t.Document == "" {
		if t.Document, err = tx.JobDocument(j.ID); err != nil {
			return err
		}
		t.DocumentSource = j.DocumentSource
	}
	t.Config = t.Config.Over(j.Config)
	if t.Windows == nil && j.Schedule != nil {
		t.Windows = j.Schedule.Windows
	}
	if t.PackageVersions == nil {
		t.PackageVersions = j.PackageVersions
	}
	return nil
}

// Template returns a custom template. NotFound.
func (e *Engine) Template(ctx context.Context, id string) (t *iot.Template, err error) {
	err = e.view(ctx, func(tx store.Reader) error {
		t, err = template(tx, id)
		return err
	})
	return t, err
}

func template(tx store.Reader, id string) (*iot.Template, error) {
	t, err := tx.TemplateByID(id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, iot.Errorf(iot.NotFound, "Job template %s cannot be found", id)
	}
	return t, err
}

// Templates lists the custom templates, the newest first.
func (e *Engine) Templates(ctx context.Context, page iot.Page) (list []*iot.Template, next string, err error) {
	before, err := parseSeq(page.Cursor)
	if err != nil {
		return nil, "", err
	}
	err = e.view(ctx, func(tx store.Reader) error {
		list, err = tx.Templates(before, page.Limit+1)
		return err
	})
	if len(list) > page.Limit {
		list = list[:page.Limit]
		next = strconv.FormatInt(list[page.Limit-1].ID, 10)
	}
	return list, next, err
}

// DeleteTemplate forgets a custom template; jobs made from it stay as they are. NotFound.
func (e *Engine) DeleteTemplate(ctx context.Context, id, actor string) error {
	return e.update(ctx, actor, func(w *work) error {
		t, err := template(w.tx, id)
		if err != nil {
			return err
		}
		if err := w.tx.DeleteTags(e.realm.ARN(iot.KindTemplate, id), nil); err != nil {
			return err
		}
		return w.tx.DeleteTemplate(t)
	})
}

// applyTemplate fills in from the template that a request names what the request does not
// say (spec §10.1).
func (e *Engine) applyTemplate(tx store.Reader, in *iot.NewJob) error {
	if managed, ok, err := e.managed(in.TemplateARN); err != nil {
		return err
	} else if ok {
		in.Description = cmp.Or(in.Description, managed.Description)
		if in.Document != "" {
			return nil
		}
		in.Document, err = iot.FillParameters(managed.Document, managed.Parameters, in.Parameters)
		return err
	}
	if len(in.Parameters) > 0 {
		return iot.Errorf(iot.InvalidRequest, "documentParameters can only be given with the jobTemplateArn of a managed template")
	}
	if in.TemplateARN == "" {
		return nil
	}
	kind, id, err := e.realm.ParseARN(in.TemplateARN)
	if err != nil {
		return err
	}
	if kind != iot.KindTemplate {
		return iot.Errorf(iot.InvalidRequest, "%s is not the ARN of a job template", in.TemplateARN)
	}
	t, err := template(tx, id)
	if err != nil {
		return err
	}
	in.Document = cmp.Or(in.Document, t.Document)
	in.Description = cmp.Or(in.Description, t.Description)
	in.Config = in.Config.Over(t.Config)
	if in.PackageVersions == nil {
		in.PackageVersions = t.PackageVersions
	}
	if len(t.Windows) > 0 && (in.Schedule == nil || in.Schedule.Windows == nil) {
		s := iot.Schedule{}
		if in.Schedule != nil {
			s = *in.Schedule
		}
		s.Windows = t.Windows
		in.Schedule = &s
	}
	return nil
}

// managed finds the managed template that an ARN names: it has no account (spec §1.1).
func (e *Engine) managed(arn string) (iot.ManagedTemplate, bool, error) {
	prefix, _, _ := strings.Cut(e.realm.ARN(iot.KindTemplate, ""), ":"+e.realm.Account+":")
	rest, ok := strings.CutPrefix(arn, prefix+"::"+iot.KindTemplate+"/")
	if !ok {
		return iot.ManagedTemplate{}, false, nil
	}
	name, version, _ := strings.Cut(rest, ":")
	for _, t := range iot.ManagedTemplates() {
		if t.Name == name && (version == "" || version == t.Version) {
			return t, true, nil
		}
	}
	return iot.ManagedTemplate{}, false, iot.Errorf(iot.NotFound, "Managed job template %s cannot be found", rest)
}
