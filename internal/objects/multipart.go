package objects

import (
	"cmp"
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// S3's limits of multipart uploads.
const (
	maxParts    = 10_000
	minPartSize = 5 << 20 // of all parts but the last
)

// uploadExpiry is how long an upload that nobody completes is kept.
const uploadExpiry = 7 * 24 * time.Hour

// Upload is a multipart upload that has not been completed.
type Upload struct {
	ID        string            `json:"-"`
	Bucket    string            `json:"bucket"`
	Key       string            `json:"key"`
	Initiated time.Time         `json:"initiated"`
	Headers   map[string]string `json:"headers,omitempty"`   // of the object to be
	Algorithm string            `json:"algorithm,omitempty"` // of the checksum to keep
	Composite bool              `json:"composite,omitempty"` // the checksum is one of the parts' checksums
}

// Part is a part of an upload.
type Part struct {
	Number int
	Meta
}

const uploadFile = "upload.json"

func validID(id string) bool {
	return len(id) == 32 && strings.Trim(id, "0123456789abcdef") == ""
}

func (s *Store) partPath(id string, number int) string {
	return s.path("uploads", id, fmt.Sprintf("%05d", number))
}

// CreateUpload begins an upload and sets its ID.
func (s *Store) CreateUpload(u *Upload) error {
	s.buckets.RLock()
	defer s.buckets.RUnlock()
	if _, err := s.Bucket(u.Bucket); err != nil {
		return err
	}
	u.ID, u.Initiated = newID(), s.now().UTC().Truncate(time.Millisecond)
	made := s.path("tmp", u.ID)
	if err := os.Mkdir(made, 0o700); err != nil {
		return err
	}
	return cmp.Or(s.writeJSON(s.path("tmp", u.ID, uploadFile), u), os.Rename(made, s.path("uploads", u.ID)), syncDir(s.path("uploads")))
}

// Upload finds an upload into a key. NoSuchUpload.
func (s *Store) Upload(bucket, key, id string) (u Upload, err error) {
	if !validID(id) {
		return u, errNoSuchUpload
	}
	if u, err = s.readUpload(id); err == nil && (u.Bucket != bucket || u.Key != key) {
		return u, errNoSuchUpload
	}
	return u, err
}

func (s *Store) readUpload(id string) (u Upload, err error) {
	text, err := os.ReadFile(s.path("uploads", id, uploadFile))
	if errors.Is(err, fs.ErrNotExist) {
		return u, errNoSuchUpload
	}
	if err == nil {
		err = json.Unmarshal(text, &u)
	}
	u.ID = id
	return u, err
}

// Uploads lists the uploads into a bucket, "" for all, by key and time.
func (s *Store) Uploads(bucket string) (list []Upload, err error) {
	entries, err := os.ReadDir(s.path("uploads"))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		u, err := s.readUpload(e.Name())
		switch {
		case errors.Is(err, errNoSuchUpload):
		case err != nil:
			return nil, err
		case bucket == "" || u.Bucket == bucket:
			list = append(list, u)
		}
	}
	slices.SortFunc(list, func(a, b Upload) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), a.Initiated.Compare(b.Initiated), cmp.Compare(a.ID, b.ID))
	})
	return list, nil
}

// commitPart keeps what was received as a part of the upload.
func (s *Store) commitPart(u Upload, number int, got *received) (Meta, error) {
	m := Meta{Size: got.size, ETag: hex.EncodeToString(got.md5), Modified: s.now().UTC().Truncate(time.Millisecond), Checksum: got.checksum}
	defer s.uploads.lock(u.ID)()
	if _, err := s.readUpload(u.ID); err != nil { // it may have ended meanwhile
		return m, err
	}
	return m, got.place(s.partPath(u.ID, number), m)
}

// Parts lists the parts of an upload after a number, at most limit, and reports whether
// there are more.
func (s *Store) Parts(u Upload, after, limit int) (list []Part, more bool, err error) {
	entries, err := os.ReadDir(s.path("uploads", u.ID))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, errNoSuchUpload
	}
	if err != nil {
		return nil, false, err
	}
	for _, e := range entries {
		number, err := strconv.Atoi(e.Name())
		if err != nil || number <= after {
			continue
		}
		if len(list) == limit {
			return list, true, nil
		}
		m, err := statObject(s.partPath(u.ID, number))
		if err != nil {
			return nil, false, err
		}
		list = append(list, Part{number, m})
	}
	return list, false, nil
}

// Abort forgets an upload.
func (s *Store) Abort(u Upload) error {
	defer s.uploads.lock(u.ID)()
	if _, err := s.readUpload(u.ID); err != nil {
		return err
	}
	return s.discard(s.path("uploads", u.ID))
}

// ChosenPart is a part as the client names it to complete an upload.
type ChosenPart struct {
	Number   int
	ETag     string // without quotes
	Checksum string // base64; "" if the client does not say
}

