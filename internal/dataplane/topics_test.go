package dataplane

import (
	"strings"
	"testing"

	"drover/internal/iot"
)

func TestParseTopic(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		topic string
		class class
		want  address
	}{
		{"", ordinary, address{}},
		{"factory/line/1", ordinary, address{}},
		{"aws/things/t/jobs/get", ordinary, address{}},

		{"$aws/things/t/jobs/get", operation, address{iot.OpGetPending, "t", "", ""}},
		{"$aws/things/t/jobs/start-next", operation, address{iot.OpStartNext, "t", "", ""}},
		{"$aws/things/a:b/jobs/j/get", operation, address{iot.OpDescribe, "a:b", "j", ""}},
		{"$aws/things/t/jobs/$next/get", operation, address{iot.OpDescribe, "t", "$next", ""}},
		{"$aws/things/t/jobs/j/update", operation, address{iot.OpUpdate, "t", "j", ""}},
		{"$aws/things/t/jobs/$next/update", operation, address{iot.OpUpdate, "t", "$next", ""}}, // InvalidRequest later
		{"$aws/things/t/jobs/get/get", operation, address{iot.OpDescribe, "t", "get", ""}},
		{"$aws/things/t/jobs/notify/update", operation, address{iot.OpUpdate, "t", "notify", ""}},
		{"$aws/things/t/jobs/accepted/get", operation, address{iot.OpDescribe, "t", "accepted", ""}},
		{"$aws/things//jobs/get", operation, address{iot.OpGetPending, "", "", ""}},
		{"$aws/things/t/jobs//get", operation, address{iot.OpDescribe, "t", "", ""}},

		{"$aws/things/t/jobs/namespace-n/get", operation, address{iot.OpGetPending, "t", "", "n"}},
		{"$aws/things/t/jobs/namespace-n/start-next", operation, address{iot.OpStartNext, "t", "", "n"}},
		{"$aws/things/t/jobs/j/namespace-aws-gg-deployment/get", operation, address{iot.OpDescribe, "t", "j", "aws-gg-deployment"}},
		{"$aws/things/t/jobs/$next/namespace-n/get", operation, address{iot.OpDescribe, "t", "$next", "n"}},
		{"$aws/things/t/jobs/j/namespace-n/update", operation, address{iot.OpUpdate, "t", "j", "n"}},
		{"$aws/things/t/jobs/namespace-n/update", operation, address{iot.OpUpdate, "t", "namespace-n", ""}},
		{"$aws/things/t/jobs/namespace-/get", operation, address{iot.OpDescribe, "t", "namespace-", ""}},
		{"$aws/things/t/jobs/j/namespace-/get", unknown, address{}},
		{"$aws/things/t/jobs/j/namespace-a:b/get", unknown, address{}},
		{"$aws/things/t/jobs/j/namespace-a/b/get", unknown, address{}},
		{"$aws/things/t/jobs/j/namespace-n/start-next", unknown, address{}},

		{"$aws/things/t/jobs", unknown, address{}},
		{"$aws/things/t/jobs/", unknown, address{}},
		{"$aws/things/t/jobs/foo", unknown, address{}},
		{"$aws/things/t/jobs/Get", unknown, address{}},
		{"$aws/things/t/jobs/get/", unknown, address{}},
		{"$aws/things/t/jobs/update", unknown, address{}},
		{"$aws/things/t/jobs/j/start-next", unknown, address{}},
		{"$aws/things/t/jobs/j/x/get", unknown, address{}},
		{"$aws/things/t/jobs/j/k/l/m/get", unknown, address{}},

		{"$aws/things/t/jobs/get/accepted", reserved, address{}},
		{"$aws/things/t/jobs/get/rejected", reserved, address{}},
		{"$aws/things/t/jobs/j/update/accepted", reserved, address{}},
		{"$aws/things/t/jobs/j/namespace-n/get/rejected", reserved, address{}},
		{"$aws/things/t/jobs/notify", reserved, address{}},
		{"$aws/things/t/jobs/notify-next", reserved, address{}},
		{"$aws/things/t/jobs/notify-namespace-n", reserved, address{}},
		{"$aws/things/t/jobs/notify-next-namespace-n", reserved, address{}},
		{"$aws/things/t/shadow/update", reserved, address{}},
		{"$aws/things/t", reserved, address{}},
		{"$aws/things/t/jobsx/get", reserved, address{}},
		{"$aws/events/job/j/completed", reserved, address{}},
		{"$aws/rules/r", reserved, address{}},
		{"$SYS/x", reserved, address{}},
		{"$", reserved, address{}},
	} {
		if got, class := parseTopic(c.topic); got != c.want || class != c.class {
			t.Errorf("%s: %+v, class %d; want %+v, class %d", c.topic, got, class, c.want, c.class)
		}
	}
}

