package console

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"path"
	"strings"
	"sync"
	"time"

	"drover/internal/auth"
	"drover/internal/iot"
)

// Path is where the console is served.
const Path = "/console/"

// SignIn is where forms are sent with which people sign in. Who does is in the trail of the request.
const SignIn = Path + "sign-in"

// SSOCallback is where people come back to from the provider of identities, as it must know.
const SSOCallback = SignIn + "/callback"

// Account is where users change their own password and one-time codes.
const Account = Path + "account"

//go:embed templates static
var files embed.FS

// Config is what a Console needs; what is not said to be optional is required.
type Config struct {
	Jobs     Jobs
	Registry Registry
	// API is what the server answers over HTTP. It takes the caller's identity from the context, with
	// auth.Inside as its service.
	API    http.Handler
	Realm  iot.Realm
	Permit func(ctx context.Context, action string, resources ...string) error
	Keys   Keys
	Users  *auth.Users
	// SSO signs people in who are known to a provider of identities; nil: there is none.
	SSO SSO
	// PublicURL is how browsers reach the server, without a path, for what a provider of identities is told; "": as
	// the browser says.
	PublicURL string
	// Failures bounds how often one source may fail to sign in.
	Failures *auth.Failures
	// Secret seals sessions: 32 bytes. Consoles with the same secret know each other's sessions.
	Secret []byte
	Fleet  Fleet
	// Files says that API has an object store, at hosts that are named like S3's.
	Files bool
	// Rehearse tries a job out; nil: it cannot be done.
	Rehearse func(context.Context, Rehearsal) (*Outcome, error)
	Version  string
	Now      func() time.Time // nil = time.Now
	Logger   *slog.Logger     // nil = slog.Default()
}

// Console serves the pages. Run has to run, or pages know nothing of the past.
type Console struct {
	Config
	log     *slog.Logger
	history *history
	closed  chan struct{} // ends what is live
	close   func()
	sealer  *sealer
	mux     *http.ServeMux
	pages   map[string]*template.Template
	assets  map[string]asset // by path below static/
	guard   *http.CrossOriginProtection
	slots   chan struct{} // of rehearsals
}

type asset struct {
	url, kind string
	text      []byte
}

// New returns a Console for cfg.
func New(cfg Config) (*Console, error) {
	c := &Console{Config: cfg, log: cmp.Or(cfg.Logger, slog.Default()), guard: http.NewCrossOriginProtection(), closed: make(chan struct{}), slots: make(chan struct{}, 1)}
	c.close = sync.OnceFunc(func() { close(c.closed) })
	if c.Now == nil {
		c.Now = time.Now
	}
	var err error
	if c.sealer, err = newSealer(cfg.Secret); err != nil {
		return nil, err
	}
	c.history = newHistory(cfg.Jobs, c.now)
	if err := c.loadAssets(); err != nil {
		return nil, err
	}
	if err := c.loadPages(); err != nil {
		return nil, err
	}
	c.routes()
	return c, nil
}

// Run watches the jobs until ctx ends.
func (c *Console) Run(ctx context.Context) { c.history.run(ctx, c.log) }

// Close ends the live updates: a server that is to end waits for all that it answers.
func (c *Console) Close() { c.close() }

func (c *Console) now() iot.Time { return iot.At(c.Now()) }

