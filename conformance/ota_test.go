package conformance

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// OTA updates (registry spec §9, statements 171 to 178).

// otaFile is a file of an update in the bucket, signed by its owner.
func (d *depot) otaFile(key string, signature []byte) types.OTAUpdateFile {
	return types.OTAUpdateFile{
		FileName: aws.String("/device/" + key), FileType: aws.Int32(3), FileVersion: aws.String("1.2.3"), FileLocation: &types.FileLocation{S3Location: &types.S3Location{Bucket: &d.bucket, Key: &key}},
		Attributes: map[string]string{"hidden": "attribute"},
		CodeSigning: &types.CodeSigning{CustomCodeSigning: &types.CustomCodeSigning{
			Signature: &types.CodeSigningSignature{InlineDocument: signature}, HashAlgorithm: aws.String("SHA256"), SignatureAlgorithm: aws.String("ECDSA"),
			CertificateChain: &types.CodeSigningCertificateChain{CertificateName: aws.String("/certs/sign.crt"), InlineDocument: aws.String("-----BEGIN CERTIFICATE-----")},
		}},
	}
}

// update creates an OTA update for a thing (a full name), waits until its job is there, and returns its id.
func (d *depot) update(n, thing string, files []types.OTAUpdateFile, options ...func(*iot.CreateOTAUpdateInput)) string {
	d.t.Helper()
	in := &iot.CreateOTAUpdateInput{OtaUpdateId: aws.String(d.name(n)), Targets: []string{d.thingARN(thing)}, Files: files, RoleArn: aws.String(role)}
	for _, o := range options {
		o(in)
	}
	_, err := d.api.CreateOTAUpdate(d.ctx, in)
	d.must(err)
	if u := d.created(*in.OtaUpdateId); u.OtaUpdateStatus != types.OTAUpdateStatusCreateComplete {
		d.t.Fatalf("%s: %s %+v", n, u.OtaUpdateStatus, u.ErrorInfo)
	}
	return *in.OtaUpdateId
}

func byProtocols(protocols ...types.Protocol) func(*iot.CreateOTAUpdateInput) {
	return func(in *iot.CreateOTAUpdateInput) { in.Protocols = protocols }
}

// created waits until an update has been made, or not.
func (d *depot) created(id string) (u *types.OTAUpdateInfo) {
	d.t.Helper()
	d.eventually("the update is made", func() bool {
		out, err := d.api.GetOTAUpdate(d.ctx, &iot.GetOTAUpdateInput{OtaUpdateId: &id})
		d.must(err)
		u = out.OtaUpdateInfo
		return u.OtaUpdateStatus != types.OTAUpdateStatusCreatePending && u.OtaUpdateStatus != types.OTAUpdateStatusCreateInProgress
	})
	return u
}

func (d *depot) otaDocument(id string) map[string]any {
	d.t.Helper()
	out, err := d.api.GetJobDocument(d.ctx, &iot.GetJobDocumentInput{JobId: aws.String("AFR_OTA-" + id)})
	d.must(err)
	var document map[string]any
	d.must(json.Unmarshal([]byte(*out.Document), &document))
	for _, hidden := range []string{"hidden", "attribute", "parameter", "BEGIN CERTIFICATE"} {
		if strings.Contains(*out.Document, hidden) {
			d.t.Errorf("the document tells what is not for devices: %s", *out.Document)
		}
	}
	return document["afr_ota"].(map[string]any)
}

