package registry

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"drover/internal/envtest"
	"drover/internal/iot"
	"drover/internal/store/sqlstore"
)

const document = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`

// hearer writes down what it is told.
type hearer struct {
	told chan string
	fail error // of the next KeysChanged
}

func (h *hearer) CertificateChanged(id iot.CertificateID, alive bool) {
	h.told <- fmt.Sprintf("certificate %s %t", id, alive)
}
func (h *hearer) ThingsChanged(names []iot.ThingName)  { h.told <- fmt.Sprintf("things %s", names) }
func (h *hearer) PoliciesChanged(id iot.CertificateID) { h.told <- fmt.Sprintf("policies of %q", id) }
func (h *hearer) EventsChanged()                       { h.told <- "events" }
func (h *hearer) KeysChanged(ctx context.Context) (err error) {
	h.told <- "keys"
	err, h.fail = h.fail, nil
	return err
}

// TestFollow: a node hears of everything that another changes and it may remember, and nothing of what
// it changes itself.
func TestFollow(t *testing.T) {
	t.Parallel()
	url := envtest.PostgreSQL(t)
	node := func() *Registry {
		db, err := sqlstore.Open(t.Context(), sqlstore.Config{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
		return New(Config{Store: db, Jobs: &jobLog{}, Realm: realm})
	}
	a, b := node(), node()
	ctx, stop := context.WithCancel(t.Context())
	h := &hearer{told: make(chan string, 100), fail: errors.New("once")}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.Follow(ctx, h, nil)
	}()
	next := func(want string) {
		t.Helper()
		select {
		case got := <-h.told:
			if got != want {
				t.Errorf("told of %s, want %s", got, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("not told of %s", want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	thing := func(r *Registry, name iot.ThingName) {
		t.Helper()
		_, err := r.CreateThing(ctx, iot.NewThing{Name: name, Actor: "test"})
		must(err)
	}
	thing(a, "pump")
	next("things [pump]")
	thing(b, "own")
	_, err := a.InsertKey(ctx, iot.APIKey{ID: "AKIA", Name: "ci", Policy: document, Sealed: []byte("x")}, "test")
	must(err)
	next("keys")
	next("keys") // as the first time failed
	must(a.UpdateEventConfigurations(ctx, iot.EventsUpdate{Enabled: map[iot.EventType]bool{"THING": true}, Actor: "test"}))
	next("events")
	_, err = a.CreatePolicy(ctx, iot.NewPolicy{Name: "p", Document: document, Actor: "test"})
	must(err)
	_, err = a.CreateGroup(ctx, iot.NewGroup{Name: "g", Actor: "test"})
	must(err)
	must(a.AttachPolicy(ctx, iot.PolicyAttachment{Name: "p", Target: realm.ARN(iot.KindGroup, "g"), Actor: "test"}))
	next(`policies of ""`)
	stop()
	<-ended
	if len(h.told) > 0 {
		t.Errorf("also told of %s", <-h.told)
	}
}
