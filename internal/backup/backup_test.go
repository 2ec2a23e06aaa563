package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// lay makes the files of a server below a new folder; a path that ends in a slash is a folder.
func lay(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		if strings.HasSuffix(name, "/") {
			must(t, os.MkdirAll(path, 0o700))
			continue
		}
		must(t, os.WriteFile(path, []byte(text), 0o600))
	}
	return dir
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tree lists what is below a folder: its mode and what it holds.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := map[string]string{}
	must(t, filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		text := ""
		if !e.IsDir() {
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			text = string(b)
		}
		rel, err := filepath.Rel(dir, name)
		found[filepath.ToSlash(rel)] = fmt.Sprintf("%s %s", info.Mode(), text)
		return err
	}))
	return found
}

func same(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	for name := range got {
		if want[name] != got[name] {
			t.Errorf("%s: %s is %q, want %q", what, name, got[name], want[name])
		}
	}
	for name := range want {
		if _, ok := got[name]; !ok {
			t.Errorf("%s: %s is not there", what, name)
		}
	}
}

var fine = func(string) error { return nil }

// source is a server with everything; its database is a text.
func source(t *testing.T) Source {
	t.Helper()
	data := lay(t, map[string]string{
		"drover.db": "live", "drover.db-wal": "live", "drover.db-shm": "live", "drover.db.lock": "",
		"credentials": "key", "ca-key.pem": "ca", "function-secret": "f", "audit/1.jsonl": "a\n", "audit/2.jsonl": "b\n",
		"endpoints.json": "{}", "config": "[default]", ".credentials-1": "half", "ca.pem.new": "half",
		"objects/buckets/b/bucket.json": "{}", "objects/buckets/b/current/x": "data", "objects/buckets/b/versions/": "", "objects/uploads/": "", "objects/tmp/half": "half",
	})
	must(t, os.Chmod(filepath.Join(data, "function-secret"), 0o400))
	elsewhere := lay(t, map[string]string{"seal": "sealed", "drover.yaml": "data: x"})
	return Source{
		Data: data, Objects: filepath.Join(data, "objects"), KeyFile: filepath.Join(elsewhere, "seal"), KeyName: "secrets.key",
		Settings: map[string]string{"drover.yaml": filepath.Join(elsewhere, "drover.yaml"), "tls-key.pem": filepath.Join(data, "ca-key.pem")},
		Database: func(_ context.Context, to string) error { return os.WriteFile(to, []byte("snapshot"), 0o600) },
		Program:  "test", Now: time.Now,
	}
}

var restored = map[string]string{
	"drover.db": "-rw------- snapshot", "credentials": "-rw------- key", "ca-key.pem": "-rw------- ca", "function-secret": "-r-------- f", "secrets.key": "-rw------- sealed",
	"audit": "drwx------ ", "audit/1.jsonl": "-rw------- a\n", "audit/2.jsonl": "-rw------- b\n", "settings": "drwx------ ", "settings/drover.yaml": "-rw------- data: x",
	"objects": "drwx------ ", "objects/buckets": "drwx------ ", "objects/buckets/b": "drwx------ ", "objects/buckets/b/bucket.json": "-rw------- {}",
	"objects/buckets/b/current": "drwx------ ", "objects/buckets/b/current/x": "-rw------- data", "objects/buckets/b/versions": "drwx------ ", "objects/uploads": "drwx------ ",
}

func take(t *testing.T, src Source) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "backup")
	_, err := Take(t.Context(), src, dir)
	must(t, err)
	return dir
}

