package iot

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// OTAStatus is how far the creation or the deletion of an OTA update is; it says nothing of devices
// (registry spec §9.1).
type OTAStatus string

// The statuses.
const (
	OTACreatePending    OTAStatus = "CREATE_PENDING"
	OTACreateInProgress OTAStatus = "CREATE_IN_PROGRESS"
	OTACreateComplete   OTAStatus = "CREATE_COMPLETE" // its job exists
	OTACreateFailed     OTAStatus = "CREATE_FAILED"
	OTADeleteInProgress OTAStatus = "DELETE_IN_PROGRESS"
	OTADeleteFailed     OTAStatus = "DELETE_FAILED"
)

// Protocols by which devices fetch the files of an OTA update.
const (
	OverMQTT = "MQTT"
	OverHTTP = "HTTP"
)

// OTAUpdate is an update of devices over the air: a job, and mostly a stream, made for files
// (registry spec §9).
type OTAUpdate struct {
	Seq    int64 // order of creation, set by the store
	ID     string
	Status OTAStatus
	// Stream is what devices fetch the files from, "" without MQTT.
	Stream string
	OTADefinition
	CreatedAt  Time
	ModifiedAt Time
}

// OTADefinition is what was asked for, and what has come of it.
type OTADefinition struct {
	Description string            `json:"description,omitempty"`
	Targets     []string          `json:"targets"` // ARNs
	Protocols   []string          `json:"protocols"`
	Selection   Selection         `json:"selection"`
	Config      JobConfig         `json:"config"`
	RoleARN     string            `json:"roleArn"`
	Files       []OTAFile         `json:"files"`
	Parameters  map[string]string `json:"parameters,omitempty"` // additionalParameters, which no device sees
	Actor       string            `json:"actor"`                // who asked for it, or for its deletion
	Node        int64             `json:"node"`                 // which was asked, and carries it out unless it dies

	OwnStream bool               `json:"ownStream,omitempty"` // Stream is made for the update
	JobMade   bool               `json:"jobMade,omitempty"`
	Error     *OTAError          `json:"error,omitempty"`
	Deletion  *OTADeletionChoice `json:"deletion,omitempty"`
}

// OTADeletionChoice is how an update is deleted.
type OTADeletionChoice struct {
	Stream bool `json:"stream,omitempty"` // with its stream, if that was made for the update
	Force  bool `json:"force,omitempty"`  // with its job, even if that has not ended
}

// OTAFile is a file of an OTA update: a file of a stream, or an object.
type OTAFile struct {
	Name       string            `json:"name,omitempty"` // path on the device
	Type       *int64            `json:"type,omitempty"` // 0 to 255, of the device's own meaning
	Version    string            `json:"version,omitempty"`
	Stream     string            `json:"stream,omitempty"` // of its owner; "": the file is an object
	StreamFile int64             `json:"streamFile"`       // its number in the stream, whoever made that
	Object     *StreamFile       `json:"object,omitempty"` // where it is; of a stream of its owner from when the update is made
	Signature  *OTASignature     `json:"signature,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"` // which no device sees
}

// OTASignature is a signature of a file that was made elsewhere (registry spec §9.3).
type OTASignature struct {
	Value           []byte `json:"value"`
	CertificateName string `json:"certificateName,omitempty"` // where the device has the certificate
	Certificate     string `json:"certificate,omitempty"`     // kept and returned
	Hash            string `json:"hash"`
	Algorithm       string `json:"algorithm"`
}

// OTAError is why an update could not be made or deleted.
type OTAError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// NewOTAUpdate is what CreateOTAUpdate asks for.
type NewOTAUpdate struct {
	ID string
	OTADefinition
	Tags []Tag
}

// OTADeletion is what DeleteOTAUpdate asks for.
type OTADeletion struct {
	ID       string
	Stream   bool // delete the stream, too, if it was made for the update
	ForceJob bool // delete the job even if it has not ended
	Actor    string
}

// OTAEvent is the Data of the records about an OTA update.
type OTAEvent struct {
	ID     string    `json:"id"`
	Status OTAStatus `json:"status,omitempty"`
}

const (
	otaPrefix        = "AFR_OTA-" // of the names of jobs and streams that are made for updates
	maxOTAFiles      = 50
	otaDefaultExpiry = 1800 // seconds that presigned URLs can be used, if nothing else is said
)

var (
	otaIDPattern     = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,128}$`)
	algorithmPattern = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,32}$`)
)

// JobID is what the job of the update is called.
func (u *OTAUpdate) JobID() JobID { return JobID(otaPrefix + u.ID) }

// OTAStream is what the stream for an update is called, of which the UUID tells it from others.
func OTAStream(uuid string) string { return otaPrefix + uuid }

// Over reports whether devices can fetch the files by the protocol.
func (u *OTADefinition) Over(protocol string) bool { return slices.Contains(u.Protocols, protocol) }

