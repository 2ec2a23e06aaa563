package dataplane

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fxamacker/cbor/v2"

	"drover/internal/iot"
)

func TestParseStream(t *testing.T) {
	t.Parallel()
	for topic, want := range map[string]string{
		"$aws/things/t/streams/s/get/json":         "s get $aws/things/t/streams/s/data/json",
		"$aws/things/a:b/streams/x_1/get/cbor":     "x_1 get $aws/things/a:b/streams/x_1/data/cbor",
		"$aws/things/t/streams/s/describe/json":    "s describe $aws/things/t/streams/s/data/json",
		"$aws/things/t/streams/s/other/json":       "s other $aws/things/t/streams/s/data/json",
		"$aws/things/t/streams/s/data/json":        "",
		"$aws/things/t/streams/s/description/cbor": "",
		"$aws/things/t/streams/s/rejected/json":    "",
		"$aws/things/t/streams/s/get":              "",
		"$aws/things/t/streams/s/get/xml":          "",
		"$aws/things/t/streams/s/get/json/more":    "",
		"$aws/things/t/streams//get/json":          "",
		"$aws/things/t/streams/s//json":            "",
		"$aws/things//streams/s/get/json":          "",
		"$aws/things/t/jobs/get":                   "",
		"$aws/things/t/streams":                    "",
		"$aws/things/t":                            "",
		"streams/s/get/json":                       "",
	} {
		got := ""
		if s, ok := parseStream(topic); ok {
			got = s.stream + " " + s.verb + " " + s.answer("data")
		}
		if got != want {
			t.Errorf("%s: %q, want %q", topic, got, want)
		}
	}
}

func topicOf(verb, format string) streamTopic {
	t, ok := parseStream("$aws/things/t/streams/s/" + verb + "/" + format)
	if !ok {
		panic(verb + "/" + format)
	}
	return t
}

