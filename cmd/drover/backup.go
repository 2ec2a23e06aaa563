package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"drover/internal/auth"
	"drover/internal/backup"
	"drover/internal/store/sqlstore"
)

// databaseFile is the database in the data folder.
const databaseFile = "drover.db"

// keptFlags say where a server keeps what it keeps; they are those of serve, and come from the same
// file and environment.
type keptFlags struct {
	Config    kong.ConfigFlag `help:"YAML file with the flags of serve. It is in the backup, too." placeholder:"FILE"`
	Data      string          `help:"Data folder of the server." default:"./drover-data" type:"path" placeholder:"DIR"`
	ObjectDir string          `name:"objects-dir" help:"Folder for objects, if it is not in the data folder." type:"path" placeholder:"DIR"`
	KeyFile   string          `name:"key-file" help:"File with the key that seals the secrets of API keys, if it is not in the data folder." type:"path" placeholder:"FILE"`
}

type backupCmd struct {
	keptFlags
	Store   string `help:"As the server's. A PostgreSQL database is for pg_dump; the backup then has all the rest." default:"sqlite" placeholder:"STORE"`
	Objects bool   `help:"With the objects of the store in the box." default:"true" negatable:""`
	Keys    string `help:"Folder of the keys, if it is not the data folder." type:"path" placeholder:"DIR"`
	TLSCert string `name:"tls-cert" help:"Certificate chain of the server, if it is not in the data folder." type:"path" placeholder:"FILE"`
	TLSKey  string `name:"tls-key" help:"Its private key." type:"path" placeholder:"FILE"`
	Verify  bool   `help:"Check the backup that is there instead of taking one."`
	Backup  string `arg:"" help:"Folder to make." type:"path"`
}

func (c *backupCmd) Run(ctx context.Context, s *streams) error {
	began := time.Now()
	if c.Verify {
		m, err := backup.Verify(ctx, c.Backup, sqlstore.Check)
		if err != nil {
			return err
		}
		summary(s, "verified", c.Backup, &m, began)
		return nil
	}
	src := backup.Source{
		Data: c.Data, KeyFile: c.KeyFile, KeyName: auth.SealFile, Settings: map[string]string{}, Program: version(), Now: time.Now,
	}
	for name, file := range map[string]string{"drover.yaml": string(c.Config), "tls-cert.pem": c.TLSCert, "tls-key.pem": c.TLSKey} {
		if file == "" {
			continue
		}
		path, err := filepath.Abs(file)
		if err != nil {
			return err
		}
		src.Settings[name] = path
	}
	if c.Keys != "" {
		if err := c.keys(src.Settings); err != nil {
			return err
		}
	}
	if c.Objects {
		src.Objects = cmp.Or(c.ObjectDir, filepath.Join(c.Data, "objects"))
		if _, err := os.Stat(src.Objects); c.ObjectDir == "" && errors.Is(err, fs.ErrNotExist) {
			src.Objects = "" // --no-objects from the start
		}
	}
	switch {
	case c.Store == "sqlite":
		path := filepath.Join(c.Data, databaseFile)
		src.Database = func(ctx context.Context, to string) error {
			if err := sqlstore.Snapshot(ctx, path, to); err != nil {
				return err
			}
			return sqlstore.Check(to)
		}
	case !isPostgres(c.Store):
		return errNoStore
	}
	m, err := backup.Take(ctx, src, c.Backup)
	if err != nil {
		return err
	}
	summary(s, "backup", c.Backup, &m, began)
	return nil
}

// keys adds the files of the folder of keys.
func (c *backupCmd) keys(files map[string]string) error {
	entries, err := os.ReadDir(c.Keys)
	if err != nil {
		return fmt.Errorf("--keys: %w", err)
	}
	for _, e := range entries {
		if name := e.Name(); !strings.HasPrefix(name, ".") && !e.IsDir() { // what is being written, and what Kubernetes adds
			files[name] = filepath.Join(c.Keys, name)
		}
	}
	return nil
}

type restoreCmd struct {
	keptFlags
	Backup string `arg:"" help:"Folder that \"drover backup\" has made." type:"path"`
}

func (c *restoreCmd) Run(ctx context.Context, s *streams) error {
	began := time.Now()
	to := backup.Target{Data: c.Data, Objects: c.ObjectDir, KeyFile: c.KeyFile, KeyName: auth.SealFile}
	m, err := backup.Restore(ctx, c.Backup, to, sqlstore.Check)
	if err != nil {
		return err
	}
	summary(s, "restored", c.Data, &m, began)
	if m.Contains("data/settings") {
		say(s.err, "Files that flags of the server named are in %s.\n", filepath.Join(c.Data, "settings"))
	}
	if !m.Contains("data/" + databaseFile) {
		say(s.err, "The backup has no database: restore that of PostgreSQL with pg_restore.\n")
	}
	return nil
}

// summary says what was done.
func summary(s *streams, done, where string, m *backup.Manifest, began time.Time) {
	files := 0
	for _, f := range m.Files {
		if f.SHA256 != "" {
			files++
		}
	}
	say(s.out, "%s %s: as of %s, %d files, %s, in %s\n", done, where, m.Began.Format(time.RFC3339), files, size(m.Bytes()), time.Since(began).Round(time.Millisecond))
}

// size is a number of bytes for people.
func size(n int64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	v, unit := float64(n), 0
	for v >= 1024 && unit < len(units)-1 {
		v, unit = v/1024, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d %s", n, units[0])
	}
	return fmt.Sprintf("%.1f %s", v, units[unit])
}
