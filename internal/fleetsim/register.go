package fleetsim

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"

	"golang.org/x/sync/errgroup"
)

// RegisterConfig says which things are to exist where. Endpoint, the key and
// Things are required.
type RegisterConfig struct {
	Endpoint        string // of the control plane, http://… or https://…
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string // of temporary credentials, else empty
	Region          string // default us-east-1

	Things     []string
	Group      string            // static thing group that all are to be in; empty for none
	ThingType  string            // of all; empty for none
	Attributes map[string]string // of all

	Concurrency int               // of single requests, where there is no bulk import; default 10
	Progress    func(lines int64) // told how many things are dealt with; bulk import only
	Client      *http.Client      // default: one with a time limit of two minutes
}

// thingLine is a line of the bulk import.
type thingLine struct {
	ThingName     string            `json:"thingName"`
	ThingTypeName string            `json:"thingTypeName,omitempty"`
	Attributes    map[string]string `json:"attributes,omitempty"`
	Groups        []string          `json:"groups,omitempty"`
}

// Register sees to it that the things exist, with their type and group: by
// drover's bulk import, or one by one with AWS's own operations where there is
// none. What exists already is no error; one by one it also stays as it is.
func Register(ctx context.Context, cfg RegisterConfig) error {
	result, err := importLines(ctx, ImportConfig{
		Endpoint:        cfg.Endpoint,
		AccessKeyID:     cfg.AccessKeyID,
		SecretAccessKey: cfg.SecretAccessKey,
		SessionToken:    cfg.SessionToken,
		Region:          cfg.Region,
		CreateMissing:   true,
		Progress:        cfg.Progress,
		Client:          cfg.Client,
	}, cfg.lines())
	if errors.Is(err, ErrNoImport) {
		err = registerSingly(ctx, cfg)
	}
	if err != nil {
		return fmt.Errorf("register things: %w", err)
	}
	if result.Failed > 0 {
		first := result.Errors[0]
		return fmt.Errorf("register things: %d refused, the first is %s: %s", result.Failed, cfg.Things[first.Line-1], first.Message)
	}
	return nil
}

// lines yields the things as lines of an import.
func (cfg RegisterConfig) lines() iter.Seq2[importLine, error] {
	return func(yield func(importLine, error) bool) {
		l := thingLine{ThingTypeName: cfg.ThingType, Attributes: cfg.Attributes}
		if cfg.Group != "" {
			l.Groups = []string{cfg.Group}
		}
		for i, name := range cfg.Things {
			l.ThingName = name
			text, err := json.Marshal(l)
			if !yield(importLine{number: int64(i) + 1, text: text}, err) {
				return
			}
		}
	}
}

// registerSingly registers with CreateThingType, CreateThingGroup, CreateThing
// and AddThingToThingGroup (registry spec §1.2, §2.2, §3).
func registerSingly(ctx context.Context, cfg RegisterConfig) error {
	a, err := newAPI(cfg.Endpoint, cfg.AccessKeyID, cfg.SecretAccessKey, cfg.SessionToken, cfg.Region, cfg.Client)
	if err != nil {
		return err
	}
	type object = map[string]any
	ensure := func(ctx context.Context, method, path string, body object) error {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		err = a.call(ctx, method, path, text, nil)
		if refusal, ok := errors.AsType[*apiError](err); ok && refusal.Code == "ResourceAlreadyExistsException" {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", method, path, err)
		}
		return nil
	}

	thing := object{}
	if cfg.ThingType != "" {
		if err := ensure(ctx, http.MethodPost, "/thing-types/"+url.PathEscape(cfg.ThingType), object{}); err != nil {
			return err
		}
		thing["thingTypeName"] = cfg.ThingType
	}
	if len(cfg.Attributes) > 0 {
		thing["attributePayload"] = object{"attributes": cfg.Attributes}
	}
	if cfg.Group != "" {
		if err := ensure(ctx, http.MethodPost, "/thing-groups/"+url.PathEscape(cfg.Group), object{}); err != nil {
			return err
		}
	}
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(cmp.Or(cfg.Concurrency, 10))
	for _, name := range cfg.Things {
		if ctx.Err() != nil {
			break
		}
		work.Go(func() error {
			if err := ensure(ctx, http.MethodPost, "/things/"+url.PathEscape(name), thing); err != nil || cfg.Group == "" {
				return err
			}
			return ensure(ctx, http.MethodPut, "/thing-groups/addThingToThingGroup",
				object{"thingGroupName": cfg.Group, "thingName": name})
		})
	}
	return work.Wait()
}