// Complete puts the chosen parts together to an object. want is the checksum of the whole,
// or of the parts, if the client says it.
func (s *Store) Complete(u Upload, chosen []ChosenPart, want string, size int64, allowed condition) (Meta, error) {
	defer s.uploads.lock(u.ID)()
	if _, err := s.readUpload(u.ID); err != nil {
		return s.completed(u, err)
	}
	m := Meta{Headers: u.Headers, Upload: u.ID}
	parts, err := s.choose(u, chosen, &m)
	if err != nil {
		return m, err
	}
	algorithm := u.Algorithm
	if u.Composite {
		algorithm = "" // known already
	}
	got, err := s.join(u, parts, algorithm)
	if err != nil {
		return m, err
	}
	if got.checksum != nil {
		m.Checksum = got.checksum
	}
	switch {
	case want != "" && m.Checksum != nil && strings.TrimSuffix(want, fmt.Sprintf("-%d", len(parts))) != strings.TrimSuffix(m.Checksum.Value, fmt.Sprintf("-%d", len(parts))):
		err = errorf("BadDigest", 400, "The %s you specified did not match the calculated checksum.", m.Checksum.Algorithm)
	case size >= 0 && size != got.size:
		err = errorf("InvalidRequest", 400, "The provided 'x-amz-mp-object-size' header does not match what was computed: %d bytes.", got.size)
	default:
		m, err = s.commit(u.Bucket, u.Key, got, m, allowed)
	}
	if err = errors.Join(err, got.drop()); err != nil {
		return m, err
	}
	// Should this fail, the upload expires.
	return m, s.discard(s.path("uploads", u.ID))
}

// completed answers a client that did not hear that its upload has been completed.
func (s *Store) completed(u Upload, err error) (Meta, error) {
	if m, found := statObject(s.current(u.Bucket, u.Key)); found == nil && m.Upload == u.ID && errors.Is(err, errNoSuchUpload) {
		return m, nil
	}
	return Meta{}, err
}

// choose checks what the client wants to put together, and notes what is known from the
// parts alone: ETag, sizes, composite checksum.
func (s *Store) choose(u Upload, chosen []ChosenPart, m *Meta) (parts []Part, err error) {
	etags := md5.New()
	sums := newChecksum(u.Algorithm)
	for i := range chosen[1:] {
		if chosen[i].Number < chosen[i+1].Number {
			continue
		}
		return nil, errorf("InvalidPartOrder", 400, "The list of parts was not in ascending order. Parts must be ordered by part number.")
	}
	for i, c := range chosen {
		invalid := errorf("InvalidPart", 400, "One or more of the specified parts could not be found, or its entity tag or checksum is another: part %d.", c.Number)
		p, err := statObject(s.partPath(u.ID, c.Number))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, invalid
		}
		if err != nil {
			return nil, err
		}
		if p.ETag != c.ETag || c.Checksum != "" && (p.Checksum == nil || p.Checksum.Value != c.Checksum) {
			return nil, invalid
		}
		if i < len(chosen)-1 && p.Size < minPartSize {
			return nil, errorf("EntityTooSmall", 400, "Your proposed upload is smaller than the minimum allowed size: part %d has %d bytes, all but the last need %d.", c.Number, p.Size, minPartSize)
		}
		sum, err := hex.DecodeString(p.ETag)
		if err != nil {
			return nil, err
		}
		etags.Write(sum)
		if u.Composite {
			if p.Checksum == nil {
				return nil, invalid
			}
			if sum, err = base64.StdEncoding.DecodeString(p.Checksum.Value); err != nil {
				return nil, err
			}
			sums.Write(sum)
		}
		parts = append(parts, Part{c.Number, p})
		m.Parts = append(m.Parts, p.Size)
	}
	m.ETag = fmt.Sprintf("%x-%d", etags.Sum(nil), len(parts))
	if u.Composite {
		m.Checksum = &Checksum{u.Algorithm, fmt.Sprintf("%s-%d", base64.StdEncoding.EncodeToString(sums.Sum(nil)), len(parts)), true}
	}
	return parts, nil
}

// join copies the data of the parts into one file.
func (s *Store) join(u Upload, parts []Part, algorithm string) (got *received, err error) {
	f, err := os.OpenFile(s.path("tmp", newID()), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	got = &received{f: f}
	defer func() {
		if err != nil {
			err = errors.Join(err, got.drop())
		}
	}()
	to := io.Writer(f) // a file alone: the kernel copies
	sum := newChecksum(algorithm)
	if sum != nil {
		to = io.MultiWriter(f, sum)
	}
	for _, p := range parts {
		o, err := openObject(s.partPath(u.ID, p.Number))
		if err != nil {
			return nil, err
		}
		n, err := io.CopyN(to, o.File, p.Size)
		got.size += n
		if err = errors.Join(err, o.Close()); err != nil {
			return nil, err
		}
	}
	if sum != nil {
		got.checksum = &Checksum{Algorithm: algorithm, Value: base64.StdEncoding.EncodeToString(sum.Sum(nil))}
	}
	return got, f.Sync()
}

// Expire forgets uploads that were begun long ago.
func (s *Store) Expire(ctx context.Context) error {
	uploads, err := s.Uploads("")
	if err != nil {
		return err
	}
	for _, u := range uploads {
		if ctx.Err() != nil || s.now().Sub(u.Initiated) < uploadExpiry {
			continue
		}
		if err := s.Abort(u); err != nil && !errors.Is(err, errNoSuchUpload) {
			return err
		}
	}
	return nil
}