func encodeCBOR(t testing.TB, v any) []byte {
	t.Helper()
	data, err := cbor.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestDecodeStream(t *testing.T) {
	t.Parallel()
	type object = map[string]any
	none := func(code string) string { return code }
	for name, c := range map[string]struct {
		format string
		in     any // JSON text, or what is written as CBOR, or bytes
		want   string
	}{
		"JSON":                        {"json", `{"c":"x","s":1,"f":0,"l":4096,"o":2,"n":3,"b":"0x130080"}`, "c=x s=1 f=0 l=4096 o=2 n=3 b=130080"},
		"JSON without 0x, odd order":  {"json", `{"b":"aB","l":256,"unknown":{"a":[1]},"f":255}`, "f=255 l=256 o=0 n=0 b=ab"},
		"JSON with fractions of zero": {"json", `{"f":0.0,"l":1e3}`, "f=0 l=1000 o=0 n=0"},
		"JSON nulls":                  {"json", `{"c":null,"f":1,"l":256,"b":null}`, "f=1 l=256 o=0 n=0"},
		"CBOR":                        {"cbor", object{"c": "rdy", "f": 0, "l": 4096, "o": 0, "b": []byte{0xff}, "n": 1}, "c=rdy f=0 l=4096 o=0 n=1 b=ff"},
		"CBOR, keys of other types":   {"cbor", map[any]any{"f": 1, "l": 256, 7: "x"}, "f=1 l=256 o=0 n=0"},
		"no bitmap, n 0":              {"json", `{"f":0,"l":256,"n":0}`, none("InvalidRequest")},
		"bitmap, n 0":                 {"json", `{"f":0,"l":256,"n":0,"b":"01"}`, "f=0 l=256 o=0 n=0 b=01"},
		"no JSON":                     {"json", `{"f":0,`, none("InvalidJson")},
		"no UTF-8":                    {"json", "{\"c\":\"\xff\"}", none("InvalidJson")},
		"JSON and more":               {"json", `{"f":0,"l":256} x`, none("InvalidJson")},
		"a JSON list":                 {"json", `[]`, none("InvalidRequest")},
		"no CBOR":                     {"cbor", []byte{0xa1, 0x61}, none("InvalidCbor")},
		"CBOR and more":               {"cbor", append(encodeCBOR(t, object{"f": 0}), 0), none("InvalidCbor")},
		"a CBOR list":                 {"cbor", []int{1}, none("InvalidRequest")},
		"nothing":                     {"json", ``, none("InvalidRequest")},
		"no file":                     {"json", `{"c":"x","l":256}`, none("c=x InvalidRequest")},
		"no size":                     {"json", `{"c":"x","f":0}`, none("c=x InvalidRequest")},
		"a file that cannot be":       {"json", `{"f":256,"l":256}`, none("InvalidRequest")},
		"a file that is text":         {"json", `{"f":"0","l":256}`, none("InvalidRequest")},
		"a float":                     {"cbor", object{"f": 0.5, "l": 256}, none("InvalidRequest")},
		"a huge number":               {"cbor", object{"f": uint64(1 << 63), "l": 256}, none("InvalidRequest")},
		"a negative number":           {"cbor", object{"f": 0, "l": 256, "o": -1}, none("OffsetOutOfBounds")},
		"small blocks":                {"json", `{"c":"x","f":0,"l":255}`, none("c=x BlockSizeOutOfBounds")},
		"a token that is too long":    {"json", `{"c":"` + strings.Repeat("x", 65) + `","f":0,"l":256}`, none("InvalidRequest")},
		"a token that just fits":      {"json", `{"c":"` + strings.Repeat("x", 64) + `","f":0,"l":256}`, "c=" + strings.Repeat("x", 64) + " f=0 l=256 o=0 n=0"},
		"a token that is a number":    {"json", `{"c":1,"f":0,"l":256}`, none("InvalidRequest")},
		"an odd bitmap":               {"json", `{"f":0,"l":256,"b":"123"}`, none("InvalidRequest")},
		"a bitmap that is a number":   {"json", `{"f":0,"l":256,"b":1}`, none("InvalidRequest")},
		"a CBOR bitmap that is text":  {"cbor", object{"f": 0, "l": 256, "b": "ff"}, none("InvalidRequest")},
		"a large bitmap":              {"cbor", object{"f": 0, "l": 256, "b": make([]byte, 12288)}, none("BlockBitmapLimitExceeded")},
	} {
		payload, ok := c.in.([]byte)
		if text, is := c.in.(string); is {
			payload = []byte(text)
		} else if !ok {
			payload = encodeCBOR(t, c.in)
		}
		if got := decoded(decodeStream(topicOf(getting, c.format), payload)); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	for _, payload := range []string{``, `{}`, `{"c":"x"}`} {
		if _, err := decodeStream(topicOf(describing, "json"), []byte(payload)); err != nil {
			t.Errorf("describe with %q: %v", payload, err)
		}
	}
}

func decoded(r *streamRequest, err error) string {
	var parts []string
	if r.token != nil {
		parts = append(parts, "c="+*r.token)
	}
	b := r.blocks
	switch {
	case err != nil:
		return strings.Join(append(parts, string(iot.ErrorCode(err))), " ")
	case b.Version != nil:
		parts = append(parts, fmt.Sprintf("s=%d", *b.Version))
	}
	parts = append(parts, fmt.Sprintf("f=%d l=%d o=%d n=%d", b.File, b.Size, b.Offset, b.Count))
	if b.Mapped {
		parts = append(parts, "b="+hex.EncodeToString(b.Bitmap))
	}
	return strings.Join(parts, " ")
}

// Whatever comes is either a request within all bounds, or refused by a code that devices know.
func FuzzStreamRequest(f *testing.F) {
	f.Add(false, []byte(`{"c":"x","s":1,"f":0,"l":4096,"o":2,"n":3,"b":"0x130080"}`))
	f.Add(true, encodeCBOR(f, map[string]any{"c": "rdy", "f": 0, "l": 4096, "o": 0, "b": []byte{0xff}, "n": 1}))
	f.Add(true, []byte{0xbf, 0x61, 'f', 0, 0x61, 'l', 0x19, 1, 0, 0xff})
	known := map[iot.Code]bool{"InvalidJson": true, "InvalidCbor": true, "InvalidRequest": true, "BlockSizeOutOfBounds": true, "OffsetOutOfBounds": true, "BlockCountLimitExceeded": true, "BlockBitmapLimitExceeded": true}
	f.Fuzz(func(t *testing.T, binary bool, payload []byte) {
		to := topicOf(getting, map[bool]string{false: "json", true: "cbor"}[binary])
		r, err := decodeStream(to, payload)
		if r.token != nil && len(*r.token) > maxStreamToken {
			t.Errorf("a token of %d bytes", len(*r.token))
		}
		if err != nil {
			if !known[iot.ErrorCode(err)] {
				t.Errorf("%v", err)
			}
			return
		}
		if err := r.blocks.Check(); err != nil {
			t.Error(err)
		}
		blocks, err := r.blocks.Blocks(1 << 20)
		if (err != nil) != (len(blocks) == 0) {
			t.Errorf("%d blocks, %v", len(blocks), err)
		}
	})
}

// shelf is where streams are, of one file each, full of zeros.
type shelf struct{ size int64 }

func (s shelf) Stream(_ context.Context, id string) (*iot.Stream, error) {
	if id != "s" {
		return nil, iot.Errorf(iot.NotFound, "no %s", id)
	}
	return &iot.Stream{ID: id, Version: 1, Files: []iot.StreamFile{{ID: 0, Size: s.size}}}, nil
}

func (s shelf) Open(context.Context, iot.StreamFile) (Blob, error) {
	return blob{bytes.NewReader(blank[:s.size])}, nil
}

var blank = make([]byte, 1<<20)

type blob struct{ *bytes.Reader }

func (blob) Close() error { return nil }

var _ io.ReaderAt = blob{}

// slow is a device that takes what it is sent when it likes.
type slow struct {
	Client
	name string

	mu   sync.Mutex
	gone bool
	held int      // bytes that it has not taken
	got  []string // the last parts of topics
}

func (s *slow) ID() string                  { return s.name }
func (s *slow) Granted(string) (byte, bool) { return 1, true }
func (s *slow) Backlog() (int, bool)        { s.mu.Lock(); defer s.mu.Unlock(); return s.held, !s.gone }
func (s *slow) take()                       { s.mu.Lock(); defer s.mu.Unlock(); s.held = 0 }
func (s *slow) leave()                      { s.mu.Lock(); defer s.mu.Unlock(); s.gone = true }
func (s *slow) counts() (messages, held int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got), s.held
}

func (s *slow) Deliver(topic string, payload []byte, _ byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held += len(payload)
	s.got = append(s.got, topic[strings.LastIndex(strings.TrimSuffix(topic, "/json"), "/")+1:])
}

func ask(h *Handler, c Client, payload string) {
	h.HandlePublish(c, Message{Topic: "$aws/things/t/streams/s/get/json", Payload: []byte(payload)})
}

// A device that does not take what it has asked for is sent little, does not keep another one waiting,
// goes on when it takes it, and is given up after a minute.
func TestDevicesThatAreBehind(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := New(Config{Streams: shelf{size: 1 << 20}})
		var lazy []*slow
		for i := range 2 * deliverers {
			s := &slow{name: fmt.Sprint("lazy", i)}
			lazy = append(lazy, s)
			for range 3 {
				ask(h, s, `{"f":0,"l":1024,"n":128}`)
			}
		}
		brisk := &slow{name: "brisk"}
		ask(h, brisk, `{"f":0,"l":131072}`)
		synctest.Wait()
		for _, s := range lazy {
			if _, held := s.counts(); held > maxBacklog+2*turnBytes || held <= maxBacklog {
				t.Errorf("%s holds %d bytes", s.name, held)
			}
		}
		if n, _ := brisk.counts(); n != 1 {
			t.Errorf("who takes everything has got %d blocks", n)
		}
		first := lazy[0]
		for range 10 {
			first.take()
			<-time.After(longestPause)
		}
		if n, _ := first.counts(); n != 3*128 {
			t.Errorf("%d of 384 blocks", n)
		}
		lazy[1].leave()
		<-time.After(fileTimeout)
		<-time.After(fileTimeout)
		<-time.After(fileTimeout)
		h.Wait()
		h.files.mu.Lock()
		defer h.files.mu.Unlock()
		if len(h.files.readers) != 0 || h.files.waiting != 0 || h.files.ready.Len() != 0 {
			t.Errorf("%d devices with %d bytes of requests are left", len(h.files.readers), h.files.waiting)
		}
	})
}

