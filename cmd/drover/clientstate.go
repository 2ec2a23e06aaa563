package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"drover/internal/dataplane"
	"drover/internal/wire"
)

// What the tool and the server say to each other: GET clientsPath + the escaped client id.
const clientsPath = "/_drover/clients/"

type clientState struct {
	ClientID     string              `json:"clientId"`
	Connected    bool                `json:"connected"`
	Session      string              `json:"sessionIdentifier,omitempty"`
	Disconnected time.Time           `json:"disconnectedAt,omitzero"`
	Problems     []dataplane.Problem `json:"problems"` // the latest first
}

// clientService tells what is known of one MQTT client.
type clientService struct {
	presence func(clientID string) (dataplane.Presence, bool)
	problems *dataplane.Problems
	peers    *peers
}

// here is what this node knows of a client.
func (s *clientService) here(id string) (out clientState, known bool) {
	seen, known := s.presence(id)
	out = clientState{ClientID: id, Connected: seen.Connected, Session: seen.Session, Disconnected: seen.Ended, Problems: s.problems.Of(id)}
	return out, known || out.Problems != nil
}

func (s *clientService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		wire.WriteError(w, &wire.Error{Code: "MethodNotAllowedException", Status: http.StatusMethodNotAllowed, Message: r.Method + " is not for " + clientsPath})
		return
	}
	id := strings.TrimPrefix(r.URL.Path, clientsPath)
	out, known := s.here(id)
	for _, other := range s.peers.clientStates(r.Context(), id) {
		problems := append(out.Problems, other.Problems...)
		if !known || !out.Connected && (other.Connected || other.Disconnected.After(out.Disconnected)) {
			out, known = other, true
		}
		slices.SortStableFunc(problems, func(x, y dataplane.Problem) int { return y.Last.Compare(x.Last) })
		out.Problems = problems
	}
	if !known {
		wire.WriteError(w, &wire.Error{Code: "ResourceNotFoundException", Status: http.StatusNotFound,
			Message: "No client with this id is connected, or was in the last hour, and none has problems"})
		return
	}
	if out.Problems == nil {
		out.Problems = []dataplane.Problem{}
	}
	w.Header().Set("Content-Type", "application/json")
	// Whoever asked has gone if this fails.
	_ = json.NewEncoder(w).Encode(out)
}

type clientCmd struct {
	apiFlags
	ClientID string `arg:"" name:"client-id" help:"MQTT client id."`
	JSON     bool   `help:"Print JSON."`
}

func (c *clientCmd) Run(ctx context.Context, s *streams) error {
	a, err := c.api()
	if err != nil {
		return err
	}
	var out clientState
	if err := a.call(ctx, http.MethodGet, clientsPath+url.PathEscape(c.ClientID), nil, &out); err != nil {
		return err
	}
	if c.JSON {
		text := json.NewEncoder(s.out)
		text.SetIndent("", "  ")
		return text.Encode(out)
	}
	switch {
	case out.Connected:
		say(s.out, "%s is connected\n", out.ClientID)
	case !out.Disconnected.IsZero():
		say(s.out, "%s is not connected since %s\n", out.ClientID, out.Disconnected.Format(time.RFC3339))
	default:
		say(s.out, "%s is not connected\n", out.ClientID)
	}
	if len(out.Problems) == 0 {
		say(s.out, "It has done nothing in vain that is remembered.\n")
		return nil
	}
	table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	say(table, "PROBLEM\tTIMES\tLAST\tTOPIC\tHINT\n")
	for _, p := range out.Problems {
		say(table, "%s\t%d\t%s\t%s\t%s\n", p.Kind, p.Count, p.Last.UTC().Format(time.RFC3339), p.Topic, p.Hint)
	}
	return table.Flush()
}
