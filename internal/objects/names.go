package objects

import (
	"encoding/base32"
	"errors"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"
)

// maxKey is how long a key may be, in bytes of UTF-8, as in S3.
const maxKey = 1024

// Keys are files. Any byte may stand in a key, and file systems have their own ideas of
// dots, slashes, capitals and Unicode; so a key is encoded in base32 with the alphabet that
// keeps the order (RFC 4648 §7), in lower case. A name of a file is at most 200 characters,
// 125 bytes of the key; the names of folders that a longer key passes through end in "+",
// which sorts before all else.
const (
	nameLength = 200
	nameBytes  = nameLength * 5 / 8
	folderMark = "+"
)

var encoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// encodeKey returns the path of a key, relative to the folder of its bucket.
func encodeKey(key string) string {
	var parts []string
	for len(key) > nameBytes {
		parts = append(parts, encoding.EncodeToString([]byte(key[:nameBytes]))+folderMark)
		key = key[nameBytes:]
	}
	return filepath.Join(append(parts, encoding.EncodeToString([]byte(key)))...)
}

var errNoKey = errors.New("not the name of a key")

// decodeName returns the bytes of a key that the name of a file or folder stands for.
func decodeName(name string) (part string, folder bool, err error) {
	name, folder = strings.CutSuffix(name, folderMark)
	b, err := encoding.DecodeString(name)
	if err != nil || len(b) == 0 || folder != (folder && len(b) == nameBytes) || encoding.EncodeToString(b) != name {
		return "", false, errNoKey
	}
	return string(b), folder, nil
}

// checkKey returns what S3 answers to a key that cannot be.
func checkKey(key string) error {
	switch {
	case key == "":
		return errorf("InvalidRequest", 400, "The key is empty.")
	case len(key) > maxKey:
		return errorf("KeyTooLongError", 400, "Your key is too long: %d bytes, the limit is %d.", len(key), maxKey)
	case !utf8.ValidString(key):
		return errorf("InvalidURI", 400, "Couldn't parse the specified URI: the key is not UTF-8.")
	case strings.ContainsRune(key, 0):
		// XML, in which keys are listed, cannot say it in any way.
		return errorf("InvalidURI", 400, "Couldn't parse the specified URI: the key holds a NUL.")
	}
	return nil
}

var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// reserved are names that the address of the API has for itself.
var reserved = map[string]bool{"healthz": true, "readyz": true, "metrics": true}

// checkBucketName holds a name against S3's rules for buckets.
func checkBucketName(name string) error {
	_, notIP := netip.ParseAddr(name)
	if !bucketName.MatchString(name) || strings.Contains(name, "..") || notIP == nil || strings.HasPrefix(name, "xn--") ||
		strings.HasSuffix(name, "-s3alias") || strings.HasSuffix(name, "--ol-s3") {
		return errorf("InvalidBucketName", 400, "The specified bucket is not valid: 3 to 63 lower-case letters, digits, dots and hyphens, and no IP address.")
	}
	if reserved[name] {
		return errorf("InvalidBucketName", 400, "The specified bucket is not valid: /%s is another page of this server.", name)
	}
	return nil
}