func TestR172R173R175R178UpdatesBecomeJobs(t *testing.T) {
	depots(t, func(t *testing.T, d *depot) {
		d.put("fw.bin", "content")
		thing, id := d.thing("t"), d.name("u")
		in := &iot.CreateOTAUpdateInput{
			OtaUpdateId: &id, Description: aws.String("words"), Targets: []string{d.thingARN(thing)}, Files: []types.OTAUpdateFile{d.otaFile("fw.bin", []byte{1, 2, 255})}, RoleArn: aws.String(role),
			AdditionalParameters: map[string]string{"hidden": "parameter"}, Tags: []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}},
			AwsJobExecutionsRolloutConfig: &types.AwsJobExecutionsRolloutConfig{ExponentialRate: &types.AwsJobExponentialRolloutRate{
				BaseRatePerMinute: aws.Int32(50), IncrementFactor: 1.5, RateIncreaseCriteria: &types.AwsJobRateIncreaseCriteria{NumberOfNotifiedThings: aws.Int32(1000)},
			}, MaximumPerMinute: aws.Int32(900)},
			AwsJobAbortConfig: &types.AwsJobAbortConfig{AbortCriteriaList: []types.AwsJobAbortCriteria{{
				Action: "CANCEL", FailureType: "FAILED", MinNumberOfExecutedThings: aws.Int32(10), ThresholdPercentage: aws.Float64(12.25),
			}}},
			AwsJobTimeoutConfig: &types.AwsJobTimeoutConfig{InProgressTimeoutInMinutes: aws.Int64(60)},
		}
		made, err := d.api.CreateOTAUpdate(d.ctx, in)
		d.must(err)
		arn := d.arn("otaupdate", id)
		if made.OtaUpdateStatus != "CREATE_PENDING" || aws.ToString(made.OtaUpdateArn) != arn || aws.ToString(made.AwsIotJobId) != "AFR_OTA-"+id || aws.ToString(made.AwsIotJobArn) != d.arn("job", "AFR_OTA-"+id) {
			t.Errorf("%+v", made)
		}
		_, err = d.api.CreateOTAUpdate(d.ctx, in)
		d.refused(err, "ResourceAlreadyExistsException", 409)

		u := d.created(id)
		if u.OtaUpdateStatus != types.OTAUpdateStatusCreateComplete || aws.ToString(u.Description) != "words" || u.TargetSelection != "SNAPSHOT" || len(u.Protocols) != 1 || u.Protocols[0] != "MQTT" ||
			u.AdditionalParameters["hidden"] != "parameter" || aws.ToInt64(u.AwsJobPresignedUrlConfig.ExpiresInSec) != 1800 || u.ErrorInfo != nil || u.LastModifiedDate.Before(*u.CreationDate) {
			t.Errorf("%+v", u)
		}
		f := u.OtaUpdateFiles[0]
		stream := aws.ToString(f.FileLocation.Stream.StreamId)
		if !strings.HasPrefix(stream, "AFR_OTA-") || len(stream) != 44 || aws.ToInt32(f.FileLocation.Stream.FileId) != 0 || f.Attributes["hidden"] != "attribute" ||
			string(f.CodeSigning.CustomCodeSigning.Signature.InlineDocument) != "\x01\x02\xff" || aws.ToInt32(f.FileType) != 3 || aws.ToString(f.FileVersion) != "1.2.3" {
			t.Errorf("%+v", f)
		}
		want := map[string]any{"protocols": []any{"MQTT"}, "streamname": stream, "files": []any{map[string]any{
			"filepath": "/device/fw.bin", "filesize": 7.0, "fileid": 0.0, "fileType": 3.0, "certfile": "/certs/sign.crt", "sig-sha256-ecdsa": base64.StdEncoding.EncodeToString([]byte{1, 2, 255}),
		}}}
		if got := d.otaDocument(id); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("document %v, want %v", got, want)
		}
		j := d.describe("AFR_OTA-" + id)
		if j.JobExecutionsRolloutConfig.ExponentialRate == nil || aws.ToFloat64(j.JobExecutionsRolloutConfig.ExponentialRate.IncrementFactor) != 1.5 ||
			aws.ToFloat64(j.AbortConfig.CriteriaList[0].ThresholdPercentage) != 12.25 || aws.ToInt64(j.TimeoutConfig.InProgressTimeoutInMinutes) != 60 || aws.ToString(j.Description) != "words" {
			t.Errorf("%+v", j)
		}

		// What cannot be is said at once, and nothing is made.
		for name, c := range map[string]struct {
			code   string
			change func(*iot.CreateOTAUpdateInput)
		}{
			"an id that is too long": {"InvalidRequestException", func(in *iot.CreateOTAUpdateInput) { in.OtaUpdateId = aws.String(strings.Repeat("x", 57)) }},
			"no thing":               {"ResourceNotFoundException", func(in *iot.CreateOTAUpdateInput) { in.Targets = []string{d.thingARN(d.name("nobody"))} }},
			"no group":               {"ResourceNotFoundException", func(in *iot.CreateOTAUpdateInput) { in.Targets = []string{d.groupARN(d.name("nobody"))} }},
			"no stream":              {"ResourceNotFoundException", func(in *iot.CreateOTAUpdateInput) { in.Files = inStream("missing", 0) }},
			"no file of a stream":    {"ResourceNotFoundException", func(in *iot.CreateOTAUpdateInput) { in.Files = inStream(stream, 9) }},
			"no object": {"ResourceNotFoundException", func(in *iot.CreateOTAUpdateInput) {
				in.Files = []types.OTAUpdateFile{d.otaFile("missing", nil)}
				in.Files[0].CodeSigning = nil
			}},
			"two places": {"InvalidRequestException", func(in *iot.CreateOTAUpdateInput) {
				in.Files[0].FileLocation.Stream = inStream(stream, 0)[0].FileLocation.Stream
			}},
			"no place":         {"InvalidRequestException", func(in *iot.CreateOTAUpdateInput) { in.Files[0].FileLocation = nil }},
			"two signatures":   {"InvalidRequestException", func(in *iot.CreateOTAUpdateInput) { in.Files[0].CodeSigning.AwsSignerJobId = aws.String("x") }},
			"a protocol twice": {"InvalidRequestException", byProtocols("MQTT", "MQTT")},
			"a short life of URLs": {"InvalidRequestException", func(in *iot.CreateOTAUpdateInput) {
				in.AwsJobPresignedUrlConfig = &types.AwsJobPresignedUrlConfig{ExpiresInSec: aws.Int64(59)}
			}},
			"two decimals of a factor": {"InvalidRequestException", func(in *iot.CreateOTAUpdateInput) {
				in.AwsJobExecutionsRolloutConfig = &types.AwsJobExecutionsRolloutConfig{ExponentialRate: &types.AwsJobExponentialRolloutRate{BaseRatePerMinute: aws.Int32(50), IncrementFactor: 1.55, RateIncreaseCriteria: &types.AwsJobRateIncreaseCriteria{NumberOfNotifiedThings: aws.Int32(1000)}}}
			}},
			"a job of AWS Signer": {"InvalidRequestException", func(in *iot.CreateOTAUpdateInput) {
				in.Files[0].CodeSigning = &types.CodeSigning{AwsSignerJobId: aws.String("x")}
			}},
			"a job of AWS Signer to be": {"InvalidRequestException", func(in *iot.CreateOTAUpdateInput) {
				in.Files[0].CodeSigning = &types.CodeSigning{StartSigningJobParameter: &types.StartSigningJobParameter{}}
			}},
		} {
			bad := &iot.CreateOTAUpdateInput{OtaUpdateId: aws.String(d.name("bad")), Targets: []string{d.thingARN(thing)}, Files: []types.OTAUpdateFile{d.otaFile("fw.bin", []byte{1})}, RoleArn: aws.String(role)}
			c.change(bad)
			_, err := d.api.CreateOTAUpdate(d.ctx, bad)
			if failure(err) != c.code {
				t.Errorf("%s: %v", name, err)
			}
			if strings.Contains(name, "Signer") && !strings.Contains(err.Error(), "Code signing is not configured") {
				t.Errorf("%s: %v", name, err)
			}
		}
		_, err = d.api.GetOTAUpdate(d.ctx, &iot.GetOTAUpdateInput{OtaUpdateId: aws.String(d.name("bad"))})
		d.refused(err, "ResourceNotFoundException", 404)

		// Listed by status.
		broken := d.name("broken")
		_, err = d.api.CreateJob(d.ctx, &iot.CreateJobInput{JobId: aws.String("AFR_OTA-" + broken), Targets: []string{d.thingARN(thing)}, Document: aws.String(document)})
		d.must(err)
		in.OtaUpdateId, in.Tags = &broken, nil
		_, err = d.api.CreateOTAUpdate(d.ctx, in)
		d.must(err)
		if u := d.created(broken); u.OtaUpdateStatus != types.OTAUpdateStatusCreateFailed || u.ErrorInfo == nil || !strings.Contains(*u.ErrorInfo.Message, "already exists") {
			t.Errorf("a job of somebody else's: %+v", u)
		}
		listed := func(status types.OTAUpdateStatus) (ids []string) {
			pages := iot.NewListOTAUpdatesPaginator(d.api, &iot.ListOTAUpdatesInput{OtaUpdateStatus: status, MaxResults: aws.Int32(1)})
			for pages.HasMorePages() {
				page, err := pages.NextPage(d.ctx)
				d.must(err)
				for _, u := range page.OtaUpdates {
					if strings.HasPrefix(*u.OtaUpdateId, d.prefix) {
						ids = append(ids, *u.OtaUpdateId)
					}
				}
			}
			slices.Sort(ids)
			return ids
		}
		for status, want := range map[types.OTAUpdateStatus][]string{"": {broken, id}, "CREATE_COMPLETE": {id}, "CREATE_FAILED": {broken}, "CREATE_PENDING": nil} {
			if got := listed(status); !slices.Equal(got, want) {
				t.Errorf("%q: %v, want %v", status, got, want)
			}
		}
		// What has failed is deleted without somebody else's job.
		_, err = d.api.DeleteOTAUpdate(d.ctx, &iot.DeleteOTAUpdateInput{OtaUpdateId: &broken, ForceDeleteAWSJob: true})
		d.must(err)
		d.updateGone(broken)
		d.describe("AFR_OTA-" + broken)
	})
}

