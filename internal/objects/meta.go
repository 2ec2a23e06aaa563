package objects

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Meta is what is known about an object, or about a part of a multipart upload.
type Meta struct {
	Key      string            `json:"key,omitempty"`
	Size     int64             `json:"size"`
	ETag     string            `json:"etag,omitempty"` // without quotes
	Modified time.Time         `json:"modified"`
	Version  string            `json:"version,omitempty"` // "" for none: versioning was never on, or is suspended
	Deleted  bool              `json:"deleted,omitempty"` // a delete marker, which has nothing else
	Headers  map[string]string `json:"headers,omitempty"` // Content-Type, Cache-Control, x-amz-meta-…: as answered
	Checksum *Checksum         `json:"checksum,omitempty"`
	Parts    []int64           `json:"parts,omitempty"`  // sizes, if it came as a multipart upload
	Upload   string            `json:"upload,omitempty"` // the multipart upload that it came as
}

// version is how the version is called on the wire.
func (m Meta) version() string {
	if m.Version == "" {
		return nullVersion
	}
	return m.Version
}

// nullVersion is S3's name for the version of an object that has none.
const nullVersion = "null"

// The end of a file: the metadata, their length in 4 bytes, and what shows that it is ours.
const (
	magic    = "drover\x00\x01"
	tailSize = 4 + len(magic)
	maxMeta  = 1 << 20 // 10,000 parts take a fifth of it
)

func (m Meta) tail() ([]byte, error) {
	text, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	if len(text) > maxMeta {
		return nil, fmt.Errorf("metadata of %d bytes", len(text))
	}
	return append(binary.BigEndian.AppendUint32(text, uint32(len(text))), magic...), nil
}

var errDamaged = errors.New("damaged file in the object store")

// readMeta reads the end of a file, and holds its length against it.
func readMeta(f *os.File) (m Meta, err error) {
	info, err := f.Stat()
	if err != nil {
		return m, err
	}
	damaged := func(what string) (Meta, error) { return Meta{}, fmt.Errorf("%w: %s: %s", errDamaged, f.Name(), what) }
	// One read is enough for nearly all.
	guess := min(info.Size(), 2<<10)
	tail := make([]byte, guess)
	if _, err := f.ReadAt(tail, info.Size()-guess); err != nil && err != io.EOF {
		return m, err
	}
	if len(tail) < tailSize || string(tail[len(tail)-len(magic):]) != magic {
		return damaged("it does not end as it should")
	}
	n := int64(binary.BigEndian.Uint32(tail[len(tail)-tailSize:]))
	at := info.Size() - int64(tailSize) - n
	if n > maxMeta || at < 0 {
		return damaged("its metadata do not fit")
	}
	text := make([]byte, n)
	if have := int64(len(tail) - tailSize); have >= n {
		copy(text, tail[have-n:have])
	} else if _, err := f.ReadAt(text, at); err != nil {
		return m, err
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return damaged(err.Error())
	}
	if m.Size != at {
		return damaged(fmt.Sprintf("it holds %d bytes of data, and should %d", at, m.Size))
	}
	return m, nil
}
