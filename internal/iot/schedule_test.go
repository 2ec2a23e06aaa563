package iot

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// checkError compares an error with the whole text of a refusal; "" is for no error.
func checkError(t *testing.T, name string, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %v", name, err)
	case want == "":
	case ErrorCode(err) != InvalidRequest:
		t.Errorf("%s: %v, want an InvalidRequest error", name, err)
	case err.Error() != "InvalidRequest: "+want:
		t.Errorf("%s:\n%v, want\n%s", name, err, "InvalidRequest: "+want)
	}
}

// constraint is the text of AWS for a value at a member that breaks a constraint.
func constraint(member, value, text string) string {
	return fmt.Sprintf("1 validation error detected: Value '%s' at '%s' failed to satisfy constraint: %s", value, member, text)
}

func TestParseScheduleTime(t *testing.T) {
	at := func(h, m, s, ms int) Time {
		return At(time.Date(2026, 12, 24, h, m, s, ms*1e6, time.UTC))
	}
	for text, want := range map[string]Time{
		"2026-12-24 23:00":               at(23, 0, 0, 0),
		"2026-12-24T23:00":               at(23, 0, 0, 0),
		"2026-12-24T23:00Z":              at(23, 0, 0, 0),
		"2026-12-24 23:00:05":            at(23, 0, 5, 0),
		"2026-12-24T23:00:05.250Z":       at(23, 0, 5, 250),
		"2026-12-24T23:00:05+01:30":      at(21, 30, 5, 0),
		"2026-12-24T23:00-02:00":         at(25, 0, 0, 0),
		"1798153200":                     at(23, 0, 0, 0),
		"1798153200.5":                   at(23, 0, 0, 500),
		"2026-02-30 10:00":               0,
		"2026-12-24 24:00":               0,
		"2026-12-24":                     0,
		"24.12.2026 23:00":               0,
		"tomorrow":                       0,
		"":                               0,
		"-5":                             0,
		"0":                              0,
		"NaN":                            0,
		"0x1p30":                         0,
		"1e9":                            0,
		"1.7.9":                          0,
		".":                              0,
		"99999999999999999":              0,
		"2026-12-24T23:00:05Europe/Bonn": 0,
	} {
		got, err := ParseScheduleTime(text)
		if got != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %d %v, want %d", text, got, err, want)
		}
		if message := fmt.Sprintf("%q is not a time such as 2030-12-31 23:59", text); err != nil && err.Error() != message {
			t.Errorf("%q: %v, want %s", text, err, message)
		}
	}
}

