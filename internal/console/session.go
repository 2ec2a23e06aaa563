package console

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"drover/internal/auth"
	"drover/internal/iot"
)

// A session is a cookie, sealed so that only the server reads and makes it. Nothing of it is kept:
// it works on every node, and ends with its key, or by itself.
type session struct {
	Who  string `json:"w"` // access key id, or name of a user
	User bool   `json:"u,omitempty"`
	// Person is who was signed in by the provider of identities; Who is his subject then.
	Person *auth.Person `json:"p,omitempty"`
	Mark   string       `json:"m"` // of the credential at sign-in
	Ends   iot.Time     `json:"e"`
	Name   string       `json:"-"` // of the owner now
}

const (
	sessionLife = 12 * time.Hour
	cookieName  = "drover_session"
	noticeName  = "drover_notice"
)

// sealer seals what browsers keep for the server.
type sealer struct{ aead cipher.AEAD }

func newSealer(secret []byte) (*sealer, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, "drover console sessions", 32)
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	return &sealer{aead}, err
}

// What is sealed as one of these is not opened as another.
const (
	asSession = "session"
	asHalf    = "half of a sign-in"
	asOffer   = "offered key of codes"
	asFlow    = "sign-in at the provider"
)

func (s *sealer) seal(as string, v any) (string, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	nonce := make([]byte, s.aead.NonceSize())
	rand.Read(nonce)
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nonce, nonce, text, []byte(as))), nil
}

func (s *sealer) open(as, text string, v any) bool {
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	n := s.aead.NonceSize()
	if err != nil || len(sealed) < n {
		return false
	}
	plain, err := s.aead.Open(nil, sealed[:n], sealed[n:], []byte(as))
	return err == nil && json.Unmarshal(plain, v) == nil
}

// mark changes when the credential of who is signed in does, or what he may do as a user: sessions end then.
func (c *Console) mark(s session) string {
	if s.Person != nil {
		if c.SSO == nil {
			return ""
		}
		return c.SSO.Mark()
	}
	if s.User {
		return c.Users.Mark(s.Who)
	}
	secret, ok := c.Keys.Secret(s.Who)
	if !ok {
		return ""
	}
	sum := sha256.Sum256([]byte("session of " + s.Who + " by " + secret))
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}

// restore finds out who is signed in.
func (r *request) restore() {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return
	}
	var s session
	if !r.sealer.open(asSession, cookie.Value, &s) || r.now() >= s.Ends || s.Mark != r.mark(s) {
		return
	}
	whose := r.Keys.Owner
	switch {
	case s.Person != nil:
		whose = func(string) (auth.Owner, bool) { return s.Person.Owner() }
	case s.User:
		whose = r.Users.Owner
	}
	owner, ok := whose(s.Who)
	if !ok {
		return
	}
	s.Name = owner.Name
	r.session = s
	r.identify(s)
}

// identify says in whose name the request is carried out.
func (r *request) identify(s session) {
	who := auth.Principal{AccessKeyID: s.Who}
	switch {
	case s.Person != nil:
		who = auth.Principal{Person: s.Person}
	case s.User:
		who = auth.Principal{User: s.Who}
	}
	source, secure := r.source()
	r.Request = r.WithContext(auth.WithIdentity(r.Context(), auth.Identity{Principal: who, Service: auth.Inside, Source: source, Secure: secure}))
}

func (r *request) signInPage() error {
	if r.session.Who != "" {
		return r.redirect(Path)
	}
	return r.signInForm(http.StatusOK, map[string]any{"Next": r.FormValue("next")})
}

// signInForm renders the page where people sign in.
func (r *request) signInForm(status int, data map[string]any) error {
	if r.SSO != nil {
		data["Provider"] = r.SSO.Name()
	}
	return r.render(status, "sign-in", "Sign in", data)
}

