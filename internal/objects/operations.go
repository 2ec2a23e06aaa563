package objects

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
)

// Operations are told apart by what they are about, the method, and one word in the query.
type route struct {
	level  byte // 's' for the service, 'b' for a bucket, 'o' for an object
	method string
	word   string // parameter of the query, "" for none
}

type operation struct {
	name string
	run  func(*call) error // nil: not here
}

// operations are all of S3's, so that what is not here is refused by its name.
var operations = map[route]operation{
	{'s', "GET", ""}: {"ListBuckets", (*call).listBuckets},

	{'b', "PUT", ""}:           {"CreateBucket", (*call).createBucket},
	{'b', "HEAD", ""}:          {"HeadBucket", (*call).headBucket},
	{'b', "DELETE", ""}:        {"DeleteBucket", (*call).deleteBucket},
	{'b', "GET", "location"}:   {"GetBucketLocation", (*call).getBucketLocation},
	{'b', "GET", "versioning"}: {"GetBucketVersioning", (*call).getBucketVersioning},
	{'b', "PUT", "versioning"}: {"PutBucketVersioning", (*call).putBucketVersioning},
	{'b', "GET", ""}:           {"ListObjects", (*call).listObjects},
	{'b', "GET", "list-type"}:  {"ListObjectsV2", (*call).listObjects},
	{'b', "GET", "versions"}:   {"ListObjectVersions", (*call).listObjectVersions},
	{'b', "GET", "uploads"}:    {"ListMultipartUploads", (*call).listMultipartUploads},
	{'b', "POST", "delete"}:    {"DeleteObjects", (*call).deleteObjects},
	{'b', "POST", ""}:          {"PostObject", nil},

	{'o', "GET", ""}:            {"GetObject", (*call).getObject},
	{'o', "HEAD", ""}:           {"HeadObject", (*call).getObject},
	{'o', "PUT", ""}:            {"PutObject", (*call).putObject}, // and CopyObject
	{'o', "DELETE", ""}:         {"DeleteObject", (*call).deleteObject},
	{'o', "POST", "uploads"}:    {"CreateMultipartUpload", (*call).createMultipartUpload},
	{'o', "PUT", "uploadId"}:    {"UploadPart", (*call).uploadPart}, // and UploadPartCopy
	{'o', "POST", "uploadId"}:   {"CompleteMultipartUpload", (*call).completeMultipartUpload},
	{'o', "DELETE", "uploadId"}: {"AbortMultipartUpload", (*call).abortMultipartUpload},
	{'o', "GET", "uploadId"}:    {"ListParts", (*call).listParts},

	{'o', "GET", "acl"}:          {"GetObjectAcl", nil},
	{'o', "PUT", "acl"}:          {"PutObjectAcl", nil},
	{'o', "GET", "attributes"}:   {"GetObjectAttributes", nil},
	{'o', "GET", "legal-hold"}:   {"GetObjectLegalHold", nil},
	{'o', "PUT", "legal-hold"}:   {"PutObjectLegalHold", nil},
	{'o', "GET", "retention"}:    {"GetObjectRetention", nil},
	{'o', "PUT", "retention"}:    {"PutObjectRetention", nil},
	{'o', "GET", "tagging"}:      {"GetObjectTagging", (*call).getObjectTagging},
	{'o', "PUT", "tagging"}:      {"PutObjectTagging", nil},
	{'o', "DELETE", "tagging"}:   {"DeleteObjectTagging", nil},
	{'o', "GET", "torrent"}:      {"GetObjectTorrent", nil},
	{'o', "POST", "restore"}:     {"RestoreObject", nil},
	{'o', "POST", "select"}:      {"SelectObjectContent", nil},
	{'o', "PUT", "renameObject"}: {"RenameObject", nil},
}

// subresources are the words that S3 has operations for, besides those above: of each there
// is a GetBucket…, PutBucket… or DeleteBucket….
var subresources = map[string]string{
	"accelerate": "AccelerateConfiguration", "acl": "Acl", "analytics": "AnalyticsConfiguration", "cors": "Cors",
	"encryption": "Encryption", "intelligent-tiering": "IntelligentTieringConfiguration", "inventory": "InventoryConfiguration",
	"lifecycle": "LifecycleConfiguration", "logging": "Logging", "metadataConfiguration": "MetadataConfiguration",
	"metadataTable": "MetadataTableConfiguration", "metrics": "MetricsConfiguration", "notification": "NotificationConfiguration",
	"object-lock": "ObjectLockConfiguration", "ownershipControls": "OwnershipControls", "policy": "Policy",
	"policyStatus": "PolicyStatus", "publicAccessBlock": "PublicAccessBlock", "replication": "Replication",
	"requestPayment": "RequestPayment", "tagging": "Tagging", "website": "Website", "session": "Session", "abac": "Abac",
}

// words are all parameters that choose an operation.
var words = func() (all []string) {
	for r := range operations {
		if r.word != "" {
			all = append(all, r.word)
		}
	}
	for w := range subresources {
		all = append(all, w)
	}
	slices.Sort(all)
	return slices.Compact(all)
}()

// actions are what AWS's policies call operations, where that is another name.
var actions = map[string]string{
	"ListBuckets": "ListAllMyBuckets", "HeadBucket": "ListBucket", "ListObjects": "ListBucket", "ListObjectsV2": "ListBucket",
	"ListObjectVersions": "ListBucketVersions", "ListMultipartUploads": "ListBucketMultipartUploads", "HeadObject": "GetObject",
	"CopyObject": "PutObject", "CreateMultipartUpload": "PutObject", "UploadPart": "PutObject", "UploadPartCopy": "PutObject",
	"CompleteMultipartUpload": "PutObject", "ListParts": "ListMultipartUploadParts",
}

func action(operation string) string { return cmp.Or(actions[operation], operation) }

// may asks whether the caller may carry out an action; one on a named version has a name of its own.
func (c *call) may(action, bucket, key, version string) error {
	resource := "*"
	if bucket != "" {
		resource = "arn:aws:s3:::" + bucket
	}
	if key != "" {
		resource += "/" + key
	}
	if rest, ok := strings.CutPrefix(action, "GetObject"); ok && version != "" {
		action = "GetObjectVersion" + rest
	} else if action == "DeleteObject" && version != "" {
		action = "DeleteObjectVersion"
	}
	return c.permit(c.r.Context(), "s3:"+action, resource)
}

// operation finds what is asked for.
func (c *call) operation() (name string, run func(*call) error) {
	at := route{level: 'o', method: c.r.Method}
	switch {
	case c.bucket == "":
		at.level = 's'
	case c.key == "":
		at.level = 'b'
	}
	for _, w := range words {
		if c.query.Has(w) {
			at.word = w
			break
		}
	}
	if op, ok := operations[at]; ok {
		if c.r.Header.Get("X-Amz-Copy-Source") != "" {
			switch op.name {
			case "PutObject":
				return "CopyObject", (*call).copyObject
			case "UploadPart":
				return "UploadPartCopy", (*call).uploadPartCopy
			}
		}
		return op.name, op.run
	}
	if what, ok := subresources[at.word]; ok && at.level == 'b' {
		if verb, ok := map[string]string{http.MethodGet: "Get", http.MethodPut: "Put", http.MethodDelete: "Delete"}[at.method]; ok {
			return verb + "Bucket" + what, nil
		}
	}
	if at.word != "" {
		return at.method + " ?" + at.word, nil
	}
	return clip(at.method), nil
}
