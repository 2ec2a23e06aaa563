package auth

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
)

// Key is an access key. It prints and logs as its id, without the secret.
type Key struct {
	AccessKeyID     string
	SecretAccessKey string
}

func (k Key) String() string { return k.AccessKeyID }

// GoString keeps the secret out of %#v.
func (k Key) GoString() string { return fmt.Sprintf("auth.Key{%q}", k.AccessKeyID) }

// LogValue keeps the secret out of logs.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.AccessKeyID) }

// Secret is a [Verifier.Secret] that knows this key alone.
func (k Key) Secret(accessKeyID string) (string, bool) {
	if k.AccessKeyID == "" || subtle.ConstantTimeCompare([]byte(k.AccessKeyID), []byte(accessKeyID)) != 1 {
		return "", false
	}
	return k.SecretAccessKey, true
}

const (
	credentialsFile = "credentials"
	profile         = "default"
)

// LoadKey returns the key in the file "credentials" of the folder dir, as LoadOrCreateKey
// does, but never makes one: a missing file is an error that satisfies [fs.ErrNotExist].
func LoadKey(dir string) (Key, error) { return loadKey(filepath.Join(dir, credentialsFile)) }

// LoadOrCreateKey returns the key in the file "credentials" of the folder dir, which has
// the AWS shared-credentials format, so that AWS_SHARED_CREDENTIALS_FILE can point to it.
// If there is no such file, it makes a new key and writes it there, durably and readable
// by the owner alone; dir is made too. A file that is there is never changed: if it holds
// no usable key in the profile [default], the error names file and line.
func LoadOrCreateKey(dir string) (Key, error) {
	path := filepath.Join(dir, credentialsFile)
	key, err := loadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	key = newKey()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Key{}, fmt.Errorf("make the folder of the access key: %w", err)
	}
	text := fmt.Sprintf("[%s]\naws_access_key_id = %s\naws_secret_access_key = %s\n", profile, key.AccessKeyID, key.SecretAccessKey)
	if err := writeFile(path, text); err != nil {
		return Key{}, fmt.Errorf("write the access key: %w", err)
	}
	return key, nil
}

// newKey makes a key of AWS's form: AKIA and 16 base32 characters, a secret of 40 characters.
func newKey() Key {
	var random [10 + 30]byte
	rand.Read(random[:]) // never fails: it ends the program instead
	return Key{
		AccessKeyID:     "AKIA" + base32.StdEncoding.EncodeToString(random[:10]),
		SecretAccessKey: base64.StdEncoding.EncodeToString(random[10:]),
	}
}

// writeFile puts text at path with mode 0600: after a crash the file is there whole or not at all.
func writeFile(path, text string) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(dir)
}

// syncDir makes a rename in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func loadKey(path string) (key Key, err error) {
	f, err := os.Open(path)
	if err != nil {
		return Key{}, fmt.Errorf("read the access key: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	const limit = 1 << 20
	text, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return Key{}, fmt.Errorf("read the access key: %w", err)
	}
	return parseCredentials(path, string(text))
}

// parseCredentials reads the profile [default] of a shared-credentials file. Other profiles
// and other names are passed over, as the AWS tools do.
func parseCredentials(path, text string) (Key, error) {
	var key Key
	section := ""
	n := 0
	fail := func(format string, args ...any) (Key, error) {
		return Key{}, fmt.Errorf("%s:%d: %s", path, n, fmt.Sprintf(format, args...))
	}
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		if line[0] == '[' {
			name, rest, ok := strings.Cut(line[1:], "]")
			if rest = strings.TrimSpace(rest); !ok || rest != "" && rest[0] != '#' && rest[0] != ';' {
				return fail("expected a section such as [%s]", profile)
			}
			section = strings.TrimSpace(name)
			if section == "" {
				return fail("a section without a name")
			}
			continue
		}
		// Never repeat the line: it may hold a secret.
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return fail("expected name = value")
		}
		if section == "" {
			return fail("expected a section such as [%s] before the first value", profile)
		}
		if section != profile {
			continue
		}
		var member *string
		switch name = strings.ToLower(strings.TrimSpace(name)); name {
		case "aws_access_key_id":
			member = &key.AccessKeyID
		case "aws_secret_access_key":
			member = &key.SecretAccessKey
		case "aws_session_token":
			return fail("aws_session_token: there are no temporary credentials here")
		default:
			continue
		}
		value = strings.TrimSpace(value)
		switch {
		case *member != "":
			return fail("%s is given twice", name)
		case value == "":
			return fail("%s has no value", name)
		case strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }):
			return fail("%s must be printable ASCII without spaces", name)
		case member == &key.AccessKeyID && strings.ContainsAny(value, "/,="):
			return fail("%s must not hold '/', ',' or '='", name)
		}
		*member = value
	}
	n = max(n, 1)
	switch {
	case key.AccessKeyID == "":
		return fail("no aws_access_key_id in [%s]", profile)
	case key.SecretAccessKey == "":
		return fail("no aws_secret_access_key in [%s]", profile)
	}
	return key, nil
}
