package controlplane_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"drover/internal/controlplane"
	"drover/internal/iot"
)

func (f *fleet) imports(target, body string) *httptest.ResponseRecorder {
	s := controlplane.New(controlplane.Config{Jobs: f.engine, Registry: f.registry, Realm: testRealm})
	w := httptest.NewRecorder()
	s.ServeImport(w, httptest.NewRequest(http.MethodPost, target, strings.NewReader(body)))
	return w
}

func TestImport(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	const file = `{"thingName":"lamp","thingTypeName":"light","attributes":{"color":"red"},"groups":["hall","all"]}

 {"thingName":"bell"}` + "\r\n" + `{"thingName":"a.b"}
{"thingName":"c","color":"red"}
{"thingName":"c"} {}
{"thingName":7}
[]
{"thingName":"c"
{"thingName":"c","attributes":{"a":7}}
null
`
	w := f.imports("/_drover/import?create=true", file)
	var got iot.ImportResult
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%d %s: %v", w.Code, w.Body, err)
	}
	if got.Created != 2 || got.Updated != 0 || got.Unchanged != 0 {
		t.Errorf("got %+v", got)
	}
	want := []string{
		"4 thingName", `5 unknown field "color"`, "6 one JSON object", "7 thingName cannot be a JSON number", "8 a line cannot be a JSON array",
		"9 unexpected EOF", "10 attributes", "11 thingName",
	}
	if len(got.Errors) != len(want) {
		t.Fatalf("got %+v", got.Errors)
	}
	for i, e := range got.Errors {
		line, text, _ := strings.Cut(want[i], " ")
		if fmt.Sprint(e.Line) != line || !strings.Contains(e.Message, text) {
			t.Errorf("got %+v, want %s", e, want[i])
		}
	}
	if body := f.imports("/_drover/import", `{"thingName":"lamp","groups":["all"]}`).Body.String(); body != `{"created":0,"updated":0,"unchanged":1,"errors":[]}`+"\n" {
		t.Errorf("again: %s", body)
	}
	lamp, err := f.registry.Thing(t.Context(), "lamp")
	if err != nil || lamp.Type != "light" || lamp.Attributes["color"] != "red" || lamp.Version != 1 {
		t.Errorf("got %+v, %v", lamp, err)
	}
}

func TestImportRefused(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for name, c := range map[string]struct {
		target, body string
		status       int
		code         string
	}{
		"create": {"/_drover/import?create=maybe", "", 400, "InvalidRequestException"},
		"lines":  {"/_drover/import", strings.Repeat("{}\n", iot.MaxImportLines+1), 400, "InvalidRequestException"},
		"bytes":  {"/_drover/import", strings.Repeat(" ", 8<<20+1), 413, "RequestEntityTooLargeException"},
	} {
		t.Run(name, func(t *testing.T) {
			w := f.imports(c.target, c.body)
			if w.Code != c.status || w.Header().Get("X-Amzn-Errortype") != c.code || !json.Valid(w.Body.Bytes()) {
				t.Errorf("got %d %v %s", w.Code, w.Header(), w.Body)
			}
		})
	}
	w := httptest.NewRecorder()
	controlplane.New(controlplane.Config{Realm: testRealm}).ServeImport(w, httptest.NewRequest(http.MethodGet, "/_drover/import", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", w.Code)
	}
	if got := f.imports("/_drover/import", "").Body.String(); got != `{"created":0,"updated":0,"unchanged":0,"errors":[]}`+"\n" {
		t.Errorf("an empty body: %s", got)
	}
}

// BenchmarkImport reports things per second through HTTP's handler, decoding included.
func BenchmarkImport(b *testing.B) {
	b.ReportAllocs()
	f := newFleet(b)
	n := 0
	for b.Loop() {
		b.StopTimer()
		var body strings.Builder
		for range iot.MaxImportLines {
			n++
			fmt.Fprintf(&body, `{"thingName":"thing-%07d","attributes":{"serial":"%d"},"groups":["fleet"]}`+"\n", n, n)
		}
		b.StartTimer()
		if w := f.imports("/_drover/import?create=true", body.String()); w.Code != http.StatusOK || !strings.HasPrefix(w.Body.String(), `{"created":5000,`) {
			b.Fatal(w.Code, w.Body)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "things/s")
}
