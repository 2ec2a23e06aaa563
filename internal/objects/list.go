package objects

import (
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// namesAtOnce bounds the names of one folder that are held at once.
const namesAtOnce = 4096

// keysFrom yields the keys below a folder from a key on, that one included, in order.
func keysFrom(dir, from string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) { walkKeys(dir, "", from, yield) }
}

// walkKeys yields the keys of a folder, which all begin with prefix, and reports whether to go on.
func walkKeys(dir, prefix, from string, yield func(string, error) bool) bool {
	lower := ""
	if rest, ok := strings.CutPrefix(from, prefix); ok {
		lower = encoding.EncodeToString([]byte(rest[:min(len(rest), nameBytes)]))
	}
	for {
		names, more, err := smallestNames(dir, lower, namesAtOnce)
		if errors.Is(err, fs.ErrNotExist) {
			return true
		}
		if err != nil {
			return yield("", err)
		}
		for _, name := range names {
			part, folder, err := decodeName(name)
			if err != nil {
				continue // nothing of ours
			}
			key := prefix + part
			switch {
			case folder:
				if !walkKeys(filepath.Join(dir, name), key, from, yield) {
					return false
				}
			case key >= from:
				if !yield(key, nil) {
					return false
				}
			}
		}
		if !more {
			return true
		}
		lower = names[len(names)-1] + "\x00"
	}
}

// smallestNames returns the first names of a folder, sorted, that are not below lower, at
// most limit, and whether there are more.
func smallestNames(dir, lower string, limit int) (names []string, more bool, err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	cut := func() {
		slices.Sort(names)
		if len(names) > limit {
			clear(names[limit:])
			names, more = names[:limit], true
		}
	}
	for {
		some, err := f.Readdirnames(1024)
		for _, name := range some {
			// What is above the largest of those that are kept is not looked at twice.
			if name >= lower && (!more || name < names[limit-1]) {
				names = append(names, name)
			}
			if len(names) >= 2*limit {
				cut()
			}
		}
		if err == io.EOF {
			cut()
			return names, more, nil
		}
		if err != nil {
			return nil, false, err
		}
	}
}

// Query says what to list.
type Query struct {
	Prefix, Delimiter string
	After             string // the key or common prefix after which to begin
	AfterVersion      string // with After, versions only: the version of that key after which to begin
	Limit             int    // how many objects and common prefixes together
}

// Page is what was found, in the order of the keys.
type Page struct {
	Objects  []Meta // of versions: those of one key with the newest first
	Latest   []bool // of versions: whether it is the current one
	Prefixes []string
	More     bool
	Last     string // the key or common prefix with which it ends
	Version  string // of the last, if that is a version
}

func (p *Page) len() int { return len(p.Objects) + len(p.Prefixes) }

// List lists the current objects of a bucket.
func (s *Store) List(bucket string, q Query) (Page, error) {
	return s.list(bucket, q, func(p *Page, current Meta) (bool, error) {
		if current.Deleted {
			return false, nil
		}
		p.Objects, p.Last = append(p.Objects, current), current.Key
		return true, nil
	})
}

// ListVersions lists all versions and delete markers of a bucket.
func (s *Store) ListVersions(bucket string, q Query) (Page, error) {
	return s.list(bucket, q, func(p *Page, current Meta) (bool, error) {
		others, err := s.former(bucket, current.Key, current)
		if err != nil {
			return false, err
		}
		all := append([]Meta{current}, others...)
		from := 0
		if current.Key == q.After {
			if q.AfterVersion == "" {
				return false, nil
			}
			from = 1 + slices.IndexFunc(all, func(m Meta) bool { return m.version() == q.AfterVersion })
			if from == 0 { // it went meanwhile; names of later versions sort first
				from = len(all)
				if i := slices.IndexFunc(all, func(m Meta) bool { return m.Version > q.AfterVersion }); i >= 0 {
					from = i
				}
			}
		}
		for i, m := range all[from:] {
			if p.len() == q.Limit {
				p.More = true
				return true, nil
			}
			p.Objects, p.Latest = append(p.Objects, m), append(p.Latest, from+i == 0)
			p.Last, p.Version = m.Key, m.version()
		}
		return true, nil
	})
}

// list finds keys and common prefixes. add puts the objects of a key into the page and
// reports whether there are any; it is asked for one key of a common prefix, too.
func (s *Store) list(bucket string, q Query, add func(p *Page, current Meta) (bool, error)) (p Page, err error) {
	if _, err := s.Bucket(bucket); err != nil {
		return p, err
	}
	if q.Limit == 0 {
		return p, nil
	}
	from := q.Prefix
	if q.After != "" && q.After >= from {
		from = q.After
		if q.AfterVersion == "" {
			from += "\x00"
		}
	}
	passed := q.After // a common prefix that needs nothing more
	for {
		next, skipped := "", 0
		for key, err := range keysFrom(s.path("buckets", bucket, "current"), from) {
			if err != nil {
				return p, err
			}
			if !strings.HasPrefix(key, q.Prefix) {
				return p, nil
			}
			common := ""
			if q.Delimiter != "" {
				if i := strings.Index(key[len(q.Prefix):], q.Delimiter); i >= 0 {
					common = key[:len(q.Prefix)+i+len(q.Delimiter)]
				}
			}
			if common != "" && common == passed {
				// The names at hand are looked through; behind them, the folder is read from where it ends.
				if skipped++; skipped < namesAtOnce {
					continue
				}
				next = common
				break
			}
			skipped = 0
			current, err := statObject(s.current(bucket, key))
			if errors.Is(err, fs.ErrNotExist) {
				continue // it went meanwhile
			}
			if err != nil {
				return p, err
			}
			current.Key = key
			// One more than fits says that there are more.
			full := p.len() == q.Limit
			probe := &p
			if full || common != "" {
				probe = &Page{}
			}
			found, err := add(probe, current)
			if err != nil {
				return p, err
			}
			if !found {
				continue
			}
			if full {
				p.More = true
			}
			if p.More {
				return p, nil
			}
			if common != "" {
				p.Prefixes, p.Last, p.Version = append(p.Prefixes, common), common, ""
				passed = common
			}
		}
		if next == "" {
			return p, nil
		}
		from = next + "\xff" // no key holds this byte, so it is behind all that begin so
	}
}
