package iot

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// MaxDocument is how many bytes a job document may have (spec §9.1).
const MaxDocument = 32768

// Document is a job document that has been checked and taken apart: text, and links where
// it has placeholders. It does not change.
type Document struct {
	text  string
	links []link // in the order of the text; nil for most documents
}

// link is a placeholder for a presigned URL, or for something of a package version.
type link struct {
	from, to int // where it stands in the text, from "${" to behind "}"
	object   Object
	upload   bool
	locals   bool        // the key holds ${thingName}, ${jobId} or ${executionNumber}
	ref      *versionRef // what of a version; nil for a URL
}

// Limits of placeholders (spec §9.1, §9.2).
const (
	maxPlaceholders = 10 // for presigned URLs in a document
	maxLocals       = 2  // of one keyword in the key of an upload
)

// What an upload's key may hold; and the key that an upload gets that names none.
const (
	localThing  = "${thingName}"
	localJob    = "${jobId}"
	localNumber = "${executionNumber}"
	uploadKey   = localThing + "/" + localJob + "/" + localNumber
)

var locals = [...]string{localThing, localJob, localNumber}

// ParseDocument reads a document whose placeholders for presigned URLs name objects of the
// store. It returns an InvalidRequest error unless text is a JSON object in UTF-8 of at most
// 32,768 bytes whose placeholders are as spec §9.2 and §9.4 have them, at most ten of them for
// presigned URLs.
// Parameters of managed templates have been filled in before.
func ParseDocument(text string, store ObjectStore) (*Document, error) {
	switch {
	case len(text) > MaxDocument:
		return nil, Errorf(InvalidRequest, "The job document has %d bytes; the limit is %d", len(text), MaxDocument)
	case !utf8.ValidString(text):
		return nil, Errorf(InvalidRequest, "The job document is not valid UTF-8")
	case !json.Valid([]byte(text)):
		return nil, Errorf(InvalidRequest, "The job document is not valid JSON")
	case strings.TrimLeft(text, " \t\r\n")[0] != '{':
		return nil, Errorf(InvalidRequest, "The job document must be a JSON object")
	}
	d, err := LoadDocument(text, store)
	if err != nil {
		return nil, err
	}
	urls := 0
	for _, l := range d.links {
		if l.presigned() {
			urls++
		}
	}
	if urls > maxPlaceholders {
		return nil, Errorf(InvalidRequest, "The job document has more than %d placeholders for presigned URLs", maxPlaceholders)
	}
	at := 0
	for _, l := range d.links {
		if name := localIn(text[at:l.from]); name != "" {
			return nil, outside(name)
		}
		at = l.to
	}
	if name := localIn(text[at:]); name != "" {
		return nil, outside(name)
	}
	return d, nil
}

// LoadDocument reads a document that ParseDocument has accepted once. The error says that a
// placeholder names an object elsewhere than in the store, which may have been another then.
func LoadDocument(text string, store ObjectStore) (*Document, error) {
	d := &Document{text: text}
	for at := 0; ; {
		next := strings.Index(text[at:], placeholder)
		if next < 0 {
			return d, nil
		}
		l, err := parseLink(text, at+next, store)
		if err != nil {
			return nil, err
		}
		d.links = append(d.links, l)
		at = l.to
	}
}

// placeholder is what all placeholders begin with. In a document that is JSON they stand
// inside of a string.
const placeholder = "${aws:iot:"

// localIn returns a keyword of uploads that s holds, "" if there is none.
func localIn(s string) string {
	for _, name := range locals {
		if strings.Contains(s, name) {
			return name
		}
	}
	return ""
}

func outside(name string) error {
	return Errorf(InvalidRequest, "The placeholder %s can only be used in the key of %ss3-presigned-url-upload:…}", name, placeholder)
}

