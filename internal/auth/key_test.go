package auth

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestLoadOrCreateKey(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	if key, err := LoadKey(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a key before there is a folder: %v, %v", key, err)
	}
	key, err := LoadOrCreateKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^AKIA[A-Z2-7]{16}$`).MatchString(key.AccessKeyID) || len(key.SecretAccessKey) != 40 {
		t.Errorf("id %q, secret of %d characters", key.AccessKeyID, len(key.SecretAccessKey))
	}
	path := filepath.Join(dir, "credentials")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("mode is %v", info.Mode())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := "[default]\naws_access_key_id = " + key.AccessKeyID + "\naws_secret_access_key = " + key.SecretAccessKey + "\n"; string(text) != want {
		t.Errorf("file is %q", text)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("folder holds %v, %v", entries, err)
	}

	again, err := LoadOrCreateKey(dir)
	if err != nil || again != key {
		t.Errorf("second start has another key: %v, %v", again, err)
	}
	if loaded, err := LoadKey(dir); err != nil || loaded != key {
		t.Errorf("LoadKey has another key: %v, %v", loaded, err)
	}
	other, err := LoadOrCreateKey(t.TempDir())
	if err != nil || other.AccessKeyID == key.AccessKeyID || other.SecretAccessKey == key.SecretAccessKey {
		t.Errorf("another folder has the same key, or none: %v", err)
	}

	if secret, ok := key.Secret(key.AccessKeyID); !ok || secret != key.SecretAccessKey {
		t.Error("the key does not know its secret")
	}
	if secret, ok := key.Secret("AKIAOTHER"); ok || secret != "" {
		t.Error("the key knows another's secret")
	}
}

func TestLoadOrCreateKeyFailures(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if key, err := LoadOrCreateKey(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a file as folder: %v, %v", key, err)
	}
	if err := os.Mkdir(filepath.Join(dir, "credentials"), 0o700); err != nil {
		t.Fatal(err)
	}
	if key, err := LoadOrCreateKey(dir); err == nil || !strings.Contains(err.Error(), "credentials") {
		t.Errorf("a folder as file: %v, %v", key, err)
	}

	broken := t.TempDir()
	path := filepath.Join(broken, "credentials")
	if err := os.WriteFile(path, []byte("[default]\nsecret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreateKey(broken); err == nil || err.Error() != path+":2: expected name = value" {
		t.Errorf("broken file: %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "[default]\nsecret\n" {
		t.Errorf("the broken file was changed: %q, %v", text, err)
	}
}

func TestParseCredentials(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"as written":    "[default]\naws_access_key_id = AKID\naws_secret_access_key = s/e+c=\n",
		"tight":         "[default]\naws_access_key_id=AKID\naws_secret_access_key=s/e+c=",
		"windows":       "\ufeff[default]\r\naws_access_key_id = AKID\r\naws_secret_access_key = s/e+c=\r\n",
		"loose":         "# mine\n\n [ default ] ; x\n\tAWS_Access_Key_Id\t=\tAKID\n; aws_access_key_id = no\n  aws_secret_access_key  =  s/e+c=  \nregion = x\n",
		"other profile": "[other]\naws_access_key_id = X\naws_secret_access_key = Y\naws_session_token = Z\n[default]\naws_access_key_id = AKID\naws_secret_access_key = s/e+c=\n[third]\naws_access_key_id = X\n",
	} {
		if key, err := parseCredentials("f", text); err != nil || key != (Key{"AKID", "s/e+c="}) {
			t.Errorf("%s: got %v, %v", name, key, err)
		}
	}
	for text, want := range map[string]string{
		"":                                 "f:1: no aws_access_key_id in [default]",
		"[default]\n":                      "f:1: no aws_access_key_id in [default]",
		"[default]\naws_access_key_id=A\n": "f:2: no aws_secret_access_key in [default]",
		"[other]\naws_access_key_id=A\naws_secret_access_key=B": "f:3: no aws_access_key_id in [default]",
		"aws_access_key_id=A":                                 "f:1: expected a section such as [default] before the first value",
		"[default\n":                                          "f:1: expected a section such as [default]",
		"[default] x\n":                                       "f:1: expected a section such as [default]",
		"\n[]\n":                                              "f:2: a section without a name",
		"[default]\nhunter2\n":                                "f:2: expected name = value",
		"[default]\naws_access_key_id=\n":                     "f:2: aws_access_key_id has no value",
		"[default]\naws_access_key_id=a b\n":                  "f:2: aws_access_key_id must be printable ASCII without spaces",
		"[default]\naws_access_key_id=a/b\n":                  "f:2: aws_access_key_id must not hold '/', ',' or '='",
		"[default]\naws_secret_access_key=é\n":                "f:2: aws_secret_access_key must be printable ASCII without spaces",
		"[default]\naws_session_token = t\n":                  "f:2: aws_session_token: there are no temporary credentials here",
		strings.Repeat("[default]\naws_access_key_id=A\n", 2): "f:4: aws_access_key_id is given twice",
	} {
		if key, err := parseCredentials("f", text); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, %v; want %s", text, key, err, want)
		}
	}
}

func TestKeyKeepsItsSecret(t *testing.T) {
	t.Parallel()
	key := newKey()
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("key", "key", key)
	slog.New(slog.NewTextHandler(&log, nil)).Info("key", "key", key)
	text := fmt.Sprintf("%v %+v %#v %s %s", key, key, key, &key, log.String())
	if strings.Contains(text, key.SecretAccessKey) {
		t.Errorf("the secret is in %s", text)
	}
	if strings.Count(text, key.AccessKeyID) != 6 {
		t.Errorf("the id is missing in %s", text)
	}
}
