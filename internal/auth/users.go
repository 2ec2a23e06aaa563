package auth

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"drover/internal/iot"
)

// UserStore keeps the users of the console. Errors are *iot.Error if the caller caused them.
type UserStore interface {
	Users(context.Context) ([]iot.User, error)
	InsertUser(ctx context.Context, u iot.User, actor string) (iot.User, error)
	// ChangeUser stores what edit makes of a user; what is for the journal.
	ChangeUser(ctx context.Context, name, what, actor string, edit func(*iot.User)) (iot.User, error)
	DeleteUser(ctx context.Context, name, actor string) error
	// SpendCode notes that the code of a step was used; false if it or a later one had been.
	SpendCode(ctx context.Context, name string, step int64) (bool, error)
}

// Errors of who signs in. Nothing else is told.
var (
	ErrPassword = errors.New("name and password do not belong together")
	ErrCode     = errors.New("the code is not right, or was used before")
)

func errNoRole(role string) error {
	return iot.Errorf(iot.InvalidRequest, "There is no role %s; there are viewer, operator and administrator", clip(role))
}

// Users knows the people who sign in to the console with a password. It is safe for concurrent use.
type Users struct {
	store  UserStore
	seal   cipher.AEAD
	hasher hasher
	nobody string // the hash that the passwords of unknown users are compared with
	now    func() time.Time
	log    *slog.Logger

	changing sync.Mutex // one change at a time, so that the last read is the last written
	mu       sync.RWMutex
	users    map[string]user
	codes    map[string]*rate.Limiter // of wrong one-time codes, by user
}

type user struct {
	iot.User
	owner Owner
	totp  []byte
}

// Who knows a password has a few attempts at the code that goes with it, so that it cannot be found by trying:
// a year of trying succeeds with a chance of one in six.
const (
	wrongCodes  = 5
	forgiveCode = 10 * time.Minute
)

// OpenUsers returns the users of a store. now is the time of the machine, which codes go by.
func OpenUsers(ctx context.Context, store UserStore, seal []byte, now func() time.Time, log *slog.Logger) (*Users, error) {
	block, err := aes.NewCipher(seal)
	if err != nil {
		return nil, err
	}
	u := &Users{store: store, hasher: newHasher(), now: now, log: log, codes: make(map[string]*rate.Limiter)}
	if u.seal, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	nobody := phc{memory: hashMemory, passes: hashPasses, threads: hashThreads, salt: make([]byte, saltLength), hash: make([]byte, hashLength)}
	rand.Read(nobody.salt)
	rand.Read(nobody.hash)
	u.nobody = nobody.String()
	return u, u.Reload(ctx)
}