func inStream(id string, file int32) []types.OTAUpdateFile {
	return []types.OTAUpdateFile{{FileName: aws.String("/f"), FileLocation: &types.FileLocation{Stream: &types.Stream{StreamId: &id, FileId: &file}}}}
}

func (d *depot) updateGone(id string) {
	d.t.Helper()
	d.eventually("the update is gone", func() bool {
		_, err := d.api.GetOTAUpdate(d.ctx, &iot.GetOTAUpdateInput{OtaUpdateId: &id})
		return failure(err) == "ResourceNotFoundException"
	})
}

func TestR171R177DeletionOfUpdates(t *testing.T) {
	depots(t, func(t *testing.T, d *depot) {
		d.put("fw.bin", "content")
		thing := d.thing("t")
		remove := func(id string, stream, force bool) error {
			_, err := d.api.DeleteOTAUpdate(d.ctx, &iot.DeleteOTAUpdateInput{OtaUpdateId: &id, DeleteStream: stream, ForceDeleteAWSJob: force})
			return err
		}
		hasStream := func(id string) bool {
			_, err := d.api.DescribeStream(d.ctx, &iot.DescribeStreamInput{StreamId: &id})
			return err == nil
		}
		d.refused(remove(d.name("nobody"), false, false), "ResourceNotFoundException", 404)
		own := d.stream("mine", "fw.bin")
		for _, c := range []struct {
			name         string
			files        []types.OTAUpdateFile
			deleteStream bool
			left         bool // the stream
		}{
			{"its stream, too", []types.OTAUpdateFile{d.otaFile("fw.bin", []byte{1})}, true, false},
			{"but not its stream", []types.OTAUpdateFile{d.otaFile("fw.bin", []byte{1})}, false, true},
			{"but not the stream of its owner", inStream(own, 0), true, true},
		} {
			id := d.update(strings.ReplaceAll(c.name, " ", "_")[:5]+fmt.Sprint(len(c.name)), thing, c.files)
			stream := d.otaDocument(id)["streamname"].(string)
			_, err := d.api.DeleteStream(d.ctx, &iot.DeleteStreamInput{StreamId: &stream})
			d.refused(err, "DeleteConflictException", 409)
			d.refused(remove(id, c.deleteStream, false), "InvalidRequestException", 400)
			d.must(remove(id, c.deleteStream, true))
			d.updateGone(id)
			if _, err := d.api.DescribeJob(d.ctx, &iot.DescribeJobInput{JobId: aws.String("AFR_OTA-" + id)}); failure(err) != "ResourceNotFoundException" {
				t.Errorf("%s: the job: %v", c.name, err)
			}
			if left := hasStream(stream); left != c.left {
				t.Errorf("%s: the stream is there: %v", c.name, left)
			}
			if c.left {
				_, err = d.api.DeleteStream(d.ctx, &iot.DeleteStreamInput{StreamId: &stream})
				if stream != own {
					d.must(err)
				}
			}
		}
		// A job that has ended needs no force; one that is gone neither.
		for i, end := range []func(job string){
			func(job string) { _, err := d.api.CancelJob(d.ctx, &iot.CancelJobInput{JobId: &job}); d.must(err) },
			func(job string) {
				_, err := d.api.DeleteJob(d.ctx, &iot.DeleteJobInput{JobId: &job, Force: true})
				d.must(err)
				d.eventually("the job is gone", func() bool {
					_, err := d.api.DescribeJob(d.ctx, &iot.DescribeJobInput{JobId: &job})
					return err != nil
				})
			},
		} {
			id := d.update(fmt.Sprint("ended", i), thing, []types.OTAUpdateFile{d.otaFile("fw.bin", []byte{1})})
			end("AFR_OTA-" + id)
			d.must(remove(id, true, false))
			d.updateGone(id)
		}
	})
}

