package objects

import (
	"encoding/base64"
	"encoding/xml"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

const namespace = "http://s3.amazonaws.com/doc/2006-03-01/"

// owner is who owns everything: there is one account, of one key.
type owner struct{ ID, DisplayName string }

var theOwner = owner{ID: "drover", DisplayName: "drover"}

func (c *call) listBuckets() error {
	buckets, err := c.store.Buckets()
	if err != nil {
		return err
	}
	type bucket struct{ Name, CreationDate, BucketRegion string }
	var out struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListAllMyBucketsResult"`
		Owner   owner
		Buckets []bucket `xml:"Buckets>Bucket"`
		Prefix  string   `xml:",omitempty"`
	}
	out.Owner, out.Prefix = theOwner, c.query.Get("prefix")
	for _, b := range buckets {
		if strings.HasPrefix(b.Name, out.Prefix) {
			out.Buckets = append(out.Buckets, bucket{b.Name, xmlTime(b.Created), c.region})
		}
	}
	return c.answer(out)
}

func (c *call) createBucket() error {
	// A region may be named; this server has one.
	if c.r.ContentLength != 0 {
		var in struct{ LocationConstraint string }
		if err := c.readXML(&in); err != nil {
			return err
		}
	} else if err := c.drain(); err != nil {
		return err
	}
	if err := c.store.CreateBucket(c.bucket); err != nil {
		return err
	}
	c.w.Header().Set("Location", "/"+c.bucket)
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func (c *call) headBucket() error {
	if _, err := c.store.Bucket(c.bucket); err != nil {
		return err
	}
	c.w.Header().Set("X-Amz-Bucket-Region", c.region)
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func (c *call) deleteBucket() error {
	if err := c.store.DeleteBucket(c.bucket); err != nil {
		return err
	}
	return c.noContent()
}

func (c *call) getBucketLocation() error {
	if _, err := c.store.Bucket(c.bucket); err != nil {
		return err
	}
	region := c.region
	if region == "us-east-1" { // which S3 has no name for here
		region = ""
	}
	return c.answer(struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ LocationConstraint"`
		Region  string   `xml:",chardata"`
	}{Region: region})
}

func (c *call) getBucketVersioning() error {
	b, err := c.store.Bucket(c.bucket)
	if err != nil {
		return err
	}
	return c.answer(struct {
		XMLName xml.Name   `xml:"http://s3.amazonaws.com/doc/2006-03-01/ VersioningConfiguration"`
		Status  Versioning `xml:",omitempty"`
	}{Status: b.Versioning})
}

func (c *call) putBucketVersioning() error {
	var in struct {
		Status    Versioning
		MfaDelete string
	}
	if err := c.readXML(&in); err != nil {
		return err
	}
	if in.MfaDelete == "Enabled" {
		return notImplemented("MfaDelete")
	}
	if in.Status != VersioningEnabled && in.Status != VersioningSuspended {
		return errMalformedXML
	}
	if err := c.store.SetVersioning(c.bucket, in.Status); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// listing is what the three kinds of listings of objects ask for in the same words.
type listing struct {
	Query
	encode func(string) string // of keys in the answer
}

const maxKeys = 1000

func (c *call) listing() (l listing, err error) {
	l.Prefix, l.Delimiter, l.Limit = c.query.Get("prefix"), c.query.Get("delimiter"), maxKeys
	if v := c.query.Get("max-keys"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 {
			return l, errorf("InvalidArgument", 400, "Provided max-keys not an integer or within integer range")
		}
		l.Limit = min(n, maxKeys)
	}
	switch c.query.Get("encoding-type") {
	case "":
		l.encode = func(s string) string { return s }
	case "url":
		l.encode = func(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "%2F", "/") }
	default:
		return l, errorf("InvalidArgument", 400, "Invalid Encoding Method specified in Request")
	}
	return l, nil
}

type object struct {
	Key, LastModified, ETag string
	ChecksumAlgorithm       string `xml:",omitempty"`
	ChecksumType            string `xml:",omitempty"`
	Size                    int64
	StorageClass            string
	Owner                   *owner
}

type commonPrefix struct{ Prefix string }

func prefixes(list []string, encode func(string) string) (out []commonPrefix) {
	for _, p := range list {
		out = append(out, commonPrefix{encode(p)})
	}
	return out
}

// listObjects is ListObjectsV2, and ListObjects for clients of old.
func (c *call) listObjects() error {
	l, err := c.listing()
	if err != nil {
		return err
	}
	var out struct {
		XMLName               xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
		Name                  string
		Prefix                string
		Delimiter             string  `xml:",omitempty"`
		Marker                *string `xml:",omitempty"` // version 1
		NextMarker            string  `xml:",omitempty"` // version 1
		StartAfter            string  `xml:",omitempty"`
		ContinuationToken     string  `xml:",omitempty"`
		NextContinuationToken string  `xml:",omitempty"`
		KeyCount              *int    // version 2
		MaxKeys               int
		EncodingType          string `xml:",omitempty"`
		IsTruncated           bool
		Contents              []object
		CommonPrefixes        []commonPrefix
	}
	v2 := c.query.Has("list-type")
	withOwner := !v2
	if v2 {
		if c.query.Get("list-type") != "2" {
			return errorf("InvalidArgument", 400, "Invalid List Type specified in Request")
		}
		out.StartAfter, out.ContinuationToken = l.encode(c.query.Get("start-after")), c.query.Get("continuation-token")
		l.After = c.query.Get("start-after")
		if c.query.Has("continuation-token") {
			after, err := base64.RawURLEncoding.DecodeString(out.ContinuationToken)
			if err != nil || len(after) == 0 {
				return errorf("InvalidArgument", 400, "The continuation token provided is incorrect")
			}
			l.After = string(after)
		}
		withOwner = c.query.Get("fetch-owner") == "true"
	} else {
		l.After = c.query.Get("marker")
		marker := l.encode(l.After)
		out.Marker = &marker
	}
	page, err := c.store.List(c.bucket, l.Query)
	if err != nil {
		return err
	}
	out.Name, out.Prefix, out.Delimiter, out.MaxKeys, out.IsTruncated = c.bucket, l.encode(l.Prefix), l.encode(l.Delimiter), l.Limit, page.More
	out.EncodingType = c.query.Get("encoding-type")
	for _, m := range page.Objects {
		o := object{Key: l.encode(m.Key), LastModified: xmlTime(m.Modified), ETag: quote(m.ETag), Size: m.Size, StorageClass: "STANDARD"}
		if m.Checksum != nil {
			o.ChecksumAlgorithm, o.ChecksumType = m.Checksum.Algorithm, m.Checksum.kind()
		}
		if withOwner {
			o.Owner = &theOwner
		}
		out.Contents = append(out.Contents, o)
	}
	out.CommonPrefixes = prefixes(page.Prefixes, l.encode)
	if v2 {
		count := page.len()
		out.KeyCount = &count
		if page.More {
			out.NextContinuationToken = base64.RawURLEncoding.EncodeToString([]byte(page.Last))
		}
	} else if page.More && l.Delimiter != "" {
		out.NextMarker = l.encode(page.Last)
	}
	return c.answer(out)
}

func (c *call) listObjectVersions() error {
	l, err := c.listing()
	if err != nil {
		return err
	}
	l.After, l.AfterVersion = c.query.Get("key-marker"), c.query.Get("version-id-marker")
	if l.AfterVersion != "" && l.After == "" {
		return errorf("InvalidArgument", 400, "A version-id marker cannot be specified without a key marker.")
	}
	page, err := c.store.ListVersions(c.bucket, l.Query)
	if err != nil {
		return err
	}
	type version struct {
		XMLName      xml.Name // Version or DeleteMarker
		Key          string
		VersionId    string
		IsLatest     bool
		LastModified string
		ETag         string `xml:",omitempty"`
		Size         *int64
		StorageClass string `xml:",omitempty"`
		Owner        owner
	}
	var out struct {
		XMLName                    xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListVersionsResult"`
		Name, Prefix               string
		Delimiter                  string `xml:",omitempty"`
		KeyMarker, VersionIdMarker string
		NextKeyMarker              string `xml:",omitempty"`
		NextVersionIdMarker        string `xml:",omitempty"`
		MaxKeys                    int
		EncodingType               string `xml:",omitempty"`
		IsTruncated                bool
		Versions                   []version
		CommonPrefixes             []commonPrefix
	}
	out.Name, out.Prefix, out.Delimiter, out.MaxKeys, out.IsTruncated = c.bucket, l.encode(l.Prefix), l.encode(l.Delimiter), l.Limit, page.More
	out.KeyMarker, out.VersionIdMarker, out.EncodingType = l.encode(l.After), l.AfterVersion, c.query.Get("encoding-type")
	for i, m := range page.Objects {
		v := version{XMLName: xml.Name{Local: "Version"}, Key: l.encode(m.Key), VersionId: m.version(), IsLatest: page.Latest[i],
			LastModified: xmlTime(m.Modified), Owner: theOwner}
		if m.Deleted {
			v.XMLName.Local = "DeleteMarker"
		} else {
			v.ETag, v.Size, v.StorageClass = quote(m.ETag), &m.Size, "STANDARD"
		}
		out.Versions = append(out.Versions, v)
	}
	out.CommonPrefixes = prefixes(page.Prefixes, l.encode)
	if page.More {
		out.NextKeyMarker, out.NextVersionIdMarker = l.encode(page.Last), page.Version
	}
	return c.answer(out)
}

func (c *call) deleteObjects() error {
	if c.r.Header.Get("Content-Md5") == "" && c.r.Header.Get("X-Amz-Sdk-Checksum-Algorithm") == "" {
		e, err := expected(c.r)
		if err != nil {
			return err
		}
		if e.algorithm == "" {
			return errorf("InvalidRequest", 400, "Missing required header for this request: Content-MD5 or x-amz-checksum-*")
		}
	}
	var in struct {
		Quiet  bool
		Object []struct{ Key, VersionId, ETag string }
	}
	if err := c.readXML(&in); err != nil {
		return err
	}
	if len(in.Object) == 0 || len(in.Object) > maxKeys {
		return errMalformedXML
	}
	if _, err := c.store.Bucket(c.bucket); err != nil {
		return err
	}
	type deleted struct {
		Key                   string
		VersionId             string `xml:",omitempty"`
		DeleteMarker          bool   `xml:",omitempty"`
		DeleteMarkerVersionId string `xml:",omitempty"`
	}
	type failed struct {
		Key       string
		VersionId string `xml:",omitempty"`
		Code      string
		Message   string
	}
	var out struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ DeleteResult"`
		Deleted []deleted
		Error   []failed
	}
	for _, o := range in.Object {
		m, err := (*Meta)(nil), checkKey(o.Key)
		if err == nil && o.ETag != "" {
			err = notImplemented("ETag in DeleteObjects")
		}
		if err == nil {
			err = c.may("DeleteObject", c.bucket, o.Key, o.VersionId)
		}
		if err == nil {
			m, err = c.store.Delete(c.bucket, o.Key, o.VersionId)
		}
		if err != nil {
			answer, ours := answerTo(err)
			if ours {
				c.log.ErrorContext(c.r.Context(), "object could not be deleted", "bucket", c.bucket, "err", err)
			}
			out.Error = append(out.Error, failed{o.Key, o.VersionId, answer.Code, answer.Message})
			continue
		}
		if in.Quiet {
			continue
		}
		d := deleted{Key: o.Key, VersionId: o.VersionId}
		if m != nil && m.Deleted {
			d.DeleteMarker, d.DeleteMarkerVersionId = true, m.version()
		}
		out.Deleted = append(out.Deleted, d)
	}
	return c.answer(out)
}