func (c *Console) routes() {
	c.mux = http.NewServeMux()
	c.mux.HandleFunc("GET /console/static/{hash}/{name}", c.static)
	c.mux.HandleFunc("GET /console/sign-in", c.open((*request).signInPage))
	c.mux.HandleFunc("POST "+SignIn, c.open((*request).signIn))
	c.mux.HandleFunc("GET "+SignIn+"/provider", c.open((*request).beginSSO))
	c.mux.HandleFunc("GET "+SSOCallback, c.open((*request).finishSSO))
	c.mux.HandleFunc("POST /console/sign-out", c.open((*request).signOut))
	for pattern, h := range map[string]handler{
		"GET /console/{$}":       (*request).overview,
		"GET /console/live":      (*request).liveOverview,
		"GET /console/jobs":      (*request).jobs,
		"GET /console/new-job":   (*request).newJob,
		"POST /console/new-job":  (*request).createJob,
		"GET /console/jobs/{id}": (*request).job,

		"GET /console/jobs/{id}/edit":              (*request).editJob,
		"POST /console/jobs/{id}/edit":             (*request).doEditJob,
		"GET /console/jobs/{id}/targets":           (*request).addTargets,
		"POST /console/jobs/{id}/targets":          (*request).addTargets,
		"GET /console/jobs/{id}/live":              (*request).liveJob,
		"GET /console/jobs/{id}/{action}":          (*request).jobAction,
		"POST /console/jobs/{id}/{action}":         (*request).doJobAction,
		"GET /console/things":                      (*request).things,
		"GET /console/things/{name}":               (*request).thing,
		"GET /console/groups":                      (*request).groups,
		"GET /console/groups/{name}/live":          (*request).liveGroup,
		"GET /console/groups/{name}":               (*request).group,
		"GET /console/certificates":                (*request).certificates,
		"GET /console/certificates/{id}":           (*request).certificate,
		"GET /console/certificates/{id}/{action}":  (*request).certificateAction,
		"POST /console/certificates/{id}/{action}": (*request).doCertificateAction,
		"GET /console/new-certificate":             (*request).newCertificate,
		"POST /console/new-certificate":            (*request).createCertificate,
		"GET /console/policies":                    (*request).policies,
		"GET /console/policies/{name}":             (*request).policy,
		"GET /console/policies/{name}/{action}":    (*request).policyAction,
		"POST /console/policies/{name}/{action}":   (*request).doPolicyAction,
		"GET /console/new-policy":                  (*request).newPolicy,
		"POST /console/new-policy":                 (*request).createPolicy,
		"GET /console/keys":                        (*request).keys,
		"POST /console/keys":                       (*request).createKey,
		"GET /console/keys/{id}/revoke":            (*request).keyAction,
		"POST /console/keys/{id}/revoke":           (*request).revokeKey,
		"GET /console/files":                       (*request).files,
		"POST /console/files":                      (*request).createBucket,
		"GET /console/files/{bucket}":              (*request).bucket,
		"POST /console/files/{bucket}":             (*request).upload,
		"GET /console/files/{bucket}/delete":       (*request).fileAction,
		"POST /console/files/{bucket}/delete":      (*request).deleteFile,
		"GET /console/objects/{bucket}/{key...}":   (*request).download,
		"PUT /console/objects/{bucket}/{key...}":   (*request).put,
		"GET /console/audit":                       (*request).audit,
		"GET /console/more":                        (*request).more,
		"GET /console/packages":                    (*request).packages,
		"POST /console/packages":                   (*request).doPackages,
		"GET /console/packages/{name}":             (*request).packagePage,
		"POST /console/packages/{name}":            (*request).doPackage,
		"GET /console/packages/{name}/{version}":   (*request).versionPage,
		"POST /console/packages/{name}/{version}":  (*request).doVersion,
		"GET /console/commands":                    (*request).commands,
		"POST /console/commands":                   (*request).doCommands,
		"GET /console/commands/{id}":               (*request).commandPage,
		"POST /console/commands/{id}":              (*request).doCommand,
		"GET /console/commands/{id}/{execution}":   (*request).commandExecution,
		"GET /console/streams":                     (*request).streams,
		"GET /console/streams/{id}":                (*request).streamPage,
		"POST /console/streams/{id}":               (*request).doStream,
		"GET /console/updates":                     (*request).updates,
		"GET /console/updates/{id}":                (*request).updatePage,
		"POST /console/updates/{id}":               (*request).doUpdate,
		"GET /console/billing-groups":              (*request).billingGroups,
		"POST /console/billing-groups":             (*request).doBillingGroups,
		"GET /console/billing-groups/{name}":       (*request).billingGroupPage,
		"POST /console/billing-groups/{name}":      (*request).doBillingGroup,
		"GET /console/users":                       (*request).users,
		"POST /console/users":                      (*request).doUsers,
		"GET /console/users/{name}":                (*request).userPage,
		"POST /console/users/{name}":               (*request).doUser,
		"GET " + Account:                           (*request).account,
		"POST " + Account:                          (*request).changeAccount,
		"GET /console/":                            (*request).nowhere,
	} {
		c.mux.HandleFunc(pattern, c.signedIn(h))
	}
}

// ServeHTTP implements http.Handler. The context says where a request came from (auth.IdentityFrom).
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	// Nothing is loaded from elsewhere, nothing inline is run, nobody frames the pages.
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
	h.Set("Cache-Control", "no-store")
	if err := c.guard.Check(r); err != nil {
		http.Error(w, "This form was not sent by a page of the console.", http.StatusForbidden)
		return
	}
	if r.URL.Path == strings.TrimSuffix(Path, "/") {
		http.Redirect(w, r, Path, http.StatusMovedPermanently)
		return
	}
	c.mux.ServeHTTP(w, r)
}

// request is a request of somebody, with what pages need to know of him.
type request struct {
	*Console
	*http.Request
	w       http.ResponseWriter
	session session
}

type handler func(*request) error

// maxForm is the most that a form may hold, in bytes; files are bounded by the object store.
const maxForm = 4 << 20

func (r *request) nowhere() error { return iot.Errorf(iot.NotFound, "There is no such page.") }

// open serves who is not signed in, too.
func (c *Console) open(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		rq := &request{Console: c, Request: r, w: w}
		if !strings.HasPrefix(r.URL.Path, Path+"objects/") && !strings.HasPrefix(r.URL.Path, Path+"files/") {
			r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		}
		rq.restore()
		rq.finish(h(rq))
	}
}

// signedIn serves who is signed in; others are asked to.
func (c *Console) signedIn(h handler) http.HandlerFunc {
	return c.open(func(r *request) error {
		if r.session.Who == "" {
			to := "sign-in"
			if r.Method == http.MethodGet && r.URL.Path != Path {
				to += "?next=" + template.URLQueryEscaper(r.URL.RequestURI())
			}
			return r.redirect(Path + to)
		}
		return h(r)
	})
}

