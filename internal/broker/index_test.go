package broker

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestFilterMatch(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		filter, topic string
		want          bool
	}{
		{"a/b", "a/b", true},
		{"a/b", "a/c", false},
		{"a/#", "a", false}, // spec §2.2, difference 5
		{"a/#", "a/", true},
		{"a/#", "a/b/c", true},
		{"a/+", "a/", true},
		{"a/+", "a", false},
		{"a/+", "a/b/c", false},
		{"+/b", "a/b", true},
		{"+/+", "/a", true},
		{"#", "a/b", true},
		{"#", "/", true},
		{"#", "$aws/events/x", false},
		{"+/events/x", "$aws/events/x", false},
		{"+/#", "$aws/events/x", false},
		{"$aws/#", "$aws/events/x", true},
		{"$aws/+/x", "$aws/events/x", true},
		{"a/+/c/#", "a/b/c", false},
		{"a/+/c/#", "a/b/c/d", true},
	} {
		x := newIndex(nil)
		s := &session{}
		x.add(test.filter, s, options{})
		if got := x.has(test.topic); got != test.want {
			t.Errorf("filter %q, topic %q: has is %v", test.filter, test.topic, got)
		}
		if got := found(x, test.topic) == 1; got != test.want {
			t.Errorf("filter %q, topic %q: match is %v", test.filter, test.topic, got)
		}
		x.remove(test.filter, s)
		if x.has(test.topic) || !x.isEmpty() {
			t.Errorf("filter %q is not gone", test.filter)
		}
	}
}

// found returns how many subscribers match.
func found(x *index, topic string) int {
	subs, groups := x.match(topic, nil)
	return len(subs) + len(groups)
}

// isEmpty reports whether nothing at all is held.
func (x *index) isEmpty() bool {
	held := x.subscriptions()
	for i := range x.shards {
		held += len(x.shards[i].lists)
	}
	return held == 0 && x.wild.empty()
}

// rule says it for one filter at a time.
func rule(filter, topic string) bool {
	if topic[0] == '$' && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	f, l := strings.Split(filter, "/"), strings.Split(topic, "/")
	for i := range f {
		switch {
		case i >= len(l):
			return false
		case f[i] == "#":
			return true
		case f[i] != "+" && f[i] != l[i]:
			return false
		}
	}
	return len(f) == len(l)
}

func TestIndexAgreesWithTheRule(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		sessions := []*session{{id: "0"}, {id: "1"}, {id: "2"}}
		filter := rapid.StringMatching(`(\$a|[ab]?|\+)(/([ab]?|\+)){0,2}(/#)?|#`).Filter(validFilter)
		topic := rapid.StringMatching(`(\$a|[ab]?)(/[ab]?){0,3}`).Filter(validTopic)
		x := newIndex(nil)
		model := map[*session]map[string]options{}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			s, f := rapid.SampledFrom(sessions).Draw(t, "session"), filter.Draw(t, "filter")
			if rapid.Bool().Draw(t, "remove") {
				x.remove(f, s)
				delete(model[s], f)
			} else {
				o := options{qos: rapid.Byte().Draw(t, "qos") % 2, noLocal: rapid.Bool().Draw(t, "noLocal")}
				x.add(f, s, o)
				if model[s] == nil {
					model[s] = map[string]options{}
				}
				model[s][f] = o
			}
			want, count := map[*session]options{}, 0
			name := topic.Draw(t, "topic")
			for s, filters := range model {
				count += len(filters)
				for f, o := range filters {
					if !rule(f, name) {
						continue
					}
					have, twice := want[s]
					if twice {
						o.qos, o.noLocal = max(o.qos, have.qos), o.noLocal && have.noLocal
					}
					want[s] = o
				}
			}
			got, _ := x.match(name, nil)
			if len(got) != len(want) || x.has(name) != (len(want) > 0) || x.subscriptions() != count {
				t.Fatalf("%d match %q, want %d; %d subscriptions, want %d", len(got), name, len(want), x.subscriptions(), count)
			}
			for _, sub := range got {
				if want[sub.session] != sub.options {
					t.Fatalf("session %s matches %q with %+v, want %+v", sub.session.id, name, sub.options, want[sub.session])
				}
			}
		}
	})
}

