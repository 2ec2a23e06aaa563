package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"drover/internal/iot"
	"drover/internal/store"
)

// documents keeps the documents of the jobs that devices ask about. A job's document
// never changes and internal ids are never used again, so that an entry is right until
// UpdateJob changes what the presigned URLs of the document need. Nobody tells if that happens on
// another node: there such an entry has a short life.
type documents struct {
	objects iot.ObjectStore
	now     func() time.Time
	life    time.Duration // of entries that another node may change; 0 if there is none

	mu      sync.Mutex
	byJob   map[int64]document
	dropped int // how often an entry was dropped
}

// document is what the devices of a job are sent.
type document struct {
	*iot.Document
	presigned *iot.PresignedURLConfig // of the job, if the document has placeholders
	read      time.Time
}

// maxDocuments bounds the memory: 256 documents of at most 32 KiB. Beyond it the lot is
// dropped and read again as needed, which is simpler than to keep count of use, and no
// server rolls out so many jobs at a time.
const maxDocuments = 256

// cached returns the document of a job if it is at hand, and how many were dropped until now.
func (d *documents) cached(job int64) (doc document, ok bool, dropped int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	doc, ok = d.byJob[job]
	if ok && d.life > 0 && doc.presigned != nil && d.now().Sub(doc.read) >= d.life {
		ok = false
	}
	return doc, ok, d.dropped
}

func (d *documents) get(tx store.Reader, job int64) (document, error) {
	doc, ok, dropped := d.cached(job)
	if ok {
		return doc, nil
	}
	doc = document{read: d.now()}
	text, err := tx.JobDocument(job)
	if err != nil {
		return document{}, err
	}
	if doc.Document, err = iot.LoadDocument(text, d.objects); err != nil {
		// Not the device's mistake: the text is kept from it, and logged.
		return document{}, errors.New(err.Error())
	}
	if doc.Versioned() {
		switch started, err := tx.Deployment(job); {
		case errors.Is(err, store.ErrNotFound):
			return doc, nil // it has not started: no device asks for it
		case err != nil:
			return document{}, err
		default:
			if doc.Document, err = iot.LoadDocument(started.Document, d.objects); err != nil {
				return document{}, errors.New(err.Error())
			}
		}
	}
	if doc.Presigned() {
		jobs, err := tx.JobsByID([]int64{job})
		if err != nil {
			return document{}, err
		}
		if jobs[job] == nil {
			return document{}, store.ErrNotFound
		}
		doc.presigned = jobs[job].Config.Presigned
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dropped != dropped { // what was read may be what was dropped
		return doc, nil
	}
	if d.byJob == nil || len(d.byJob) >= maxDocuments {
		d.byJob = make(map[int64]document)
	}
	d.byJob[job] = doc
	return doc, nil
}

// drop forgets the document of a job whose configuration has changed.
func (d *documents) drop(job int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.byJob, job)
	d.dropped++
}

// delivery returns the document of the job of x for the device of x.
func (d *documents) delivery(tx store.Reader, x *iot.Execution) (iot.Delivery, error) {
	doc, err := d.get(tx, x.Job)
	if err != nil {
		return iot.Delivery{}, err
	}
	return doc.For(x, doc.presigned), nil
}

// Document returns the document of the job of x for the device of x, for notices.
func (e *Engine) Document(x *iot.Execution) (out iot.Delivery, err error) {
	if doc, ok, _ := e.documents.cached(x.Job); ok {
		return doc.For(x, doc.presigned), nil
	}
	err = e.view(context.Background(), func(tx store.Reader) error {
		out, err = e.documents.delivery(tx, x)
		return err
	})
	return out, err
}
