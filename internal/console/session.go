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
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"drover/internal/auth"
	"drover/internal/iot"
)

// A session is a cookie, sealed so that only the server reads and makes it. Nothing of it is kept:
// it works on every node, and ends with its key, or by itself.
type session struct {
	Who  string   `json:"w"` // access key id
	Mark string   `json:"m"` // of the credential at sign-in
	Ends iot.Time `json:"e"`
	Name string   `json:"-"` // of the owner now
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

func (s *sealer) seal(v any) (string, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	nonce := make([]byte, s.aead.NonceSize())
	rand.Read(nonce)
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nonce, nonce, text, nil)), nil
}

func (s *sealer) open(text string, v any) bool {
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	n := s.aead.NonceSize()
	if err != nil || len(sealed) < n {
		return false
	}
	plain, err := s.aead.Open(nil, sealed[:n], sealed[n:], nil)
	return err == nil && json.Unmarshal(plain, v) == nil
}

// mark changes when the credential of somebody does, so that sessions end then.
func (c *Console) mark(who string) string {
	secret, ok := c.Keys.Secret(who)
	if !ok {
		return ""
	}
	sum := sha256.Sum256([]byte("session of " + who + " by " + secret))
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}

// restore finds out who is signed in.
func (r *request) restore() {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return
	}
	var s session
	if !r.sealer.open(cookie.Value, &s) || r.now() >= s.Ends || s.Mark != r.mark(s.Who) {
		return
	}
	owner, ok := r.Keys.Owner(s.Who)
	if !ok {
		return
	}
	s.Name = owner.Name
	r.session = s
	r.identify(s.Who)
}

// identify says in whose name the request is carried out.
func (r *request) identify(who string) {
	source, secure := r.source()
	r.Request = r.WithContext(auth.WithIdentity(r.Context(), auth.Identity{
		Principal: auth.Principal{AccessKeyID: who}, Service: auth.Inside, Source: source, Secure: secure,
	}))
}

func (r *request) signInPage() error {
	if r.session.Who != "" {
		return r.redirect(Path)
	}
	return r.render(http.StatusOK, "sign-in", "Sign in", map[string]any{"Next": r.FormValue("next")})
}

func (r *request) signIn() error {
	source, _ := r.source()
	name, password := strings.TrimSpace(r.FormValue("name")), strings.TrimSpace(r.FormValue("password"))
	refuse := func(status int, why string) error {
		return r.render(status, "sign-in", "Sign in", map[string]any{"Next": r.FormValue("next"), "Name": name, "Error": why})
	}
	if !r.Failures.May(auth.BySignature, source, "") {
		return refuse(http.StatusTooManyRequests, "Too many attempts from your address have failed. Wait a few seconds.")
	}
	secret, known := r.Keys.Secret(name)
	ok := subtle.ConstantTimeCompare([]byte(secret), []byte(password)) == 1 && known
	if !ok {
		r.Failures.Failed(auth.BySignature, source)
		return refuse(http.StatusUnauthorized, "This access key and secret do not belong together.")
	}
	return r.begin(name)
}

// begin signs somebody in who has shown who he is.
func (r *request) begin(who string) error {
	value, err := r.sealer.seal(session{Who: who, Mark: r.mark(who), Ends: r.now().Add(sessionLife)})
	if err != nil {
		return err
	}
	r.setCookie(cookieName, value, sessionLife)
	r.identify(who)
	return r.redirect(local(r.FormValue("next")))
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
