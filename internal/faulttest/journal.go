package faulttest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"drover/internal/iot"
	"drover/internal/store"
	"drover/internal/store/sqlstore"
)

// ReadJournal reads the whole journal of a server: of the PostgreSQL database at the URL, or if that is
// empty of a copy of that in the data folder, which is made in the folder temporary. Servers may be
// running.
func ReadJournal(ctx context.Context, url, data, temporary string) (rows []Row, err error) {
	cfg := sqlstore.Config{URL: url}
	if url == "" {
		cfg.Path = filepath.Join(temporary, "journal.db")
		if err := sqlstore.Snapshot(ctx, filepath.Join(data, "drover.db"), cfg.Path); err != nil {
			return nil, err
		}
	}
	d, err := sqlstore.Open(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	const atOnce = 5000
	for after := int64(0); ; {
		var page []iot.Record
		err := d.View(ctx, func(r store.Reader) (err error) {
			page, err = r.Records(0, after, atOnce)
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, r := range page {
			after = r.ID
			row := Row{ID: r.ID, Kind: string(r.Kind), Job: string(r.JobID)}
			if e := r.Execution; e != nil {
				row.Thing, row.Number, row.Status, row.Version = string(e.Thing), e.Number, e.Status.String(), e.Version
				if row.Step, err = step(e.Details); err != nil {
					return nil, fmt.Errorf("position %d: %w", r.ID, err)
				}
			}
			if row.Job != "" {
				rows = append(rows, row)
			}
		}
		if len(page) < atOnce {
			return rows, nil
		}
	}
}

// step reads the number that devices put into statusDetails; none is zero.
func step(d iot.Details) (int, error) {
	if d["step"] == "" {
		return 0, nil
	}
	return strconv.Atoi(d["step"])
}