// parseLink reads the placeholder that begins at from. The errors are the documented ones
// (spec §9.4).
func parseLink(text string, from int, store ObjectStore) (link, error) {
	l := link{from: from}
	body, err := l.body(text)
	if err != nil {
		return l, err
	}
	kind, target, given := strings.Cut(body, ":")
	switch {
	case kind == "s3-presigned-url-upload":
		l.upload = true
		return l, l.parseUpload(target, store)
	case kind == "parameter":
		return l, Errorf(InvalidRequest, "The placeholder %s%s} can only be used in the document of a managed template", placeholder, shorten(body))
	case kind == "package":
		return l, l.parseVersion(text, body, target)
	case !given, kind != "s3-presigned-url" && kind != "s3-presigned-url-v1" && kind != "s3-presigned-url-v2":
		return l, Errorf(InvalidRequest, "There is no placeholder %s%s}", placeholder, shorten(body))
	}
	if name := localIn(target); name != "" {
		return l, outside(name)
	}
	if i := strings.Index(target, "${"); i >= 0 {
		return l, Errorf(InvalidRequest, "The placeholder %q stands inside of another one", shorten(target[i:]))
	}
	if kind == "s3-presigned-url-v2" {
		l.object, err = store.Parse(target)
		return l, err
	}
	// The first version is not encoded and knows no versions.
	if strings.Contains(target, versionMark) {
		return l, Errorf(InvalidRequest, "A URL with a versionId needs the placeholder %ss3-presigned-url-v2:…}", placeholder)
	}
	p, err := store.locate(target)
	if err != nil {
		return l, err
	}
	l.object = Object{Bucket: p.bucket, Key: p.key, Region: p.region}
	return l, l.object.check()
}

// body finds the end of the placeholder in the text and returns what stands between
// "${aws:iot:" and "}", without JSON's escapes.
func (l *link) body(text string) (string, error) {
	start, escaped, depth := l.from+len(placeholder), false, 0
	for i := start; i < len(text); i++ {
		switch text[i] {
		case '\\':
			escaped = true
			i++
		case '"':
			// The end of the string that the placeholder stands in.
			return "", Errorf(InvalidRequest, "The placeholder %q is not terminated", shorten(text[l.from:i]))
		case '$':
			switch {
			case strings.HasPrefix(text[i:], placeholder):
				return "", Errorf(InvalidRequest, "The placeholder %q stands inside of another one", shorten(text[i:min(len(text), i+80)]))
			case strings.HasPrefix(text[i:], "${"):
				depth++
				i++
			}
		case '}':
			if depth > 0 {
				depth--
				continue
			}
			l.to = i + 1
			body := text[start:i]
			if escaped {
				if err := json.Unmarshal([]byte(`"`+body+`"`), &body); err != nil {
					return "", Errorf(InvalidRequest, "The placeholder %q is not a JSON string", shorten(text[l.from:l.to]))
				}
			}
			return body, nil
		}
	}
	return "", Errorf(InvalidRequest, "The placeholder %q is not terminated", shorten(text[l.from:]))
}

// parseUpload reads the URL of an upload, in which bucket and key may be left out.
func (l *link) parseUpload(target string, store ObjectStore) error {
	p := place{}
	if target != "" {
		var err error
		if p, err = store.locate(target); err != nil {
			return err
		}
	}
	if strings.Contains(p.bucket, "${") {
		return Errorf(InvalidRequest, "The name of a bucket cannot hold a placeholder: %q", shorten(p.bucket))
	}
	bucket := cmp.Or(p.bucket, store.UploadBucket)
	if bucket == "" {
		return Errorf(InvalidRequest, "The upload %s%s} names no bucket, and this server has none for uploads", placeholder, "s3-presigned-url-upload:"+shorten(target))
	}
	l.object = Object{Bucket: bucket, Key: cmp.Or(p.key, uploadKey), Region: p.region}
	if strings.Contains(l.object.Key, versionMark) {
		return Errorf(InvalidRequest, "The URL of an upload cannot name a version: %q", shorten(target))
	}
	for _, name := range locals {
		n := strings.Count(l.object.Key, name)
		if n > maxLocals {
			return Errorf(InvalidRequest, "The placeholder %s is used %d times in an upload; the limit is %d", name, n, maxLocals)
		}
		l.locals = l.locals || n > 0
	}
	if rest := withoutLocals.Replace(l.object.Key); strings.Contains(rest, "${") {
		return Errorf(InvalidRequest, "The key of an upload holds an undefined placeholder: %q; defined are %s", shorten(l.object.Key), strings.Join(locals[:], ", "))
	}
	return l.object.check()
}

