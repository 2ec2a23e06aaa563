package commands

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"drover/internal/iot"
	"drover/internal/store"
	"drover/internal/store/sqlstore"
)

var realm = iot.Realm{Account: "123456789012", Region: "eu-west-1"}

type rig struct {
	*Service
	t    *testing.T
	stop func()
	at   atomic.Int64 // iot.Time
	told sync.Map     // by execution
}

func newRig(t *testing.T, running int) *rig {
	t.Helper()
	db, err := sqlstore.Open(t.Context(), sqlstore.Config{Path: filepath.Join(t.TempDir(), "db"), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t}
	r.at.Store(1_700_000_000_000)
	r.Service = New(Config{
		Store: db, Realm: realm, Logger: slog.New(slog.DiscardHandler), Running: running, Now: func() time.Time { return iot.Time(r.at.Load()).Std() }, Poll: time.Hour,
		Tell: func(q Request) { r.told.Store(q.Execution, q) },
	})
	err = db.Update(t.Context(), func(tx store.Tx) error { return tx.InsertThings([]*iot.Thing{{Name: "t", UUID: "u", Version: 1}}) })
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); r.Run(ctx) }()
	r.stop = func() { cancel(); <-done }
	t.Cleanup(func() {
		r.stop()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := r.Create(t.Context(), iot.NewCommand{Command: iot.Command{ID: "c", Payload: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) start(token string) (string, error) {
	return r.Start(r.t.Context(), iot.CommandStart{Command: realm.ARN(iot.KindCommand, "c"), Target: realm.ARN(iot.KindThing, "t"), Token: token})
}

func (r *rig) report(id string, status iot.CommandStatus) error {
	done := make(chan error, 1)
	r.Report(iot.CommandReport{Execution: id, Target: realm.ARN(iot.KindThing, "t"), Status: status}, func(err error) { done <- err })
	return <-done
}

// Many at a time share transactions and do not disturb each other; a token starts one execution, however many ask at a time.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	var all sync.WaitGroup
	var mu sync.Mutex
	ids := map[string]int{}
	for i := range 300 {
		all.Go(func() {
			token := ""
			if i%3 == 0 {
				token = "token"
			}
			id, err := r.start(token)
			if err != nil {
				t.Error(err)
				return
			}
			if i%7 == 1 { // refused, beside others that are not
				if err := r.report("nowhere", iot.CommandFailed); iot.ErrorCode(err) != iot.NotFound {
					t.Error(err)
				}
			}
			if token == "" {
				if err := r.report(id, iot.CommandSucceeded); err != nil {
					t.Error(err)
				}
			}
			mu.Lock()
			ids[id]++
			mu.Unlock()
		})
	}
	all.Wait()
	if len(ids) != 201 {
		t.Errorf("%d executions, want 201", len(ids))
	}
	for id := range ids {
		if _, ok := r.told.Load(id); !ok {
			t.Errorf("nobody was told of %s", id)
		}
	}
}

// Of a target so many run at a time, and one whose time is over does not count.
func TestRunningIsLimited(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	first, err := r.start("")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.start(""); err != nil {
		t.Fatal(err)
	}
	if _, err := r.start(""); iot.ErrorCode(err) != iot.LimitExceeded {
		t.Errorf("%v", err)
	}
	if err := r.report(first, iot.CommandFailed); err != nil {
		t.Fatal(err)
	}
	if _, err := r.start(""); err != nil {
		t.Errorf("after one has ended: %v", err)
	}
	r.at.Add(10_000)
	if err := r.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := r.start(""); err != nil {
			t.Errorf("when the time is over: %v", err)
		}
	}
}

// Executions that are old enough are forgotten, with their tokens.
func TestExecutionsAreForgotten(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	old, err := r.start("token")
	if err != nil {
		t.Fatal(err)
	}
	r.at.Add(iot.CommandRetention.Milliseconds() + 1)
	if err := r.trim(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Execution(t.Context(), old, realm.ARN(iot.KindThing, "t")); iot.ErrorCode(err) != iot.NotFound {
		t.Error(err)
	}
	if id, err := r.start("token"); err != nil || id == old {
		t.Errorf("%s, %v", id, err)
	}
}

// What comes when the server stops is refused, and not left alone.
func TestStopping(t *testing.T) {
	t.Parallel()
	r := newRig(t, 0)
	r.stop()
	if _, err := r.start(""); iot.ErrorCode(err) != iot.Unavailable {
		t.Error(err)
	}
	if err := r.report("x", iot.CommandFailed); iot.ErrorCode(err) != iot.Unavailable {
		t.Error(err)
	}
}

func value[T any](v T) *T { return &v }

func TestRender(t *testing.T) {
	t.Parallel()
	parameters := map[string]iot.CommandValue{
		"s": {S: value("a\"}<é")}, "b": {B: value(true)}, "i": {I: value(int32(-1))}, "l": {L: value(int64(1 << 60))}, "d": {D: value(0.5)}, "u": {UL: value("18446744073709551615")}, "x": {BIN: []byte{0, 255}},
	}
	p := func(name string) string { return placeholder + parameterPrefix + name + "}" }
	for template, want := range map[string][2]string{ // JSON, and what CBOR says
		`"` + p("s") + `"`: {`"a\"}<é"`, `a"}<é`},
		`["` + p("b") + `","` + p("i") + `","` + p("l") + `"]`:  {`[true,-1,1152921504606846976]`, `[true -1 1152921504606846976]`},
		`["` + p("d") + `","` + p("u") + `","` + p("x") + `"]`:  {`[0.5,18446744073709551615,"AP8="]`, `[0.5 18446744073709551615 [0 255]]`},
		`{"z":1,"a":"` + p("i") + `` + p("i") + `"}`:            {`{"z":1,"a":"-1-1"}`, `map[a:-1-1 z:1]`},
		`{"` + p("i") + `":{"x":[],"y":{}}}`:                    {`{"-1":{"x":[],"y":{}}}`, `map[-1:map[x:[] y:map[]]]`},
		`[1e400, 1.50, "` + p("i") + `"]`:                       {`[1e400,1.50,-1]`, ""},
		`"${aws:iot:commandexecution::executionTimeoutSec} s"`:  {`"7 s"`, `7 s`},
		`"${aws:iot:commandexecution::executionTimeoutSec}"`:    {`7`, `7`},
		` { "a" : null , "b" : "$` + `{x} ` + p("d") + `" }   `: {`{"a":null,"b":"${x} 0.5"}`, `map[a:<nil> b:${x} 0.5]`},
	} {
		payload, contentType, err := render(&iot.Command{Template: template, Format: iot.CommandJSON}, parameters, 7)
		if err != nil || string(payload) != want[0] || contentType != "application/json" {
			t.Errorf("%s: %s, %s, %v, want %s", template, payload, contentType, err, want[0])
		}
		payload, contentType, err = render(&iot.Command{Template: template, Format: iot.CommandCBOR}, parameters, 7)
		if want[1] == "" {
			if iot.ErrorCode(err) != iot.InvalidRequest {
				t.Errorf("%s as CBOR: %v", template, err)
			}
			continue
		}
		mode, e := cbor.DecOptions{DefaultMapType: reflect.TypeFor[map[string]any]()}.DecMode()
		if e != nil {
			t.Fatal(e)
		}
		var tree any
		if e := mode.Unmarshal(payload, &tree); err != nil || e != nil || fmt.Sprint(tree) != want[1] || contentType != "application/cbor" {
			t.Errorf("%s: %v, %s, %v, %v, want %s", template, tree, contentType, err, e, want[1])
		}
	}
	_, _, err := render(&iot.Command{Template: `["` + strings.Repeat(p("s"), 100) + `"]`}, map[string]iot.CommandValue{"s": {S: value(strings.Repeat("x", 1000))}}, 7)
	if iot.ErrorCode(err) != iot.InvalidRequest {
		t.Errorf("a large one: %v", err)
	}
}

// Whatever a template is, it is either refused, or what becomes of it is in its format.
func FuzzTemplate(f *testing.F) {
	f.Add(`{"a":"${aws:iot:commandexecution::parameter:p}","b":[1,null]}`, "x")
	f.Add(`"at ${aws:iot:commandexecution::executionTimeoutSec}`, "")
	f.Add(`[[[`, "}")
	f.Fuzz(func(t *testing.T, template, text string) {
		c := &iot.Command{ID: "c", Template: template, Format: iot.CommandJSON, Parameters: []iot.CommandParameter{{Name: "p"}}}
		if err := checkTemplate(c); err != nil {
			if iot.ErrorCode(err) != iot.InvalidRequest {
				t.Error(err)
			}
			return
		}
		values := map[string]iot.CommandValue{"p": {S: &text}}
		payload, _, err := render(c, values, 10)
		if err == nil && !json.Valid(payload) {
			t.Errorf("%q became %q", template, payload)
		}
		c.Format = iot.CommandCBOR
		if payload, _, err := render(c, values, 10); err == nil && cbor.Wellformed(payload) != nil {
			t.Errorf("%q became %x", template, payload)
		}
	})
}
