package objects

import (
	"cmp"
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Store keeps buckets and objects in a folder. One process at a time may use a folder. It
// is safe for concurrent use.
type Store struct {
	// Reserve is how many bytes of the disk uploads leave free: the database may be on it, and must go on
	// when somebody fills the store. It is set before the Store is used; 0: none.
	Reserve int64

	dir string
	now func() time.Time

	// buckets is held for writing while the set of buckets or one of them changes, and for
	// reading by whatever changes what is in one.
	buckets sync.RWMutex
	keys    stripes // taken after that of an upload
	uploads stripes
}

// OpenStore opens the folder and makes it if there is none. What an interrupted process has
// half written is removed.
func OpenStore(dir string, now func() time.Time) (*Store, error) {
	s := &Store{dir: dir, now: now}
	if err := os.RemoveAll(s.path("tmp")); err != nil {
		return nil, fmt.Errorf("object store: %w", err)
	}
	for _, sub := range []string{"buckets", "uploads", "tmp"} {
		if err := os.MkdirAll(s.path(sub), 0o700); err != nil {
			return nil, fmt.Errorf("object store: %w", err)
		}
	}
	return s, nil
}

// Clear forgets everything.
func (s *Store) Clear() error {
	s.buckets.Lock()
	defer s.buckets.Unlock()
	for _, sub := range []string{"buckets", "uploads"} {
		entries, err := os.ReadDir(s.path(sub))
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := s.discard(s.path(sub, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

func (s *Store) current(bucket, key string) string {
	return s.path("buckets", bucket, "current", encodeKey(key))
}

func (s *Store) versions(bucket, key string) string {
	return s.path("buckets", bucket, "versions", encodeKey(key))
}

// stripes are locks of names, each of many names. Nobody holds two of them.
type stripes [256]sync.Mutex

var seed = maphash.MakeSeed()

func (l *stripes) lock(name string) (unlock func()) {
	mu := &l[maphash.String(seed, name)%uint64(len(l))]
	mu.Lock()
	return mu.Unlock
}

// discard takes a folder away at once, and then removes what is in it.
func (s *Store) discard(path string) error {
	away := s.path("tmp", newID())
	if err := os.Rename(path, away); err != nil {
		return err
	}
	return errors.Join(syncDir(filepath.Dir(path)), os.RemoveAll(away))
}

// newID makes a name that has never been.
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails: it ends the program instead
	return hex.EncodeToString(b[:])
}

// Bucket is a bucket.
type Bucket struct {
	Name       string     `json:"-"`
	Created    time.Time  `json:"created"`
	Versioning Versioning `json:"versioning,omitempty"`
}

// Versioning says whether former objects of a key are kept: "" for never yet.
type Versioning string

// What versioning can be switched to.
const (
	VersioningEnabled   Versioning = "Enabled"
	VersioningSuspended Versioning = "Suspended"
)

const bucketFile = "bucket.json"

// Bucket finds a bucket. NoSuchBucket.
func (s *Store) Bucket(name string) (b Bucket, err error) {
	if checkBucketName(name) != nil {
		return b, errNoSuchBucket
	}
	text, err := os.ReadFile(s.path("buckets", name, bucketFile))
	if errors.Is(err, fs.ErrNotExist) {
		return b, errNoSuchBucket
	}
	if err == nil {
		err = json.Unmarshal(text, &b)
	}
	b.Name = name
	return b, err
}

// Buckets lists the buckets by name.
func (s *Store) Buckets() (list []Bucket, err error) {
	entries, err := os.ReadDir(s.path("buckets"))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		b, err := s.Bucket(e.Name())
		if errors.Is(err, errNoSuchBucket) {
			continue // it goes just now
		}
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	return list, nil
}

// CreateBucket makes a bucket. BucketAlreadyOwnedByYou.
func (s *Store) CreateBucket(name string) error {
	if err := checkBucketName(name); err != nil {
		return err
	}
	s.buckets.Lock()
	defer s.buckets.Unlock()
	if _, err := s.Bucket(name); !errors.Is(err, errNoSuchBucket) {
		return cmp.Or[error](err, errorf("BucketAlreadyOwnedByYou", 409, "Your previous request to create the named bucket succeeded and you already own it."))
	}
	made := s.path("tmp", newID())
	for _, sub := range []string{"current", "versions"} {
		if err := os.MkdirAll(filepath.Join(made, sub), 0o700); err != nil {
			return err
		}
	}
	if err := s.writeJSON(filepath.Join(made, bucketFile), Bucket{Created: s.now().UTC()}); err != nil {
		return err
	}
	path := s.path("buckets", name)
	return cmp.Or(os.Rename(made, path), syncDir(filepath.Dir(path)))
}

// SetVersioning switches versioning.
func (s *Store) SetVersioning(name string, v Versioning) error {
	s.buckets.Lock()
	defer s.buckets.Unlock()
	b, err := s.Bucket(name)
	if err != nil {
		return err
	}
	b.Versioning = v
	return s.writeJSON(s.path("buckets", name, bucketFile), b)
}

// DeleteBucket forgets a bucket without objects, and uploads into it. BucketNotEmpty.
func (s *Store) DeleteBucket(name string) error {
	s.buckets.Lock()
	defer s.buckets.Unlock()
	if _, err := s.Bucket(name); err != nil {
		return err
	}
	for _, err := range keysFrom(s.path("buckets", name, "current"), "") {
		return cmp.Or[error](err, errorf("BucketNotEmpty", 409, "The bucket you tried to delete is not empty. You must delete all versions in the bucket."))
	}
	uploads, err := s.Uploads(name)
	if err != nil {
		return err
	}
	for _, u := range uploads {
		if err := s.discard(s.path("uploads", u.ID)); err != nil {
			return err
		}
	}
	return s.discard(s.path("buckets", name))
}

// writeJSON puts a small file in place, whole and durably.
func (s *Store) writeJSON(path string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(s.path("tmp", newID()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(text); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes what was done in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// makeDirs makes a folder and those above it, durably.
func makeDirs(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeDirs(filepath.Dir(dir)); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return cmp.Or(err, syncDir(filepath.Dir(dir)))
}

// received is a file in tmp on its way to become an object or a part.
type received struct {
	f        *os.File
	size     int64
	md5      []byte
	checksum *Checksum // nil if none was asked for
}

// syncEarly is the size from which data is flushed before the locks are taken.
const syncEarly = 1 << 20

// receive reads src to its end into a file. The caller drops it or commits it.
func (s *Store) receive(src io.Reader, algorithm string) (_ *received, err error) {
	f, err := os.OpenFile(s.path("tmp", newID()), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	got := &received{f: f}
	defer func() {
		if err != nil {
			err = errors.Join(err, got.drop())
		}
	}()
	sum, extra := md5.New(), hash.Hash(nil)
	to := []io.Writer{&room{store: s}, f, sum}
	if algorithm != "" {
		extra = newChecksum(algorithm)
		to = append(to, extra)
	}
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	// Only the Reader and only the Writer: nothing may take the buffer's place.
	if got.size, err = io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(to...)}, struct{ io.Reader }{src}, *buffer); err != nil {
		return nil, err
	}
	got.md5 = sum.Sum(nil)
	if extra != nil {
		got.checksum = &Checksum{Algorithm: algorithm, Value: base64.StdEncoding.EncodeToString(extra.Sum(nil))}
	}
	if got.size >= syncEarly {
		err = f.Sync()
	}
	return got, err
}

// room fails when what goes through it would use up the reserve.
type room struct {
	store *Store
	left  int64 // bytes until the disk is looked at again
}

// lookAgain is how many bytes are written between two looks at the disk; small objects have one each.
const lookAgain = 16 << 20

func (r *room) Write(p []byte) (int, error) {
	if r.left -= int64(len(p)); r.left < 0 && r.store.Reserve > 0 {
		free, err := freeSpace(r.store.dir)
		if err != nil {
			return 0, err
		}
		if free < r.store.Reserve {
			return 0, fmt.Errorf("%d bytes of the disk are free, %d are reserved: %w", free, r.store.Reserve, syscall.ENOSPC)
		}
		r.left = lookAgain
	}
	return len(p), nil
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

// drop forgets the file. It is harmless after place.
func (r *received) drop() error {
	if r.f == nil {
		return nil
	}
	err := errors.Join(r.f.Close(), os.Remove(r.f.Name()))
	r.f = nil
	return err
}

// place completes the file with what is known about it and moves it to path, durably.
func (r *received) place(path string, m Meta) error {
	tail, err := m.tail()
	if err != nil {
		return err
	}
	if _, err := r.f.WriteAt(tail, r.size); err != nil {
		return err
	}
	if err := r.f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(r.f.Name(), path); err != nil {
		return err
	}
	err = r.f.Close()
	r.f = nil
	return cmp.Or(err, syncDir(filepath.Dir(path)))
}

// Object is an object that is open for reading, at the beginning of its data, of which
// there are Size bytes. The file goes on behind them. Close it.
type Object struct {
	*os.File
	Meta
}

// Get opens an object; version "" is the current one. NoSuchBucket, NoSuchKey,
// NoSuchVersion. A delete marker is opened like an object.
func (s *Store) Get(bucket, key, version string) (*Object, error) {
	o, err := s.open(bucket, key, version)
	if !errors.Is(err, fs.ErrNotExist) {
		return o, err
	}
	if _, err := s.Bucket(bucket); err != nil {
		return nil, err
	}
	if version != "" {
		return nil, errNoSuchVersion
	}
	return nil, errNoSuchKey
}

func (s *Store) open(bucket, key, version string) (*Object, error) {
	if checkBucketName(bucket) != nil {
		return nil, errNoSuchBucket
	}
	// Between the look at the current object and the one at the others, it may become one.
	for range 3 {
		o, err := openObject(s.current(bucket, key))
		if version == "" || err != nil || o.version() == version {
			return o, err
		}
		if err := o.Close(); err != nil {
			return nil, err
		}
		if !validVersion(version) {
			return nil, errorf("InvalidArgument", 400, "Invalid version id specified")
		}
		if o, err = openObject(filepath.Join(s.versions(bucket, key), version)); !errors.Is(err, fs.ErrNotExist) {
			return o, err
		}
	}
	return nil, fs.ErrNotExist
}

func openObject(path string) (*Object, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	m, err := readMeta(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Object{f, m}, nil
}

func statObject(path string) (Meta, error) {
	o, err := openObject(path)
	if err != nil {
		return Meta{}, err
	}
	return o.Meta, o.Close()
}

// A version is called by 26 digits of base32: its time, backwards, so that names of later
// ones sort first, and chance.
const versionLength = 26

func newVersion(at time.Time, current string) string {
	var b [16]byte
	rand.Read(b[:])
	inverted := ^uint64(at.UnixNano())
	if len(current) == versionLength { // a version is newer than the one before, whatever the clock says
		if before, err := encoding.DecodeString(current); err == nil {
			inverted = min(inverted, binary.BigEndian.Uint64(before)-1)
		}
	}
	binary.BigEndian.PutUint64(b[:], inverted)
	return encoding.EncodeToString(b[:])
}

func validVersion(v string) bool {
	if v == nullVersion {
		return true
	}
	b, err := encoding.DecodeString(v)
	return err == nil && len(v) == versionLength && encoding.EncodeToString(b) == v
}

// condition decides on the current object, nil for none, whether it may be replaced.
type condition func(current *Meta) error

// commit makes what was received the current object of the key.
func (s *Store) commit(bucket, key string, got *received, m Meta, allowed condition) (Meta, error) {
	m.Key, m.Size = key, got.size
	s.buckets.RLock()
	defer s.buckets.RUnlock()
	b, err := s.Bucket(bucket)
	if err != nil {
		return m, err
	}
	defer s.keys.lock(bucket + "/" + key)()
	path := s.current(bucket, key)
	var before *Meta
	switch have, err := statObject(path); {
	case err == nil:
		before = &have
	case !errors.Is(err, fs.ErrNotExist):
		return m, err
	}
	if allowed != nil {
		visible := before
		if before != nil && before.Deleted {
			visible = nil
		}
		if err := allowed(visible); err != nil {
			return m, err
		}
	}
	m.Modified = s.now().UTC().Truncate(time.Millisecond)
	if b.Versioning == VersioningEnabled {
		m.Version = newVersion(s.now(), before.id())
	}
	// What the new one does not replace is kept.
	if before != nil && b.Versioning != "" && before.version() != m.version() {
		kept := filepath.Join(s.versions(bucket, key), before.version())
		if err := makeDirs(filepath.Dir(kept)); err != nil {
			return m, err
		}
		err := os.Link(path, kept)
		if errors.Is(err, fs.ErrExist) { // a crash left it there
			err = cmp.Or(os.Remove(kept), os.Link(path, kept))
		}
		if err = cmp.Or(err, syncDir(filepath.Dir(kept))); err != nil {
			return m, err
		}
	}
	if err := makeDirs(filepath.Dir(path)); err != nil {
		return m, err
	}
	if err := got.place(path, m); err != nil {
		return m, err
	}
	if b.Versioning == VersioningSuspended {
		err = os.Remove(filepath.Join(s.versions(bucket, key), nullVersion))
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	return m, err
}

func (m *Meta) id() string {
	if m == nil {
		return ""
	}
	return m.Version
}

// Delete deletes an object. Without a version, in a bucket with versioning, that is a
// delete marker in front of it, which is returned. With one it is that version, which is
// returned; of an object or version that is not there, nil.
func (s *Store) Delete(bucket, key, version string) (*Meta, error) {
	b, err := s.Bucket(bucket)
	if err != nil {
		return nil, err
	}
	if version == "" && b.Versioning != "" {
		marker, err := s.receive(strings.NewReader(""), "")
		if err != nil {
			return nil, err
		}
		m, err := s.commit(bucket, key, marker, Meta{Deleted: true}, nil)
		return &m, errors.Join(err, marker.drop())
	}
	if version != "" && !validVersion(version) {
		return nil, errorf("InvalidArgument", 400, "Invalid version id specified")
	}
	s.buckets.RLock()
	defer s.buckets.RUnlock()
	defer s.keys.lock(bucket + "/" + key)()
	path := s.current(bucket, key)
	m, err := statObject(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if version != "" && m.version() != version {
		path = filepath.Join(s.versions(bucket, key), version)
		if m, err = statObject(path); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
		return &m, cmp.Or(os.Remove(path), syncDir(filepath.Dir(path)), s.tidy(bucket, key))
	}
	others, err := s.former(bucket, key, m)
	if err != nil {
		return nil, err
	}
	if len(others) > 0 { // the newest of the others becomes the current one
		err = os.Rename(filepath.Join(s.versions(bucket, key), others[0].version()), path)
	} else {
		err = os.Remove(path)
	}
	return &m, cmp.Or(err, syncDir(filepath.Dir(path)), s.tidy(bucket, key))
}

// former returns the versions of a key that are not current, the newest first.
func (s *Store) former(bucket, key string, current Meta) (list []Meta, err error) {
	dir := s.versions(bucket, key)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !validVersion(e.Name()) || e.Name() == current.version() {
			continue // a longer key's folder; or a crash left it there
		}
		m, err := statObject(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b Meta) int {
		return cmp.Or(b.Modified.Compare(a.Modified), cmp.Compare(a.Version, b.Version))
	})
	return list, nil
}

// tidy removes the folder of the versions of a key if it is empty.
func (s *Store) tidy(bucket, key string) error {
	dir := s.versions(bucket, key)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || len(entries) > 0 {
		return err
	}
	return os.Remove(dir)
}
