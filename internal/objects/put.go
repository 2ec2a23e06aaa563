package objects

import (
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// S3's limits of one object and of one request.
const (
	maxPut       = 5 << 30
	maxUserMeta  = 2 << 10
	metaPrefix   = "X-Amz-Meta-"
	maxHeader    = 8 << 10
	copyFromSelf = "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes."
)

// keptHeaders are stored with an object and answered with it, besides x-amz-meta-….
var keptHeaders = []string{"Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Type", "Expires"}

// objectHeaders finds the headers that are kept with an object.
func objectHeaders(r *http.Request) (map[string]string, error) {
	kept := make(map[string]string)
	total := 0
	for _, name := range keptHeaders {
		value := strings.Join(r.Header.Values(name), ",")
		if name == "Content-Encoding" {
			value = withoutChunked(value)
		}
		if len(value) > maxHeader {
			return nil, errorf("RequestHeaderSectionTooLarge", 400, "%s is longer than %d bytes.", name, maxHeader)
		}
		if value != "" {
			kept[name] = value
		}
	}
	for name, values := range r.Header {
		if strings.HasPrefix(name, metaPrefix) {
			value := strings.Join(values, ",")
			total += len(name) - len(metaPrefix) + len(value)
			kept[strings.ToLower(name)] = value
		}
	}
	if total > maxUserMeta {
		return nil, errorf("MetadataTooLarge", 400, "Your metadata headers exceed the maximum allowed metadata size: %d bytes, the limit is %d.", total, maxUserMeta)
	}
	return kept, nil
}

// withoutChunked takes out what says how the request came.
func withoutChunked(encoding string) string {
	var kept []string
	for e := range strings.SplitSeq(encoding, ",") {
		if e = strings.TrimSpace(e); e != "" && e != "aws-chunked" {
			kept = append(kept, e)
		}
	}
	return strings.Join(kept, ",")
}

// writeCondition is If-Match and If-None-Match of a request that writes.
func (c *call) writeCondition() (condition, error) {
	match, none := c.r.Header.Get("If-Match"), c.r.Header.Get("If-None-Match")
	switch {
	case match == "" && none == "":
		return nil, nil
	case none != "" && none != "*":
		return nil, notImplemented("If-None-Match with an entity tag, where an object is written")
	}
	return func(current *Meta) error {
		if none != "" && current != nil {
			return errPrecondition
		}
		if match != "" && current == nil {
			return errNoSuchKey
		}
		if match != "" && !etagMatches(match, current.ETag) {
			return errPrecondition
		}
		return nil
	}, nil
}

// receiveBody takes in the body and holds it against what the client says of it.
func (c *call) receiveBody(algorithm string) (*received, error) {
	e, err := expected(c.r)
	if err != nil {
		return nil, err
	}
	switch {
	case c.r.ContentLength < 0:
		return nil, errorf("MissingContentLength", http.StatusLengthRequired, "You must provide the Content-Length HTTP header.")
	case c.r.ContentLength > maxPut:
		return nil, errorf("EntityTooLarge", 400, "Your proposed upload exceeds the maximum allowed object size: %d bytes at once; use a multipart upload.", int64(maxPut))
	case e.algorithm != "" && algorithm != "" && e.algorithm != algorithm:
		return nil, errorf("InvalidRequest", 400, "Checksum Type mismatch occurred, expected checksum Type: %s, actual checksum Type: %s", strings.ToLower(algorithm), strings.ToLower(e.algorithm))
	}
	if e.algorithm == "" {
		e.algorithm = algorithm
	}
	got, err := c.store.receive(c.r.Body, e.algorithm)
	if err != nil {
		return nil, err
	}
	c.metrics.received.Add(float64(got.size))
	if err := e.check(c.r, got); err != nil {
		return nil, errors.Join(err, got.drop())
	}
	return got, nil
}

// written tells what has been written, in headers.
func (c *call) written(m Meta) {
	h := c.w.Header()
	if m.ETag != "" {
		h.Set("Etag", quote(m.ETag))
	}
	if m.Version != "" {
		h.Set("X-Amz-Version-Id", m.Version)
	}
	if m.Checksum != nil {
		h.Set(checksumHeader(m.Checksum.Algorithm), m.Checksum.Value)
		h.Set("X-Amz-Checksum-Type", m.Checksum.kind())
	}
}

func (c *call) putObject() error {
	headers, err := objectHeaders(c.r)
	if err != nil {
		return err
	}
	allowed, err := c.mayWrite()
	if err != nil {
		return err
	}
	got, err := c.receiveBody("")
	if err != nil {
		return err
	}
	m, err := c.keep(got, headers, allowed)
	if err != nil {
		return err
	}
	c.written(m)
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// keep makes what was received the object.
func (c *call) keep(got *received, headers map[string]string, allowed condition) (m Meta, err error) {
	defer func() { err = errors.Join(err, got.drop()) }()
	return c.store.commit(c.bucket, c.key, got, Meta{ETag: hex.EncodeToString(got.md5), Headers: headers, Checksum: got.checksum}, allowed)
}

// mayWrite returns the condition that the request sets, and refuses before the body is read
// what would be refused behind it.
func (c *call) mayWrite() (allowed condition, err error) {
	if allowed, err = c.writeCondition(); err != nil {
		return nil, err
	}
	if _, err := c.store.Bucket(c.bucket); err != nil {
		return nil, err
	}
	if allowed == nil {
		return nil, nil
	}
	m, err := statObject(c.store.current(c.bucket, c.key))
	if err != nil || m.Deleted {
		return allowed, allowed(nil)
	}
	return allowed, allowed(&m)
}

// source opens what x-amz-copy-source names.
func (c *call) source() (*Object, error) {
	text, version, _ := strings.Cut(c.r.Header.Get("X-Amz-Copy-Source"), "?versionId=")
	path, err := url.PathUnescape(text)
	if err != nil {
		return nil, errorf("InvalidArgument", 400, "Copy Source must mention the source bucket and key: it cannot be decoded")
	}
	bucket, key, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if !ok || key == "" || bucket == "" {
		return nil, errorf("InvalidArgument", 400, "Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	if err := c.may("GetObject", bucket, key, version); err != nil {
		return nil, err
	}
	o, err := c.store.Get(bucket, key, version)
	if err != nil {
		return nil, err
	}
	if o.Deleted {
		err = errNoSuchKey
		if version != "" {
			err = errorf("InvalidRequest", 400, "The source of a copy request may not specifically refer to a delete marker by version id.")
		}
	} else {
		err = checkConditions(c.r.Header, "X-Amz-Copy-Source-", o.Meta, errPrecondition)
	}
	if err != nil {
		return nil, errors.Join(err, o.Close())
	}
	if o.Version != "" {
		c.w.Header().Set("X-Amz-Copy-Source-Version-Id", o.Version)
	}
	return o, nil
}

type copied struct {
	XMLName            xml.Name
	LastModified, ETag string
}

func (c *call) copyObject() (err error) {
	if err := c.drain(); err != nil {
		return err
	}
	allowed, err := c.mayWrite()
	if err != nil {
		return err
	}
	o, err := c.source()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	headers := o.Headers
	switch directive := c.r.Header.Get("X-Amz-Metadata-Directive"); directive {
	case "", "COPY":
		if o.Name() == c.store.current(c.bucket, c.key) {
			return errorf("InvalidRequest", 400, copyFromSelf)
		}
	case "REPLACE":
		if headers, err = objectHeaders(c.r); err != nil {
			return err
		}
	default:
		return errorf("InvalidArgument", 400, "Unknown metadata directive.")
	}
	if o.Size > maxPut {
		return errorf("InvalidRequest", 400, "The specified copy source is larger than the maximum allowable size for a copy source: %d", int64(maxPut))
	}
	algorithm := strings.ToUpper(c.r.Header.Get("X-Amz-Checksum-Algorithm"))
	if algorithm == "" && o.Checksum != nil {
		algorithm = o.Checksum.Algorithm
	}
	if algorithm != "" && newChecksum(algorithm) == nil {
		return errorf("InvalidRequest", 400, "Checksum algorithm provided is unsupported.")
	}
	got, err := c.store.receive(io.LimitReader(o.File, o.Size), algorithm)
	if err != nil {
		return err
	}
	m, err := c.keep(got, headers, allowed)
	if err != nil {
		return err
	}
	if m.Version != "" {
		c.w.Header().Set("X-Amz-Version-Id", m.Version)
	}
	return c.answer(copied{xml.Name{Space: namespace, Local: "CopyObjectResult"}, xmlTime(m.Modified), quote(m.ETag)})
}

func (c *call) deleteObject() error {
	if err := c.drain(); err != nil {
		return err
	}
	if c.r.Header.Get("If-Match") != "" {
		return notImplemented("If-Match of DeleteObject")
	}
	version := c.query.Get("versionId")
	m, err := c.store.Delete(c.bucket, c.key, version)
	if err != nil {
		return err
	}
	if version != "" {
		c.w.Header().Set("X-Amz-Version-Id", version)
	}
	if m != nil && m.Deleted {
		c.w.Header().Set("X-Amz-Delete-Marker", "true")
		c.w.Header().Set("X-Amz-Version-Id", m.version())
	}
	return c.noContent()
}

func (c *call) createMultipartUpload() error {
	if err := c.drain(); err != nil {
		return err
	}
	headers, err := objectHeaders(c.r)
	if err != nil {
		return err
	}
	u := Upload{Bucket: c.bucket, Key: c.key, Headers: headers, Algorithm: strings.ToUpper(c.r.Header.Get("X-Amz-Checksum-Algorithm"))}
	if u.Algorithm != "" && newChecksum(u.Algorithm) == nil {
		return errorf("InvalidRequest", 400, "Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]")
	}
	switch kind := strings.ToUpper(c.r.Header.Get("X-Amz-Checksum-Type")); {
	case u.Algorithm == "" && kind != "":
		return errorf("InvalidRequest", 400, "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.")
	case kind == "":
		u.Composite = u.Algorithm != "" && u.Algorithm != "CRC64NVME"
	case kind == composite && u.Algorithm == "CRC64NVME", kind == fullObject && strings.HasPrefix(u.Algorithm, "SHA"):
		return errorf("InvalidRequest", 400, "The %s checksum type cannot be used with the %s checksum algorithm.", kind, u.Algorithm)
	case kind == composite, kind == fullObject:
		u.Composite = kind == composite
	default:
		return errorf("InvalidRequest", 400, "Value for x-amz-checksum-type header is invalid.")
	}
	if err := c.store.CreateUpload(&u); err != nil {
		return err
	}
	if u.Algorithm != "" {
		c.w.Header().Set("X-Amz-Checksum-Algorithm", u.Algorithm)
		c.w.Header().Set("X-Amz-Checksum-Type", u.checksumType())
	}
	return c.answer(struct {
		XMLName               xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ InitiateMultipartUploadResult"`
		Bucket, Key, UploadId string
	}{Bucket: u.Bucket, Key: u.Key, UploadId: u.ID})
}

func (u Upload) checksumType() string {
	switch {
	case u.Algorithm == "":
		return ""
	case u.Composite:
		return composite
	}
	return fullObject
}

func (c *call) upload() (Upload, error) {
	if _, err := c.store.Bucket(c.bucket); err != nil {
		return Upload{}, err
	}
	return c.store.Upload(c.bucket, c.key, c.query.Get("uploadId"))
}

func (c *call) partNumber() (int, error) {
	n, err := strconv.Atoi(c.query.Get("partNumber"))
	if err != nil || n < 1 || n > maxParts {
		return 0, errorf("InvalidArgument", 400, "Part number must be an integer between 1 and %d, inclusive", maxParts)
	}
	return n, nil
}

func (c *call) uploadPart() error {
	u, err := c.upload()
	if err != nil {
		return err
	}
	number, err := c.partNumber()
	if err != nil {
		return err
	}
	got, err := c.receiveBody(u.Algorithm)
	if err != nil {
		return err
	}
	m, err := c.keepPart(u, number, got)
	if err != nil {
		return err
	}
	c.written(m)
	c.w.Header().Del("X-Amz-Checksum-Type") // which is the object's
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// keepPart makes what was received a part.
func (c *call) keepPart(u Upload, number int, got *received) (m Meta, err error) {
	defer func() { err = errors.Join(err, got.drop()) }()
	return c.store.commitPart(u, number, got)
}

func (c *call) uploadPartCopy() (err error) {
	if err := c.drain(); err != nil {
		return err
	}
	u, err := c.upload()
	if err != nil {
		return err
	}
	number, err := c.partNumber()
	if err != nil {
		return err
	}
	o, err := c.source()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	part := span{0, o.Size}
	if v := c.r.Header.Get("X-Amz-Copy-Source-Range"); v != "" {
		s, ok, err := parseRange(v, o.Size)
		if err != nil || !ok {
			return errorf("InvalidArgument", 400, "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy, within the source")
		}
		part = s
	}
	if part.length > maxPut {
		return errorf("InvalidRequest", 400, "The specified copy source is larger than the maximum allowable size for a copy source: %d", int64(maxPut))
	}
	if _, err := o.Seek(part.start, io.SeekStart); err != nil {
		return err
	}
	got, err := c.store.receive(io.LimitReader(o.File, part.length), u.Algorithm)
	if err != nil {
		return err
	}
	m, err := c.keepPart(u, number, got)
	if err != nil {
		return err
	}
	return c.answer(copied{xml.Name{Space: namespace, Local: "CopyPartResult"}, xmlTime(m.Modified), quote(m.ETag)})
}

func (c *call) completeMultipartUpload() error {
	var in struct {
		Part []struct {
			PartNumber                                                                     int
			ETag                                                                           string
			ChecksumCRC32, ChecksumCRC32C, ChecksumCRC64NVME, ChecksumSHA1, ChecksumSHA256 string
		}
	}
	// Checksum headers are those of the object here, not of the document.
	headers := c.r.Header
	c.r.Header = headers.Clone()
	want, algorithm := "", ""
	for _, a := range algorithms {
		if v := headers.Get(checksumHeader(a.name)); v != "" {
			want, algorithm = v, a.name
			c.r.Header.Del(checksumHeader(a.name))
		}
	}
	c.r.Header.Del("X-Amz-Sdk-Checksum-Algorithm")
	if err := c.readXML(&in); err != nil {
		return err
	}
	if len(in.Part) == 0 || len(in.Part) > maxParts {
		return errMalformedXML
	}
	size := int64(-1)
	if v := headers.Get("X-Amz-Mp-Object-Size"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 {
			return errorf("InvalidRequest", 400, "Value for x-amz-mp-object-size header is invalid.")
		}
		size = n
	}
	allowed, err := c.writeCondition()
	if err != nil {
		return err
	}
	if _, err := c.store.Bucket(c.bucket); err != nil {
		return err
	}
	u, err := c.store.Upload(c.bucket, c.key, c.query.Get("uploadId"))
	var m Meta
	if err == nil {
		if want != "" && algorithm != u.Algorithm {
			return errorf("InvalidRequest", 400, "The upload was created with another checksum than %s.", algorithm)
		}
		var chosen []ChosenPart
		for _, p := range in.Part {
			sum := map[string]string{"CRC32": p.ChecksumCRC32, "CRC32C": p.ChecksumCRC32C, "CRC64NVME": p.ChecksumCRC64NVME,
				"SHA1": p.ChecksumSHA1, "SHA256": p.ChecksumSHA256}[u.Algorithm]
			chosen = append(chosen, ChosenPart{p.PartNumber, unquote(p.ETag), sum})
		}
		m, err = c.store.Complete(u, chosen, want, size, allowed)
	} else {
		m, err = c.store.completed(Upload{ID: c.query.Get("uploadId"), Bucket: c.bucket, Key: c.key}, err)
	}
	if err != nil {
		return err
	}
	if m.Version != "" {
		c.w.Header().Set("X-Amz-Version-Id", m.Version)
	}
	type result struct {
		XMLName                     xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CompleteMultipartUploadResult"`
		Location, Bucket, Key, ETag string
		Checksum                    *checksumElement
		ChecksumType                string `xml:",omitempty"`
	}
	out := result{Location: fmt.Sprintf("http://%s%s", c.r.Host, c.r.URL.EscapedPath()), Bucket: c.bucket, Key: c.key, ETag: quote(m.ETag)}
	if m.Checksum != nil {
		out.Checksum, out.ChecksumType = &checksumElement{*m.Checksum}, m.Checksum.kind()
	}
	return c.answer(out)
}

// checksumElement is an element that is called by the algorithm.
type checksumElement struct{ Checksum }

// MarshalXML implements xml.Marshaler.
func (e checksumElement) MarshalXML(x *xml.Encoder, _ xml.StartElement) error {
	return x.EncodeElement(e.Value, xml.StartElement{Name: xml.Name{Local: "Checksum" + e.Algorithm}})
}

func (c *call) abortMultipartUpload() error {
	if err := c.drain(); err != nil {
		return err
	}
	u, err := c.upload()
	if err != nil {
		return err
	}
	if err := c.store.Abort(u); err != nil {
		return err
	}
	return c.noContent()
}

func (c *call) listParts() error {
	u, err := c.upload()
	if err != nil {
		return err
	}
	number := func(name string, otherwise int) (int, error) {
		v := c.query.Get(name)
		if v == "" {
			return otherwise, nil
		}
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 {
			return 0, errorf("InvalidArgument", 400, "Provided %s not an integer or within integer range", name)
		}
		return n, nil
	}
	after, err := number("part-number-marker", 0)
	if err != nil {
		return err
	}
	limit, err := number("max-parts", maxKeys)
	if err != nil {
		return err
	}
	limit = min(limit, maxKeys)
	parts, more, err := c.store.Parts(u, after, limit)
	if err != nil {
		return err
	}
	type part struct {
		PartNumber         int
		LastModified, ETag string
		Size               int64
		Checksum           *checksumElement
	}
	var out struct {
		XMLName               xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListPartsResult"`
		Bucket, Key, UploadId string
		Initiator, Owner      owner
		StorageClass          string
		ChecksumAlgorithm     string `xml:",omitempty"`
		ChecksumType          string `xml:",omitempty"`
		PartNumberMarker      int
		NextPartNumberMarker  int `xml:",omitempty"`
		MaxParts              int
		IsTruncated           bool
		Part                  []part
	}
	out.Bucket, out.Key, out.UploadId, out.Initiator, out.Owner, out.StorageClass = u.Bucket, u.Key, u.ID, theOwner, theOwner, "STANDARD"
	out.ChecksumAlgorithm, out.ChecksumType = u.Algorithm, u.checksumType()
	out.PartNumberMarker, out.MaxParts, out.IsTruncated = after, limit, more
	for _, p := range parts {
		item := part{PartNumber: p.Number, LastModified: xmlTime(p.Modified), ETag: quote(p.ETag), Size: p.Size}
		if p.Checksum != nil {
			item.Checksum = &checksumElement{*p.Checksum}
		}
		out.Part, out.NextPartNumberMarker = append(out.Part, item), p.Number
	}
	return c.answer(out)
}

func (c *call) listMultipartUploads() error {
	if _, err := c.store.Bucket(c.bucket); err != nil {
		return err
	}
	l, err := c.listing()
	if err != nil {
		return err
	}
	if v := c.query.Get("max-uploads"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return errorf("InvalidArgument", 400, "Provided max-uploads not an integer or within integer range")
		}
		l.Limit = min(n, maxKeys)
	}
	uploads, err := c.store.Uploads(c.bucket)
	if err != nil {
		return err
	}
	type upload struct {
		Key, UploadId     string
		Initiator, Owner  owner
		StorageClass      string
		Initiated         string
		ChecksumAlgorithm string `xml:",omitempty"`
		ChecksumType      string `xml:",omitempty"`
	}
	var out struct {
		XMLName                   xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListMultipartUploadsResult"`
		Bucket                    string
		KeyMarker, UploadIdMarker string
		NextKeyMarker             string `xml:",omitempty"`
		NextUploadIdMarker        string `xml:",omitempty"`
		Prefix                    string
		Delimiter                 string `xml:",omitempty"`
		MaxUploads                int
		EncodingType              string `xml:",omitempty"`
		IsTruncated               bool
		Upload                    []upload
		CommonPrefixes            []commonPrefix
	}
	after, afterID := c.query.Get("key-marker"), c.query.Get("upload-id-marker")
	out.Bucket, out.KeyMarker, out.UploadIdMarker, out.Prefix, out.Delimiter, out.MaxUploads = c.bucket, l.encode(after), afterID, l.encode(l.Prefix), l.encode(l.Delimiter), l.Limit
	out.EncodingType = c.query.Get("encoding-type")
	// Those of the key of the marker go on behind the upload of the marker.
	passed := afterID == ""
	common, last := "", ""
	for _, u := range uploads {
		if !strings.HasPrefix(u.Key, l.Prefix) || u.Key < after {
			continue
		}
		if u.Key == after {
			if afterID == "" || !passed {
				passed = passed || u.ID == afterID
				continue
			}
		}
		group := ""
		if l.Delimiter != "" {
			if i := strings.Index(u.Key[len(l.Prefix):], l.Delimiter); i >= 0 {
				group = u.Key[:len(l.Prefix)+i+len(l.Delimiter)]
			}
		}
		if group != "" && (group == common || group == after) {
			continue
		}
		if len(out.Upload)+len(out.CommonPrefixes) == l.Limit {
			out.IsTruncated, out.NextKeyMarker = true, l.encode(last)
			break
		}
		if group != "" {
			common, last, out.NextUploadIdMarker = group, group, ""
			out.CommonPrefixes = append(out.CommonPrefixes, commonPrefix{l.encode(group)})
			continue
		}
		last, out.NextUploadIdMarker = u.Key, u.ID
		out.Upload = append(out.Upload, upload{l.encode(u.Key), u.ID, theOwner, theOwner, "STANDARD", xmlTime(u.Initiated), u.Algorithm, u.checksumType()})
	}
	if !out.IsTruncated {
		out.NextUploadIdMarker = ""
	}
	return c.answer(out)
}