func TestScheduleCheck(t *testing.T) {
	const (
		start    = "schedulingConfig.startTime"
		end      = "schedulingConfig.endTime"
		behavior = "schedulingConfig.endBehavior"
		second   = "schedulingConfig.maintenanceWindows.2.member."
	)
	now := At(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	windows := func(cron string, minutes int64) Schedule {
		return Schedule{Windows: []Window{{Cron: "cron(0 0 * * ? *)", Minutes: 60}, {Cron: cron, Minutes: minutes}}}
	}
	tests := []struct {
		name      string
		s         Schedule
		selection Selection
		want      string
	}{
		{"nothing", Schedule{}, Snapshot, ""},
		{"start", Schedule{Start: "2026-01-01 00:30"}, Snapshot, ""},
		{"S110 start in 10 minutes", Schedule{Start: "2026-01-01 00:10"}, Snapshot, constraint(start, "2026-01-01 00:10", "Member must be at least 30 minutes from now")},
		{"start in 29 minutes", Schedule{Start: "2026-01-01 00:29"}, Snapshot, constraint(start, "2026-01-01 00:29", "Member must be at least 30 minutes from now")},
		{"start in the past", Schedule{Start: "1970-01-01 00:00"}, Snapshot, constraint(start, "1970-01-01 00:00", "Member must be at least 30 minutes from now")},
		{"start in a year", Schedule{Start: "2027-01-01 00:00"}, Snapshot, ""},
		{"S111 start in 13 months", Schedule{Start: "2027-02-01 00:00"}, Snapshot, constraint(start, "2027-02-01 00:00", "Member must be at most 1 year from now")},
		{"start unreadable", Schedule{Start: "tomorrow"}, Snapshot, constraint(start, "tomorrow", `"tomorrow" is not a time such as 2030-12-31 23:59`)},
		{"start with a zone", Schedule{Start: "2026-01-01T01:30:00+01:00"}, Snapshot, ""},
		{"start in seconds", Schedule{Start: "1767228000"}, Snapshot, ""},
		{"end", Schedule{Start: "2026-01-01 01:00", End: "2026-01-01 01:30"}, Snapshot, ""},
		{"end without a start", Schedule{End: "2026-01-01 00:30"}, Snapshot, ""},
		{"S112 end 20 minutes after the start", Schedule{Start: "2026-01-01 01:00", End: "2026-01-01 01:20"}, Snapshot, constraint(end, "2026-01-01 01:20", "Member must be at least 30 minutes after startTime")},
		{"end too soon", Schedule{End: "2026-01-01 00:20"}, Snapshot, constraint(end, "2026-01-01 00:20", "Member must be at least 30 minutes from now")},
		{"end in two years", Schedule{End: "2028-01-01 00:00"}, Snapshot, ""},
		{"end too late", Schedule{End: "2028-01-01 00:01"}, Snapshot, constraint(end, "2028-01-01 00:01", "Member must be at most 2 years from now")},
		{"end unreadable", Schedule{End: "never"}, Snapshot, constraint(end, "never", `"never" is not a time such as 2030-12-31 23:59`)},
		{"S113 behavior without end", Schedule{EndBehavior: EndCancel}, Snapshot, constraint(behavior, "CANCEL", "Member can only be given with endTime")},
		{"unknown behavior", Schedule{End: "2026-02-01 00:00", EndBehavior: "STOP"}, Snapshot, constraint(behavior, "STOP", "Member must satisfy enum value set: [STOP_ROLLOUT, CANCEL, FORCE_CANCEL]")},
		{"force", Schedule{End: "2026-02-01 00:00", EndBehavior: ForceCancel}, Snapshot, ""},
		{"windows", windows("cron(0 23 ? * SAT *)", 240), Continuous, ""},
		{"longest window", windows("cron(0 23 ? * SAT *)", 1430), Continuous, ""},
		{"S117 windows of a snapshot", windows("cron(0 23 ? * SAT *)", 240), Snapshot, constraint("schedulingConfig.maintenanceWindows", "2", "Member can only be given for a CONTINUOUS job")},
		{"S118 window of 1431 minutes", windows("cron(0 0 * * ? *)", 1431), Continuous, constraint(second+"durationInMinutes", "1431", "Member must have a value between 1 and 1430")},
		{"window of no minutes", windows("cron(0 0 * * ? *)", 0), Continuous, constraint(second+"durationInMinutes", "0", "Member must have a value between 1 and 1430")},
		{"S119 both fields of days", windows("cron(0 0 * * * *)", 60), Continuous, constraint(second+"startTime", "cron(0 0 * * * *)", "exactly one of day-of-month and day-of-week must be ?")},
	}
	for _, test := range tests {
		checkError(t, test.name, test.s.Check(now, test.selection), test.want)
	}
}

func TestScheduleCheckFillsIn(t *testing.T) {
	now := At(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	s := Schedule{Start: "2026-01-02 10:00", End: "1770000000"}
	if err := s.Check(now, Snapshot); err != nil {
		t.Fatal(err)
	}
	want := Schedule{Start: s.Start, End: s.End, StartAt: At(time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)), EndAt: 1_770_000_000_000, EndBehavior: StopRollout}
	if s.Start != "2026-01-02 10:00" || s.End != "1770000000" || s.StartAt != want.StartAt || s.EndAt != want.EndAt || s.EndBehavior != want.EndBehavior {
		t.Errorf("%+v, want %+v", s, want)
	}
	var none Schedule
	if err := none.Check(now, Snapshot); err != nil || none.EndBehavior != "" || none.StartAt != 0 || none.EndAt != 0 {
		t.Errorf("a schedule of nothing becomes %+v: %v", none, err)
	}
}

func FuzzScheduleTime(f *testing.F) {
	f.Add("2026-12-24 23:00")
	f.Add("1766620800.5")
	f.Add("2026-12-24T23:00:00+01:00")
	now := At(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	f.Fuzz(func(t *testing.T, text string) {
		s := Schedule{Start: text}
		if err := s.Check(now, Snapshot); err != nil {
			if ErrorCode(err) != InvalidRequest {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		if text != "" && (s.StartAt < now.Add(minLead) || s.StartAt > now.Add(366*24*time.Hour)) {
			t.Errorf("%q starts at %s", text, s.StartAt.Std())
		}
	})
}

func TestWindowAt(t *testing.T) {
	day := func(hour, minute int) Time { return At(time.Date(2026, 1, 1, hour, minute, 0, 0, time.UTC)) }
	s := Schedule{Windows: []Window{
		{Cron: "cron(0 2 * * ? *)", Minutes: 60}, {Cron: "cron(30 2 * * ? *)", Minutes: 60},
		{Cron: "cron(0 23 * * ? *)", Minutes: 120}, {Cron: "cron(0 1 * * ? *)", Minutes: 1},
	}}
	from, until := s, s
	from.StartAt, until.StartAt = day(2, 15), day(2, 15)
	until.EndAt = day(2, 45)
	tests := []struct {
		name    string
		s       Schedule
		at      Time
		open    bool
		changes Time
	}{
		{"since 23:00 of the day before, and another that touches it", s, day(0, 59), true, day(1, 1)},
		{"closed", s, day(1, 1), false, day(2, 0)},
		{"just before", s, day(2, 0) - 1, false, day(2, 0)},
		{"two that overlap are one", s, day(2, 0), true, day(3, 30)},
		{"the end is not part of it", s, day(3, 30), false, day(23, 0)},
		{"just before its end", s, day(3, 30) - 1, true, day(3, 30)},
		{"over midnight", s, day(23, 30), true, day(25, 1)},
		{"one from before the start does not count", from, day(2, 20), false, day(2, 30)},
		{"the first one after the start", from, day(2, 30), true, day(3, 30)},
		{"the end of the job closes it", until, day(2, 40), true, day(2, 45)},
		{"after the end of the job", until, day(2, 45), false, 0},
		{"no window is left before the end", Schedule{Windows: s.Windows[:1], EndAt: day(26, 0)}, day(4, 0), false, 0},
		{"none ever", Schedule{Windows: []Window{{Cron: "cron(0 0 30 2 ? *)", Minutes: 60}}}, day(0, 0), false, 0},
		{"no windows", Schedule{}, day(0, 0), false, 0},
	}
	for _, test := range tests {
		if open, changes := test.s.WindowAt(test.at); open != test.open || changes != test.changes {
			t.Errorf("%s, at %s: %v until %s, want %v until %s", test.name, test.at.Std(), open, changes.Std(), test.open, test.changes.Std())
		}
	}
}

// Windows without a gap are looked at again some day, and are open until then.
func TestWindowAlwaysOpen(t *testing.T) {
	now := At(time.Date(2026, 1, 1, 5, 5, 30, 0, time.UTC))
	for _, minutes := range []int64{1, 2, 1430} {
		s := Schedule{Windows: []Window{{Cron: "cron(* * * * ? *)", Minutes: minutes}}}
		for range 3 {
			open, changes := s.WindowAt(now)
			if !open || changes <= now {
				t.Fatalf("windows of %d minutes every minute: %v until %s at %s", minutes, open, changes.Std(), now.Std())
			}
			now = changes
		}
	}
}

// TestWindowProperties compares WindowAt with a calendar of all minutes.
func TestWindowProperties(t *testing.T) {
	const minute = Time(time.Minute / time.Millisecond)
	begin := At(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))
	const minutes = 3 * 24 * 60
	forms := []string{
		"cron(0 10 * * ? *)", "cron(*/7 3,4 * * ? *)", "cron(0 0 ? * 3 *)", "cron(30 2 2 * ? *)",
		"cron(0 0/6 * * ? *)", "cron(0-10 1 * * ? *)", "cron(59 23 * * ? *)", "cron(* * 3 3 ? *)",
	}
	rapid.Check(t, func(t *rapid.T) {
		var s Schedule
		for range rapid.IntRange(1, 3).Draw(t, "windows") {
			s.Windows = append(s.Windows, Window{
				Cron: rapid.SampledFrom(forms).Draw(t, "form"), Minutes: rapid.SampledFrom([]int64{1, 5, 30, 90, 360, 1430}).Draw(t, "minutes"),
			})
		}
		if rapid.Bool().Draw(t, "starts") {
			s.StartAt = begin + minute*Time(rapid.IntRange(0, minutes).Draw(t, "start"))
		}
		if rapid.Bool().Draw(t, "ends") {
			s.EndAt = begin + minute*Time(rapid.IntRange(0, minutes).Draw(t, "end"))
		}
		var open [minutes]bool
		var starts []Time
		for _, w := range s.Windows {
			c := mustCron(t, w.Cron)
			for i := -maxWindow; i < minutes; i++ {
				at := begin + minute*Time(i)
				if fires, ok := c.Next(at - 1); !ok || fires != at || at < s.StartAt || s.EndAt != 0 && at >= s.EndAt {
					continue
				}
				starts = append(starts, at)
				for k := max(i, 0); k < min(i+int(w.Minutes), minutes); k++ {
					open[k] = open[k] || s.EndAt == 0 || begin+minute*Time(k) < s.EndAt
				}
			}
		}
		slices.Sort(starts)
		starts = slices.Compact(starts)

		i := rapid.IntRange(0, minutes-1).Draw(t, "minute")
		now := begin + minute*Time(i) + Time(rapid.IntRange(0, 59_999).Draw(t, "ms"))
		got, changes := s.WindowAt(now)
		if got != open[i] {
			t.Fatalf("at %s: %v, want %v", now.Std(), got, open[i])
		}
		if changes != 0 && changes <= now {
			t.Fatalf("at %s: changes at %s", now.Std(), changes.Std())
		}
		k := i
		for k < minutes && open[k] == open[i] {
			k++
		}
		edge := begin + minute*Time(k)
		switch far := now + (maxJoined-1)*minute; {
		case got && changes < edge && changes >= far:
			// Windows that touch each other have been followed far enough: it is looked at again then.
		case k < minutes && changes != edge:
			t.Fatalf("at %s: changes at %s, want %s", now.Std(), changes.Std(), edge.Std())
		case k == minutes && changes != 0 && changes < edge:
			t.Fatalf("at %s: changes at %s, when nothing changes", now.Std(), changes.Std())
		}

		starts = slices.DeleteFunc(starts, func(at Time) bool { return at <= now })
		for k, at := range s.NextWindows(now, 5) {
			if k < len(starts) && at != starts[k] {
				t.Fatalf("window %d after %s: %s, want %s", k, now.Std(), at.Std(), starts[k].Std())
			}
			if k >= len(starts) && at < begin+minutes*minute {
				t.Fatalf("window %d after %s: %s is none", k, now.Std(), at.Std())
			}
		}
	})
}

func TestS124SevenWindows(t *testing.T) {
	day := func(d, hour int) Time { return At(time.Date(2026, 1, d, hour, 0, 0, 0, time.UTC)) }
	s := Schedule{Windows: []Window{{Cron: "cron(0 2 * * ? *)", Minutes: 60}, {Cron: "cron(0 2 ? * SUN *)", Minutes: 600}}}
	var week []Time
	for d := 2; d <= 8; d++ {
		week = append(week, day(d, 2))
	}
	for _, test := range []struct {
		name       string
		start, end Time
		want       []Time
	}{
		{"without limits; one that starts now is not to come", 0, 0, week},
		{"from the start of the job on, itself included", day(2, 2), 0, week},
		{"until the end of the job", 0, day(4, 2), week[:2]},
		{"none before the end", 0, day(2, 1), nil},
	} {
		s.StartAt, s.EndAt = test.start, test.end
		if got := s.NextWindows(day(1, 2), 7); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

func BenchmarkWindowAt(b *testing.B) {
	now := At(time.Date(2026, 1, 1, 5, 5, 0, 0, time.UTC))
	for name, w := range map[string]Window{
		"nightly":            {Cron: "cron(0 2 * * ? *)", Minutes: 120},
		"every minute, long": {Cron: "cron(* * * * ? *)", Minutes: 1430},
	} {
		b.Run(name, func(b *testing.B) {
			s := Schedule{Windows: []Window{w}}
			b.ReportAllocs()
			for b.Loop() {
				s.WindowAt(now)
			}
		})
	}
}
