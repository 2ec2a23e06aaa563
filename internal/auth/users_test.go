package auth

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"drover/internal/auth/policy"
	"drover/internal/iot"
)

// TestCodes: the vectors of RFC 6238, appendix B, of which authenticators show six digits.
func TestCodes(t *testing.T) {
	t.Parallel()
	key := []byte("12345678901234567890")
	for at, want := range map[int64]string{
		59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130",
	} {
		if got := codeOf(key, at/30); got != want {
			t.Errorf("at %d: %s, not %s", at, got, want)
		}
		for shift, good := range map[int64]bool{-60: false, -30: true, 0: true, 30: true, 60: false} {
			if at+shift < 0 {
				continue
			}
			step, ok := stepOf(key, " "+want[:3]+" "+want[3:], time.Unix(at+shift, 0))
			if ok != good || ok && step != at/30 {
				t.Errorf("code of %d, %d s later: %d, %v", at, shift, step, ok)
			}
		}
	}
	if u := TOTPURL(key, "a@b+c"); u != "otpauth://totp/drover:a@b+c?issuer=drover&secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" {
		t.Error(u)
	}
}

func TestPasswordHash(t *testing.T) {
	t.Parallel()
	h := newHasher()
	hash, err := h.hash(t.Context(), "correct horse")
	if err != nil || !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Fatal(hash, err)
	}
	again, err := h.hash(t.Context(), "correct horse")
	if err != nil || again == hash {
		t.Error("two hashes of one password are the same", err)
	}
	for password, want := range map[string]bool{"correct horse": true, "correct horsf": false, "": false, strings.Repeat("x", 5000): false} {
		if ok, err := h.check(t.Context(), password, hash); ok != want || err != nil {
			t.Errorf("%q: %v, %v", password, ok, err)
		}
	}
	// Of the reference implementation: echo -n password | argon2 somesalt -id -t 2 -k 65536 -p 1.
	const reference = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	if ok, err := h.check(t.Context(), "password", reference); !ok || err != nil {
		t.Errorf("reference: %v, %v", ok, err)
	}
	for _, bad := range []string{"", "x", "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		strings.Replace(reference, "m=65536", "m=4000000000", 1), strings.Replace(reference, "t=2", "t=0", 1), strings.Replace(reference, "p=1", "p=0", 1),
		strings.Replace(reference, "v=19", "v=16", 1), reference + "$", reference[:40], strings.Replace(reference, "m=65536", "m=065536", 1)} {
		if _, err := h.check(t.Context(), "password", bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// TestHashesAtOnce: who has no turn waits, and is told so if he has no patience.
func TestHashesAtOnce(t *testing.T) {
	t.Parallel()
	h := newHasher()
	for range hashesAtOnce {
		if err := h.take(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.hash(ctx, "correct horse"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	done := make(chan error, 1)
	go func() { _, err := h.hash(t.Context(), "correct horse"); done <- err }()
	<-h.slots
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func FuzzPHC(f *testing.F) {
	f.Add("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	f.Add("$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePHC(s)
		if err == nil && (p.String() != s || p.memory > 256<<10 || p.passes > 16) {
			t.Errorf("%q is read as %q", s, p.String())
		}
	})
}

func TestRoles(t *testing.T) {
	t.Parallel()
	may := func(role, action string) bool {
		p, err := policyOf(role, "")
		if err != nil {
			t.Fatal(role, err)
		}
		return p.Decide(&policy.Request{Action: action, Resource: policy.ARN{Prefix: "arn:aws:iot:us-east-1:123456789012:job/j"}, Context: &policy.Context{}}).Outcome == policy.Allowed
	}
	for action, least := range map[string]int{
		"iot:DescribeJob": 0, "iot:ListThings": 0, "iot:GetJobDocument": 0, "drover:ReadClients": 0, "iotjobsdata:DescribeJobExecution": 0,
		"iot:CreateJob": 1, "iot:CancelJob": 1, "iot:DeleteJob": 1, "s3:PutObject": 1, "iot:AddThingToThingGroup": 1,
		"iot:CreatePolicy": 2, "iot:UpdateCertificate": 2, "iot:AttachPolicy": 2, "drover:ManageKeys": 2, "drover:ManageUsers": 2, "drover:Audit": 2, "iot:Publish": 2,
		"iotjobsdata:UpdateJobExecution": 2, "iot:CreateKeysAndCertificate": 2,
	} {
		for i, role := range Roles {
			if got := may(role.Name, action); got != (i >= least) {
				t.Errorf("%s: %s: %v", role.Name, action, got)
			}
		}
	}
	if _, err := policyOf("boss", ""); err == nil {
		t.Error("there is a boss")
	}
}

// userTable keeps users as a database does; internal/registry's is tested with the server.
type userTable struct {
	mu    sync.Mutex
	users map[string]iot.User
}

func (s *userTable) Users(context.Context) (list []iot.User, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range s.users {
		list = append(list, u)
	}
	return list, nil
}

func (s *userTable) InsertUser(_ context.Context, u iot.User, _ string) (iot.User, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[u.Name] = u
	return u, nil
}

func (s *userTable) ChangeUser(_ context.Context, name, _, _ string, edit func(*iot.User)) (iot.User, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, ok := s.users[name]
	if !ok {
		return u, iot.Errorf(iot.NotFound, "no")
	}
	edit(&u)
	s.users[name] = u
	return u, nil
}

func (s *userTable) DeleteUser(_ context.Context, name, _ string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.users, name)
	return nil
}

func (s *userTable) SpendCode(_ context.Context, name string, step int64) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[name]
	if step <= u.CodeStep {
		return false, nil
	}
	u.CodeStep = step
	s.users[name] = u
	return true, nil
}

func TestUsers(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	now := time.Unix(2_000_000_000, 0)
	table := &userTable{users: map[string]iot.User{}}
	open := func(seal byte) *Users {
		u, err := OpenUsers(ctx, table, []byte(strings.Repeat(string(rune(seal)), 32)), func() time.Time { return now }, slog.New(slog.NewTextHandler(io.Discard, nil)))
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	u, other := open('a'), open('a') // of another node
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const password = "correct horse battery"
	code := func(err error) iot.Code {
		e, _ := errors.AsType[*iot.Error](err)
		if e == nil {
			return ""
		}
		return e.Code
	}
	for what, err := range map[string]error{
		"short password":       u.Create(ctx, "alice", "short", "viewer", "", "x"),
		"no such role":         u.Create(ctx, "alice", password, "boss", "", "x"),
		"neither":              u.Create(ctx, "alice", password, "", "", "x"),
		"both":                 u.Create(ctx, "alice", password, "viewer", "{}", "x"),
		"long password":        u.Create(ctx, "alice", strings.Repeat("x", 1025), "viewer", "", "x"),
		"role of nobody to be": u.SetRole(ctx, "alice", "boss", "", "x"),
	} {
		if code(err) != iot.InvalidRequest {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := u.Create(ctx, "alice", password, "", "{", "x"); code(err) != iot.MalformedPolicy {
		t.Error(err)
	}
	must(u.Create(ctx, "alice", password, "viewer", "", "x"))
	must(u.CheckPassword(ctx, "alice", password))
	for name, p := range map[string]string{"alice": password + "!", "bob": password} {
		if err := u.CheckPassword(ctx, name, p); !errors.Is(err, ErrPassword) {
			t.Errorf("%s: %v", name, err)
		}
	}
	must(other.Reload(ctx))
	// Whether there is such a user takes as long to find out: a turn at the hashes.
	gone, cancel := context.WithCancel(ctx)
	cancel()
	for range hashesAtOnce {
		must(u.hasher.take(ctx))
	}
	for _, name := range []string{"alice", "bob"} {
		if err := u.CheckPassword(gone, name, password); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v without a turn", name, err)
		}
	}
	for range hashesAtOnce {
		<-u.hasher.slots
	}

	marks := map[string]bool{u.Mark("alice"): true, "": true}
	changed := func(what string) {
		t.Helper()
		if m := u.Mark("alice"); marks[m] {
			t.Errorf("%s: sessions go on", what)
		} else {
			marks[m] = true
		}
	}
	must(u.SetPassword(ctx, "alice", password+"2", "x"))
	changed("password")
	must(u.SetRole(ctx, "alice", "operator", "", "x"))
	changed("role")
	must(u.SetPassword(ctx, "alice", password+"2", "x")) // the same, with another salt
	changed("same password")

	key := NewTOTP()
	must(u.CheckCode(ctx, "alice", "")) // none needed
	if err := u.ConfirmTOTP(ctx, "alice", key, "x", "x"); !errors.Is(err, ErrCode) {
		t.Error(err)
	}
	at := func() string { return codeOf(key, now.Unix()/30) }
	must(u.ConfirmTOTP(ctx, "alice", key, at(), "x"))
	must(other.Reload(ctx))
	if strings.Contains(string(table.users["alice"].TOTP), string(key)) {
		t.Error("the key is kept in the clear")
	}
	if err := u.CheckCode(ctx, "alice", at()); !errors.Is(err, ErrCode) {
		t.Errorf("the code that confirmed is good again: %v", err)
	}
	now = now.Add(30 * time.Second)
	must(other.CheckCode(ctx, "alice", at()))
	if err := u.CheckCode(ctx, "alice", at()); !errors.Is(err, ErrCode) {
		t.Errorf("good at two nodes: %v", err)
	}
	now = now.Add(24 * time.Hour)
	for i := range wrongCodes {
		if err := u.CheckCode(ctx, "alice", "12345"); !errors.Is(err, ErrCode) {
			t.Errorf("attempt %d: %v", i, err)
		}
	}
	if err := u.CheckCode(ctx, "alice", at()); code(err) != iot.Unavailable {
		t.Errorf("guessing goes on: %v", err)
	}
	now = now.Add(forgiveCode)
	must(u.CheckCode(ctx, "alice", at()))
	now = now.Add(30 * time.Second)
	must(u.CheckCode(ctx, "alice", at())) // who is right has spent no attempt

	if stranger := open('b'); stranger.Mark("alice") != "" {
		t.Error("a user whose key of codes cannot be opened may sign in")
	}
	must(u.Remove(ctx, "alice", "x"))
	if _, ok := u.Owner("alice"); ok || u.Mark("alice") != "" {
		t.Error("alice is still there")
	}
}
