// Package audit keeps who did what by the API, from where, and whether it was allowed: a line of
// JSON each, in files of a folder that only their owner can read.
//
// What is kept is bounded: files go when they are older than the retention, the oldest first when
// all of them together are too large. A line is written when its request has been answered,
// by one call of the operating system: it survives the end of the process, not that of the
// machine. What nobody has signed is written at a bounded rate, so that a flood of it neither
// fills the disk nor hides the rest; how many were left out is said by the next.
package audit

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Entry is one thing that somebody did, or was refused.
type Entry struct {
	Time      time.Time `json:"time"`
	RequestID string    `json:"requestId,omitempty"`
	Who       string    `json:"who"`            // "key:AKIA…", "cert:ID", or "anonymous" for who did not prove who he is
	Name      string    `json:"name,omitempty"` // of the API key; of a person the subject
	From      string    `json:"from"`           // address of the other end of the connection
	Operation string    `json:"operation"`
	Targets   []string  `json:"targets,omitempty"` // ARNs, or the path of a request that could not be read
	Allowed   bool      `json:"allowed"`
	Status    int       `json:"status"`            // of HTTP
	Error     string    `json:"error,omitempty"`   // name of the exception
	Skipped   int       `json:"skipped,omitempty"` // entries of anonymous callers that were left out before this one
}

// Anonymous is who has not shown who he is.
const Anonymous = "anonymous"

// Query narrows what is read; zero fields do not.
type Query struct {
	Since, Until time.Time // from, and before
	Who          string    // part of it, or the whole Name
	Operation    string    // whole, in any case
	Target       string    // part of one
	Allowed      *bool
	Limit        int // the newest so many; 0 = 1,000
}

func (q *Query) matches(e *Entry) bool {
	switch {
	case !q.Since.IsZero() && e.Time.Before(q.Since), !q.Until.IsZero() && !e.Time.Before(q.Until):
	case q.Who != "" && !strings.Contains(e.Who, q.Who) && e.Name != q.Who, q.Operation != "" && !strings.EqualFold(e.Operation, q.Operation):
	case q.Target != "" && !slices.ContainsFunc(e.Targets, func(t string) bool { return strings.Contains(t, q.Target) }):
	case q.Allowed != nil && e.Allowed != *q.Allowed:
	default:
		return true
	}
	return false
}

// Config says where a Log is and how much it keeps. Dir is required.
type Config struct {
	Dir       string
	Retention time.Duration // default 90 days
	MaxBytes  int64         // of all files; default 256 MiB
	// AnonymousPerSecond is how many entries of anonymous callers are written; default 10, and
	// ten times as many at once.
	AnonymousPerSecond int
	Now                func() time.Time // default time.Now
}

// Log is a folder of entries. Its methods may be called concurrently.
type Log struct {
	cfg       Config
	anonymous *rate.Limiter

	mu      sync.Mutex
	file    *os.File // nil until the first entry
	size    int64
	day     string // of file
	skipped int
}

const (
	suffix    = ".jsonl"
	dayFormat = "20060102"
	// files are named so that their names are in the order of their beginnings.
	nameFormat = "20060102T150405.000000000Z"
	filesAtAll = 16 // the share of MaxBytes that one file can have
	maxLine    = 64 << 10
)

// Open returns the Log in a folder, which it makes if need be.
func Open(cfg Config) (*Log, error) {
	cfg.Retention = cmp.Or(cfg.Retention, 90*24*time.Hour)
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, 256<<20)
	cfg.AnonymousPerSecond = cmp.Or(cfg.AnonymousPerSecond, 10)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	l := &Log{cfg: cfg, anonymous: rate.NewLimiter(rate.Limit(cfg.AnonymousPerSecond), 10*cfg.AnonymousPerSecond)}
	return l, l.prune()
}

// Add writes an entry and sets its time if it has none. It reports whether it was written: entries
// of anonymous callers may be left out.
func (l *Log) Add(e Entry) (written bool, err error) {
	now := l.cfg.Now().UTC()
	if e.Time.IsZero() {
		e.Time = now
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Who == Anonymous {
		if !l.anonymous.AllowN(now, 1) {
			l.skipped++
			return false, nil
		}
		e.Skipped, l.skipped = l.skipped, 0
	}
	line, err := json.Marshal(e)
	if err != nil {
		return false, fmt.Errorf("audit log: %w", err)
	}
	if err := l.turn(now); err != nil {
		return false, fmt.Errorf("audit log: %w", err)
	}
	n, err := l.file.Write(append(line, '\n'))
	l.size += int64(n)
	if err != nil {
		return false, fmt.Errorf("audit log: %w", err)
	}
	return true, nil
}

// turn sees to it that there is a file of this day with room. l.mu is held.
func (l *Log) turn(now time.Time) error {
	day := now.Format(dayFormat)
	if l.file != nil && l.day == day && l.size < l.cfg.MaxBytes/filesAtAll {
		return nil
	}
	if err := l.close(); err != nil {
		return err
	}
	if err := l.prune(); err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Join(l.cfg.Dir, now.Format(nameFormat)+suffix), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	l.file, l.size, l.day = file, info.Size(), day
	return nil
}

// Close closes the file that is written. The Log can still be read.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.close()
}

func (l *Log) close() error {
	if l.file == nil {
		return nil
	}
	file := l.file
	l.file = nil
	return file.Close()
}

// names returns the names of the files, the oldest first.
func (l *Log) names() ([]string, error) {
	entries, err := os.ReadDir(l.cfg.Dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if _, err := time.Parse(nameFormat, strings.TrimSuffix(e.Name(), suffix)); err == nil && strings.HasSuffix(e.Name(), suffix) {
			names = append(names, e.Name())
		}
	}
	return names, nil // ReadDir sorts
}

// prune removes what is too old, and what is too much: room is made for one file more.
func (l *Log) prune() error {
	names, err := l.names()
	if err != nil {
		return err
	}
	total, share := int64(0), l.cfg.MaxBytes/filesAtAll
	oldest := l.cfg.Now().UTC().Add(-l.cfg.Retention)
	for _, name := range slices.Backward(names) {
		path := filepath.Join(l.cfg.Dir, name)
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		total += info.Size()
		began, err := time.Parse(nameFormat, strings.TrimSuffix(name, suffix))
		if err != nil {
			return err
		}
		// A file is of one day at most.
		if total > l.cfg.MaxBytes-share || began.Add(24*time.Hour).Before(oldest) {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// Read returns the newest entries that the query asks for, the oldest of them first. Lines that a
// crash has cut short are passed over.
func (l *Log) Read(q Query) ([]Entry, error) {
	limit := cmp.Or(q.Limit, 1000)
	names, err := l.names()
	if err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	var found []Entry // the newest first
	for _, name := range slices.Backward(names) {
		if len(found) >= limit {
			break
		}
		in, err := l.readFile(name, &q)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was too old
		}
		if err != nil {
			return nil, fmt.Errorf("audit log: %w", err)
		}
		slices.Reverse(in)
		found = append(found, in...)
	}
	found = found[:min(limit, len(found))]
	slices.Reverse(found)
	return found, nil
}

func (l *Log) readFile(name string, q *Query) (found []Entry, err error) {
	file, err := os.Open(filepath.Join(l.cfg.Dir, name))
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // it was only read
	lines := bufio.NewScanner(file)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	for lines.Scan() {
		var e Entry
		if json.Unmarshal(bytes.TrimSpace(lines.Bytes()), &e) == nil && q.matches(&e) {
			found = append(found, e)
		}
	}
	return found, lines.Err()
}
