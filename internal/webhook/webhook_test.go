package webhook_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"drover/internal/webhook"
)

const function = "arn:aws:lambda:us-east-1:123456789012:function:f"

// serve runs a function and returns a Caller that knows it.
func serve(t *testing.T, cfg webhook.Config, h http.HandlerFunc) *webhook.Caller {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	cfg.Functions = map[string]string{function: s.URL}
	c, err := webhook.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCall(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_700_000_000, 0)
	secret := []byte("s")
	c := serve(t, webhook.Config{Secret: secret, Now: func() time.Time { return at }}, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %v %v", r.Method, r.Header, err)
		}
		if got, want := r.Header.Get("X-Signature"), webhook.Sign(secret, at, body); got != want || !strings.HasPrefix(got, "t=1700000000,v1=") {
			t.Errorf("X-Signature %s, want %s", got, want)
		}
		_, _ = w.Write(body)
	})
	got, err := c.Call(t.Context(), function, map[string]string{"a": "b"})
	if err != nil || string(got) != `{"a":"b"}` {
		t.Errorf("%s, %v", got, err)
	}
}

func TestCallFails(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		cfg  webhook.Config
		h    http.HandlerFunc
		want string
	}{
		"status":   {h: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }, want: "it answered with the status 418"},
		"redirect": {h: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }, want: "it answered with the status 302"},
		"too long": {cfg: webhook.Config{MaxAnswer: 3}, h: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "1234") }, want: "its answer has more than 3 bytes"},
		"too late": {cfg: webhook.Config{Timeout: 20 * time.Millisecond}, h: func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // so that the server notices who goes
			<-r.Context().Done()
		}, want: "no answer within 20ms"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := serve(t, tt.cfg, tt.h).Call(t.Context(), function, 1)
			if err == nil || err.Error() != "function "+function+": "+tt.want {
				t.Errorf("%v", err)
			}
		})
	}
}

// Functions that nobody knows, and those that are not there.
func TestCallNobody(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := webhook.New(webhook.Config{Functions: map[string]string{function: "http://" + address}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		function:           "connection refused",
		"arn:other":        "this server knows no URL for it",
		"http://127.0.0.1": "this server knows no URL for it", // https only, unless the operator says so
	} {
		if _, err := c.Call(t.Context(), name, 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := webhook.New(webhook.Config{Functions: map[string]string{"f": "ftp://x"}}); err == nil {
		t.Error("ftp is accepted")
	}
}

// One call too many is refused at once.
func TestCallBusy(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	c := serve(t, webhook.Config{Concurrency: 1}, func(http.ResponseWriter, *http.Request) {
		close(entered)
		<-leave
	})
	done := make(chan error)
	go func() {
		_, err := c.Call(t.Context(), function, 1)
		done <- err
	}()
	<-entered
	if _, err := c.Call(t.Context(), function, 1); !errors.Is(err, webhook.ErrBusy) {
		t.Errorf("the second call: %v", err)
	}
	close(leave)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Who names a function by its URL does not reach what only the server can; the operator may name it.
func TestCallInside(t *testing.T) {
	t.Parallel()
	asked := false
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	t.Cleanup(s.Close)
	port := s.URL[strings.LastIndex(s.URL, ":"):]
	c, err := webhook.New(webhook.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "169.254.169.254", "10.0.0.1", "[fd00::1]", "100.64.0.1"} {
		if _, err := c.Call(t.Context(), "https://"+host+port+"/f", 1); err == nil || !strings.Contains(err.Error(), "is not an address of the internet") {
			t.Errorf("%s: %v", host, err)
		}
	}
	if asked {
		t.Error("the function was asked")
	}
	if c, err = webhook.New(webhook.Config{Functions: map[string]string{s.URL: s.URL}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Call(t.Context(), s.URL, 1); err == nil || !strings.Contains(err.Error(), "certificate") { // which it has not got from anybody known
		t.Errorf("named by the operator: %v", err)
	}
}