// signIn takes an access key or the name of a user, and then his one-time code if he needs one.
func (r *request) signIn() error {
	source, _ := r.source()
	name, password := strings.TrimSpace(r.FormValue("name")), r.FormValue("password")
	refuse := func(status int, why string) error {
		return r.signInForm(status, map[string]any{"Next": r.FormValue("next"), "Name": name, "Error": why})
	}
	if !r.Failures.May(auth.BySignature, source, "") {
		return refuse(http.StatusTooManyRequests, "Too many attempts from your address have failed. Wait a few seconds.")
	}
	if r.FormValue("half") != "" {
		return r.signInByCode(source, refuse)
	}
	secret, known := r.Keys.Secret(name)
	if known || !iot.ValidUserName(name) { // which is no secret, as ids of keys are not
		if ok := subtle.ConstantTimeCompare([]byte(secret), []byte(strings.TrimSpace(password))) == 1; ok && known {
			return r.begin(session{Who: name})
		}
		r.Failures.Failed(auth.BySignature, source)
		return refuse(http.StatusUnauthorized, "This name or access key and this password or secret do not belong together.")
	}
	switch err := r.Users.CheckPassword(r.Context(), name, password); {
	case errors.Is(err, auth.ErrPassword):
		r.Failures.Failed(auth.BySignature, source)
		return refuse(http.StatusUnauthorized, "This name or access key and this password or secret do not belong together.")
	case err != nil:
		return err
	}
	s := session{Who: name, User: true}
	if r.Users.NeedsCode(name) {
		return r.askForCode(s, http.StatusOK, "")
	}
	return r.begin(s)
}

// halfLife is for how long somebody who has shown his password may look for his code.
const halfLife = 5 * time.Minute

// askForCode makes the page for the second half of a sign-in, which carries the first, sealed.
func (r *request) askForCode(s session, status int, why string) error {
	s.Mark, s.Ends = r.mark(s), r.now().Add(halfLife)
	text, err := r.sealer.seal(asHalf, s)
	if err != nil {
		return err
	}
	return r.render(status, "sign-in", "Sign in", map[string]any{"Next": r.FormValue("next"), "Half": text, "Error": why})
}

func (r *request) signInByCode(source netip.Addr, refuse func(int, string) error) error {
	var s session
	if !r.sealer.open(asHalf, r.FormValue("half"), &s) || r.now() >= s.Ends || s.Mark != r.mark(s) {
		return refuse(http.StatusUnauthorized, "That took too long. Sign in again.")
	}
	err := r.Users.CheckCode(r.Context(), s.Who, r.FormValue("code"))
	if errors.Is(err, auth.ErrCode) {
		r.Failures.Failed(auth.BySignature, source)
		return r.askForCode(s, http.StatusUnauthorized, "This code is not right, or was used before. Wait for the next one.")
	}
	if err != nil {
		return err
	}
	return r.begin(s)
}

// begin signs somebody in who has shown who he is.
func (r *request) begin(s session) error {
	if err := r.keep(s); err != nil {
		return err
	}
	r.identify(s)
	return r.redirect(local(r.FormValue("next")))
}

// keep gives the browser a session.
func (r *request) keep(s session) error {
	s.Mark, s.Ends = r.mark(s), r.now().Add(sessionLife)
	value, err := r.sealer.seal(asSession, s)
	if err != nil {
		return err
	}
	r.setCookie(cookieName, value, sessionLife)
	return nil
}

func (r *request) signOut() error {
	r.setCookie(cookieName, "", -time.Second)
	return r.redirect(Path + "sign-in")
}

// local returns an address of the console: the given one, if it is.
func local(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Host != "" || u.Scheme != "" || !strings.HasPrefix(u.Path, Path) || strings.Contains(next, `\`) {
		return Path
	}
	return u.RequestURI()
}

func (r *request) setCookie(name, value string, life time.Duration) {
	_, secure := r.source()
	// Lax: a link from elsewhere finds the reader signed in, a form from elsewhere does not.
	http.SetCookie(r.w, &http.Cookie{Name: name, Value: value, Path: Path, MaxAge: int(life.Seconds()), HttpOnly: true, Secure: secure, SameSite: http.SameSiteLaxMode})
}

// notify tells something on the next page.
func (r *request) notify(format string, args ...any) {
	r.setCookie(noticeName, url.QueryEscape(fmt.Sprintf(format, args...)), time.Minute)
}

func (r *request) takeNotice() string {
	cookie, err := r.Cookie(noticeName)
	if err != nil || cookie.Value == "" {
		return ""
	}
	r.setCookie(noticeName, "", -time.Second)
	text, err := url.QueryUnescape(cookie.Value)
	if err != nil {
		return ""
	}
	return text
}