var withoutLocals = strings.NewReplacer(localThing, "", localJob, "", localNumber, "")

// String returns the document as it was submitted.
func (d *Document) String() string { return d.text }

// presigned reports whether a presigned URL takes the place of the placeholder in the end.
func (l *link) presigned() bool { return l.ref == nil || l.ref.artifact }

// Presigned reports whether the document has placeholders for presigned URLs.
func (d *Document) Presigned() bool {
	return slices.ContainsFunc(d.links, func(l link) bool { return l.presigned() })
}

// CheckPresigned returns an InvalidRequest error unless a job with the configuration can
// have the document: presigned URLs need a role (spec §9.3).
func (d *Document) CheckPresigned(c *PresignedURLConfig) error {
	if d.Presigned() && (c == nil || c.RoleARN == "") {
		return Errorf(InvalidRequest, "The job document has placeholders for presigned URLs: presignedUrlConfig.roleArn is required")
	}
	return nil
}

// For returns the document on its way to the device of x, whose job has the configuration.
func (d *Document) For(x *Execution, c *PresignedURLConfig) Delivery {
	out := Delivery{document: d, thing: x.Thing, job: x.JobID, number: x.Number, expires: defaultExpiry}
	if c != nil {
		out.role = c.RoleARN
		if c.ExpiresInSec > 0 {
			out.expires = time.Duration(c.ExpiresInSec) * time.Second
		}
	}
	return out
}

// defaultExpiry is how long presigned URLs can be used if nothing else is said (spec §9.3).
const defaultExpiry = time.Hour

// Delivery is a document on its way to the device of an execution. The zero value is none.
type Delivery struct {
	document *Document
	thing    ThingName
	job      JobID
	number   int64
	role     string
	expires  time.Duration
}

// Render returns the document as the device is to get it: what it was submitted as, with a
// fresh URL from presign for each placeholder (spec §9.3). It is "" for the zero Delivery.
// The error is that of presign, or that what stands for package versions has not been filled in.
func (d Delivery) Render(presign func(ObjectURL) (string, error)) (string, error) {
	if d.document == nil {
		return "", nil
	}
	text := d.document.text
	if len(d.document.links) == 0 {
		return text, nil
	}
	var b strings.Builder
	b.Grow(len(text) + 512*len(d.document.links))
	at := 0
	for _, l := range d.document.links {
		if l.ref != nil {
			return "", errors.New("iot: the document of a job that has not started")
		}
		o := ObjectURL{Object: l.object, Upload: l.upload, Expires: d.expires, RoleARN: d.role, Job: d.job, Thing: d.thing}
		if l.locals {
			o.Key = strings.NewReplacer(localThing, string(d.thing), localJob, string(d.job), localNumber, strconv.FormatInt(d.number, 10)).Replace(o.Key)
		}
		u, err := presign(o)
		if err != nil {
			return "", fmt.Errorf("presign %s/%s: %w", o.Bucket, o.Key, err)
		}
		// It becomes part of a JSON string; no URL needs escapes there.
		if strings.ContainsFunc(u, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
			return "", fmt.Errorf("presign %s/%s: what came is not a URL", o.Bucket, o.Key)
		}
		b.WriteString(text[at:l.from])
		b.WriteString(u)
		at = l.to
	}
	b.WriteString(text[at:])
	return b.String(), nil
}
