// Package backup copies everything that a server keeps into a folder, also while the server runs,
// and back.
//
//	manifest.json   every file with its size, mode and SHA-256; written last
//	data/           the data folder: the database as of one moment, keys, the certificate
//	                authority, the audit log
//	data/settings/  files that the server's flags name, and that are not in the data folder
//	objects/        the object store in the box
//
// The order is what makes it consistent. The database comes first, then the objects that it may
// speak of, and last what only grows. What was answered before the backup began is in it; what is
// answered while it is taken may be.
//
// A backup appears under its name when it is complete, and a restored folder has its files when
// all of them are there.
package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Manifest says what is in a backup.
type Manifest struct {
	Format  int       `json:"format"`
	Program string    `json:"program"` // that took it
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended"`
	Files   []File    `json:"files"` // folders first before what is in them
	// SHA256 is that of the manifest without it, in hexadecimal.
	SHA256 string `json:"sha256"`
}

// File is a file or folder of a backup.
type File struct {
	Path   string `json:"path"` // slashes; one at the end of that of a folder
	Mode   string `json:"mode"` // permissions, octal
	Size   int64  `json:"size,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
}

func (f *File) folder() bool { return strings.HasSuffix(f.Path, "/") }

const (
	manifestFile = "manifest.json"
	format       = 1
	dataFolder   = "data"
	objectFolder = "objects"
	database     = "drover.db"
)

// Bytes is the size of all files.
func (m *Manifest) Bytes() (n int64) {
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

// Contains reports whether a file or folder is in the backup.
func (m *Manifest) Contains(path string) bool {
	return slices.ContainsFunc(m.Files, func(f File) bool { return strings.TrimSuffix(f.Path, "/") == path })
}

func (m Manifest) sum() (string, error) {
	m.SHA256 = ""
	text, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// Source is what a backup is taken of.
type Source struct {
	Data    string
	Objects string // the folder of the object store; "" leaves it out
	KeyFile string // the key that seals secrets, if it is not in Data: it comes as data/KeyName
	KeyName string
	// Settings are files that the server's flags name, by what they shall be called. Those in
	// Data are there anyway.
	Settings map[string]string
	// Database copies the database into a new file; nil if it is not in Data.
	Database func(ctx context.Context, to string) error
	Program  string
	Now      func() time.Time
}

// Take makes a backup in a new folder. Nothing is left of one that fails.
func Take(ctx context.Context, src Source, to string) (m Manifest, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("backup: %w", err)
		}
	}()
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return m, orElse(err, fmt.Errorf("%s is there already", to))
	}
	if info, err := os.Stat(src.Data); err != nil {
		return m, err
	} else if !info.IsDir() {
		return m, fmt.Errorf("%s is not a folder", src.Data)
	}
	dir, err := os.MkdirTemp(filepath.Dir(to), filepath.Base(to)+".partial-") // mode 0700
	if err != nil {
		return m, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	t := &taking{ctx: ctx, dir: dir, done: map[string]taken{}}
	m = Manifest{Format: format, Program: src.Program, Began: src.Now().UTC()}
	if err := t.all(src); err != nil {
		return m, err
	}
	for _, name := range t.order {
		m.Files = append(m.Files, t.done[name].File)
	}
	m.Ended = src.Now().UTC()
	if m.SHA256, err = m.sum(); err != nil {
		return m, err
	}
	text, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return m, err
	}
	if err := write(filepath.Join(dir, manifestFile), append(text, '\n')); err != nil {
		return m, err
	}
	if err := syncFolders(dir, m.Files); err != nil {
		return m, err
	}
	if err := os.Rename(dir, to); err != nil {
		return m, err
	}
	return m, syncDir(filepath.Dir(to))
}

// taking is a backup on its way.
type taking struct {
	ctx   context.Context
	dir   string
	done  map[string]taken // by path in the backup
	order []string
	again int // files that were copied in this pass
}

type taken struct {
	File
	info fs.FileInfo // of the original
}

// passes bounds how often the objects are looked through.
const passes = 5

func (t *taking) all(src Source) error {
	if err := t.folder(dataFolder, 0o700, nil); err != nil {
		return err
	}
	if src.Database != nil {
		to := filepath.Join(t.dir, dataFolder, database)
		if err := src.Database(t.ctx, to); err != nil {
			return err
		}
		if err := t.snapshot(to); err != nil {
			return err
		}
	}
	if src.Objects != "" {
		// A version that becomes the current object while the folder is read can escape: it was
		// not current yet, and is no former version any more. Looked for again, it is found.
		for range passes {
			t.again = 0
			if err := t.tree(src.Objects, objectFolder, skipObjects); err != nil {
				return err
			}
			if t.again == 0 {
				break
			}
		}
	}
	if err := t.tree(src.Data, dataFolder, skipData); err != nil {
		return err
	}
	if src.KeyFile != "" && !inside(src.Data, src.KeyFile) {
		if err := t.file(src.KeyFile, path.Join(dataFolder, src.KeyName)); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(src.Settings)) {
		file := src.Settings[name]
		if inside(src.Data, file) {
			continue
		}
		if err := t.folder(path.Join(dataFolder, "settings"), 0o700, nil); err != nil {
			return err
		}
		if err := t.file(file, path.Join(dataFolder, "settings", name)); err != nil {
			return err
		}
	}
	return nil
}

// skipData says what of the data folder is not for a backup: what comes otherwise, what is written
// at each start, and what is being written.
func skipData(name string) bool {
	return strings.HasPrefix(name, database) || name == objectFolder || name == "endpoints.json" || name == "config" ||
		strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".new")
}

// skipObjects says what of the object store is not for a backup.
func skipObjects(name string) bool { return name == "tmp" || strings.HasPrefix(name, "drover.lock") }

func inside(dir, file string) bool {
	rel, err := filepath.Rel(dir, file)
	return err == nil && filepath.IsLocal(rel)
}

// tree copies what is below a folder, but what is to be skipped of its first level. What is deleted
// meanwhile is not missed. Links are followed: some have their objects on another disk.
func (t *taking) tree(from, to string, skip func(name string) bool) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if err := t.folder(to, info.Mode().Perm(), info); err != nil {
		return err
	}
	entries, err := os.ReadDir(from) // in order: the current objects of a bucket before its versions
	if err != nil {
		return err
	}
	for _, e := range entries {
		if skip != nil && skip(e.Name()) {
			continue
		}
		next, name := filepath.Join(from, e.Name()), path.Join(to, e.Name())
		info, err := os.Stat(next)
		if err == nil {
			switch {
			case info.IsDir():
				err = t.tree(next, name, nil)
			case info.Mode().IsRegular():
				err = t.file(next, name)
			}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (t *taking) folder(name string, mode fs.FileMode, info fs.FileInfo) error {
	name += "/"
	if _, ok := t.done[name]; ok {
		return nil
	}
	if err := os.MkdirAll(filepath.Join(t.dir, filepath.FromSlash(name)), 0o700); err != nil {
		return err
	}
	t.add(taken{File{Path: name, Mode: octal(mode)}, info})
	return nil
}

func (t *taking) add(f taken) {
	if _, ok := t.done[f.Path]; !ok {
		t.order = append(t.order, f.Path)
	}
	t.done[f.Path] = f
}

// file copies a file, as far as it goes when it is opened: some are appended to.
func (t *taking) file(from, to string) (err error) {
	if err := t.ctx.Err(); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // it was only read
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if before, ok := t.done[to]; ok && os.SameFile(before.info, info) && before.info.Size() == info.Size() && before.info.ModTime().Equal(info.ModTime()) {
		return nil
	}
	size, sum, err := copyFile(t.ctx, io.LimitReader(in, info.Size()), filepath.Join(t.dir, filepath.FromSlash(to)), os.O_TRUNC)
	if err != nil {
		return err
	}
	t.again++
	t.add(taken{File{Path: to, Mode: octal(info.Mode().Perm()), Size: size, SHA256: sum}, info})
	return nil
}

// snapshot notes the copy of the database.
func (t *taking) snapshot(copied string) error {
	f, err := os.Open(copied)
	if err != nil {
		return err
	}
	size, sum, err := digest(t.ctx, f, io.Discard)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	t.add(taken{File: File{Path: path.Join(dataFolder, database), Mode: octal(0o600), Size: size, SHA256: sum}})
	return nil
}

// Read returns the manifest of a backup, if it is whole.
func Read(dir string) (m Manifest, err error) {
	text, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if errors.Is(err, fs.ErrNotExist) {
		return m, fmt.Errorf("%s is not a backup: it has no %s", dir, manifestFile)
	}
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("%s: %w", manifestFile, err)
	}
	if m.Format > format {
		return m, fmt.Errorf("%s: format %d is of a newer drover", manifestFile, m.Format)
	}
	sum, err := m.sum()
	if err != nil {
		return m, err
	}
	if m.SHA256 != sum {
		return m, fmt.Errorf("%s is damaged: its checksum is wrong", manifestFile)
	}
	for _, f := range m.Files {
		first, _, _ := strings.Cut(f.Path, "/")
		if !filepath.IsLocal(filepath.FromSlash(f.Path)) || first != dataFolder && first != objectFolder {
			return m, fmt.Errorf("%s: %q is not a path in a backup", manifestFile, f.Path)
		}
	}
	return m, nil
}

// Verify reads a backup from end to end and returns an error that names every file that is missing
// or damaged. The database is also given to check.
func Verify(ctx context.Context, dir string, check func(database string) error) (m Manifest, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("verify %s: %w", dir, err)
		}
	}()
	if m, err = Read(dir); err != nil {
		return m, err
	}
	var errs []error
	for _, f := range m.Files {
		if f.folder() {
			continue
		}
		err := verifyFile(ctx, dir, f)
		if ctx.Err() != nil {
			return m, ctx.Err()
		}
		errs = append(errs, err)
	}
	if name := path.Join(dataFolder, database); m.Contains(name) && errors.Join(errs...) == nil {
		errs = append(errs, check(filepath.Join(dir, filepath.FromSlash(name))))
	}
	return m, errors.Join(errs...)
}

func verifyFile(ctx context.Context, dir string, want File) error {
	f, err := os.Open(filepath.Join(dir, filepath.FromSlash(want.Path)))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	size, sum, err := digest(ctx, f, io.Discard)
	if err != nil {
		return err
	}
	return want.compare(size, sum)
}

func (f *File) compare(size int64, sum string) error {
	switch {
	case size != f.Size:
		return fmt.Errorf("%s has %d bytes, and should have %d", f.Path, size, f.Size)
	case sum != f.SHA256:
		return fmt.Errorf("%s is damaged: its checksum is wrong", f.Path)
	}
	return nil
}

// copyFile writes a new file, or over one with O_TRUNC, flushes it, and returns its size and SHA-256.
func copyFile(ctx context.Context, from io.Reader, to string, flag int) (size int64, sum string, err error) {
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|flag, 0o600)
	if err != nil {
		return 0, "", err
	}
	size, sum, err = digest(ctx, from, out)
	if err == nil {
		err = out.Sync()
	}
	return size, sum, errors.Join(err, out.Close())
}

// digest copies to the end and returns size and SHA-256. It ends when the context does.
func digest(ctx context.Context, from io.Reader, to io.Writer) (size int64, sum string, err error) {
	h := sha256.New()
	size, err = io.CopyBuffer(both{h, to}, untilDone{ctx, from}, make([]byte, 1<<20))
	return size, hex.EncodeToString(h.Sum(nil)), err
}

type both struct {
	hash.Hash
	file io.Writer
}

func (b both) Write(p []byte) (int, error) {
	b.Hash.Write(p) // never fails
	return b.file.Write(p)
}

type untilDone struct {
	ctx  context.Context
	from io.Reader
}

func (r untilDone) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.from.Read(p)
}

func write(to string, text []byte) error {
	_, _, err := copyFile(context.Background(), strings.NewReader(string(text)), to, os.O_EXCL)
	return err
}

func octal(m fs.FileMode) string { return fmt.Sprintf("%04o", m) }

// syncFolders makes the names in a folder durable, and in those of the files below it.
func syncFolders(dir string, files []File) error {
	for _, f := range files {
		if f.folder() {
			if err := syncDir(filepath.Join(dir, filepath.FromSlash(f.Path))); err != nil {
				return err
			}
		}
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func orElse(err, other error) error {
	if err != nil {
		return err
	}
	return other
}
