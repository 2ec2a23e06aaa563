package cluster

import (
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"pgregory.net/rapid"
)

func TestSubject(t *testing.T) {
	t.Parallel()
	for topic, want := range map[string]string{
		"a":                           "c.m.a",
		"a/b/c/d":                     "c.m.a.b.c",
		"$aws/things/x/jobs/get":      "c.s.$aws.things.x",
		"$aws/things/+/jobs/get":      "c.s.$aws.things.*",
		"#":                           "c.m.>",
		"a/#":                         "c.m.a.>",
		"a/b/c/#":                     "c.m.a.b.c",
		"+/+/+/+":                     "c.m.*.*.*",
		"/":                           "c.m.%.%",
		"a.b/*/> \t%":                 "c.m.a%2Eb.%2A.%3E%20%09%25",
		"ä//é":                        "c.m.ä.%.é",
		"$share":                      "c.s.$share",
		"+":                           "c.m.*",
		strings.Repeat("x/", 7) + "y": "c.m.x.x.x",
	} {
		if got := subject("c", topic); got != want {
			t.Errorf("%q: got %q, want %q", topic, got, want)
		}
	}
}

// matches is MQTT's, with the differences of AWS.
func matches(filter, topic string) bool {
	f, more := strings.Split(filter, "/"), strings.Split(topic, "/")
	if strings.HasPrefix(topic, "$") && (f[0] == "+" || f[0] == "#") {
		return false
	}
	for i, level := range f {
		if level == "#" {
			return len(more) > i
		}
		if i >= len(more) || level != "+" && level != more[i] {
			return false
		}
	}
	return len(f) == len(more)
}

func TestSubjectsCoverWhatFiltersMatch(t *testing.T) {
	t.Parallel()
	level := rapid.SampledFrom([]string{"", "a", "b", "$aws", ".", "*", ">", "%", "%2E", " ", "ä", "\x01"})
	rapid.Check(t, func(t *rapid.T) {
		topic := rapid.SliceOfN(level, 1, 6).Draw(t, "topic")
		filter := append([]string(nil), topic...)
		for i := range filter {
			switch rapid.IntRange(0, 5).Draw(t, "change") {
			case 0:
				filter[i] = "+"
			case 1:
				filter = append(filter[:i], "#")
			case 2:
				filter[i] = level.Draw(t, "other")
			}
			if i == len(filter)-1 {
				break
			}
		}
		to, fr := strings.Join(topic, "/"), strings.Join(filter, "/")
		s, p := subject("c", to), subject("c", fr)
		if !server.IsValidPublishSubject(s) || !server.IsValidSubject(p) {
			t.Fatalf("%q and %q are not subjects of NATS", s, p)
		}
		if covers := server.SubjectsCollide(s, p); matches(fr, to) && !covers {
			t.Fatalf("%q matches %q, but %q does not cover %q", fr, to, p, s)
		} else if covers && !matches(fr, to) && len(topic) <= levels && len(filter) <= levels {
			t.Fatalf("%q does not match %q, but %q covers %q", fr, to, p, s)
		}
	})
}