func TestThereAndBack(t *testing.T) {
	t.Parallel()
	dir := take(t, source(t))
	for name, text := range tree(t, dir) {
		if mode := strings.Fields(text)[0]; mode != "-rw-------" && mode != "drwx------" {
			t.Errorf("%s in the backup has mode %s", name, mode)
		}
	}
	checked := ""
	m, err := Verify(t.Context(), dir, func(db string) error { checked = db; return nil })
	if err != nil || checked != filepath.Join(dir, "data", "drover.db") || m.Bytes() == 0 {
		t.Errorf("%v, checked %q, %d bytes", err, checked, m.Bytes())
	}

	t.Run("into a folder that is not there", func(t *testing.T) {
		t.Parallel()
		data := filepath.Join(t.TempDir(), "a", "b")
		_, err := Restore(t.Context(), dir, Target{Data: data, KeyName: "secrets.key"}, fine)
		must(t, err)
		same(t, "data", tree(t, data), restored)
		must(t, Finished(data))
	})
	t.Run("into an empty file system, objects and key elsewhere", func(t *testing.T) {
		t.Parallel()
		data, objects, key := lay(t, map[string]string{"lost+found/": ""}), t.TempDir(), filepath.Join(t.TempDir(), "keys", "seal")
		_, err := Restore(t.Context(), dir, Target{Data: data, Objects: objects, KeyFile: key, KeyName: "secrets.key"}, fine)
		must(t, err)
		wantData, wantObjects := map[string]string{"lost+found": "drwx------ "}, map[string]string{}
		for name, text := range restored {
			if rest, ok := strings.CutPrefix(name, "objects/"); ok {
				wantObjects[rest] = text
			} else if name != "objects" && name != "secrets.key" {
				wantData[name] = text
			}
		}
		same(t, "data", tree(t, data), wantData)
		same(t, "objects", tree(t, objects), wantObjects)
		if text, err := os.ReadFile(key); err != nil || string(text) != "sealed" {
			t.Errorf("the key: %q %v", text, err)
		}
	})
	t.Run("not over something", func(t *testing.T) {
		t.Parallel()
		full := map[string]string{"x": "-rw------- mine"}
		for what, to := range map[string]Target{
			"data":    {Data: lay(t, map[string]string{"x": "mine"})},
			"objects": {Data: filepath.Join(t.TempDir(), "new"), Objects: lay(t, map[string]string{"x": "mine"})},
			"key":     {Data: filepath.Join(t.TempDir(), "new"), KeyFile: filepath.Join(lay(t, map[string]string{"x": "mine"}), "x")},
		} {
			to.KeyName = "secrets.key"
			if _, err := Restore(t.Context(), dir, to, fine); err == nil {
				t.Errorf("%s: restored", what)
			}
			switch what {
			case "data":
				same(t, what, tree(t, to.Data), full)
			case "objects":
				same(t, what, tree(t, to.Objects), full)
			case "key":
				same(t, what, tree(t, filepath.Dir(to.KeyFile)), full)
			}
			if _, err := os.Stat(to.Data); what != "data" && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: the data folder was made: %v", what, err)
			}
		}
	})
	t.Run("an interrupted restore is recognised", func(t *testing.T) {
		t.Parallel()
		data := lay(t, map[string]string{staging + "/": ""})
		_, err := Restore(t.Context(), dir, Target{Data: data}, fine)
		if !errors.Is(err, ErrUnfinished) || !errors.Is(Finished(data), ErrUnfinished) {
			t.Error(err)
		}
	})
}

// Whatever is wrong with a backup is named, and nothing is written.
func TestDamage(t *testing.T) {
	t.Parallel()
	whole := take(t, source(t))
	edit := func(name string, change func(string) string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			text, err := os.ReadFile(filepath.Join(dir, name))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(dir, name), []byte(change(string(text))), 0o600))
		}
	}
	flip := func(s string) string { return s[:len(s)-1] + string(s[len(s)-1]^1) }
	for what, c := range map[string]struct {
		damage func(*testing.T, string)
		want   string
	}{
		"a bit":           {edit("data/credentials", flip), "data/credentials is damaged"},
		"a bit of the db": {edit("data/drover.db", flip), "data/drover.db is damaged"},
		"cut short":       {edit("objects/buckets/b/current/x", func(s string) string { return s[:2] }), "objects/buckets/b/current/x has 2 bytes, and should have 4"},
		"too long":        {edit("data/audit/1.jsonl", func(s string) string { return s + "x" }), "data/audit/1.jsonl has 3 bytes"},
		"missing":         {func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "data/ca-key.pem"))) }, "ca-key.pem"},
		"manifest":        {edit("manifest.json", func(s string) string { return strings.Replace(s, "0400", "0644", 1) }), "manifest.json is damaged"},
		"half a manifest": {edit("manifest.json", func(s string) string { return s[:len(s)/2] }), "manifest.json"},
		"no manifest":     {func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "manifest.json"))) }, "not a backup"},
		"newer":           {edit("manifest.json", func(s string) string { return strings.Replace(s, `"format": 1`, `"format": 2`, 1) }), "newer drover"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "copy")
			must(t, os.CopyFS(dir, os.DirFS(whole)))
			c.damage(t, dir)
			if _, err := Verify(t.Context(), dir, fine); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("verify: %v, want %q", err, c.want)
			}
			data := filepath.Join(t.TempDir(), "data")
			if _, err := Restore(t.Context(), dir, Target{Data: data}, fine); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("restore: %v, want %q", err, c.want)
			}
			if _, err := os.Stat(data); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("something was made: %v", err)
			}
		})
	}
	t.Run("a path that leads out", func(t *testing.T) {
		t.Parallel()
		for _, name := range []string{"../x", "data/../../x", "/etc/passwd", "manifest.json", ""} {
			m := Manifest{Format: format, Files: []File{{Path: name, Mode: "0600"}}}
			sum, err := m.sum()
			must(t, err)
			text := fmt.Sprintf(`{"format":1,"files":[{"path":%q,"mode":"0600"}],"sha256":%q}`, name, sum)
			if _, err := Read(lay(t, map[string]string{manifestFile: text})); err == nil || !strings.Contains(err.Error(), "not a path") {
				t.Errorf("%q: %v", name, err)
			}
		}
	})
	t.Run("the database says so itself", func(t *testing.T) {
		t.Parallel()
		_, err := Verify(t.Context(), whole, func(string) error { return errors.New("malformed") })
		if err == nil || !strings.Contains(err.Error(), "malformed") {
			t.Error(err)
		}
	})
}

