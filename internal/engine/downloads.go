package engine

import (
	"context"
	"errors"
	"slices"

	"drover/internal/iot"
	"drover/internal/store"
)

// RecordDownloads adds to what devices have fetched for jobs. What is of a job that does not
// exist, any more, is forgotten.
func (e *Engine) RecordDownloads(ctx context.Context, downloads []iot.Download) error {
	byJob := make(map[iot.JobID][]iot.Download)
	for _, d := range downloads {
		byJob[d.Job] = append(byJob[d.Job], d)
	}
	for id, list := range byJob {
		for some := range slices.Chunk(list, e.chunk) {
			err := e.store.Update(ctx, func(tx store.Tx) error {
				j, err := tx.JobByName(id)
				if err != nil {
					return err
				}
				return tx.AddDownloads(j.ID, some)
			})
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
	}
	return nil
}

// Downloads returns what devices have fetched for a job. NotFound.
func (e *Engine) Downloads(ctx context.Context, id iot.JobID) (d iot.Downloads, err error) {
	err = e.view(ctx, func(tx store.Reader) error {
		j, err := job(tx, id)
		if err != nil {
			return err
		}
		d, err = tx.Downloads(j.ID)
		return err
	})
	return d, err
}