func TestValidFilter(t *testing.T) {
	t.Parallel()
	for filter, want := range map[string]bool{
		"": false, "a": true, "/": true, "#": true, "a/#": true, "a/#/b": false, "a#": false, "#/a": false,
		"+": true, "+/a/+": true, "a+": false, "+a/b": false, "a\x00": false, "a\xff": false, "$aws/things/+/jobs/#": true,
	} {
		if got := validFilter(filter); got != want {
			t.Errorf("validFilter(%q) is %v", filter, got)
		}
	}
}

func TestWithinLimits(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 256)
	for topic, want := range map[string]bool{
		long: true, long + "x": false, "1/2/3/4/5/6/7/8": true, "1/2/3/4/5/6/7/8/9": false,
		"$aws/rules/name/" + long: true, "$aws/rules/name/1/2/3/4/5/6/7/8": true, "$aws/rules/name/1/2/3/4/5/6/7/8/9": false,
	} {
		if got := withinLimits(topic, 256, 7); got != want {
			t.Errorf("withinLimits(%.40q...) is %v", topic, got)
		}
	}
}

func FuzzFilter(f *testing.F) {
	for _, s := range []string{"a/b", "+/#", "$share/g/a", "a/#/b", "\xff", "//"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, filter, topic string) {
		if !validFilter(filter) || !validTopic(topic) {
			return
		}
		x, s := newIndex(nil), &session{}
		x.add(filter, s, options{})
		if got, want := x.has(topic), rule(filter, topic); got != want {
			t.Errorf("filter %q, topic %q: %v, want %v", filter, topic, got, want)
		}
		if got, want := covers(filter, topic), rule(filter, topic); got != want && !shared(filter) {
			t.Errorf("filter %q, topic %q: covered %v, want %v", filter, topic, got, want)
		}
		x.remove(filter, s)
		if !x.isEmpty() {
			t.Errorf("filter %q left something behind", filter)
		}
	})
}

// fleetIndex holds the subscriptions of a fleet: four topics and a wildcard a device, and
// one topic that all share.
func fleetIndex(b *testing.B, devices int) *index {
	x := newIndex(nil)
	for i := range devices {
		s := &session{}
		base := fmt.Sprintf("$aws/things/t%d/jobs/", i)
		for _, filter := range []string{base + "notify", base + "notify-next", base + "start-next/accepted", base + "+/get/accepted", "all"} {
			x.add(filter, s, options{qos: 1})
		}
	}
	if x.subscriptions() != 5*devices {
		b.Fatal(x.subscriptions())
	}
	return x
}

func BenchmarkMatch(b *testing.B) {
	x := fleetIndex(b, 15_000)
	for name, topic := range map[string]string{
		"one": "$aws/things/t77/jobs/notify", "wildcard": "$aws/things/t77/jobs/j/get/accepted", "nobody": "$aws/things/t77/jobs/x", "all": "all",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var few [8]subscriber
			for b.Loop() {
				x.match(topic, few[:])
			}
		})
	}
}

func BenchmarkSubscribe(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		fleetIndex(b, 15_000)
	}
}

func BenchmarkPublishNobody(b *testing.B) {
	broker, err := New(Config{Handler: newOwner()})
	if err != nil {
		b.Fatal(err)
	}
	for i := range 10_000 {
		s := &session{broker: broker}
		broker.index.add(fmt.Sprintf("$aws/things/t%d/jobs/notify", i), s, options{})
		broker.index.add(fmt.Sprintf("$aws/things/t%d/jobs/+/get/accepted", i), s, options{})
	}
	m := Message{Topic: "$aws/things/t77/jobs/notify-next"}
	b.ReportAllocs()
	for b.Loop() {
		broker.Publish(m)
	}
}
