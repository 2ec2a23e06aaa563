package sso

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

func TestConfig(t *testing.T) {
	roles := map[string]string{"ops": "operator"}
	for _, test := range []struct {
		cfg  Config
		want string
	}{
		{Config{Issuer: "https://login.example.com/realms/a", ClientID: "drover", Roles: roles}, ""},
		{Config{Issuer: "http://127.0.0.1:8080", ClientID: "drover", Roles: roles}, ""},
		{Config{Issuer: "http://localhost", ClientID: "drover", Roles: roles}, ""},
		{Config{Issuer: "http://login.example.com", ClientID: "drover", Roles: roles}, "must be https"},
		{Config{Issuer: "login.example.com", ClientID: "drover", Roles: roles}, "is not the URL of an issuer"},
		{Config{Issuer: "https://login.example.com", Roles: roles}, "a client id is needed"},
		{Config{Issuer: "https://login.example.com", ClientID: "drover"}, "nobody could sign in"},
		{Config{Issuer: "https://login.example.com", ClientID: "drover", Roles: map[string]string{"ops": "king"}}, `there is no role "king" for the group "ops"`},
	} {
		p, err := New(test.cfg)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%+v: %v", test.cfg, err)
		}
		if err == nil && (p.Mark() == "" || p.Name() == "") {
			t.Errorf("%+v: mark %q, name %q", test.cfg, p.Mark(), p.Name())
		}
	}
}

func TestGroups(t *testing.T) {
	var claims map[string]any
	err := json.Unmarshal([]byte(`{"groups":["a",7,"b"],"role":"c","realm_access":{"roles":["d"]},"https://example.com/roles":["e"],"none":{}}`), &claims)
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][]string{
		"groups": {"a", "b"}, "role": {"c"}, "realm_access.roles": {"d"}, "https://example.com/roles": {"e"}, "none": nil, "missing": nil, "role.x": nil, "none.x.y": nil,
	} {
		if got := texts(claim(claims, path)); !slices.Equal(got, want) {
			t.Errorf("%s: %q", path, got)
		}
	}
	p, err := New(Config{Issuer: "https://x", ClientID: "y", Roles: map[string]string{"v": "viewer", "o": "operator", "a": "administrator"}})
	if err != nil {
		t.Fatal(err)
	}
	for groups, want := range map[string]string{"v": "viewer", "v o": "operator", "a v": "administrator", "x": "", "": ""} {
		if got := p.role(strings.Fields(groups)); got != want {
			t.Errorf("%q: %q", groups, got)
		}
	}
	if got := name(map[string]any{"preferred_username": " \x00 ", "email": "a\nb@c"}, "s"); got != "a b@c" {
		t.Errorf("%q", got)
	}
	if got := name(nil, strings.Repeat("ä", 200)); len([]rune(got)) != 128 {
		t.Errorf("%q", got)
	}
}

// TestSlowProvider: who gives up while the provider is asked waits no longer, and the others get the one answer.
func TestSlowProvider(t *testing.T) {
	asked, answer := make(chan struct{}, 10), make(chan struct{})
	var issuer string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-answer
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": issuer, "authorization_endpoint": issuer + "/auth", "token_endpoint": issuer + "/token", "jwks_uri": issuer + "/keys"})
	}))
	defer s.Close()
	issuer = s.URL
	p, err := New(Config{Issuer: issuer, ClientID: "drover", Roles: map[string]string{"v": "viewer"}})
	if err != nil {
		t.Fatal(err)
	}
	patient := make(chan error, 1)
	go func() {
		to, f, err := p.Begin(t.Context(), "https://drover/callback")
		if err == nil && (!strings.HasPrefix(to, issuer+"/auth?") || f.State == "" || f.Nonce == "" || f.Verifier == "") {
			err = fmt.Errorf("to %s with %+v", to, f)
		}
		patient <- err
	}()
	<-asked
	hasty, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := p.Begin(hasty, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("who gave up got %v", err)
	}
	close(answer)
	if err := <-patient; err != nil {
		t.Error(err)
	}
	if len(asked) != 0 {
		t.Errorf("asked %d times more", len(asked))
	}
}
