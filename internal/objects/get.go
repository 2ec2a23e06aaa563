package objects

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// span is a part of an object: length bytes from start on.
type span struct{ start, length int64 }

// parseRange reads a Range header (RFC 9110 §14.2) for an object of a size. ok is false if
// it asks for nothing that S3 serves as a part: another unit, several ranges, a malformed one;
// then the whole is served. err is InvalidRange if it begins behind the end.
func parseRange(header string, size int64) (s span, ok bool, err error) {
	set, ok := strings.CutPrefix(header, "bytes=")
	if !ok || strings.Contains(set, ",") {
		return s, false, nil
	}
	first, last, ok := strings.Cut(strings.TrimSpace(set), "-")
	if !ok {
		return s, false, nil
	}
	unsatisfiable := errorf("InvalidRange", http.StatusRequestedRangeNotSatisfiable, "The requested range is not satisfiable")
	if first == "" { // the last n bytes
		n, err := parseOffset(last)
		if err != nil {
			return s, false, nil
		}
		if n == 0 || size == 0 {
			return s, false, unsatisfiable
		}
		n = min(n, size)
		return span{size - n, n}, true, nil
	}
	start, err := parseOffset(first)
	if err != nil {
		return s, false, nil
	}
	end := size - 1
	if last != "" {
		n, err := parseOffset(last)
		if err != nil || n < start {
			return s, false, nil
		}
		end = min(end, n)
	}
	if start >= size {
		return s, false, unsatisfiable
	}
	return span{start, end - start + 1}, true, nil
}

// parseOffset reads a number of digits alone; one that is too large is as large as can be.
func parseOffset(s string) (int64, error) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, strconv.ErrSyntax
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		err = nil // and n is the largest
	}
	return n, err
}

// etagMatches reports whether one of the entity tags in a header is that of the object.
func etagMatches(header, etag string) bool {
	for tag := range strings.SplitSeq(header, ",") {
		tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
		if tag == "*" || unquote(tag) == etag {
			return true
		}
	}
	return false
}

// checkConditions evaluates If-Match, If-Unmodified-Since, If-None-Match and
// If-Modified-Since, in headers that begin with a prefix, in the order of RFC 9110 §13.2.2.
// otherwise is the answer where reading would be for nothing.
func checkConditions(h http.Header, prefix string, m Meta, otherwise error) error {
	modified := m.Modified.Truncate(time.Second) // headers have seconds
	if v := h.Get(prefix + "If-Match"); v != "" {
		if !etagMatches(v, m.ETag) {
			return errPrecondition
		}
	} else if t, err := http.ParseTime(h.Get(prefix + "If-Unmodified-Since")); err == nil && modified.After(t) {
		return errPrecondition
	}
	if v := h.Get(prefix + "If-None-Match"); v != "" {
		if etagMatches(v, m.ETag) {
			return otherwise
		}
	} else if t, err := http.ParseTime(h.Get(prefix + "If-Modified-Since")); err == nil && !modified.After(t) {
		return otherwise
	}
	return nil
}

// overrides are parameters of a GetObject that set headers of the answer.
var overrides = map[string]string{
	"response-cache-control": "Cache-Control", "response-content-disposition": "Content-Disposition", "response-content-encoding": "Content-Encoding",
	"response-content-language": "Content-Language", "response-content-type": "Content-Type", "response-expires": "Expires",
}

// getObject is GetObject and HeadObject.
func (c *call) getObject() error {
	if err := c.drain(); err != nil {
		return err
	}
	o, err := c.store.Get(c.bucket, c.key, c.query.Get("versionId"))
	if err != nil {
		return err
	}
	defer func() {
		// Whatever it says, nothing was written.
		_ = o.Close()
	}()
	h := c.w.Header()
	if o.Version != "" || c.query.Has("versionId") {
		h.Set("X-Amz-Version-Id", o.version())
	}
	if o.Deleted {
		h.Set("X-Amz-Delete-Marker", "true")
		if c.query.Get("versionId") == "" {
			return errNoSuchKey
		}
		h.Set("Allow", "DELETE")
		return errorf("MethodNotAllowed", http.StatusMethodNotAllowed, "The specified method is not allowed against this resource: it is a delete marker.")
	}
	h.Set("Etag", quote(o.ETag))
	h.Set("Last-Modified", httpTime(o.Modified))
	// A page among the objects is shown to who opens its URL; it must not act as one of this server's.
	h.Set("Content-Security-Policy", "sandbox")
	h.Set("X-Content-Type-Options", "nosniff")
	for name, value := range o.Headers {
		h[name] = []string{value} // not Set: to some clients, names of user metadata are lower-case
	}
	if err := checkConditions(c.r.Header, "", o.Meta, errNotModified); err != nil {
		if errors.Is(err, errNotModified) {
			c.tally.request(c.device())
		}
		return err
	}
	whole := span{0, o.Size}
	part, partial, err := c.span(o.Meta)
	if err != nil {
		if refused := (*Error)(nil); errors.As(err, &refused) && refused.Code == "InvalidRange" {
			h.Set("Content-Range", fmt.Sprintf("bytes */%d", o.Size))
		}
		return err
	}
	for parameter, name := range overrides {
		if v := c.query.Get(parameter); v != "" {
			h.Set(name, v)
		}
	}
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Length", strconv.FormatInt(part.length, 10))
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "binary/octet-stream")
	}
	if len(o.Parts) > 0 && c.query.Has("partNumber") {
		h.Set("X-Amz-Mp-Parts-Count", strconv.Itoa(len(o.Parts)))
	}
	if o.Checksum != nil && c.r.Header.Get("X-Amz-Checksum-Mode") == "ENABLED" && part == whole {
		h.Set(checksumHeader(o.Checksum.Algorithm), o.Checksum.Value)
		h.Set("X-Amz-Checksum-Type", o.Checksum.kind())
	}
	status := http.StatusOK
	if partial {
		status = http.StatusPartialContent
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", part.start, part.start+part.length-1, o.Size))
	}
	if c.r.Method == http.MethodHead {
		c.w.WriteHeader(status)
		return nil
	}
	return c.send(o, part, status)
}

