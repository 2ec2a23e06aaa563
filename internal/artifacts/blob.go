package artifacts

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/singleflight"

	"drover/internal/iot"
)

// A blob of another store is read in chunks, which are kept for the next device that wants the
// same: the devices of a fleet ask for the same blocks at about the same time.
const (
	chunkSize  = 1 << 20
	keptChunks = 64
	// chunkTimeout bounds the reading of a chunk, for everybody who waits for it.
	chunkTimeout = 15 * time.Second
)

// Stat returns size and ETag of an object. NotFound; InvalidRequest if it cannot be read, which says why.
func (s *Store) Stat(ctx context.Context, o iot.Object) (iot.ObjectInfo, error) {
	if s.cfg.Box != nil {
		f, err := s.openBox(o)
		if err != nil {
			return iot.ObjectInfo{}, err
		}
		return f.ObjectInfo, f.Close()
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	out, err := s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &o.Bucket, Key: &o.Key, VersionId: given(o.Version)}, s.inRegion(o))
	if err != nil {
		return iot.ObjectInfo{}, s.unread(o, err)
	}
	return iot.ObjectInfo{Size: aws.ToInt64(out.ContentLength), ETag: strings.Trim(aws.ToString(out.ETag), `"`)}, nil
}

// openBox opens an object of the store in the box. Errors are those of Stat.
func (s *Store) openBox(o iot.Object) (*File, error) {
	f, err := s.cfg.Box.Open(o.Bucket, o.Key, o.Version)
	if err != nil {
		return nil, s.unread(o, err)
	}
	return f, nil
}

// unread renders the error of a store.
func (s *Store) unread(o iot.Object, err error) error {
	code := iot.InvalidRequest
	if missing(err) {
		code = iot.NotFound
	}
	return iot.Errorf(code, "The object cannot be read: %s", s.reason(o, err))
}

// Blob opens an object that Stat has described. Reading it, or Blob itself, fails with
// iot.ETagMismatch if it has changed since; other errors are those of Stat. Close it.
func (s *Store) Blob(ctx context.Context, o iot.Object, info iot.ObjectInfo) (*File, error) {
	if s.cfg.Box == nil {
		return &File{remote{ctx, s, o, info}, io.NopCloser(nil), info}, nil
	}
	f, err := s.openBox(o)
	if err == nil && f.ObjectInfo != info {
		return nil, errors.Join(changed(o), f.Close())
	}
	return f, err
}

func changed(o iot.Object) error {
	return iot.Errorf(iot.ETagMismatch, "The object %s/%s is not what it was any more", o.Bucket, o.Key)
}

// remote is an object of another store.
type remote struct {
	ctx    context.Context
	store  *Store
	object iot.Object
	info   iot.ObjectInfo
}

// ReadAt implements io.ReaderAt.
func (r remote) ReadAt(p []byte, at int64) (n int, err error) {
	for n < len(p) {
		if at >= r.info.Size {
			return n, io.EOF
		}
		chunk, err := r.store.chunks.get(r.ctx, chunkKey{r.object, r.info, at / chunkSize}, r.store.readChunk)
		if err != nil {
			return n, err
		}
		got := copy(p[n:], chunk[at%chunkSize:])
		n, at = n+got, at+int64(got)
	}
	return n, nil
}

// readChunk reads a part of an object. Errors are those of Blob.
func (s *Store) readChunk(k chunkKey) (_ []byte, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), chunkTimeout)
	defer cancel()
	from := k.number * chunkSize
	size := min(chunkSize, k.info.Size-from)
	out, err := s.client.GetObject(ctx, &s3.GetObjectInput{
		Bucket: &k.object.Bucket, Key: &k.object.Key, VersionId: given(k.object.Version), IfMatch: aws.String(`"` + k.info.ETag + `"`),
		Range: aws.String(fmt.Sprintf("bytes=%d-%d", from, from+size-1)),
	}, s.inRegion(k.object))
	if err != nil {
		refused, ok := errors.AsType[*awshttp.ResponseError](err)
		if ok && (refused.HTTPStatusCode() == http.StatusPreconditionFailed || refused.HTTPStatusCode() == http.StatusRequestedRangeNotSatisfiable) {
			return nil, changed(k.object)
		}
		return nil, s.unread(k.object, err)
	}
	defer func() { err = errors.Join(err, out.Body.Close()) }()
	// A store that does not know the condition, or the range, says what it sends instead.
	if strings.Trim(aws.ToString(out.ETag), `"`) != k.info.ETag || aws.ToInt64(out.ContentLength) != size {
		return nil, changed(k.object)
	}
	chunk := make([]byte, size)
	if _, err := io.ReadFull(out.Body, chunk); err != nil {
		return nil, s.unread(k.object, err)
	}
	return chunk, nil
}

// chunkKey names a part of an object as it was once.
type chunkKey struct {
	object iot.Object
	info   iot.ObjectInfo
	number int64
}

func (k chunkKey) String() string {
	return fmt.Sprintf("%q %q %q %q %q %d %d", k.object.Region, k.object.Bucket, k.object.Key, k.object.Version, k.info.ETag, k.info.Size, k.number)
}

// chunks are the last ones that were read. The zero value is none.
type chunks struct {
	reading singleflight.Group

	mu    sync.Mutex
	all   map[chunkKey]*list.Element
	order list.List // of *chunk, the last used first
}

type chunk struct {
	key  chunkKey
	data []byte
}

// get returns a chunk, which must not be changed, and reads it if it is not kept: once for all who
// wait for it, each as long as his context lasts.
func (c *chunks) get(ctx context.Context, k chunkKey, read func(chunkKey) ([]byte, error)) ([]byte, error) {
	if data, ok := c.kept(k); ok {
		return data, nil
	}
	done := c.reading.DoChan(k.String(), func() (any, error) {
		if data, ok := c.kept(k); ok { // somebody was faster
			return data, nil
		}
		data, err := read(k)
		if err == nil {
			c.keep(k, data)
		}
		return data, err
	})
	select {
	case r := <-done:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.([]byte), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *chunks) kept(k chunkKey) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.all[k]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*chunk).data, true
}

func (c *chunks) keep(k chunkKey, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = make(map[chunkKey]*list.Element)
	}
	c.all[k] = c.order.PushFront(&chunk{k, data})
	if len(c.all) > keptChunks {
		last := c.order.Remove(c.order.Back()).(*chunk)
		delete(c.all, last.key)
	}
}
