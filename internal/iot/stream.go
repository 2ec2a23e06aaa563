package iot

import (
	"math/bits"
	"regexp"
)

// Stream is a set of files that devices fetch block by block over MQTT (registry spec §8).
type Stream struct {
	Seq         int64 // order of creation, set by the store
	ID          string
	Version     int64 // 1 at first; one more with every update
	Description string
	Files       []StreamFile
	RoleARN     string // kept and returned; nobody assumes it
	CreatedAt   Time
	UpdatedAt   Time
}

// StreamFile is a file of a stream: an object as it was when the stream was made or updated.
type StreamFile struct {
	ID     int64  `json:"id"` // 0 to 255
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	// ObjectVersion is what the stream's owner asked for, "" for the latest.
	ObjectVersion string `json:"version,omitempty"`
	Size          int64  `json:"size"` // bytes
	ETag          string `json:"etag"` // changes with the content
}

// Object is where the file is.
func (f *StreamFile) Object() Object {
	return Object{Bucket: f.Bucket, Key: f.Key, Version: f.ObjectVersion}
}

// ObjectInfo is what a store knows of an object.
type ObjectInfo struct {
	Size int64
	ETag string // without quotes
}

// File finds a file of the stream.
func (s *Stream) File(id int64) (f StreamFile, ok bool) {
	for _, f := range s.Files {
		if f.ID == id {
			return f, true
		}
	}
	return f, false
}

// NewStream is what CreateStream asks for; sizes and ETags of its files are not known yet.
type NewStream struct {
	ID          string
	Description string
	Files       []StreamFile
	RoleARN     string
	Tags        []Tag
	Actor       string
}

// StreamUpdate is what UpdateStream asks for; nil members stay as they are.
type StreamUpdate struct {
	ID          string
	Description *string
	Files       []StreamFile
	RoleARN     *string
	Actor       string
}

// StreamEvent is the Data of the records about a stream.
type StreamEvent struct {
	ID      string `json:"id"`
	Version int64  `json:"version"`
}

// Limits of streams (registry spec §0.2, §8.1).
const (
	MaxStreamFiles   = 50
	maxStreamFileID  = 255
	MaxStreamVersion = 65535

	minBlockSize = 256    // bytes
	maxBlockSize = 131072 // bytes
	maxDelivered = 131072 // bytes of one request
	maxBlock     = 98304  // of offsets and counts
	maxBitmap    = 12288  // bytes; fewer
)

