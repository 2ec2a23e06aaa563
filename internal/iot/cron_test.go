package iot

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// failer is testing.TB or *rapid.T.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func mustCron(t failer, form string) Cron {
	t.Helper()
	c, err := ParseCron(form)
	if err != nil {
		t.Fatalf("%s: %v", form, err)
	}
	return c
}

func TestCronNext(t *testing.T) {
	const layout = "2006-01-02 15:04"
	tests := []struct{ form, after, want string }{
		{"cron(0 10 * * ? *)", "2026-11-22 10:00", "2026-11-23 10:00"},
		{"cron(0 10 * * ? *)", "2026-11-22 09:59", "2026-11-22 10:00"},
		{"cron(0 18 ? * MON-FRI *)", "2026-11-20 18:00", "2026-11-23 18:00"}, // Friday to Monday
		{"cron(0 18 ? * 2-6 *)", "2026-11-20 18:00", "2026-11-23 18:00"},
		{"cron(0 8 1 * ? *)", "2026-11-22 00:00", "2026-12-01 08:00"},
		{"cron(0 23 ? * SAT *)", "2026-11-22 00:00", "2026-11-28 23:00"},
		{"cron(0/15 * * * ? *)", "2026-11-22 10:31", "2026-11-22 10:45"},
		{"cron(*/25 * * * ? *)", "2026-11-22 10:50", "2026-11-22 11:00"},
		{"cron(5,50 23 31 12 ? 2030)", "2026-11-22 10:31", "2030-12-31 23:05"},
		{"cron(0 0 L * ? *)", "2027-02-01 00:00", "2027-02-28 00:00"},
		{"cron(0 0 L 2 ? *)", "2027-03-01 00:00", "2028-02-29 00:00"},
		{"cron(0 0 L 2 ? *)", "2100-01-01 00:00", "2100-02-28 00:00"},   // no leap year
		{"cron(0 0 LW * ? *)", "2026-10-01 00:00", "2026-10-30 00:00"},  // the 31st is a Saturday
		{"cron(0 0 LW * ? *)", "2026-05-01 00:00", "2026-05-29 00:00"},  // the 31st is a Sunday
		{"cron(0 0 15W * ? *)", "2026-11-01 00:00", "2026-11-16 00:00"}, // the 15th is a Sunday
		{"cron(0 0 15W * ? *)", "2026-08-01 00:00", "2026-08-14 00:00"}, // the 15th is a Saturday
		{"cron(0 0 1W * ? *)", "2026-07-31 00:00", "2026-08-03 00:00"},  // the 1st is a Saturday
		{"cron(0 0 31W * ? *)", "2026-06-01 00:00", "2026-07-31 00:00"}, // June has no 31st
		{"cron(0 0 30W 8 ? *)", "2026-08-01 00:00", "2026-08-31 00:00"}, // the 30th is a Sunday
		{"cron(0 0 31W 5 ? *)", "2026-05-01 00:00", "2026-05-29 00:00"}, // the next Monday is in June
		{"cron(0 0 ? * 3#2 *)", "2026-11-01 00:00", "2026-11-10 00:00"}, // the second Tuesday
		{"cron(0 0 ? * TUE#5 *)", "2026-11-01 00:00", "2026-12-29 00:00"},
		{"cron(0 0 ? * 6L *)", "2026-11-01 00:00", "2026-11-27 00:00"}, // the last Friday
		{"cron(0 0 ? * FRIL *)", "2026-11-01 00:00", "2026-11-27 00:00"},
		{"cron(0 0 ? * L *)", "2026-11-22 00:00", "2026-11-28 00:00"}, // Saturday
		{"cron(0 0 ? * 1 *)", "2026-11-23 00:00", "2026-11-29 00:00"}, // 1 is Sunday
		{"cron(0 0 ? JAN,jul SUN *)", "2026-11-22 00:00", "2027-01-03 00:00"},
		{"cron(0 0 29 2 ? *)", "2026-11-22 00:00", "2028-02-29 00:00"},
		{"cron(0 0 29 2 ? *)", "2096-03-01 00:00", "2104-02-29 00:00"},
		{"cron(0 0 1 1 ? 2030-2040/5)", "2030-01-01 00:00", "2035-01-01 00:00"},
		{"cron(59 23 31 12 ? 2199)", "2026-11-22 00:00", "2199-12-31 23:59"},
		{"cron(0 0 1 1 ? 1970)", "1969-12-31 23:59", "1970-01-01 00:00"},
		{"cron(0 0 1 1 ? 1970)", "1900-01-01 00:00", "1970-01-01 00:00"},
	}
	for _, test := range tests {
		after, err := time.Parse(layout, test.after)
		if err != nil {
			t.Fatal(err)
		}
		c := mustCron(t, test.form)
		next, ok := c.Next(At(after))
		if got := next.utc().Format(layout); !ok || got != test.want {
			t.Errorf("%s after %s: %q, want %q", test.form, test.after, got, test.want)
		}
	}
}