// finish answers a request that failed. An error is told as it is if the caller caused it.
func (r *request) finish(err error) {
	if err == nil {
		return
	}
	status, title, text := http.StatusInternalServerError, "Something went wrong", "The server could not do this. Its log says why."
	if refused, ok := errors.AsType[*auth.Error](err); ok {
		status, title, text = http.StatusForbidden, "You may not do this", refused.Message
	} else if known, ok := errors.AsType[*iot.Error](err); ok {
		title, text = "This cannot be done", known.Message
		switch known.Code {
		case iot.NotFound:
			status, title = http.StatusNotFound, "Not found"
		case iot.AlreadyExists:
			status = http.StatusConflict
		case iot.Unavailable:
			status = http.StatusServiceUnavailable
		case iot.Internal:
			status = http.StatusInternalServerError
		default:
			status = http.StatusBadRequest
		}
	} else if r.Context().Err() != nil {
		return // nobody waits any more
	} else {
		r.log.ErrorContext(r.Context(), "console request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	if err := r.render(status, "error", title, map[string]any{"Title": title, "Text": text}); err != nil {
		r.log.ErrorContext(r.Context(), "console page failed", "err", err)
	}
}

// may returns an error unless who is signed in may do the action on all resources.
func (r *request) may(action string, arns ...string) error {
	return r.Permit(r.Context(), action, arns...)
}

// can is may for what is only shown if it is allowed.
func (r *request) can(action string, arns ...string) bool { return r.may(action, arns...) == nil }

func (r *request) redirect(to string) error {
	http.Redirect(r.w, r.Request, to, http.StatusSeeOther)
	return nil
}

// frame is what the layout needs besides a page's own data.
type frame struct {
	Title, Section string
	Version        string
	Who            string
	User           bool // and has an account
	Notice         string
	Data           any
	Files          bool
	r              *request
}

// Can is can for templates.
func (f frame) Can(action string, names ...string) bool {
	if f.Who == "" {
		return false
	}
	arn := "*"
	if len(names) == 2 {
		arn = f.r.Realm.ARN(names[0], names[1])
	}
	return f.r.can(action, arn)
}

// render writes a page.
func (r *request) render(status int, page, title string, data any) error {
	var b bytes.Buffer
	f := frame{Title: title, Section: r.section(), Version: r.Version, Who: r.session.Name, User: r.session.User, Files: r.Files, Data: data, r: r, Notice: r.takeNotice()}
	if err := r.pages[page].ExecuteTemplate(&b, "layout", f); err != nil {
		return fmt.Errorf("page %s: %w", page, err)
	}
	r.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	r.w.WriteHeader(status)
	_, err := r.w.Write(b.Bytes())
	return ignoreGone(err)
}

// fragment renders a part of a page, for browsers that replace it.
func (c *Console) fragment(page, name string, data any) (string, error) {
	var b bytes.Buffer
	err := c.pages[page].ExecuteTemplate(&b, name, data)
	return b.String(), err
}

// ignoreGone forgives that whoever asked has gone before the answer.
func ignoreGone(error) error { return nil }

// section is the part of the console that a page belongs to.
func (r *request) section() string {
	s, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, Path), "/")
	return s
}

// source is the address that a request came from, and whether over TLS.
func (r *request) source() (netip.Addr, bool) {
	id, _ := auth.IdentityFrom(r.Context())
	return id.Source, id.Secure
}

func (c *Console) loadAssets() error {
	c.assets = make(map[string]asset)
	return fs.WalkDir(files, "static", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		base := path.Base(name)
		kind := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}[path.Ext(name)]
		if kind == "" {
			return fmt.Errorf("console: what kind of file is %s?", name)
		}
		sum := sha256.Sum256(text)
		c.assets[base] = asset{url: Path + "static/" + hex.EncodeToString(sum[:6]) + "/" + base, kind: kind, text: text}
		return nil
	})
}

// static serves files whose addresses change with what is in them.
func (c *Console) static(w http.ResponseWriter, r *http.Request) {
	a, ok := c.assets[r.PathValue("name")]
	if !ok || r.URL.Path != a.url {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", a.kind)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, err := w.Write(a.text)
	_ = ignoreGone(err)
}

// loadPages parses each page together with the layout and the parts that pages share.
func (c *Console) loadPages() error {
	shared, err := template.New("").Funcs(c.funcs()).ParseFS(files, "templates/layout.html", "templates/parts.html")
	if err != nil {
		return err
	}
	names, err := fs.Glob(files, "templates/*.html")
	if err != nil {
		return err
	}
	c.pages = make(map[string]*template.Template)
	for _, name := range names {
		page := strings.TrimSuffix(path.Base(name), ".html")
		if page == "layout" || page == "parts" {
			continue
		}
		t, err := shared.Clone()
		if err != nil {
			return err
		}
		if c.pages[page], err = t.ParseFS(files, name); err != nil {
			return err
		}
	}
	return nil
}
