package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"

	"text/tabwriter"
	"time"

	"drover/internal/auth"
	"drover/internal/iot"
	"drover/internal/registry"
	"drover/internal/wire"
)

// keysCmd is about API keys. They are the running server's: it alone writes its database, and a
// server that does not run lets nobody in.
type keysCmd struct {
	Create keysCreateCmd `cmd:"" help:"Make an API key and print it. The secret is shown this once."`
	List   keysListCmd   `cmd:"" help:"List the API keys."`
	Revoke keysRevokeCmd `cmd:"" help:"Forget an API key: it is refused from now on."`
}

type keysCreateCmd struct {
	apiFlags
	Name   string `arg:"" help:"Whose key it is, such as ci or alice."`
	Policy string `help:"File with the policy, as of IAM: what the key may do. \"-\" reads standard input." required:"" placeholder:"FILE"`
}

func (c *keysCreateCmd) Run(ctx context.Context, s *streams) error {
	document, err := readInput(c.Policy)
	if err != nil {
		return err
	}
	a, err := c.api()
	if err != nil {
		return err
	}
	var out createdKey
	if err := a.call(ctx, http.MethodPost, keysPath, newKey{Name: c.Name, Policy: document}, &out); err != nil {
		return err
	}
	// In the form of a credentials file, so that it can be appended to one.
	_, err = fmt.Fprintf(s.out, "[%s]\naws_access_key_id = %s\naws_secret_access_key = %s\n", c.Name, out.ID, out.Secret)
	return err
}

type keysListCmd struct {
	apiFlags
	JSON bool `help:"Print JSON, with the policies."`
}

func (c *keysListCmd) Run(ctx context.Context, s *streams) error {
	a, err := c.api()
	if err != nil {
		return err
	}
	var out keyList
	if err := a.call(ctx, http.MethodGet, keysPath, nil, &out); err != nil {
		return err
	}
	if c.JSON {
		text := json.NewEncoder(s.out)
		text.SetIndent("", "  ")
		return text.Encode(out.Keys)
	}
	table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	say(table, "NAME\tID\tCREATED\n")
	for _, k := range out.Keys {
		say(table, "%s\t%s\t%s\n", k.Name, k.ID, k.CreatedAt.Format(time.RFC3339))
	}
	return table.Flush()
}

type keysRevokeCmd struct {
	apiFlags
	Key string `arg:"" help:"Name or id of the key."`
}

func (c *keysRevokeCmd) Run(ctx context.Context, s *streams) error {
	a, err := c.api()
	if err != nil {
		return err
	}
	return a.call(ctx, http.MethodDelete, keysPath+"?key="+url.QueryEscape(c.Key), nil, nil)
}

// What the tool and the server say to each other.
const keysPath = "/_drover/keys"

type newKey struct {
	Name   string `json:"name"`
	Policy string `json:"policy"`
}

type createdKey struct {
	ID     string `json:"accessKeyId"`
	Secret string `json:"secretAccessKey"`
}

type keyList struct {
	Keys []listedKey `json:"keys"`
}

type listedKey struct {
	ID        string    `json:"accessKeyId"`
	Name      string    `json:"name"`
	Policy    string    `json:"policy"`
	CreatedAt time.Time `json:"createdAt"`
}

// keyService answers the tool. Who may call it has been checked: who can make keys can make one that
// may do everything.
type keyService struct {
	keys    *auth.Keyring
	revoked func() // has connections ended whose key is no more
	log     *slog.Logger
}

func (k *keyService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, _ := auth.IdentityFrom(r.Context())
	actor := id.Principal.Actor()
	var out any = struct{}{}
	var err error
	switch r.Method {
	case http.MethodGet:
		out, err = k.list(r.Context())
	case http.MethodPost:
		out, err = k.create(r, actor)
	case http.MethodDelete:
		err = k.keys.Revoke(r.Context(), r.URL.Query().Get("key"), actor)
		k.revoked()
	default:
		err = &wire.Error{Code: "MethodNotAllowedException", Status: http.StatusMethodNotAllowed, Message: r.Method + " is not for " + keysPath}
	}
	if err != nil {
		wire.WriteError(w, refusal(r.Context(), k.log, "keys", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	// Whoever asked has gone if this fails.
	_ = json.NewEncoder(w).Encode(out)
}

func (k *keyService) list(ctx context.Context) (*keyList, error) {
	keys, err := k.keys.List(ctx)
	out := &keyList{Keys: make([]listedKey, len(keys))}
	for i, key := range keys {
		out.Keys[i] = listedKey{ID: key.ID, Name: key.Name, Policy: key.Policy, CreatedAt: key.CreatedAt.Std().UTC()}
	}
	return out, err
}

func (k *keyService) create(r *http.Request, actor string) (*createdKey, error) {
	var in newKey
	text, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(text, &in)
	}
	if err != nil {
		return nil, iot.Errorf(iot.InvalidRequest, "The body must be a JSON object with name and policy: %v", err)
	}
	key, err := k.keys.Create(r.Context(), in.Name, in.Policy, actor)
	return &createdKey{key.AccessKeyID, key.SecretAccessKey}, err
}

// refusal is the answer when what (keys or users) cannot be changed.
func refusal(ctx context.Context, log *slog.Logger, what string, err error) *wire.Error {
	if known, ok := errors.AsType[*wire.Error](err); ok {
		return known
	}
	refused, ok := errors.AsType[*iot.Error](err)
	if !ok {
		log.ErrorContext(ctx, what+" cannot be changed", "err", err)
		return &wire.Error{Code: "InternalFailureException", Status: http.StatusInternalServerError, Message: "The " + what + " could not be read or changed"}
	}
	status := http.StatusBadRequest
	switch refused.Code {
	case iot.Unavailable:
		status = http.StatusServiceUnavailable
	case iot.NotFound:
		status = http.StatusNotFound
	case iot.AlreadyExists:
		status = http.StatusConflict
	}
	return &wire.Error{Code: string(refused.Code) + "Exception", Status: status, Message: refused.Message}
}

// openKeys makes the keyring and the users of the console. The file that seals the secrets is in the data folder even in test
// mode, where the keys themselves go with the database.
func (s *server) openKeys(ctx context.Context, keys *registry.Registry) error {
	seal, err := auth.LoadOrCreateSeal(s.cfg.sealFile())
	if err != nil {
		return err
	}
	if s.keys, err = auth.OpenKeyring(ctx, s.key, keys, seal, s.log); err != nil {
		return err
	}
	s.users, err = auth.OpenUsers(ctx, keys, seal, machineTime, s.log)
	return err
}

// keyOwners is the keyring, which needs the registry, for who is needed by that.
type keyOwners struct{ *auth.Keyring }
