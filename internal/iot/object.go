package iot

import (
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

// Object names an object of an S3 store.
type Object struct {
	Bucket  string
	Key     string
	Version string // "" for the latest
	Region  string // that the URL names, "" if it names none
}

// ObjectURL is a presigned URL that somebody is to be given.
type ObjectURL struct {
	Object
	Upload  bool          // for a PUT; otherwise for a GET
	Expires time.Duration // how long it can be used
	RoleARN string        // as in the presignedUrlConfig of the job
	Job     JobID         // for an execution of this job
	Thing   ThingName     // on this thing
}

// ObjectStore says which URLs name objects of the store that drover works with: those of
// its own hosts, and those of AWS, so that documents written for AWS need no change. The zero
// value is no store.
type ObjectStore struct {
	// Hosts are the addresses of the store, HOST or HOST:PORT without a default port. They
	// are followed by /BUCKET/KEY, or have "BUCKET." in front and are followed by /KEY.
	Hosts []string
	// AnyHost takes every other host for one of the store's, where no document will ever be
	// sent: in a rehearsal.
	AnyHost bool
	// UploadBucket is where uploads go that name no bucket; "" if there is none.
	UploadBucket string
}

// Limits of what names an object.
const (
	maxKey     = 1024 // bytes
	maxVersion = 1024 // bytes
)

var (
	bucketPattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{1,61}[a-zA-Z0-9]$`)
	// awsHost matches every name that AWS has for S3: global, regional with "." or "-",
	// dualstack, FIPS, accelerated; each with or without a bucket in front.
	awsHost = regexp.MustCompile(`^(?:(.+)\.)?s3(?:-fips|-accelerate)?(?:\.dualstack)?(?:[.-]([a-z]{2,}(?:-[a-z]+)+-[0-9]+))?\.amazonaws\.com(?:\.cn)?$`)
)

// place is where a URL points to, as far as it can be told before placeholders are filled in.
type place struct {
	bucket, key, region string
}

// locate takes a URL apart into bucket and key, both as they stand in it. The forms are
// s3://BUCKET/KEY, and http or https with one of AWS's hosts for S3 or of the store's own
// (spec §9.1). The error is an InvalidRequest.
func (s ObjectStore) locate(text string) (place, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	scheme = strings.ToLower(scheme)
	if !ok || scheme != "s3" && scheme != "http" && scheme != "https" {
		return place{}, Errorf(InvalidRequest, "%q is not the URL of an S3 object: it must begin with https:// or s3://", shorten(text))
	}
	host, path, _ := strings.Cut(rest, "/")
	if len(s.Hosts) == 0 && !s.AnyHost {
		return place{}, Errorf(InvalidRequest, "This server works with no S3 store, which %q would be in", shorten(text))
	}
	if scheme == "s3" {
		return place{bucket: host, key: path}, nil
	}
	bucket, region, ok := s.host(scheme, host)
	if !ok {
		return place{}, Errorf(InvalidRequest, "%q is neither a host of Amazon S3 nor of the S3 store that this server works with", shorten(host))
	}
	if bucket == "" {
		bucket, path, _ = strings.Cut(path, "/")
	}
	return place{bucket: bucket, key: path, region: region}, nil
}

// host finds the bucket and the region that a host names, both of which may be "".
func (s ObjectStore) host(scheme, host string) (bucket, region string, ok bool) {
	host = strings.ToLower(host)
	switch scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	}
	for _, own := range s.Hosts {
		if host == own {
			return "", "", true
		}
		if bucket, ok := strings.CutSuffix(host, "."+own); ok {
			return bucket, "", true
		}
	}
	if m := awsHost.FindStringSubmatch(host); m != nil {
		return m[1], m[2], true
	}
	return "", "", s.AnyHost
}

// check completes an object whose parts are known. The error is an InvalidRequest.
func (o Object) check() error {
	switch {
	case !bucketPattern.MatchString(o.Bucket):
		return Errorf(InvalidRequest, "%q is not the name of a bucket", shorten(o.Bucket))
	case o.Key == "":
		return Errorf(InvalidRequest, "The URL names the bucket %s and no object in it", o.Bucket)
	case len(o.Key) > maxKey:
		return Errorf(InvalidRequest, "The key of an object can have at most %d bytes; this one has %d", maxKey, len(o.Key))
	case len(o.Version) > maxVersion:
		return Errorf(InvalidRequest, "The version of an object can have at most %d bytes; this one has %d", maxVersion, len(o.Version))
	case !utf8.ValidString(o.Key):
		return Errorf(InvalidRequest, "The key of an object must be UTF-8: %q", shorten(o.Key))
	case strings.ContainsRune(o.Key, 0):
		return Errorf(InvalidRequest, "The key of an object cannot hold a zero byte")
	}
	return nil
}

// Parse reads a URL that is percent-encoded and may name a version, as ?versionId=ID or as
// %3FversionId%3DID (spec §9.1, §9.2). The error is an InvalidRequest.
func (s ObjectStore) Parse(text string) (Object, error) {
	p, err := s.locate(text)
	if err != nil {
		return Object{}, err
	}
	o := Object{Bucket: p.bucket, Region: p.region}
	path, query, _ := strings.Cut(p.key, "?")
	if query != "" {
		version, ok := strings.CutPrefix(query, "versionId=")
		if !ok || version == "" || strings.Contains(version, "&") {
			return Object{}, Errorf(InvalidRequest, "The URL of an S3 object can have the query versionId=ID and no other, not %q", shorten(query))
		}
		if o.Version, err = url.QueryUnescape(version); err != nil {
			return Object{}, Errorf(InvalidRequest, "The URL of an S3 object is wrongly encoded: %q", shorten(version))
		}
	}
	if o.Key, err = url.PathUnescape(path); err != nil {
		return Object{}, Errorf(InvalidRequest, "The URL of an S3 object is wrongly encoded: %q", shorten(path))
	}
	if key, version, ok := strings.Cut(o.Key, versionMark); ok {
		o.Key, o.Version = key, version
	}
	return o, o.check()
}

// versionMark stands between the key and the version of an object.
const versionMark = "?versionId="