func TestR174UpdatesOverHTTP(t *testing.T) {
	depots(t, func(t *testing.T, d *depot) {
		content := firmware(5000)
		d.put("a b/fw.bin", content)
		thing := d.thing("t")
		for _, both := range []bool{false, true} {
			protocols := []types.Protocol{"HTTP"}
			if both {
				protocols = append(protocols, "MQTT")
			}
			id := d.update(fmt.Sprint("u", both), thing, []types.OTAUpdateFile{d.otaFile("a b/fw.bin", []byte{1})}, byProtocols(protocols...))
			dev := d.connect(thing)
			dev.listen("#")
			first := ""
			d.eventually("another delivery has another URL", func() bool { // signed in another second
				got := dev.accepted("AFR_OTA-"+id+"/get", `{}`)
				ota := path(got, "execution", "jobDocument", "afr_ota")
				if _, streamed := path(ota, "streamname").(string); streamed != both || path(ota, "files", 0, "auth_scheme") != "aws.s3.presigned" {
					t.Fatalf("%v", ota)
				}
				url, _ := path(ota, "files", 0, "update_data_url").(string)
				if status, text := d.fetch(http.MethodGet, url, ""); status != 200 || text != content || !strings.Contains(url, "X-Amz-Expires=1800") {
					t.Fatalf("%s: %d, %d bytes", url, status, len(text))
				}
				if first == "" {
					first = url
				}
				return url != first
			})
		}
	})
}

