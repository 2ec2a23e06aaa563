package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Target is where a backup goes back to. Folders that are not there are made.
type Target struct {
	Data    string
	Objects string // the folder of the object store; "" for "objects" in Data
	KeyFile string // where the key that seals secrets goes, which the backup has as KeyName; "" for Data
	KeyName string
}

// staging is where a restore writes until everything is there, in each folder that it fills.
const staging = ".restoring"

// ErrUnfinished says that a restore into a folder was interrupted.
var ErrUnfinished = errors.New("a restore into this folder was interrupted: empty it, and restore again")

// Finished returns ErrUnfinished if a restore into the folder was interrupted: what is there is not
// all of it.
func Finished(dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, staging)); err == nil {
		return fmt.Errorf("%s: %w", dir, ErrUnfinished)
	}
	return nil
}

// Restore verifies a backup and then puts it into a folder, which must be empty. Nothing is left of
// a restore that fails; one that is interrupted by the end of the machine is recognised by Finished.
func Restore(ctx context.Context, from string, to Target, check func(database string) error) (m Manifest, err error) {
	if m, err = Verify(ctx, from, check); err != nil {
		return m, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("restore: %w", err)
		}
	}()
	key := path.Join(dataFolder, to.KeyName)
	r := &restoring{from: from, roots: map[string]string{dataFolder: to.Data, objectFolder: to.Objects}}
	if to.Objects == "" {
		r.roots[objectFolder] = filepath.Join(to.Data, objectFolder)
	}
	if to.KeyFile != "" && m.Contains(key) && !inside(to.Data, to.KeyFile) {
		r.key, r.keyFile = key, to.KeyFile
	}
	// Everything is looked at before anything is made.
	if err := r.empty(m); err != nil {
		return m, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.undo())
		}
	}()
	for _, f := range m.Files {
		if err := r.stage(ctx, f); err != nil {
			return m, err
		}
	}
	return m, r.finish()
}

type restoring struct {
	from         string
	roots        map[string]string // by the first part of paths
	key, keyFile string            // a file that goes elsewhere
	made         []string          // in this order
}

// empty refuses folders in which there is something.
func (r *restoring) empty(m Manifest) error {
	for first, dir := range r.roots {
		if !m.Contains(first) {
			continue
		}
		if err := Finished(dir); err != nil {
			return err
		}
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			if e.Name() != "lost+found" { // of a file system of its own
				return fmt.Errorf("%s is not empty: there is %s", dir, e.Name())
			}
		}
	}
	if r.keyFile != "" {
		if _, err := os.Lstat(r.keyFile); !errors.Is(err, fs.ErrNotExist) {
			return orElse(err, fmt.Errorf("%s is there already", r.keyFile))
		}
	}
	return nil
}

// place says where a file is staged and where it ends.
func (r *restoring) place(name string) (staged, final string) {
	first, rest, _ := strings.Cut(strings.TrimSuffix(name, "/"), "/")
	root := r.roots[first]
	rest = filepath.FromSlash(rest)
	return filepath.Join(root, staging, rest), filepath.Join(root, rest)
}

// mkdir makes a folder and those above it, and remembers which.
func (r *restoring) mkdir(dir string, mode fs.FileMode) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := r.mkdir(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	if err := os.Mkdir(dir, mode); err != nil {
		return err
	}
	r.made = append(r.made, dir)
	return nil
}

func (r *restoring) stage(ctx context.Context, f File) error {
	mode, err := f.mode()
	if err != nil {
		return err
	}
	staged, _ := r.place(f.Path)
	if f.folder() {
		return r.mkdir(staged, mode|0o700) // it has to be filled
	}
	if f.Path == r.key {
		staged = r.keyFile
	}
	if err := r.mkdir(filepath.Dir(staged), 0o700); err != nil {
		return err
	}
	in, err := os.Open(filepath.Join(r.from, filepath.FromSlash(f.Path)))
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // it was only read
	r.made = append(r.made, staged)
	size, sum, err := copyFile(ctx, in, staged, os.O_EXCL)
	if err == nil {
		err = f.compare(size, sum)
	}
	if err != nil {
		return err
	}
	return os.Chmod(staged, mode)
}

// finish moves what is staged to its places. As long as a folder has the staging one in it, it is
// not complete.
func (r *restoring) finish() error {
	for _, first := range []string{objectFolder, dataFolder} {
		staged, final := r.place(first)
		entries, err := os.ReadDir(staged)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := filepath.WalkDir(staged, func(name string, e fs.DirEntry, err error) error {
			if err != nil || !e.IsDir() {
				return err
			}
			return syncDir(name)
		}); err != nil {
			return err
		}
		for _, e := range entries {
			to := filepath.Join(final, e.Name())
			if err := os.Rename(filepath.Join(staged, e.Name()), to); err != nil {
				return err
			}
			r.made = append(r.made, to)
		}
		if err := syncDir(final); err != nil {
			return err
		}
	}
	if r.keyFile != "" {
		if err := syncDir(filepath.Dir(r.keyFile)); err != nil {
			return err
		}
	}
	// The data folder last: it is the one that a server looks at first.
	for _, first := range []string{objectFolder, dataFolder} {
		staged, final := r.place(first)
		if err := os.Remove(staged); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := syncDir(final); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// undo removes what was made, and nothing else.
func (r *restoring) undo() error {
	var errs []error
	for i := len(r.made) - 1; i >= 0; i-- {
		// What was moved has taken with it what was made in it.
		if err := os.RemoveAll(r.made[i]); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (f *File) mode() (fs.FileMode, error) {
	mode, err := strconv.ParseUint(f.Mode, 8, 32)
	if err != nil || mode > 0o777 {
		return 0, fmt.Errorf("%s: %q is not a mode", f.Path, f.Mode)
	}
	return fs.FileMode(mode), nil
}
