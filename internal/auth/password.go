package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"

	"drover/internal/iot"
)

// Passwords are hashed with argon2id (RFC 9106), with what OWASP recommends at the least: who tries passwords
// shall not cost the server more than that.
const (
	hashMemory  = 19 << 10 // KiB
	hashPasses  = 2
	hashThreads = 1
	hashLength  = 32
	saltLength  = 16

	minPassword = 12   // characters
	maxPassword = 1024 // bytes
)

// hasher computes hashes of passwords, so many at once that they take neither all memory nor all processors.
type hasher struct{ slots chan struct{} }

const (
	hashesAtOnce = 2
	hashPatience = 10 * time.Second // of who waits for his turn
)

func newHasher() hasher { return hasher{make(chan struct{}, hashesAtOnce)} }

// take waits for a turn. Unavailable if it does not come.
func (h hasher) take(ctx context.Context) error {
	timeout := time.NewTimer(hashPatience)
	defer timeout.Stop()
	select {
	case h.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timeout.C:
		return iot.Errorf(iot.Unavailable, "Too many people sign in at the moment. Try again")
	}
}

// hash returns the hash of a password, with a new salt, in the PHC string format.
func (h hasher) hash(ctx context.Context, password string) (string, error) {
	if err := h.take(ctx); err != nil {
		return "", err
	}
	defer func() { <-h.slots }()
	p := phc{memory: hashMemory, passes: hashPasses, threads: hashThreads, salt: make([]byte, saltLength)}
	rand.Read(p.salt)
	p.hash = p.of(password, hashLength)
	return p.String(), nil
}

// check reports whether a password has a hash; an error is not about the password.
func (h hasher) check(ctx context.Context, password, hash string) (bool, error) {
	p, err := parsePHC(hash)
	if err != nil {
		return false, err
	}
	if len(password) > maxPassword {
		password = password[:maxPassword] // is wrong, and as late as others
	}
	if err := h.take(ctx); err != nil {
		return false, err
	}
	defer func() { <-h.slots }()
	return subtle.ConstantTimeCompare(p.of(password, len(p.hash)), p.hash) == 1, nil
}

// phc is a hash by argon2id with what it was made of.
type phc struct {
	memory, passes uint32
	threads        uint8
	salt, hash     []byte
}

func (p phc) of(password string, length int) []byte {
	return argon2.IDKey([]byte(password), p.salt, p.passes, p.memory, p.threads, uint32(length))
}

func (p phc) String() string {
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.memory, p.passes, p.threads, b64(p.salt), b64(p.hash))
}

// parsePHC reads what String writes, also with other parameters, but none that would take too much.
func parsePHC(s string) (p phc, err error) {
	fields := strings.Split(s, "$")
	bad := errors.New("not a hash by argon2id in the PHC string format") // and never say what it is
	if len(fields) != 6 || fields[0] != "" || fields[1] != "argon2id" || fields[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return p, bad
	}
	if _, err := fmt.Sscanf(fields[3], "m=%d,t=%d,p=%d", &p.memory, &p.passes, &p.threads); err != nil {
		return p, bad
	}
	strict := base64.RawStdEncoding.Strict()
	if p.salt, err = strict.DecodeString(fields[4]); err != nil {
		return p, bad
	}
	if p.hash, err = strict.DecodeString(fields[5]); err != nil {
		return p, bad
	}
	if p.passes < 1 || p.passes > 16 || p.threads < 1 || p.threads > 16 || p.memory < 8*uint32(p.threads) || p.memory > 256<<10 ||
		len(p.salt) < 8 || len(p.salt) > 64 || len(p.hash) < 16 || len(p.hash) > 64 || p.String() != s {
		return p, bad
	}
	return p, nil
}

// checkPassword says what is wrong with a new password: only that it is too short or too long.
func checkPassword(password string) error {
	if n := len([]rune(password)); n < minPassword {
		return iot.Errorf(iot.InvalidRequest, "The password has %d characters; it must have at least %d", n, minPassword)
	}
	if len(password) > maxPassword {
		return iot.Errorf(iot.InvalidRequest, "The password is longer than %d bytes", maxPassword)
	}
	return nil
}