func TestParseTopicDoesNotAllocate(t *testing.T) {
	for _, topic := range []string{"a/b", "$aws/things/t/jobs/start-next", "$aws/things/t/jobs/j/namespace-n/update", "$aws/things/t/jobs/foo"} {
		if n := testing.AllocsPerRun(100, func() { parseTopic(topic) }); n != 0 {
			t.Errorf("%s: %v allocations", topic, n)
		}
	}
}

func TestAllowSubscribe(t *testing.T) {
	t.Parallel()
	for filter, want := range map[string]bool{
		"#":                                     true,
		"+/x":                                   true,
		"factory/#":                             true,
		"$aws/things/t/jobs/#":                  true,
		"$aws/things/t/jobs/notify":             true,
		"$aws/things/t/jobs/notify-next":        true,
		"$aws/things/t/jobs/get/+":              true,
		"$aws/things/t/jobs/j/get/+":            true,
		"$aws/things/t/jobs/+/update/accepted":  true,
		"$aws/things/t/jobs/$next/get/accepted": true,
		"$aws/things/t/jobs/notify-namespace-n": true,
		"$aws/things/+/jobs/notify":             true,
		"$aws/events/#":                         true,
		"$aws/events/presence/+/+":              true,
		"$aws/things/t/shadow/update/delta":     true,
		"$share/g/factory/#":                    true,
		"$share/g/$aws/events/#":                true,
		"$share/g/$SYS/#":                       false,
		"$share/g":                              false,
		"$share//a":                             false,
		"$share/g/":                             false,
		"$share/g/$share/h/a":                   false,
		"$SYS/#":                                false,
		"$awsx/a":                               false,
		"$":                                     false,
	} {
		if got := AllowSubscribe(filter); got != want {
			t.Errorf("%s: %v, want %v", filter, got, want)
		}
	}
}

func FuzzTopic(f *testing.F) {
	for _, s := range []string{"a", "$aws/things/t/jobs/get", "$aws/things/t/jobs/$next/namespace-n/get", "$aws/things/t/jobs/foo", "$aws/things/t/jobs/j/update/accepted"} {
		f.Add(s, "{}")
	}
	f.Fuzz(func(t *testing.T, topic, payload string) {
		r := newRig(t)
		r.queue("j")
		r.sent = nil
		a, is := parseTopic(topic)
		v := r.h.HandlePublish(client{r, "c1"}, Message{Topic: topic, Payload: []byte(payload)})
		if want := map[class]Verdict{ordinary: Route, operation: Taken, unknown: Taken, reserved: Refuse}[is]; v != want {
			t.Errorf("verdict %d, want %d", v, want)
		}
		if v != Taken {
			if len(r.sent) > 0 {
				t.Errorf("answered: %v", r.sent)
			}
			return
		}
		if len(r.sent) == 0 || r.sent[0].to != "c1" {
			t.Fatalf("not answered: %v", r.sent)
		}
		switch s := r.sent[0]; {
		case is == unknown && s.topic != topic+"/rejected",
			is == operation && s.topic != topic+"/rejected" && s.topic != topic+"/accepted":
			t.Errorf("answered on %s", s.topic)
		}
		if is == operation && !strings.HasPrefix(topic, "$aws/things/"+string(a.thing)+"/jobs/") {
			t.Errorf("thing %q", a.thing)
		}
	})
}