var streamIDPattern = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,128}$`)

// CheckFiles returns an InvalidRequest error unless a stream can have the files.
func CheckFiles(files []StreamFile) error {
	if len(files) == 0 || len(files) > MaxStreamFiles {
		return Errorf(InvalidRequest, "A stream has 1 to %d files, not %d", MaxStreamFiles, len(files))
	}
	seen := make(map[int64]bool, len(files))
	for _, f := range files {
		if f.ID < 0 || f.ID > maxStreamFileID {
			return Invalid("files.fileId", f.ID, "Member must have value between 0 and 255")
		}
		if seen[f.ID] {
			return Errorf(InvalidRequest, "Two files have the fileId %d", f.ID)
		}
		seen[f.ID] = true
		if err := f.Object().check(); err != nil {
			return err
		}
	}
	return nil
}

// CheckStreamID returns an InvalidRequest error unless a stream can be called so.
func CheckStreamID(id string) error {
	if !streamIDPattern.MatchString(id) {
		return Invalid("streamId", id, "Member must satisfy regular expression pattern: [a-zA-Z0-9_-]+ and have a length of 1 to 128")
	}
	return nil
}

// Codes that only the delivery of files has (registry spec §8.5).
const (
	BlockSizeOutOfBounds     Code = "BlockSizeOutOfBounds"
	OffsetOutOfBounds        Code = "OffsetOutOfBounds"
	BlockCountLimitExceeded  Code = "BlockCountLimitExceeded"
	BlockBitmapLimitExceeded Code = "BlockBitmapLimitExceeded"
	ETagMismatch             Code = "ETagMismatch"
	Unauthorized             Code = "Unauthorized" // the server may not read the object
)

// BlockRequest is what a device asks for by GetStream (registry spec §8.3): blocks of one size of
// a file. Block i holds the bytes from i times the size on.
type BlockRequest struct {
	Version *int64 // that the stream must have; nil: any
	File    int64
	Size    int64 // of a block, bytes
	Offset  int64 // the block that Bitmap begins with, or the first one
	Count   int64 // how many; 0: as many as may be sent
	Bitmap  []byte
	Mapped  bool // Bitmap says which blocks, otherwise those from Offset on
}

// Check returns the error that registry spec §8.4 has for a request that no stream could answer.
func (r *BlockRequest) Check() error {
	switch {
	case r.File < 0 || r.File > maxStreamFileID:
		return Invalid("f", r.File, "Member must have value between 0 and 255")
	case r.Size < minBlockSize || r.Size > maxBlockSize:
		return Errorf(BlockSizeOutOfBounds, "The block size must be between %d and %d bytes, not %d", minBlockSize, maxBlockSize, r.Size)
	case r.Offset < 0 || r.Offset > maxBlock:
		return Errorf(OffsetOutOfBounds, "The block offset must be between 0 and %d, not %d", maxBlock, r.Offset)
	case r.Count < 0 || r.Count > maxBlock:
		return Errorf(BlockCountLimitExceeded, "The number of blocks must be between 0 and %d, not %d", maxBlock, r.Count)
	case len(r.Bitmap) >= maxBitmap:
		return Errorf(BlockBitmapLimitExceeded, "The bitmap must have fewer than %d bytes, not %d", maxBitmap, len(r.Bitmap))
	}
	return nil
}

// Find returns the file that the request is about. NotFound; VersionMismatch if the stream has
// another version than the device has in mind.
func (r *BlockRequest) Find(s *Stream) (StreamFile, error) {
	f, ok := s.File(r.File)
	switch {
	case !ok:
		return f, Errorf(NotFound, "The stream %s has no file %d", s.ID, r.File)
	case r.Version != nil && *r.Version != s.Version:
		return f, Errorf(VersionMismatch, "The stream %s has the version %d, not %d", s.ID, s.Version, *r.Version)
	}
	return f, nil
}

// Blocks returns the blocks of a file of the size that the request is answered with, in ascending
// order: at most 131,072 bytes, at most Count blocks, none beyond the end (registry spec §8.4).
// NotFound if that is none.
func (r *BlockRequest) Blocks(size int64) ([]Block, error) {
	most := max(maxDelivered/r.Size, 1)
	if r.Count > 0 {
		most = min(most, r.Count)
	}
	blocks := make([]Block, 0, min(most, 1+size/r.Size))
	add := func(i int64) (more bool) {
		at := i * r.Size
		if int64(len(blocks)) >= most || at >= size {
			return false
		}
		blocks = append(blocks, Block{i, at, min(r.Size, size-at)})
		return true
	}
	if r.Mapped {
		mapped(r.Bitmap, func(k int64) bool { return add(r.Offset + k) })
	} else {
		for i := r.Offset; add(i); i++ {
		}
	}
	if len(blocks) == 0 {
		return nil, Errorf(NotFound, "The file %d has no such block: it has %d bytes", r.File, size)
	}
	return blocks, nil
}

// mapped calls f with the places of the bits that are set, in ascending order, until it returns
// false. The first byte has the places 0 to 7, the least significant bit first.
func mapped(bitmap []byte, f func(int64) bool) {
	for n, b := range bitmap {
		for ; b != 0; b &= b - 1 {
			if !f(int64(8*n + bits.TrailingZeros8(b))) {
				return
			}
		}
	}
}

// Block is a part of a file.
type Block struct {
	ID     int64
	Offset int64 // in the file, bytes
	Length int64 // bytes; of the last block the rest
}
