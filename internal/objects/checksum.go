package objects

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"net/http"
	"slices"
	"strings"
)

// Checksum is one of S3's additional checksums.
type Checksum struct {
	Algorithm string `json:"algorithm"` // CRC32, …
	Value     string `json:"value"`     // base64; of a composite one with "-" and the number of parts
	Composite bool   `json:"composite,omitempty"`
}

const (
	fullObject = "FULL_OBJECT"
	composite  = "COMPOSITE"
)

func (c *Checksum) kind() string {
	if c.Composite {
		return composite
	}
	return fullObject
}

// algorithms are S3's, in the order in which it prefers them.
var algorithms = []struct {
	name string
	new  func() hash.Hash
}{
	{"CRC64NVME", func() hash.Hash { return crc64.New(nvme) }},
	{"CRC32", func() hash.Hash { return crc32.NewIEEE() }},
	{"CRC32C", func() hash.Hash { return crc32.New(castagnoli) }},
	{"SHA1", sha1.New},
	{"SHA256", sha256.New},
}

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	nvme       = crc64.MakeTable(0x9a6c9329ac4bc9b5) // CRC-64/NVME, reversed
)

func checksumHeader(algorithm string) string { return "x-amz-checksum-" + strings.ToLower(algorithm) }

func newChecksum(algorithm string) hash.Hash {
	for _, a := range algorithms {
		if a.name == algorithm {
			return a.new()
		}
	}
	return nil
}

// expectation is what a client says about the bytes it sends.
type expectation struct {
	md5       string // base64; "" if it does not say
	algorithm string // of the checksum to keep; "" for none
	value     string // base64; "" if it is yet to come, in the trailer, or not at all
	trailer   bool
}

// expected reads the headers of an upload.
func expected(r *http.Request) (e expectation, err error) {
	e.md5 = r.Header.Get("Content-Md5")
	if e.md5 != "" {
		if b, err := base64.StdEncoding.DecodeString(e.md5); err != nil || len(b) != md5.Size {
			return e, errorf("InvalidDigest", 400, "The Content-MD5 you specified is not valid.")
		}
	}
	set := func(algorithm, value string, trailer bool) error {
		if e.algorithm != "" {
			return errorf("InvalidRequest", 400, "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
		}
		e.algorithm, e.value, e.trailer = algorithm, value, trailer
		return nil
	}
	announced := strings.ToLower(strings.Join(r.Header.Values("X-Amz-Trailer"), ","))
	for _, a := range algorithms {
		name := checksumHeader(a.name)
		if value := r.Header.Get(name); value != "" {
			if b, err := base64.StdEncoding.DecodeString(value); err != nil || len(b) != a.new().Size() {
				return e, errorf("InvalidRequest", 400, "Value for %s header is invalid.", name)
			}
			if err := set(a.name, value, false); err != nil {
				return e, err
			}
		}
		for n := range strings.SplitSeq(announced, ",") {
			if strings.TrimSpace(n) == name {
				if err := set(a.name, "", true); err != nil {
					return e, err
				}
			}
		}
	}
	for name := range r.Header {
		if rest, ok := strings.CutPrefix(name, "X-Amz-Checksum-"); ok && !slices.Contains([]string{"Algorithm", "Mode", "Type"}, rest) && newChecksum(strings.ToUpper(rest)) == nil {
			return e, notImplemented(strings.ToLower(name))
		}
	}
	if named := strings.ToUpper(r.Header.Get("X-Amz-Sdk-Checksum-Algorithm")); named != "" {
		switch {
		case e.algorithm == "" && newChecksum(named) == nil:
			return e, errorf("InvalidRequest", 400, "Value for x-amz-sdk-checksum-algorithm header is invalid.")
		case e.algorithm == "" && e.md5 == "":
			return e, errorf("InvalidRequest", 400, "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.")
		case e.algorithm != "" && e.algorithm != named:
			return e, errorf("InvalidRequest", 400, "Value for x-amz-sdk-checksum-algorithm header is invalid.")
		}
	}
	return e, nil
}

// check holds what has arrived against what was expected, at the end of the payload.
func (e expectation) check(r *http.Request, got *received) error {
	if e.md5 != "" && e.md5 != base64.StdEncoding.EncodeToString(got.md5) {
		return errorf("BadDigest", 400, "The Content-MD5 you specified did not match what we received.")
	}
	want := e.value
	if e.trailer {
		if want = r.Trailer.Get(checksumHeader(e.algorithm)); want == "" {
			return errorf("MalformedTrailerError", 400, "The trailer that x-amz-trailer announces did not come.")
		}
	}
	if want != "" && want != got.checksum.Value {
		return errorf("BadDigest", 400, "The %s you specified did not match the calculated checksum.", e.algorithm)
	}
	return nil
}

// checkText is check for a document that is in memory.
func (e expectation) checkText(r *http.Request, text []byte) error {
	sum := md5.Sum(text)
	got := &received{md5: sum[:]}
	if h := newChecksum(e.algorithm); h != nil {
		h.Write(text)
		got.checksum = &Checksum{Algorithm: e.algorithm, Value: base64.StdEncoding.EncodeToString(h.Sum(nil))}
	}
	return e.check(r, got)
}
