package engine

import (
	"context"
	"errors"
	"sync"

	"drover/internal/iot"
	"drover/internal/store"
)

// documents keeps the documents of the jobs that devices ask about. A job's document
// never changes and internal ids are never used again, so that an entry is right for ever.
type documents struct {
	objects iot.ObjectStore

	mu    sync.Mutex
	byJob map[int64]*iot.Document
}

// maxDocuments bounds the memory: 256 documents of at most 32 KiB. Beyond it the lot is
// dropped and read again as needed, which is simpler than to keep count of use, and no
// server rolls out so many jobs at a time.
const maxDocuments = 256

// cached returns the document of a job if it is at hand.
func (d *documents) cached(job int64) (*iot.Document, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	doc, ok := d.byJob[job]
	return doc, ok
}

func (d *documents) get(tx store.JobReader, job int64) (*iot.Document, error) {
	if doc, ok := d.cached(job); ok {
		return doc, nil
	}
	text, err := tx.JobDocument(job)
	if err != nil {
		return nil, err
	}
	doc, err := iot.LoadDocument(text, d.objects)
	if err != nil {
		// Not the device's mistake: the text is kept from it, and logged.
		return nil, errors.New(err.Error())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.byJob == nil || len(d.byJob) >= maxDocuments {
		d.byJob = make(map[int64]*iot.Document)
	}
	d.byJob[job] = doc
	return doc, nil
}

// delivery returns the document of the job of x for the device of x. What its presigned
// URLs need can be changed by UpdateJob, so that the job is read for them.
func (d *documents) delivery(tx store.JobReader, x *iot.Execution) (iot.Delivery, error) {
	doc, err := d.get(tx, x.Job)
	if err != nil {
		return iot.Delivery{}, err
	}
	if !doc.Presigned() {
		return doc.For(x, nil), nil
	}
	jobs, err := tx.JobsByID([]int64{x.Job})
	if err != nil {
		return iot.Delivery{}, err
	}
	j := jobs[x.Job]
	if j == nil {
		return iot.Delivery{}, store.ErrNotFound
	}
	return doc.For(x, j.Config.Presigned), nil
}

// Document returns the document of the job of x for the device of x, for notices.
func (e *Engine) Document(x *iot.Execution) (out iot.Delivery, err error) {
	if doc, ok := e.documents.cached(x.Job); ok && !doc.Presigned() {
		return doc.For(x, nil), nil
	}
	err = e.view(context.Background(), func(tx store.Reader) error {
		out, err = e.documents.delivery(tx, x)
		return err
	})
	return out, err
}
