package auth

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"drover/internal/iot"
)

// keyShelf keeps keys in memory, as a store does.
type keyShelf struct {
	mu   sync.Mutex
	keys []iot.APIKey
	err  error
}

func (s *keyShelf) Keys(context.Context) ([]iot.APIKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]iot.APIKey{}, s.keys...), s.err
}

func (s *keyShelf) InsertKey(_ context.Context, k iot.APIKey, _ string) (iot.APIKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = append(s.keys, k)
	return k, s.err
}

func (s *keyShelf) DeleteKey(_ context.Context, idOrName, _ string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, k := range s.keys {
		if k.ID == idOrName || k.Name == idOrName {
			s.keys = append(s.keys[:i:i], s.keys[i+1:]...)
			return k.ID, nil
		}
	}
	return "", iot.Errorf(iot.NotFound, "none")
}

const allowAll = `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`

func newKeyring(t *testing.T, shelf *keyShelf, root Key, seal []byte) (*Keyring, *bytes.Buffer) {
	t.Helper()
	log := new(bytes.Buffer)
	ring, err := OpenKeyring(t.Context(), root, shelf, seal, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return ring, log
}

func TestKeyring(t *testing.T) {
	t.Parallel()
	shelf, root, seal := &keyShelf{}, newKey(), bytes.Repeat([]byte{7}, 32)
	ring, _ := newKeyring(t, shelf, root, seal)
	key, err := ring.Create(t.Context(), "ci", allowAll, "x")
	if err != nil {
		t.Fatal(err)
	}
	known := func(ring *Keyring, k Key, want bool) {
		t.Helper()
		secret, ok := ring.Secret(k.AccessKeyID)
		_, owned := ring.Owner(k.AccessKeyID)
		if ok != want || owned != want || ok && secret != k.SecretAccessKey {
			t.Errorf("%s: known %v, owned %v", k, ok, owned)
		}
	}
	known(ring, key, true)
	known(ring, root, true)
	known(ring, newKey(), false)
	if o, _ := ring.Owner(key.AccessKeyID); o.Root || o.Name != "ci" || o.Policy == nil {
		t.Errorf("owner %+v", o)
	}
	if o, _ := ring.Owner(root.AccessKeyID); !o.Root {
		t.Errorf("owner of the root key %+v", o)
	}
	if bytes.Contains(shelf.keys[0].Sealed, []byte(key.SecretAccessKey)) {
		t.Error("the secret is stored as it is")
	}
	again, _ := newKeyring(t, shelf, root, seal)
	known(again, key, true)

	// A sealed secret is of use under its own id, and with the key that sealed it, only.
	other, log := newKeyring(t, shelf, root, bytes.Repeat([]byte{8}, 32))
	known(other, key, false)
	known(other, root, true)
	if !strings.Contains(log.String(), key.AccessKeyID) || strings.Contains(log.String(), key.SecretAccessKey) {
		t.Errorf("log says %s", log)
	}
	moved := shelf.keys[0]
	moved.ID = newKey().AccessKeyID
	swapped, _ := newKeyring(t, &keyShelf{keys: []iot.APIKey{moved, {ID: "short"}}}, root, seal)
	known(swapped, Key{moved.ID, key.SecretAccessKey}, false)

	if err := ring.Revoke(t.Context(), "ci", "x"); err != nil {
		t.Fatal(err)
	}
	known(ring, key, false)
	if err := ring.Revoke(t.Context(), "ci", "x"); iot.ErrorCode(err) != iot.NotFound {
		t.Errorf("again: %v", err)
	}
	shelf.err = errors.New("disk")
	if _, err := ring.Create(t.Context(), "x", allowAll, "x"); err == nil {
		t.Error("created without being stored")
	}
}

func TestSeal(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), SealFile)
	key, err := LoadOrCreateSeal(path)
	if err != nil || len(key) != 32 {
		t.Fatalf("%d bytes, %v", len(key), err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if again, err := LoadOrCreateSeal(path); err != nil || !bytes.Equal(again, key) {
		t.Errorf("another key: %v", err)
	}
	if err := os.WriteFile(path, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreateSeal(path); err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a bad file: %v", err)
	}
}

// TestUnknownKeyIsWorkedOut: who asks with a key that does not exist is refused as for a wrong
// signature, also if he knows what stands for its secret.
func TestUnknownKeyIsWorkedOut(t *testing.T) {
	t.Parallel()
	v := newVerifier()
	v.Secret = func(string) (string, bool) { return "", false }
	c := call{method: "GET", target: "/jobs", secret: unknownSecret}
	_, err := v.Verify(c.received(t))
	refusal, ok := errors.AsType[*Error](err)
	if !ok || refusal.Code != CodeInvalidSignature {
		t.Errorf("%v", err)
	}
}