// getObjectTagging says that an object has no tags: none can be given. The AWS CLI asks before it copies.
func (c *call) getObjectTagging() error {
	o, err := c.store.Get(c.bucket, c.key, c.query.Get("versionId"))
	if err != nil {
		return err
	}
	if err := o.Close(); err != nil {
		return err
	}
	if o.Deleted {
		return errNoSuchKey
	}
	return c.answer(struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ Tagging"`
		TagSet  struct{}
	}{})
}

// span finds the part of the object that is asked for.
func (c *call) span(m Meta) (s span, partial bool, err error) {
	whole := span{0, m.Size}
	header := c.r.Header.Get("Range")
	if v := c.query.Get("partNumber"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 || n > maxParts {
			return s, false, errorf("InvalidArgument", 400, "Part number must be an integer between 1 and 10000, inclusive")
		}
		if header != "" {
			return s, false, errorf("InvalidRequest", 400, "Cannot specify both Range header and partNumber query parameter")
		}
		if len(m.Parts) == 0 && n == 1 {
			return whole, m.Size > 0, nil
		}
		if n > len(m.Parts) {
			return s, false, errorf("InvalidPartNumber", http.StatusRequestedRangeNotSatisfiable, "The requested partnumber is not satisfiable")
		}
		for _, size := range m.Parts[:n-1] {
			s.start += size
		}
		s.length = m.Parts[n-1]
		return s, true, nil
	}
	if header == "" {
		return whole, false, nil
	}
	// A range of what is not there any more is no use (RFC 9110 §13.1.5).
	if v := c.r.Header.Get("If-Range"); v != "" {
		t, err := http.ParseTime(v)
		if !etagMatches(v, m.ETag) && (err != nil || !t.Equal(m.Modified.Truncate(time.Second))) {
			return whole, false, nil
		}
	}
	s, partial, err = parseRange(header, m.Size)
	if err != nil || partial {
		return s, partial, err
	}
	return whole, false, nil
}

// send sends a part of an object, as the limits allow. What goes wrong after the status has
// been sent ends the connection: the client sees that it has less than it was told.
func (c *call) send(o *Object, part span, status int) error {
	device := c.device()
	download, err := c.traffic.begin(device, c.r)
	if err != nil {
		c.tally.refused(device)
		c.w.Header().Set("Retry-After", strconv.Itoa(retryAfter()))
		return err
	}
	defer download.end()
	if _, err := o.Seek(part.start, io.SeekStart); err != nil {
		return err
	}
	c.tally.request(device)
	c.w.WriteHeader(status)
	sent := int64(0)
	for sent < part.length {
		n, err := c.sendSome(o, min(part.length-sent, download.chunk), download)
		sent += n
		c.metrics.sent.Add(float64(n))
		c.tally.sent(device, n)
		if err != nil {
			c.log.DebugContext(c.r.Context(), "download cut off", "bucket", c.bucket, "bytes", sent, "of", part.length, "err", err)
			return errCut // with less written than announced, net/http closes the connection
		}
	}
	if part.start+part.length == o.Size {
		c.tally.completed(device)
	}
	return nil
}

func (c *call) sendSome(o *Object, n int64, d *download) (int64, error) {
	if err := d.wait(c.r.Context(), n); err != nil {
		return 0, err
	}
	if err := c.transfer.extend(http.NewResponseController(c.w).SetWriteDeadline); err != nil {
		return 0, err
	}
	// A file behind one LimitedReader, to the ResponseWriter itself: the kernel sends it.
	return io.CopyN(c.w, o.File, n)
}
