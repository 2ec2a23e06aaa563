package iot

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// MaxDocument is how many bytes a job document may have (spec §9.1).
const MaxDocument = 32768

// CheckDocument returns an InvalidRequest error unless doc is a JSON object in UTF-8 of
// at most 32,768 bytes, without placeholders, which need parts of the service that
// drover does not have yet.
func CheckDocument(doc string) error {
	switch {
	case len(doc) > MaxDocument:
		return Errorf(InvalidRequest, "The job document has %d bytes; the limit is %d", len(doc), MaxDocument)
	case !utf8.ValidString(doc):
		return Errorf(InvalidRequest, "The job document is not valid UTF-8")
	case !json.Valid([]byte(doc)):
		return Errorf(InvalidRequest, "The job document is not valid JSON")
	case strings.TrimLeft(doc, " \t\r\n")[0] != '{':
		return Errorf(InvalidRequest, "The job document must be a JSON object")
	}
	if i := strings.Index(doc, "${aws:iot:"); i >= 0 {
		return Errorf(InvalidRequest, "The job document holds the placeholder %q; drover does not substitute placeholders yet", shorten(doc[i:min(len(doc), i+60)]))
	}
	return nil
}