// Days that do not exist, and years that are over, are found out at once.
func TestCronNever(t *testing.T) {
	now := At(time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC))
	for _, form := range []string{
		"cron(* * 30 2 ? *)", "cron(* * 31 2,4,6,9,11 ? *)", "cron(* * 29 2 ? 2027)", "cron(* * 31W 4 ? *)",
		"cron(* * ? 2 MON#5 2027)", "cron(0 0 1 1 ? 2020)", "cron(0 0 21 11 ? 2026)",
	} {
		c := mustCron(t, form)
		if next, ok := c.Next(now); ok || next != 0 {
			t.Errorf("%s fires at %s", form, next.Std())
		}
	}
	c := mustCron(t, "cron(59 23 31 12 ? 2199)")
	last, _ := c.Next(now)
	if _, ok := c.Next(last); ok {
		t.Error("there is a time after the last")
	}
	if _, ok := c.Next(1<<63 - 1); ok {
		t.Error("there is a time after the end of time")
	}
}

func BenchmarkCronNever(b *testing.B) {
	c := mustCron(b, "cron(* * 30 2 ? *)")
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := c.Next(0); ok {
			b.Fatal("30 February")
		}
	}
}

func TestCronErrors(t *testing.T) {
	field := func(name, part string, low, high int) string {
		return fmt.Sprintf("%s: %q is not a value, range or step between %d and %d", name, part, low, high)
	}
	minutes := func(part string) string { return field("minutes", part, 0, 59) }
	form := func(text string) string {
		return fmt.Sprintf("%q: must have the form cron(minutes hours day-of-month month day-of-week year)", text)
	}
	const oneDay = "exactly one of day-of-month and day-of-week must be ?"
	for text, want := range map[string]string{
		"":                            form(""),
		"0 10 * * ? *":                form("0 10 * * ? *"),
		"cron(0 10 * * ? *":           form("cron(0 10 * * ? *"),
		"rate(1 hour)":                form("rate(1 hour)"),
		"cron()":                      `"cron()": has 0 fields and must have 6`,
		"cron(0 10 * * ?)":            `"cron(0 10 * * ?)": has 5 fields and must have 6`,
		"cron(0 10 * * ? * *)":        `"cron(0 10 * * ? * *)": has 7 fields and must have 6`,
		"cron(60 10 * * ? *)":         minutes("60"),
		"cron(? 10 * * ? *)":          minutes("?"),
		"cron(5-1 0 * * ? *)":         minutes("5-1"),
		"cron(1-60 0 * * ? *)":        minutes("1-60"),
		"cron(*/0 0 * * ? *)":         minutes("*/0"),
		"cron(*/60 0 * * ? *)":        minutes("*/60"),
		"cron(*/x 0 * * ? *)":         minutes("*/x"),
		"cron(*/ 0 * * ? *)":          minutes("*/"),
		"cron(1, 0 * * ? *)":          minutes(""),
		"cron(-1 0 * * ? *)":          minutes("-1"),
		"cron(1- 0 * * ? *)":          minutes("1-"),
		"cron(+1 0 * * ? *)":          minutes("+1"),
		"cron(99999999999 0 * * ? *)": minutes("99999999999"),
		"cron(0 24 * * ? *)":          field("hours", "24", 0, 23),
		"cron(0 0 32 * ? *)":          field("day-of-month", "32", 1, 31),
		"cron(0 0 0 * ? *)":           field("day-of-month", "0", 1, 31),
		"cron(0 0 32W * ? *)":         field("day-of-month", "32W", 1, 31),
		"cron(0 0 W * ? *)":           field("day-of-month", "W", 1, 31),
		"cron(0 0 1-5W * ? *)":        field("day-of-month", "1-5W", 1, 31),
		"cron(0 0 5L * ? *)":          field("day-of-month", "5L", 1, 31),
		"cron(0 0 1,? * ? *)":         field("day-of-month", "?", 1, 31),
		"cron(0 0 * 13 ? *)":          field("month", "13", 1, 12),
		"cron(0 0 * MON ? *)":         field("month", "MON", 1, 12),
		"cron(0 0 ? * 8 *)":           field("day-of-week", "8", 1, 7),
		"cron(0 0 ? * 0 *)":           field("day-of-week", "0", 1, 7),
		"cron(0 0 ? * FRI-MON *)":     field("day-of-week", "FRI-MON", 1, 7),
		"cron(0 0 ? * 8L *)":          field("day-of-week", "8L", 1, 7),
		"cron(0 0 ? * 3W *)":          field("day-of-week", "3W", 1, 7),
		"cron(0 0 ? * 2#6 *)":         field("day-of-week", "2#6", 1, 7),
		"cron(0 0 ? * 2#0 *)":         field("day-of-week", "2#0", 1, 7),
		"cron(0 0 ? * 2# *)":          field("day-of-week", "2#", 1, 7),
		"cron(0 0 ? * #2 *)":          field("day-of-week", "#2", 1, 7),
		"cron(0 0 ? * 2#1,3#2 *)":     "day-of-week: only one # is allowed",
		"cron(0 0 * * ? 1969)":        field("year", "1969", 1970, 2199),
		"cron(0 0 * * ? 2200)":        field("year", "2200", 1970, 2199),
		"cron(0 0 * * * *)":           oneDay,
		"cron(0 0 ? * ? *)":           oneDay,
		"cron(0 0 1 * MON *)":         oneDay,
	} {
		if _, err := ParseCron(text); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// naiveField is a field of a cron form with a meaning that owes nothing to the parser.
type naiveField struct {
	text string
	fits func(time.Time) bool
}

// drawPlain draws a field of values, ranges and steps for what of takes from a time.
func drawPlain(t *rapid.T, label string, low, high int, of func(time.Time) int) naiveField {
	a := rapid.IntRange(low, high).Draw(t, label+" a")
	b := rapid.IntRange(low, high).Draw(t, label+" b")
	step := rapid.IntRange(1, max(1, high/2)).Draw(t, label+" step")
	from, to := min(a, b), max(a, b)
	fits := func(ok func(v int) bool) func(time.Time) bool { return func(at time.Time) bool { return ok(of(at)) } }
	switch rapid.IntRange(0, 5).Draw(t, label+" kind") {
	case 0:
		return naiveField{fmt.Sprint(a), fits(func(v int) bool { return v == a })}
	case 1:
		return naiveField{fmt.Sprintf("%d,%d", a, b), fits(func(v int) bool { return v == a || v == b })}
	case 2:
		return naiveField{fmt.Sprintf("%d-%d", from, to), fits(func(v int) bool { return from <= v && v <= to })}
	case 3:
		return naiveField{fmt.Sprintf("%d/%d", a, step), fits(func(v int) bool { return v >= a && (v-a)%step == 0 })}
	case 4:
		return naiveField{fmt.Sprintf("%d-%d/%d", from, to, step), fits(func(v int) bool { return from <= v && v <= to && (v-from)%step == 0 })}
	}
	return naiveField{"*", func(time.Time) bool { return true }}
}

// month returns the days of the month of t.
func month(t time.Time) (days []time.Time) {
	for d := time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC); d.Month() == t.Month(); d = d.AddDate(0, 0, 1) {
		days = append(days, d)
	}
	return days
}

func weekday(d time.Time) bool { return d.Weekday() != time.Saturday && d.Weekday() != time.Sunday }

// drawDays draws the two fields of days.
func drawDays(t *rapid.T) (ofMonth, ofWeek naiveField) {
	any := naiveField{"?", func(time.Time) bool { return true }}
	n := rapid.IntRange(1, 31).Draw(t, "day")
	k := rapid.IntRange(1, 7).Draw(t, "day of week")
	nth := rapid.IntRange(1, 5).Draw(t, "nth")
	day := func(at time.Time) int { return at.Day() }
	dayOfWeek := func(at time.Time) int { return int(at.Weekday()) + 1 }
	switch rapid.IntRange(0, 8).Draw(t, "days") {
	case 0:
		return naiveField{"L", func(at time.Time) bool { return at.AddDate(0, 0, 1).Day() == 1 }}, any
	case 1:
		return naiveField{"LW", func(at time.Time) bool {
			days := slices.DeleteFunc(month(at), func(d time.Time) bool { return !weekday(d) })
			return at.Day() == days[len(days)-1].Day()
		}}, any
	case 2:
		return naiveField{fmt.Sprintf("%dW", n), func(at time.Time) bool {
			days := month(at)
			if n > len(days) {
				return false
			}
			nearest := slices.MinFunc(slices.DeleteFunc(days, func(d time.Time) bool { return !weekday(d) }), func(a, b time.Time) int {
				return max(a.Day()-n, n-a.Day()) - max(b.Day()-n, n-b.Day())
			})
			return at.Day() == nearest.Day()
		}}, any
	case 3:
		return naiveField{fmt.Sprintf("L,%d", n), func(at time.Time) bool { return at.Day() == n || at.AddDate(0, 0, 1).Day() == 1 }}, any
	case 4:
		return any, naiveField{fmt.Sprintf("%d#%d", k, nth), func(at time.Time) bool {
			same := slices.DeleteFunc(month(at), func(d time.Time) bool { return dayOfWeek(d) != k })
			return len(same) >= nth && same[nth-1].Day() == at.Day()
		}}
	case 5:
		return any, naiveField{fmt.Sprintf("%dL", k), func(at time.Time) bool {
			return dayOfWeek(at) == k && at.AddDate(0, 0, 7).Month() != at.Month()
		}}
	case 6:
		return any, naiveField{"L", func(at time.Time) bool { return at.Weekday() == time.Saturday }}
	case 7:
		return any, drawPlain(t, "week", 1, 7, dayOfWeek)
	}
	return drawPlain(t, "month day", 1, 31, day), any
}

// TestCronProperties compares Next with a search, minute by minute, for the first time
// that fits: it is strictly after, matches the fields, and no time between does.
func TestCronProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		minute := drawPlain(t, "minute", 0, 59, time.Time.Minute)
		hour := drawPlain(t, "hour", 0, 23, time.Time.Hour)
		monthOf := drawPlain(t, "month", 1, 12, func(at time.Time) int { return int(at.Month()) })
		year := rapid.SampledFrom([]naiveField{
			{"*", func(time.Time) bool { return true }},
			{"2027", func(at time.Time) bool { return at.Year() == 2027 }},
			{"2024/4", func(at time.Time) bool { return at.Year()%4 == 0 }},
		}).Draw(t, "year")
		ofMonth, ofWeek := drawDays(t)
		form := "cron(" + strings.Join([]string{minute.text, hour.text, ofMonth.text, monthOf.text, ofWeek.text, year.text}, " ") + ")"
		c := mustCron(t, form)
		start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		after := start.Add(time.Duration(rapid.Int64Range(0, 730*24*3600).Draw(t, "after seconds")) * time.Second)

		next, ok := c.Next(At(after))
		horizon := after.AddDate(4, 0, 0)
		for at := after.Truncate(time.Minute).Add(time.Minute); at.Before(horizon); {
			if !year.fits(at) || !monthOf.fits(at) || !ofMonth.fits(at) || !ofWeek.fits(at) {
				at = at.Truncate(24*time.Hour).AddDate(0, 0, 1)
				continue
			}
			if hour.fits(at) && minute.fits(at) {
				if !ok || next != At(at) {
					t.Fatalf("%s after %s: %s %v, want %s", form, after, next.Std(), ok, at)
				}
				return
			}
			at = at.Add(time.Minute)
		}
		if ok && next < At(horizon) {
			t.Fatalf("%s after %s: %s, which does not fit", form, after, next.Std())
		}
	})
}

func FuzzCron(f *testing.F) {
	f.Add("cron(0 10 ? * MON#2 *)", int64(0))
	f.Add("cron(0/5 1-3 LW 2 ? 2028)", int64(1_800_000_000_000))
	f.Add("cron(0 0 30 2 ? *)", int64(-1))
	f.Add("cron(1-5/2,7 0 ? JAN-MAR 6L,SUN 1970-2199/3)", int64(1_800_000_000_000))
	f.Fuzz(func(t *testing.T, form string, after int64) {
		c, err := ParseCron(form)
		if err != nil {
			return
		}
		next, ok := c.Next(Time(after))
		switch {
		case !ok:
			return
		case next <= Time(after) || next%60_000 != 0:
			t.Fatalf("%q: %d after %d", form, next, after)
		}
		if again, ok := c.Next(next - 1); !ok || again != next {
			t.Fatalf("%q: %d just before %d", form, again, next)
		}
	})
}