// Reload reads all users from the store.
func (u *Users) Reload(ctx context.Context) error {
	u.changing.Lock()
	defer u.changing.Unlock()
	stored, err := u.store.Users(ctx)
	if err != nil {
		return err
	}
	users := make(map[string]user, len(stored))
	for _, s := range stored {
		known, err := u.known(s)
		if err != nil { // he cannot sign in
			u.log.ErrorContext(ctx, "user of the console cannot be read; set his role, password or one-time codes again", "user", s.Name, "err", err)
			continue
		}
		users[s.Name] = known
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.users = users
	return nil
}

// known is a user as it is remembered.
func (u *Users) known(s iot.User) (user, error) {
	p, err := policyOf(s.Role, s.Policy)
	if err != nil {
		return user{}, err
	}
	k := user{User: s, owner: Owner{Name: s.Name, Policy: p}}
	if s.TOTP != nil {
		n := u.seal.NonceSize()
		if len(s.TOTP) < n {
			return user{}, errors.New("key of one-time codes: too short")
		}
		if k.totp, err = u.seal.Open(nil, s.TOTP[:n], s.TOTP[n:], totpOf(s.Name)); err != nil {
			return user{}, errors.New("key of one-time codes: sealed with another key")
		}
	}
	return k, nil
}

// totpOf binds a sealed key to its user, so that no two can be exchanged for each other.
func totpOf(name string) []byte { return []byte("totp of user " + name) }

func (u *Users) get(name string) (user, bool) {
	u.mu.RLock()
	defer u.mu.RUnlock()
	k, ok := u.users[name]
	return k, ok
}

// Owner returns what a user may do. It reports false for one that is not known, or not any more.
func (u *Users) Owner(name string) (Owner, bool) {
	k, ok := u.get(name)
	return k.owner, ok
}

// Mark changes when the password of a user does or what he may do; "" for nobody.
func (u *Users) Mark(name string) string {
	k, ok := u.get(name)
	if !ok {
		return ""
	}
	sum := sha256.Sum256([]byte(name + "\x00" + k.Password + "\x00" + k.Role + "\x00" + k.Policy))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Role returns the role of a user, "" if he has a policy of his own.
func (u *Users) Role(name string) string {
	k, _ := u.get(name)
	return k.Role
}

// NeedsCode reports whether a user needs one-time codes to sign in.
func (u *Users) NeedsCode(name string) bool {
	k, _ := u.get(name)
	return k.totp != nil
}

// CheckPassword returns nil if it is the password of the user: ErrPassword if not, as late for users that
// there are not. Unavailable if too many want to know.
func (u *Users) CheckPassword(ctx context.Context, name, password string) error {
	k, ok := u.get(name)
	hash := u.nobody
	if ok {
		hash = k.Password
	}
	right, err := u.hasher.check(ctx, password, hash)
	if err != nil {
		return err
	}
	if !ok || !right {
		return ErrPassword
	}
	return nil
}

// CheckCode returns nil if a user needs no one-time code, or if this is one, which it is never again: ErrCode
// if not. Unavailable for who has guessed too often.
func (u *Users) CheckCode(ctx context.Context, name, code string) error {
	k, ok := u.get(name)
	switch {
	case !ok:
		return ErrCode
	case k.totp == nil:
		return nil
	}
	now := u.now()
	guess := u.guesses(name).ReserveN(now, 1)
	if guess.DelayFrom(now) > 0 {
		guess.CancelAt(now)
		return iot.Errorf(iot.Unavailable, "Too many codes were not right. Wait some minutes")
	}
	step, ok := stepOf(k.totp, code, now)
	if ok {
		var err error
		if ok, err = u.store.SpendCode(ctx, name, step); err != nil {
			return err
		}
	}
	if !ok {
		return ErrCode
	}
	guess.CancelAt(now) // it was none
	return nil
}

func (u *Users) guesses(name string) *rate.Limiter {
	u.mu.Lock()
	defer u.mu.Unlock()
	l, ok := u.codes[name]
	if !ok { // only for users that there were: no more than a thousand
		l = rate.NewLimiter(rate.Every(forgiveCode), wrongCodes)
		u.codes[name] = l
	}
	return l
}

// List returns the users by name, without their secrets: TOTP says whether there is one.
func (u *Users) List(ctx context.Context) ([]iot.User, error) {
	users, err := u.store.Users(ctx)
	for i := range users {
		users[i].Password = ""
		if users[i].TOTP != nil {
			users[i].TOTP = []byte{}
		}
	}
	return users, err
}

// Create makes a user with a role, or with a policy of his own. InvalidRequest; MalformedPolicy; errors as
// UserStore.InsertUser.
func (u *Users) Create(ctx context.Context, name, password, role, document, actor string) error {
	if err := checkRole(role, document); err != nil {
		return err
	}
	hash, err := u.newHash(ctx, password)
	if err != nil {
		return err
	}
	u.changing.Lock()
	defer u.changing.Unlock()
	s, err := u.store.InsertUser(ctx, iot.User{Name: name, Role: role, Policy: document, Password: hash}, actor)
	if err != nil {
		return err
	}
	return u.put(s)
}

// SetPassword changes the password of a user; his sessions end. Errors as Create, and NotFound.
func (u *Users) SetPassword(ctx context.Context, name, password, actor string) error {
	hash, err := u.newHash(ctx, password)
	if err != nil {
		return err
	}
	return u.change(ctx, name, "password", actor, func(s *iot.User) { s.Password = hash })
}

// SetRole changes what a user may do; his sessions end. Errors as Create, and NotFound.
func (u *Users) SetRole(ctx context.Context, name, role, document, actor string) error {
	if err := checkRole(role, document); err != nil {
		return err
	}
	return u.change(ctx, name, "role", actor, func(s *iot.User) { s.Role, s.Policy = role, document })
}

// SetTOTP has a user need one-time codes of a key from now on, or none if that is nil. NotFound.
func (u *Users) SetTOTP(ctx context.Context, name string, key []byte, actor string) error {
	return u.setTOTP(ctx, name, key, 0, actor)
}

// ConfirmTOTP is SetTOTP for who shows by a code that his authenticator has the key: ErrCode if not. That
// code is used up.
func (u *Users) ConfirmTOTP(ctx context.Context, name string, key []byte, code, actor string) error {
	step, ok := stepOf(key, code, u.now())
	if !ok {
		return ErrCode
	}
	return u.setTOTP(ctx, name, key, step, actor)
}

func (u *Users) setTOTP(ctx context.Context, name string, key []byte, used int64, actor string) error {
	var sealed []byte
	if key != nil {
		nonce := make([]byte, u.seal.NonceSize())
		rand.Read(nonce)
		sealed = u.seal.Seal(nonce, nonce, key, totpOf(name))
	}
	return u.change(ctx, name, "totp", actor, func(s *iot.User) { s.TOTP, s.CodeStep = sealed, used })
}

// Remove forgets a user; his sessions end. NotFound.
func (u *Users) Remove(ctx context.Context, name, actor string) error {
	u.changing.Lock()
	defer u.changing.Unlock()
	if err := u.store.DeleteUser(ctx, name, actor); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.users, name)
	delete(u.codes, name)
	return nil
}

func (u *Users) change(ctx context.Context, name, what, actor string, edit func(*iot.User)) error {
	u.changing.Lock()
	defer u.changing.Unlock()
	s, err := u.store.ChangeUser(ctx, name, what, actor, edit)
	if err != nil {
		return err
	}
	return u.put(s)
}

// put remembers what has been stored; not by reading again, which may fail. changing is held.
func (u *Users) put(s iot.User) error {
	k, err := u.known(s)
	u.mu.Lock()
	defer u.mu.Unlock()
	if err != nil {
		delete(u.users, s.Name)
		return err
	}
	u.users[s.Name] = k
	return nil
}

func (u *Users) newHash(ctx context.Context, password string) (string, error) {
	if err := checkPassword(password); err != nil {
		return "", err
	}
	return u.hasher.hash(ctx, password)
}

// checkRole checks what a user is to be allowed: a role or a policy, and not both.
func checkRole(role, document string) error {
	if (role == "") == (document == "") {
		return iot.Errorf(iot.InvalidRequest, "A user has either a role or a policy of his own")
	}
	if _, err := policyOf(role, document); err != nil {
		if _, ok := errors.AsType[*iot.Error](err); ok {
			return err
		}
		return iot.Errorf(iot.MalformedPolicy, "The policy document is malformed: %v", err)
	}
	return nil
}
