package iot

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func validUpdate() *NewOTAUpdate {
	return &NewOTAUpdate{ID: "u", OTADefinition: OTADefinition{
		Targets: []string{"t"}, RoleARN: "role", Files: []OTAFile{{Name: "f", Object: &StreamFile{Bucket: "bucket", Key: "k"}}},
	}}
}

func TestNewOTAUpdate(t *testing.T) {
	t.Parallel()
	n := validUpdate()
	if stream, err := n.Check(); err != nil || stream != "" || strings.Join(n.Protocols, "") != "MQTT" || n.Selection != Snapshot || n.Config.Presigned.ExpiresInSec != 1800 || n.Config.Presigned.RoleARN != "role" {
		t.Errorf("%+v, %v", n, err)
	}
	in := func(stream string, file int64) OTAFile { return OTAFile{Stream: stream, StreamFile: file} }
	n = validUpdate()
	n.Files = []OTAFile{in("s", 3), in("s", 4)}
	if stream, err := n.Check(); err != nil || stream != "s" || n.Files[1].StreamFile != 4 {
		t.Errorf("%+v, %v", n, err)
	}
	object := func() *StreamFile { return &StreamFile{Bucket: "bucket", Key: "k"} }
	for want, change := range map[string]func(*NewOTAUpdate){
		"at 'otaUpdateId'":      func(n *NewOTAUpdate) { n.ID = "a b" },
		"is too long":           func(n *NewOTAUpdate) { n.ID = strings.Repeat("x", 57) },
		"at 'protocols'":        func(n *NewOTAUpdate) { n.Protocols = []string{"MQTT", "MQTT"} },
		"MQTT, HTTP or both":    func(n *NewOTAUpdate) { n.Protocols = []string{"FTP"} },
		"at 'targets'":          func(n *NewOTAUpdate) { n.Targets = nil },
		"1 to 50 files, not 0":  func(n *NewOTAUpdate) { n.Files = nil },
		"1 to 50 files, not 51": func(n *NewOTAUpdate) { n.Files = make([]OTAFile, 51) },
		"has neither a stream":  func(n *NewOTAUpdate) { n.Files[0].Object = nil },
		"has both a stream":     func(n *NewOTAUpdate) { n.Files[0].Stream = "s" },
		"all be of one stream":  func(n *NewOTAUpdate) { n.Files = []OTAFile{in("s", 0), in("r", 0)} },
		"or all have an s3Loca": func(n *NewOTAUpdate) { n.Files = []OTAFile{in("s", 0), {Object: object()}} },
		"is not the name of a":  func(n *NewOTAUpdate) { n.Files[0].Object.Bucket = "" },
		"has no signature":      func(n *NewOTAUpdate) { n.Files[0].Signature = &OTASignature{Hash: "SHA256", Algorithm: "ECDSA"} },
		"hashAlgorithm": func(n *NewOTAUpdate) {
			n.Files[0].Signature = &OTASignature{Value: []byte{1}, Hash: "a b", Algorithm: "ECDSA"}
		},
		"signatureAlgorithm":      func(n *NewOTAUpdate) { n.Files[0].Signature = &OTASignature{Value: []byte{1}, Hash: "SHA256"} },
		"maximumPerMinute":        func(n *NewOTAUpdate) { n.Config.Rollout = &RolloutConfig{MaximumPerMinute: -1} },
		"inProgressTimeoutInMinu": func(n *NewOTAUpdate) { n.Config.TimeoutMinutes = -1 },
	} {
		n := validUpdate()
		change(n)
		if _, err := n.Check(); ErrorCode(err) != InvalidRequest || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want InvalidRequest with %q", err, want)
		}
	}
}

// The document of an update is what devices expect, member by member (registry spec §9.2).
func TestOTADocument(t *testing.T) {
	t.Parallel()
	kind := int64(7)
	u := &OTAUpdate{ID: "u", Stream: "AFR_OTA-x", OTADefinition: OTADefinition{
		Protocols: []string{"MQTT", "HTTP"}, Selection: Snapshot, Description: "d", Targets: []string{"t"}, Parameters: map[string]string{"secret": "1"},
		Files: []OTAFile{
			{Name: "/fw.bin", Type: &kind, StreamFile: 0, Object: &StreamFile{Bucket: "bucket", Key: "a b", ObjectVersion: "v/1", Size: 181584}, Attributes: map[string]string{"secret": "2"},
				Signature: &OTASignature{Value: []byte{1, 2, 3}, CertificateName: "/sign.crt", Certificate: "secret", Hash: "SHA256", Algorithm: "ECDSA"}},
			{Name: "/other", StreamFile: 1, Object: &StreamFile{Bucket: "bucket", Key: "b", Size: 1}},
		},
	}}
	job, err := u.Job()
	const want = `{"afr_ota":{"files":[` +
		`{"auth_scheme":"aws.s3.presigned","certfile":"/sign.crt","fileType":7,"fileid":0,"filepath":"/fw.bin","filesize":181584,"sig-sha256-ecdsa":"AQID",` +
		`"update_data_url":"${aws:iot:s3-presigned-url-v2:s3://bucket/a%20b?versionId=v%2F1}"},` +
		`{"auth_scheme":"aws.s3.presigned","fileid":1,"filepath":"/other","filesize":1,"update_data_url":"${aws:iot:s3-presigned-url-v2:s3://bucket/b}"}],` +
		`"protocols":["MQTT","HTTP"],"streamname":"AFR_OTA-x"}}`
	if err != nil || job.Document != want || job.JobID != "AFR_OTA-u" || job.Description != "d" {
		t.Errorf("%+v, %v\nwant %s", job, err, want)
	}
	u.Protocols, u.Stream = []string{"HTTP"}, ""
	if job, err = u.Job(); err != nil || strings.Contains(job.Document, "streamname") {
		t.Errorf("%s, %v", job.Document, err)
	}
	u.Protocols = []string{"MQTT"}
	if job, err = u.Job(); err != nil || strings.Contains(job.Document, "aws.s3") {
		t.Errorf("%s, %v", job.Document, err)
	}
}

// Whatever an object is called, the document asks for the URL of that one.
func TestOTADocumentNamesItsObjects(t *testing.T) {
	t.Parallel()
	store := ObjectStore{Hosts: []string{"s3.example.com"}}
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.StringN(1, 50, 1024).Filter(func(s string) bool { return !strings.Contains(s, "\x00") && !strings.Contains(s, versionMark) }).Draw(t, "key")
		f := &StreamFile{Bucket: "my-bucket", Key: key, ObjectVersion: rapid.StringN(0, 20, 100).Draw(t, "version")}
		text, err := json.Marshal(map[string]string{"url": f.placeholder()})
		if err != nil {
			t.Fatal(err)
		}
		d, err := ParseDocument(string(text), store)
		if err != nil {
			t.Fatal(err)
		}
		if len(d.links) != 1 || d.links[0].object != f.Object() {
			t.Fatalf("%s: %+v, want %+v", text, d.links, f.Object())
		}
	})
}
