package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"

	"zombiezen.com/go/sqlite"
)

// snapshotPages is how much of a database is copied before the context is asked again: 8 MiB.
const snapshotPages = 4096

// Snapshot copies the database at from, as it is at one moment, into a new file at to, also while a
// server works with it: the copy reads beside the writer, as View does, and keeps nobody waiting.
// What is committed meanwhile stays in the log of the original until the copy is done. The new
// file is not flushed to the disk.
func Snapshot(ctx context.Context, from, to string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("copy database %s: %w", from, err)
		}
	}()
	// SQLite would take a file that is not there for an empty database.
	if _, err := os.Stat(from); err != nil {
		return err
	}
	src, err := openReader(from, 4<<20)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	if err := src.beginRead(); err != nil {
		return err
	}
	// The first read is what the transaction sees from then on, also between the steps.
	if err := checkVersion(src.driver); err != nil {
		return err
	}
	file, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	dst, err := sqlite.OpenConn(to, sqlite.OpenReadWrite)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	// Half a copy is of no use: it needs no journal.
	if err := pragmas(dst, "journal_mode = OFF", "synchronous = OFF"); err != nil {
		return err
	}
	copying, err := sqlite.NewBackup(dst, "main", src.driver, "main")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, copying.Close()) }()
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if more, err = copying.Step(snapshotPages); err != nil {
			return err
		}
	}
	return nil
}

// Check reads the whole database at path, which nobody may be working with, and returns an error
// if it is damaged, not drover's, or of a newer drover. It changes nothing.
func Check(path string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("database %s: %w", path, err)
		}
	}()
	if _, err := os.Stat(path); err != nil {
		return err
	}
	name := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: "immutable=1"}
	c, err := sqlite.OpenConn(name.String(), sqlite.OpenReadOnly|sqlite.OpenURI)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := checkVersion(c); err != nil {
		return err
	}
	stmt, _, err := c.PrepareTransient("PRAGMA quick_check(1)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stmt.Finalize()) }()
	if _, err := stmt.Step(); err != nil {
		return err
	}
	if result := stmt.ColumnText(0); result != "ok" {
		return fmt.Errorf("damaged: %s", result)
	}
	return nil
}

// checkVersion refuses a database that this program cannot use.
func checkVersion(c *sqlite.Conn) error {
	scripts, err := migrations("sqlite")
	if err != nil {
		return err
	}
	id, err := first(c, "PRAGMA application_id")
	if err != nil {
		return err
	}
	version, err := first(c, "PRAGMA user_version")
	if err != nil {
		return err
	}
	switch {
	case id != application || version == 0:
		return errors.New("not a database of drover")
	case version > int64(len(scripts)):
		return newer(version, int64(len(scripts)))
	}
	return nil
}
