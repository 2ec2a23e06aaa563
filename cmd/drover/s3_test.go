package main

import (
	"log/slog"
	"slices"
	"strings"
	"testing"

	"drover/internal/auth"
	"drover/internal/iot"
)

// TestS3Keys: which key signs a URL is said by flags, files, and the role of the job.
func TestS3Keys(t *testing.T) {
	profiles := "[default]\naws_access_key_id = AKIADEFAULT\naws_secret_access_key = s\n" +
		"[firmware]\naws_access_key_id = AKIAFIRMWARE\naws_secret_access_key = s\n" +
		"[other]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = s\n"
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file(t, profiles))
	t.Setenv("AWS_CONFIG_FILE", file(t, ""))
	t.Setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1") // as in a shell that talks to a drover
	for _, name := range []string{"AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} {
		t.Setenv(name, "")
	}
	const role = "arn:aws:iam::123456789012:role/firmware"
	for name, c := range map[string]struct {
		flags     s3Flags
		key, host string // of a URL for any role
		roleKey   string // of one for the role
	}{
		"box":         {s3Flags{S3: s3Box}, "AKIABOX", "http://127.0.0.1:8080/bucket/k", "AKIABOX"},
		"box, public": {s3Flags{S3: s3Box, S3PublicURL: "https://files.example"}, "AKIABOX", "https://files.example/bucket/k", "AKIABOX"},
		"static":      {s3Flags{S3: "http://minio:9000", S3AccessKey: "AKIASTATIC", S3SecretKey: "s"}, "AKIASTATIC", "http://minio:9000/bucket/k", "AKIASTATIC"},
		"found":       {s3Flags{S3: s3AWS}, "AKIADEFAULT", "https://bucket.s3.eu-west-1.amazonaws.com/k", "AKIADEFAULT"},
		"profile":     {s3Flags{S3: s3AWS, S3Profile: "other"}, "AKIAOTHER", "https://bucket.s3.eu-west-1.amazonaws.com/k", "AKIAOTHER"},
		"role":        {s3Flags{S3: s3AWS, S3Roles: map[string]string{role: "firmware"}}, "AKIADEFAULT", "https://bucket.s3.eu-west-1.amazonaws.com/k", "AKIAFIRMWARE"},
	} {
		if err := c.flags.check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		s := &server{cfg: serveConfig{Region: "eu-west-1", S3: c.flags}, endpoints: endpoints{HTTP: "http://127.0.0.1:8080"},
			key: auth.Key{AccessKeyID: "AKIABOX", SecretAccessKey: "s"}, log: slog.New(slog.DiscardHandler)}
		store, err := s.newArtifacts(t.Context())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for arn, key := range map[string]string{"arn:aws:iam::123456789012:role/any": c.key, role: c.roleKey} {
			u, err := store.Presign(iot.ObjectURL{Object: iot.Object{Bucket: "bucket", Key: "k"}, RoleARN: arn})
			if err != nil || !strings.HasPrefix(u, c.host+"?") || !strings.Contains(u, "X-Amz-Credential="+key+"%2F") {
				t.Errorf("%s, for %s: %s, %v", name, arn, u, err)
			}
		}
	}
	for _, flags := range []s3Flags{{S3: s3AWS, S3Profile: "nobody"}, {S3: s3AWS, S3Roles: map[string]string{role: "nobody"}}} {
		s := &server{cfg: serveConfig{S3: flags}}
		if _, err := s.newArtifacts(t.Context()); err == nil || !strings.Contains(err.Error(), "--s3-") || !strings.Contains(err.Error(), "nobody") {
			t.Errorf("%+v: %v", flags, err)
		}
	}
}

// TestS3RolesInFile: a flag with several values has them on one line in the file.
func TestS3RolesInFile(t *testing.T) {
	config := file(t, "s3: aws\ns3-role: \"arn:a=one;arn:b=two\"\n")
	t.Setenv("AWS_CONFIG_FILE", file(t, "[profile one]\n"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file(t, ""))
	_, _, errs := command(t, "serve", "--data", t.TempDir(), "--http", "127.0.0.1:0", "--mqtt", "", "--config", config)
	if !strings.Contains(errs, "--s3-role arn:b") || !strings.Contains(errs, "two") {
		t.Errorf("%q", errs)
	}
}

func TestAliases(t *testing.T) {
	for name, c := range map[string]struct {
		at   endpoints
		want []string
	}{
		"loopback":    {endpoints{HTTP: "http://127.0.0.1:80"}, []string{"http://127.0.0.1:80", "http://localhost:80", "http://127.0.0.1:80"}},
		"everywhere":  {endpoints{HTTPS: "https://[::]:443"}, []string{"https://[::]:443", "https://localhost:443", "https://127.0.0.1:443"}},
		"one address": {endpoints{HTTP: "http://10.0.0.1:8080"}, []string{"http://10.0.0.1:8080"}},
	} {
		if got := c.at.aliases(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
