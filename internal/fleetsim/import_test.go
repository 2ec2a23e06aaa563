package fleetsim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// importer is an HTTP server with the bulk import's answers: it refuses lines
// without a thingName, and counts the rest.
type importer struct {
	t        *testing.T
	endpoint string
	fail     func(request int) int // status to fail a request with, 0 for none

	mu       sync.Mutex
	requests int
	batches  [][]string // lines of the requests that were served
	queries  []string
}

func newImporter(t *testing.T) *importer {
	s := &importer{t: t, fail: func(int) int { return 0 }}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.endpoint = server.URL
	return s
}

func (s *importer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
	if status := s.fail(s.requests); status != 0 {
		w.Header().Set("X-Amzn-Errortype", "SomeException:http://internal")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"message":"because"}`)
		return
	}
	authorization := r.Header.Get("Authorization")
	if r.Method != http.MethodPost || r.URL.Path != "/_drover/import" ||
		!strings.HasPrefix(authorization, "AWS4-HMAC-SHA256 Credential=KEY/") || !strings.Contains(authorization, "/eu-west-1/iot/aws4_request") {
		s.t.Errorf("%s %s, authorization %q", r.Method, r.URL, authorization)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Error(err)
	}
	if len(body) > MaxImportBytes {
		s.t.Errorf("request of %d bytes", len(body))
	}
	lines := strings.Split(strings.TrimSuffix(string(body), "\n"), "\n")
	s.batches = append(s.batches, lines)
	s.queries = append(s.queries, r.URL.RawQuery)
	type lineError struct {
		Line    int    `json:"line"`
		Message string `json:"message"`
	}
	answer := struct {
		Created int         `json:"created"`
		Errors  []lineError `json:"errors"`
	}{Errors: []lineError{}}
	for i, line := range lines {
		if strings.Contains(line, "thingName") {
			answer.Created++
		} else {
			answer.Errors = append(answer.Errors, lineError{i + 1, "no name"})
		}
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		s.t.Error(err)
	}
}

func (s *importer) config() ImportConfig {
	return ImportConfig{Endpoint: s.endpoint, AccessKeyID: "KEY", SecretAccessKey: "secret", Region: "eu-west-1"}
}

func TestImport(t *testing.T) {
	t.Parallel()
	s := newImporter(t)
	thing := `{"thingName":"a"}`
	input := strings.Join([]string{
		thing, "", "{}", thing + "\r", strings.Repeat("x", MaxImportBytes), "{}", thing, "   ", thing, // the last without newline
	}, "\n")
	var progress []int64
	cfg := s.config()
	cfg.BatchLines = 3
	cfg.Progress = func(lines int64) { progress = append(progress, lines) }
	got, err := Import(t.Context(), cfg, strings.NewReader(input))
	if err != nil {
		t.Fatal(err)
	}
	want := ImportResult{Lines: 9, Created: 4, Failed: 3, Errors: []LineError{
		{3, "no name"}, {5, "line of more than 4194304 bytes"}, {6, "no name"},
	}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if want := [][]string{{thing, "{}", thing}, {"{}", thing}, {thing}}; !slices.EqualFunc(s.batches, want, slices.Equal) {
		t.Errorf("batches %q, want %q", s.batches, want)
	}
	if want := []int64{4, 7, 9}; !slices.Equal(progress, want) {
		t.Errorf("progress %v, want %v", progress, want)
	}
	if s.queries[0] != "create=false" {
		t.Errorf("query %q", s.queries[0])
	}
}

func TestImportLimits(t *testing.T) {
	t.Parallel()
	s := newImporter(t)
	big := fmt.Sprintf(`{"thingName":"a","attributes":{"x":%q}}`, strings.Repeat("y", MaxImportBytes/3))
	input := strings.Repeat(big+"\n", 5) + strings.Repeat("{}\n", MaxImportLines+1500)
	got, err := Import(t.Context(), s.config(), strings.NewReader(input))
	if err != nil {
		t.Fatal(err)
	}
	if got.Created != 5 || got.Failed != 6500 || len(got.Errors) != 1000 || got.Errors[999].Line != 1005 {
		t.Errorf("created %d, failed %d, %d errors kept", got.Created, got.Failed, len(got.Errors))
	}
	for _, batch := range s.batches {
		if len(batch) > MaxImportLines {
			t.Errorf("batch of %d lines", len(batch))
		}
	}
	if len(s.batches) != 4 {
		t.Errorf("%d batches, want 4: 2 and 2 large lines, the last with many small ones, the rest", len(s.batches))
	}
}

func TestImportRepeats(t *testing.T) {
	t.Parallel()
	s := newImporter(t)
	s.fail = func(request int) int {
		return map[int]int{1: http.StatusServiceUnavailable, 2: http.StatusTooManyRequests}[request]
	}
	got, err := Import(t.Context(), s.config(), strings.NewReader(`{"thingName":"a"}`))
	if err != nil || got.Created != 1 || s.requests != 3 {
		t.Errorf("%+v, %v after %d requests", got, err, s.requests)
	}
}

func TestImportStops(t *testing.T) {
	t.Parallel()
	broken := errors.New("disk broken")
	tests := []struct {
		name  string
		fail  func(request int) int
		input io.Reader
		want  error
		text  string
		lines int64
	}{
		{"at a refusal", func(request int) int { return map[int]int{2: 400}[request] }, strings.NewReader("{}\n{}\n{}\n{}\n"),
			nil, "import lines 3 to 4: HTTP 400: SomeException: because", 2},
		{"where there is no import", func(int) int { return 404 }, strings.NewReader("{}\n"), ErrNoImport, "", 0},
		{"when reading fails", func(int) int { return 0 }, io.MultiReader(strings.NewReader("{}\n"), failing{broken}), broken, "read line 2", 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newImporter(t)
			s.fail = test.fail
			cfg := s.config()
			cfg.BatchLines = 2
			got, err := Import(t.Context(), cfg, test.input)
			if err == nil || !strings.Contains(err.Error(), test.text) || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v %q", err, test.want, test.text)
			}
			if got.Lines != test.lines {
				t.Errorf("%d lines dealt with, want %d", got.Lines, test.lines)
			}
		})
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestImportCalledOff(t *testing.T) {
	t.Parallel()
	s := newImporter(t)
	ctx, cancel := context.WithCancel(t.Context())
	cfg := s.config()
	cfg.BatchLines = 1
	cfg.Progress = func(int64) { cancel() }
	endless := io.MultiReader(strings.NewReader(strings.Repeat("{}\n", 100_000)))
	if _, err := Import(ctx, cfg, endless); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestRegister(t *testing.T) {
	t.Parallel()
	s := newImporter(t)
	err := Register(t.Context(), RegisterConfig{
		Endpoint: s.endpoint + "/", AccessKeyID: "KEY", SecretAccessKey: "secret", Region: "eu-west-1",
		Things: []string{"a", "b"}, Group: "hall", ThingType: "press", Attributes: map[string]string{"k": "v"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`{"thingName":"a","thingTypeName":"press","attributes":{"k":"v"},"groups":["hall"]}`,
		`{"thingName":"b","thingTypeName":"press","attributes":{"k":"v"},"groups":["hall"]}`,
	}
	if len(s.batches) != 1 || !slices.Equal(s.batches[0], want) || s.queries[0] != "create=true" {
		t.Errorf("got %q %q, want %q", s.batches, s.queries, want)
	}
}

// TestRegisterSingly registers where there is no bulk import.
func TestRegisterSingly(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var got []string
	throttled := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		fail := func(status int, code string) {
			w.Header().Set("X-Amzn-Errortype", code)
			w.WriteHeader(status)
		}
		switch {
		case r.URL.Path == "/_drover/import":
			fail(http.StatusNotFound, "")
			return
		case r.URL.Path == "/things/a:1" && !throttled:
			throttled = true
			fail(http.StatusBadRequest, "ThrottlingException")
			return
		case r.URL.Path == "/thing-groups/hall":
			fail(http.StatusConflict, "ResourceAlreadyExistsException")
		}
		got = append(got, fmt.Sprintf("%s %s %s", r.Method, r.URL.Path, body))
	}))
	defer server.Close()
	cfg := RegisterConfig{
		Endpoint: server.URL, AccessKeyID: "KEY", SecretAccessKey: "secret",
		Things: []string{"a:1", "b"}, Group: "hall", ThingType: "press", Attributes: map[string]string{"k": "v"}, Concurrency: 1,
	}
	if err := Register(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`POST /thing-types/press {}`,
		`POST /thing-groups/hall {}`,
		`POST /things/a:1 {"attributePayload":{"attributes":{"k":"v"}},"thingTypeName":"press"}`,
		`PUT /thing-groups/addThingToThingGroup {"thingGroupName":"hall","thingName":"a:1"}`,
		`POST /things/b {"attributePayload":{"attributes":{"k":"v"}},"thingTypeName":"press"}`,
		`PUT /thing-groups/addThingToThingGroup {"thingGroupName":"hall","thingName":"b"}`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("requests:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestRegisterTellsRefusals(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"created":1,"errors":[{"line":2,"message":"bad name"}]}`)
	}))
	defer server.Close()
	err := Register(t.Context(), RegisterConfig{Endpoint: server.URL, AccessKeyID: "KEY", SecretAccessKey: "s", Things: []string{"a", "b c"}})
	if want := "register things: 1 refused, the first is b c: bad name"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}