// Check fills in what is not said and returns an InvalidRequest error for what cannot be (registry spec §9.1).
// It returns the stream that the files are in, "" if they are objects.
func (n *NewOTAUpdate) Check() (stream string, err error) {
	if !otaIDPattern.MatchString(n.ID) {
		return "", Invalid("otaUpdateId", n.ID, "Member must satisfy regular expression pattern: [a-zA-Z0-9_-]+ and have a length of 1 to 128")
	}
	if job := JobID(otaPrefix + n.ID); !job.Valid() {
		return "", Errorf(InvalidRequest, "The otaUpdateId %s is too long: its job would be called %s, and the id of a job has at most %d characters", n.ID, job, maxJobID)
	}
	if len(n.Protocols) == 0 {
		n.Protocols = []string{OverMQTT}
	}
	for i, p := range n.Protocols {
		if p != OverMQTT && p != OverHTTP || slices.Contains(n.Protocols[:i], p) {
			return "", Invalid("protocols", n.Protocols, "Member must be MQTT, HTTP or both")
		}
	}
	if n.Selection == "" {
		n.Selection = Snapshot
	}
	if len(n.Targets) == 0 {
		return "", Invalid("targets", "[]", "Member must have length greater than or equal to 1")
	}
	if len(n.Files) == 0 || len(n.Files) > maxOTAFiles {
		return "", Errorf(InvalidRequest, "An OTA update has 1 to %d files, not %d", maxOTAFiles, len(n.Files))
	}
	if err := n.Config.Check(); err != nil {
		return "", err
	}
	expiry := int64(otaDefaultExpiry)
	if p := n.Config.Presigned; p != nil && p.ExpiresInSec != 0 {
		expiry = p.ExpiresInSec
	}
	n.Config.Presigned = &PresignedURLConfig{RoleARN: n.RoleARN, ExpiresInSec: expiry}
	for i := range n.Files {
		f := &n.Files[i]
		if err := f.check(); err != nil {
			return "", err
		}
		if i == 0 {
			stream = f.Stream
		}
		if f.Stream != stream {
			return "", Errorf(InvalidRequest, "The files of an OTA update must all be of one stream, or all have an s3Location")
		}
		if stream == "" {
			f.StreamFile = int64(i)
			f.Object.ID = int64(i)
		}
	}
	return stream, nil
}

func (f *OTAFile) check() error {
	switch {
	case f.Stream != "" && f.Object != nil:
		return Errorf(InvalidRequest, "The fileLocation of %q has both a stream and an s3Location; it can have one", shorten(f.Name))
	case f.Stream == "" && f.Object == nil:
		return Errorf(InvalidRequest, "The fileLocation of %q has neither a stream nor an s3Location", shorten(f.Name))
	case f.Object != nil:
		if err := f.Object.Object().check(); err != nil {
			return err
		}
	}
	if s := f.Signature; s != nil {
		switch {
		case len(s.Value) == 0:
			return Errorf(InvalidRequest, "The customCodeSigning of %q has no signature", shorten(f.Name))
		case !algorithmPattern.MatchString(s.Hash):
			return Invalid("files.codeSigning.customCodeSigning.hashAlgorithm", s.Hash, "Member must be the name of an algorithm, such as SHA256")
		case !algorithmPattern.MatchString(s.Algorithm):
			return Invalid("files.codeSigning.customCodeSigning.signatureAlgorithm", s.Algorithm, "Member must be the name of an algorithm, such as ECDSA")
		}
	}
	return nil
}

// Job is the job that carries the update out. The objects of its files are known by now.
func (u *OTAUpdate) Job() (NewJob, error) {
	document, err := u.document()
	return NewJob{
		JobID: u.JobID(), Targets: u.Targets, Document: document, Description: u.Description, Selection: u.Selection, Config: u.Config, Actor: u.Actor,
	}, err
}

// document is what FreeRTOS devices get (registry spec §9.2).
func (u *OTAUpdate) document() (string, error) {
	files := make([]map[string]any, len(u.Files))
	for i, f := range u.Files {
		file := map[string]any{"filepath": f.Name, "filesize": f.Object.Size, "fileid": f.StreamFile}
		if f.Type != nil {
			file["fileType"] = *f.Type
		}
		if s := f.Signature; s != nil {
			file["certfile"] = s.CertificateName
			file["sig-"+strings.ToLower(s.Hash)+"-"+strings.ToLower(s.Algorithm)] = base64.StdEncoding.EncodeToString(s.Value)
		}
		if u.Over(OverHTTP) {
			file["update_data_url"] = f.Object.placeholder()
			file["auth_scheme"] = "aws.s3.presigned"
		}
		files[i] = file
	}
	update := map[string]any{"protocols": u.Protocols, "files": files}
	if u.Stream != "" {
		update["streamname"] = u.Stream
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(map[string]any{"afr_ota": update}); err != nil {
		return "", err
	}
	return strings.TrimSpace(b.String()), nil
}

// placeholder asks for a presigned URL of the object, made anew for each delivery.
func (f *StreamFile) placeholder() string {
	path := url.URL{Path: f.Bucket + "/" + f.Key}
	p := placeholder + "s3-presigned-url-v2:s3://" + strings.ReplaceAll(path.EscapedPath(), "$", "%24")
	if f.ObjectVersion != "" {
		p += "?versionId=" + url.QueryEscape(f.ObjectVersion)
	}
	return p + "}"
}