func TestNothingHalfDone(t *testing.T) {
	t.Parallel()
	t.Run("backup", func(t *testing.T) {
		t.Parallel()
		for what, spoil := range map[string]func(*Source, context.CancelFunc){
			"database": func(s *Source, _ context.CancelFunc) {
				s.Database = func(context.Context, string) error { return errors.New("spoiled") }
			},
			"key":     func(s *Source, _ context.CancelFunc) { s.KeyFile += "nowhere" },
			"objects": func(s *Source, _ context.CancelFunc) { s.Objects += "nowhere" },
			"data":    func(s *Source, _ context.CancelFunc) { s.Data += "nowhere" },
			"stopped": func(s *Source, stop context.CancelFunc) {
				copied := s.Database
				s.Database = func(ctx context.Context, to string) error { defer stop(); return copied(ctx, to) }
			},
		} {
			src, parent := source(t), t.TempDir()
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			spoil(&src, stop)
			if _, err := Take(ctx, src, filepath.Join(parent, "b")); err == nil {
				t.Errorf("%s: taken", what)
			}
			same(t, what, tree(t, parent), nil)
		}
	})
	t.Run("backup over something", func(t *testing.T) {
		t.Parallel()
		to := lay(t, map[string]string{"x": "mine"})
		if _, err := Take(t.Context(), source(t), to); err == nil || !strings.Contains(err.Error(), "is there already") {
			t.Error(err)
		}
		same(t, "target", tree(t, to), map[string]string{"x": "-rw------- mine"})
	})
	t.Run("restore", func(t *testing.T) {
		t.Parallel()
		dir := take(t, source(t))
		ctx, stop := context.WithCancel(t.Context())
		parent, empty := t.TempDir(), t.TempDir()
		for _, data := range []string{filepath.Join(parent, "a", "b"), empty} {
			// It is stopped, or damaged, between the check and the copy.
			if _, err := Restore(ctx, dir, Target{Data: data}, func(string) error { stop(); return nil }); !errors.Is(err, context.Canceled) {
				t.Errorf("stopped: %v", err)
			}
			_, err := Restore(t.Context(), dir, Target{Data: data}, func(string) error {
				return os.WriteFile(filepath.Join(dir, "data", "drover.db"), []byte("snapsho!"), 0o600)
			})
			if err == nil || !strings.Contains(err.Error(), "damaged") {
				t.Errorf("damaged: %v", err)
			}
			must(t, os.WriteFile(filepath.Join(dir, "data", "drover.db"), []byte("snapshot"), 0o600))
			ctx, stop = context.WithCancel(t.Context())
		}
		stop()
		same(t, "parent", tree(t, parent), nil)
		same(t, "empty", tree(t, empty), nil)
	})
}

// What moves from where was not looked yet to where was looked already is found by looking again;
// and links are followed.
func TestObjectsOnTheMove(t *testing.T) {
	t.Parallel()
	real := lay(t, map[string]string{"buckets/b/current/x": "2", "buckets/b/versions/x/1": "1"})
	objects := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(real, objects))
	tk := &taking{ctx: t.Context(), dir: t.TempDir(), done: map[string]taken{}}
	must(t, tk.tree(filepath.Join(objects, "buckets/b/current"), "objects/buckets/b/current", nil))
	must(t, os.Rename(filepath.Join(real, "buckets/b/versions/x/1"), filepath.Join(real, "buckets/b/current/x"))) // a version is deleted: the one before is current
	must(t, tk.tree(filepath.Join(objects, "buckets/b/versions"), "objects/buckets/b/versions", nil))
	for tk.again = 1; tk.again > 0; {
		tk.again = 0
		must(t, tk.tree(objects, objectFolder, skipObjects))
	}
	if text, err := os.ReadFile(filepath.Join(tk.dir, "objects/buckets/b/current/x")); err != nil || string(text) != "1" {
		t.Errorf("the object that became the current one: %q %v", text, err)
	}
	if n := len(slices.Compact(slices.Sorted(slices.Values(tk.order)))); n != len(tk.order) {
		t.Errorf("some are there twice: %q", tk.order)
	}
}
