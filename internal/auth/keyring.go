package auth

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"drover/internal/auth/policy"
	"drover/internal/iot"
)

// KeyStore keeps API keys. Errors are *iot.Error if the caller caused them.
type KeyStore interface {
	Keys(context.Context) ([]iot.APIKey, error)
	InsertKey(ctx context.Context, k iot.APIKey, actor string) (iot.APIKey, error)
	DeleteKey(ctx context.Context, idOrName, actor string) (id string, err error)
}

// Owner is whose key it is, and what he may do.
type Owner struct {
	Name   string
	Root   bool // the key of the data folder: everything
	Policy *policy.Policy
}

// Keyring knows the root key, which may do everything, and the API keys. It is safe for concurrent
// use.
//
// SigV4 needs the secret itself, so it cannot be kept as a hash. What is stored is sealed with
// AES-256-GCM under a key that is in a file of its own and never in the database; the id of the
// access key is sealed with it, so that no two can be exchanged for each other.
type Keyring struct {
	root  Key
	store KeyStore
	seal  cipher.AEAD
	log   *slog.Logger

	changing sync.Mutex // one change at a time, so that the last read is the last written
	mu       sync.RWMutex
	keys     map[string]apiKey // by access key id
}

type apiKey struct {
	secret string
	owner  Owner
}

// SealFile is the name of the file in a data folder with the key that seals secrets.
const SealFile = "secrets.key"

// LoadOrCreateSeal returns the key in the file at path, 32 bytes in base64. If there is no such
// file, it makes a new key and writes it there, durably and readable by the owner alone.
func LoadOrCreateSeal(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key := make([]byte, 32)
		rand.Read(key) // never fails: it ends the program instead
		if err := writeFile(path, base64.StdEncoding.EncodeToString(key)+"\n"); err != nil {
			return nil, fmt.Errorf("write the key that seals secrets: %w", err)
		}
		return key, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the key that seals secrets: %w", err)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != 32 {
		return nil, fmt.Errorf("%s: must hold 32 bytes in base64", filepath.Clean(path)) // and never say what it holds
	}
	return key, nil
}

// OpenKeyring returns the keyring of a store. A key whose secret cannot be opened, because the
// database and the sealing key are not of one server, is logged and good for nothing.
func OpenKeyring(ctx context.Context, root Key, store KeyStore, seal []byte, log *slog.Logger) (*Keyring, error) {
	block, err := aes.NewCipher(seal)
	if err != nil {
		return nil, err
	}
	k := &Keyring{root: root, store: store, log: log}
	if k.seal, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	return k, k.Reload(ctx)
}

// Reload reads all keys from the store.
func (k *Keyring) Reload(ctx context.Context) error {
	k.changing.Lock()
	defer k.changing.Unlock()
	return k.reload(ctx)
}

// reload is Reload for who has changing.
func (k *Keyring) reload(ctx context.Context) error {
	stored, err := k.store.Keys(ctx)
	if err != nil {
		return err
	}
	keys := make(map[string]apiKey, len(stored))
	for _, s := range stored {
		secret, err := k.open(s)
		if err != nil {
			k.log.ErrorContext(ctx, "secret of an API key cannot be opened; revoke the key, or start with the file that sealed it", "key", s.ID, "name", s.Name)
			continue
		}
		p, err := policy.Parse(s.Policy, policy.KeyLimit)
		if err != nil {
			k.log.ErrorContext(ctx, "policy of an API key cannot be read", "key", s.ID, "name", s.Name, "err", err)
			continue
		}
		keys[s.ID] = apiKey{secret, Owner{Name: s.Name, Policy: p}}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys = keys
	return nil
}

// Secret is a [Verifier.Secret] that knows the root key and all API keys.
func (k *Keyring) Secret(accessKeyID string) (string, bool) {
	if secret, ok := k.root.Secret(accessKeyID); ok {
		return secret, true
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	key, ok := k.keys[accessKeyID]
	return key.secret, ok
}

// Owner returns whose key it is. It reports false for one that is not known, or not any more.
func (k *Keyring) Owner(accessKeyID string) (Owner, bool) {
	if _, ok := k.root.Secret(accessKeyID); ok {
		return Owner{Name: "root", Root: true}, true
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	key, ok := k.keys[accessKeyID]
	return key.owner, ok
}

// List returns the API keys by name, without their secrets.
func (k *Keyring) List(ctx context.Context) ([]iot.APIKey, error) {
	keys, err := k.store.Keys(ctx)
	for i := range keys {
		keys[i].Sealed = nil
	}
	return keys, err
}

// Create makes an API key. It is the only time that the secret is told. Errors as KeyStore.InsertKey.
func (k *Keyring) Create(ctx context.Context, name, document, actor string) (Key, error) {
	k.changing.Lock()
	defer k.changing.Unlock()
	key := newKey()
	nonce := make([]byte, k.seal.NonceSize())
	rand.Read(nonce)
	sealed := k.seal.Seal(nonce, nonce, []byte(key.SecretAccessKey), []byte(key.AccessKeyID))
	if _, err := k.store.InsertKey(ctx, iot.APIKey{ID: key.AccessKeyID, Name: name, Policy: document, Sealed: sealed}, actor); err != nil {
		return Key{}, err
	}
	return key, k.reload(ctx)
}

// Revoke forgets an API key, given by id or by name. It is refused from now on. Errors as
// KeyStore.DeleteKey.
func (k *Keyring) Revoke(ctx context.Context, idOrName, actor string) error {
	k.changing.Lock()
	defer k.changing.Unlock()
	id, err := k.store.DeleteKey(ctx, idOrName, actor)
	if err != nil {
		return err
	}
	// Not by reading again: that may fail, and the key must be gone.
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.keys, id)
	return nil
}

func (k *Keyring) open(s iot.APIKey) (string, error) {
	n := k.seal.NonceSize()
	if len(s.Sealed) < n {
		return "", errors.New("too short")
	}
	secret, err := k.seal.Open(nil, s.Sealed[:n], s.Sealed[n:], []byte(s.ID))
	return string(secret), err
}