// TestR176UnreadableObject: what the store forbids is found out when the update is made.
func TestR176UnreadableObject(t *testing.T) {
	t.Parallel()
	forbidding := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer forbidding.Close()
	d := &depot{fleet: fleetOn(t, ownServer(t, "--s3", forbidding.URL, "--s3-access-key", "a", "--s3-secret-key", "b")), bucket: "bucket"}
	id := d.name("u")
	_, err := d.api.CreateOTAUpdate(d.ctx, &iot.CreateOTAUpdateInput{OtaUpdateId: &id, Targets: []string{d.thingARN(d.thing("t"))}, Files: []types.OTAUpdateFile{d.otaFile("k", []byte{1})}, RoleArn: aws.String(role)})
	d.must(err)
	u := d.created(id)
	if u.OtaUpdateStatus != types.OTAUpdateStatusCreateFailed || u.ErrorInfo == nil || !strings.Contains(aws.ToString(u.ErrorInfo.Message), "forbids") || aws.ToString(u.ErrorInfo.Code) != "InvalidRequest" {
		t.Errorf("%s %+v", u.OtaUpdateStatus, u.ErrorInfo)
	}
	_, err = d.api.DeleteOTAUpdate(d.ctx, &iot.DeleteOTAUpdateInput{OtaUpdateId: &id})
	d.must(err)
	d.updateGone(id)
}

