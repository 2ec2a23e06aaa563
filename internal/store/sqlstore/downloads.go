package sqlstore

import (
	"errors"

	"drover/internal/iot"
	"drover/internal/store"
)

// Downloads implements store.DownloadReader.
func (r reader) Downloads(job int64) (d iot.Downloads, err error) {
	err = r.c.one(`SELECT bytes, requests, refused, started, completed FROM downloads WHERE job = $1`, func(row *row) error {
		d = iot.Downloads{Bytes: row.int(), Requests: row.int(), Refused: row.int(), Started: row.int(), Completed: row.int()}
		return nil
	}, job)
	if errors.Is(err, store.ErrNotFound) {
		return d, nil
	}
	return d, err
}

// AddDownloads implements store.DownloadWriter.
func (t *tx) AddDownloads(job int64, list []iot.Download) error {
	var sum iot.Downloads
	var started, completed []iot.ThingName
	for _, d := range list {
		sum.Bytes, sum.Requests, sum.Refused = sum.Bytes+d.Bytes, sum.Requests+d.Requests, sum.Refused+d.Refused
		if d.Thing == "" || d.Requests == 0 && d.Bytes == 0 && !d.Completed {
			continue
		}
		started = append(started, d.Thing)
		if d.Completed {
			completed = append(completed, d.Thing)
		}
	}
	n, err := t.bulk(`INSERT INTO download_devices (job, thing, completed) VALUES ($1, $2, 0) ON CONFLICT (job, thing) DO NOTHING`,
		len(started), func(i int, a *args) {
			a.int(job)
			a.text(string(started[i]))
		})
	if err != nil {
		return err
	}
	sum.Started = int64(n)
	n, err = t.bulk(`UPDATE download_devices SET completed = 1 WHERE job = $1 AND thing = $2 AND completed = 0`,
		len(completed), func(i int, a *args) {
			a.int(job)
			a.text(string(completed[i]))
		})
	if err != nil {
		return err
	}
	sum.Completed = int64(n)
	_, err = t.exec(`INSERT INTO downloads (job, bytes, requests, refused, started, completed) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (job) DO UPDATE SET bytes = downloads.bytes + excluded.bytes, requests = downloads.requests + excluded.requests,
			refused = downloads.refused + excluded.refused, started = downloads.started + excluded.started, completed = downloads.completed + excluded.completed`,
		job, sum.Bytes, sum.Requests, sum.Refused, sum.Started, sum.Completed)
	return err
}

// DeleteDownloads implements store.DownloadWriter.
func (t *tx) DeleteDownloads(job int64, limit int) (int, error) {
	if _, err := t.exec(`DELETE FROM downloads WHERE job = $1`, job); err != nil {
		return 0, err
	}
	return t.exec(`DELETE FROM download_devices WHERE job = $1 AND thing IN (SELECT thing FROM download_devices WHERE job = $2 LIMIT $3)`, job, job, limit)
}
