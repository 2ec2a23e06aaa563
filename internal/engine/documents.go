package engine

import (
	"context"
	"sync"

	"drover/internal/store"
)

// documents keeps the documents of the jobs that devices ask about. A job's document
// never changes and internal ids are never used again, so that an entry is right for ever.
type documents struct {
	mu    sync.Mutex
	byJob map[int64]string
}

// maxDocuments bounds the memory: 256 documents of at most 32 KiB. Beyond it the lot is
// dropped and read again as needed, which is simpler than to keep count of use, and no
// server rolls out so many jobs at a time.
const maxDocuments = 256

// cached returns the document of a job if it is at hand.
func (d *documents) cached(job int64) (string, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	doc, ok := d.byJob[job]
	return doc, ok
}

func (d *documents) get(tx store.JobReader, job int64) (string, error) {
	if doc, ok := d.cached(job); ok {
		return doc, nil
	}
	doc, err := tx.JobDocument(job)
	if err != nil {
		return "", err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.byJob == nil || len(d.byJob) >= maxDocuments {
		d.byJob = make(map[int64]string)
	}
	d.byJob[job] = doc
	return doc, nil
}

// Document returns the document of the job with that internal id, for notices.
func (e *Engine) Document(job int64) (doc string, err error) {
	if doc, ok := e.documents.cached(job); ok {
		return doc, nil
	}
	err = e.view(context.Background(), func(tx store.Reader) error {
		doc, err = e.documents.get(tx, job)
		return err
	})
	return doc, err
}