// TestFreeRTOSDeviceUpdatesItself: a device does what AWS's libraries for FreeRTOS do: it finds its job, fetches the file
// by a bitmap of what it lacks, checks the signature, and reports over a restart.
func TestFreeRTOSDeviceUpdatesItself(t *testing.T) {
	depots(t, func(t *testing.T, d *depot) {
		content := firmware(181_584)
		d.put("fw.bin", content)
		hash := sha256.Sum256([]byte(content))
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		d.must(err)
		signed, err := ecdsa.SignASN1(rand.Reader, key, hash[:])
		d.must(err)
		other, err := rsa.GenerateKey(rand.Reader, 2048)
		d.must(err)
		byRSA, err := rsa.SignPKCS1v15(rand.Reader, other, crypto.SHA256, hash[:])
		d.must(err)
		for i, format := range []string{"cbor", "json"} {
			for _, version := range []int{4, 5} {
				thing := d.thing(fmt.Sprintf("t%s%d", format, version))
				file := d.otaFile("fw.bin", signed)
				verify := func(signature []byte) bool { return ecdsa.VerifyASN1(&key.PublicKey, hash[:], signature) }
				member := "sig-sha256-ecdsa"
				if i == 1 {
					file.CodeSigning.CustomCodeSigning.SignatureAlgorithm, file.CodeSigning.CustomCodeSigning.Signature.InlineDocument = aws.String("RSA"), byRSA
					verify = func(signature []byte) bool {
						return rsa.VerifyPKCS1v15(&other.PublicKey, crypto.SHA256, hash[:], signature) == nil
					}
					member = "sig-sha256-rsa"
				}
				id := d.update("u"+thing[len(d.prefix):], thing, []types.OTAUpdateFile{file})

				dev := d.connectAs(thing, thing, version)
				dev.listen("#")
				got := dev.accepted("$next/get", `{}`)
				job, _ := path(got, "execution", "jobId").(string)
				ota, ok := path(got, "execution", "jobDocument", "afr_ota").(map[string]any)
				if !ok || job != "AFR_OTA-"+id {
					t.Fatalf("%v", got)
				}
				dev.accepted(job+"/update", `{"status":"IN_PROGRESS","statusDetails":{"receive":"0/45"}}`)
				c := &streamClient{device: dev, stream: ota["streamname"].(string), format: format}
				c.listen()
				size := int(path(ota, "files", 0, "filesize").(float64))
				if r := c.read(c.ask("describe", map[string]any{}, 1)[0]); fmt.Sprint(r["r"]) != fmt.Sprintf("[map[f:0 z:%d]]", size) {
					t.Errorf("%v", r)
				}
				signature, err := base64.StdEncoding.DecodeString(path(ota, "files", 0, member).(string))
				d.must(err)
				if image := c.download(int(path(ota, "files", 0, "fileid").(float64)), size, 4096); image != content || !verify(signature) {
					t.Errorf("%d bytes, of which the signature is right: %v", len(image), verify(signature))
				}
				dev.accepted(job+"/update", `{"status":"IN_PROGRESS","statusDetails":{"self_test":"ready","updatedBy":"0x1000000"}}`)
				dev.disconnect()

				dev = d.connectAs(thing, thing, version) // restarted, with the new image
				dev.listen("#")
				got = dev.accepted("$next/get", `{}`)
				if path(got, "execution", "statusDetails", "self_test") != "ready" || path(got, "execution", "jobId") != job {
					t.Errorf("%v", got)
				}
				dev.accepted(job+"/update", `{"status":"SUCCEEDED","statusDetails":{"reason":"accepted v1.2.3","updatedBy":"0x1000000"}}`)
				d.eventually("the job completes", func() bool { return d.describe(job).Status == types.JobStatusCompleted })
				_, err = d.api.DeleteOTAUpdate(d.ctx, &iot.DeleteOTAUpdateInput{OtaUpdateId: &id, DeleteStream: true})
				d.must(err)
				d.updateGone(id)
			}
		}
	})
}

// download fetches a file as devices do: it asks for the blocks that it lacks, so many at a time.
func (c *streamClient) download(file, size, blockSize int) string {
	c.f.t.Helper()
	const atOnce = 8
	blocks := (size + blockSize - 1) / blockSize
	lacks := make([]byte, (blocks+7)/8)
	for i := range blocks {
		lacks[i/8] |= 1 << (i % 8)
	}
	image := make([]byte, size)
	for have := 0; have < blocks; {
		n := min(atOnce, blocks-have)
		in := map[string]any{"f": file, "l": blockSize, "o": 0, "b": c.bitmap(fmt.Sprintf("%x", lacks)), "n": n}
		for _, m := range c.ask("get", in, n) {
			b := c.read(m)
			i := int(b["i"].(int64))
			if lacks[i/8]&(1<<(i%8)) == 0 {
				c.f.t.Errorf("block %d came, which was not asked for", i)
			}
			lacks[i/8] &^= 1 << (i % 8)
			copy(image[i*blockSize:], b["p"].([]byte))
			have++
		}
	}
	return string(image)
}