// So many requests of all wait as there is room for, by their bitmaps, and when they have been answered there is room again.
func TestAllRequestsForFilesAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := New(Config{Streams: shelf{size: 1 << 20}})
		large := `{"f":0,"l":256,"n":1,"b":"` + strings.Repeat("ff", 12287) + `"}`
		h.files.room = 1 << 20
		rejected, devices := 0, h.files.room/(12287+512)+10
		var all []*slow
		for range devices {
			s := &slow{name: "s", held: maxBacklog + 1}
			ask(h, s, large)
			if n, _ := s.counts(); n == 1 {
				rejected++
			} else {
				all = append(all, s)
			}
		}
		if rejected != 10 {
			t.Errorf("%d of %d are rejected", rejected, devices)
		}
		for _, s := range all {
			s.take()
		}
		<-time.After(longestPause)
		h.Wait()
		for _, s := range all {
			if n, _ := s.counts(); n != 1 || s.got[0] != "data/json" {
				t.Fatalf("%v", s.got)
			}
		}
		if h.files.waiting != 0 {
			t.Errorf("%d bytes", h.files.waiting)
		}
	})
}

// So many requests of a device wait, and no more.
func TestRequestsForFilesAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := New(Config{Streams: shelf{size: 1 << 20}})
		s := &slow{name: "s", held: maxBacklog + 1}
		for range requestsWaiting + 5 {
			ask(h, s, `{"f":0,"l":256,"n":1}`)
		}
		if n, _ := s.counts(); n != 5 || s.got[0] != "rejected/json" {
			t.Errorf("%d answers: %v", n, s.got)
		}
		s.take()
		<-time.After(longestPause)
		if n, _ := s.counts(); n != 5+requestsWaiting || s.got[n-1] != "data/json" {
			t.Errorf("%d answers: %v", n, s.got)
		}
	})
}
