package iot

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Cron is a parsed cron form of AWS: cron(minutes hours day-of-month month day-of-week
// year), in UTC (spec §8.2). There is no library for it: those at hand lack W, L or #
// together with years, or count the days of the week from 0.
type Cron struct {
	minutes, hours, months uint64
	years                  [(lastYear-firstYear)/64 + 1]uint64
	monthDays              []monthDay // nil: by day of the week
	weekDays               []weekDay
}

const (
	firstYear = 1970
	lastYear  = 2199
)

// monthDay is one entry of the day-of-month field.
type monthDay struct {
	days    uint64 // set of days; 0 for the others
	last    bool   // L
	nearest int    // nW: the weekday nearest to day n; -1 is LW
}

// weekDay is one entry of the day-of-week field; days count from 1 = Sunday.
type weekDay struct {
	days uint64 // set of days; 0 for the others
	day  int    // of nL and n#k
	nth  int    // k of n#k; -1 for nL, the last one of the month
}

// cronField says what a field may hold.
type cronField struct {
	name     string
	min, max int
	names    []string // of min, min+1, …
}

var (
	cronMinutes = cronField{name: "minutes", min: 0, max: 59}
	cronHours   = cronField{name: "hours", min: 0, max: 23}
	cronDays    = cronField{name: "day-of-month", min: 1, max: 31}
	cronMonths  = cronField{name: "month", min: 1, max: 12, names: []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}}
	cronWeek    = cronField{name: "day-of-week", min: 1, max: 7, names: []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}}
	cronYears   = cronField{name: "year", min: firstYear, max: lastYear}
)

// ParseCron reads a cron form. Errors say which field is wrong and why.
func ParseCron(form string) (c Cron, err error) {
	inner, ok := strings.CutPrefix(form, "cron(")
	inner, end := strings.CutSuffix(inner, ")")
	if !ok || !end {
		return c, fmt.Errorf("%q: must have the form cron(minutes hours day-of-month month day-of-week year)", shorten(form))
	}
	fields := strings.Fields(inner)
	if len(fields) != 6 {
		return c, fmt.Errorf("%q: has %d fields and must have 6", shorten(form), len(fields))
	}
	if c.minutes, err = cronMinutes.set(fields[0]); err != nil {
		return c, err
	}
	if c.hours, err = cronHours.set(fields[1]); err != nil {
		return c, err
	}
	if c.months, err = cronMonths.set(fields[3]); err != nil {
		return c, err
	}
	err = cronYears.each(fields[5], func(y int) { c.years[(y-firstYear)/64] |= 1 << ((y - firstYear) % 64) })
	if err != nil {
		return c, err
	}
	switch {
	case (fields[2] == "?") == (fields[4] == "?"):
		return c, fmt.Errorf("exactly one of day-of-month and day-of-week must be ?")
	case fields[4] == "?":
		c.monthDays, err = parseMonthDays(fields[2])
	default:
		c.weekDays, err = parseWeekDays(fields[4])
	}
	return c, err
}

// set reads a field of plain values, ranges and steps.
func (f cronField) set(text string) (set uint64, err error) {
	err = f.each(text, func(v int) { set |= 1 << v })
	return set, err
}

// each calls yield with every value of a field of plain values, ranges and steps.
func (f cronField) each(text string, yield func(int)) error {
	for part := range strings.SplitSeq(text, ",") {
		if err := f.part(part, yield); err != nil {
			return err
		}
	}
	return nil
}

func (f cronField) part(part string, yield func(int)) error {
	span, stepText, stepped := strings.Cut(part, "/")
	step := 1
	if stepped {
		n, ok := number(stepText)
		if !ok || n < 1 || n > f.max {
			return f.wrong(part)
		}
		step = n
	}
	from, to := f.min, f.max
	if span != "*" {
		low, high, ranged := strings.Cut(span, "-")
		var ok bool
		if from, ok = f.value(low); !ok {
			return f.wrong(part)
		}
		switch {
		case ranged:
			if to, ok = f.value(high); !ok || to < from {
				return f.wrong(part)
			}
		case !stepped:
			to = from
		}
	}
	for v := from; v <= to; v += step {
		yield(v)
	}
	return nil
}

func (f cronField) value(text string) (int, bool) {
	for i, name := range f.names {
		if strings.EqualFold(name, text) {
			return f.min + i, true
		}
	}
	n, ok := number(text)
	return n, ok && n >= f.min && n <= f.max
}

// number reads up to four decimal digits.
func number(text string) (int, bool) {
	if text == "" || len(text) > 4 || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(text)
	return n, err == nil
}

func (f cronField) wrong(part string) error {
	return fmt.Errorf("%s: %q is not a value, range or step between %d and %d", f.name, shorten(part), f.min, f.max)
}

func parseMonthDays(text string) (days []monthDay, err error) {
	for part := range strings.SplitSeq(text, ",") {
		var d monthDay
		near, weekday := strings.CutSuffix(part, "W")
		switch {
		case part == "L":
			d.last = true
		case part == "LW":
			d.nearest = -1
		case weekday:
			n, ok := cronDays.value(near)
			if !ok {
				return nil, cronDays.wrong(part)
			}
			d.nearest = n
		default:
			if d.days, err = cronDays.set(part); err != nil {
				return nil, err
			}
		}
		days = append(days, d)
	}
	return days, nil
}

func parseWeekDays(text string) (days []weekDay, err error) {
	if strings.Count(text, "#") > 1 {
		return nil, fmt.Errorf("day-of-week: only one # is allowed")
	}
	for part := range strings.SplitSeq(text, ",") {
		var d weekDay
		name, nth, numbered := strings.Cut(part, "#")
		last, isLast := strings.CutSuffix(part, "L")
		switch {
		case numbered:
			day, ok := cronWeek.value(name)
			k, fits := number(nth)
			if !ok || !fits || k < 1 || k > 5 {
				return nil, cronWeek.wrong(part)
			}
			d.day, d.nth = day, k
		case part == "L": // the last day of the week
			d.days = 1 << cronWeek.max
		case isLast:
			day, ok := cronWeek.value(last)
			if !ok {
				return nil, cronWeek.wrong(part)
			}
			d.day, d.nth = day, -1
		default:
			if d.days, err = cronWeek.set(part); err != nil {
				return nil, err
			}
		}
		days = append(days, d)
	}
	return days, nil
}

// Next returns the first minute after a time at which c fires, and false if there is none
// until the end of the year 2199.
func (c *Cron) Next(after Time) (Time, bool) {
	t := after.utc().Truncate(time.Minute).Add(time.Minute)
	if t.Year() < firstYear {
		t = time.Date(firstYear, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	for t.Year() <= lastYear {
		year, month, day := t.Date()
		switch {
		case c.years[(year-firstYear)/64]>>((year-firstYear)%64)&1 == 0:
			t = time.Date(year+1, 1, 1, 0, 0, 0, 0, time.UTC)
		case c.months>>month&1 == 0:
			t = time.Date(year, month+1, 1, 0, 0, 0, 0, time.UTC)
		case !c.firesOn(t):
			t = time.Date(year, month, day+1, 0, 0, 0, 0, time.UTC)
		case c.hours>>t.Hour()&1 == 0:
			t = time.Date(year, month, day, t.Hour()+1, 0, 0, 0, time.UTC)
		case c.minutes>>t.Minute()&1 == 0:
			t = t.Add(time.Minute)
		default:
			return At(t), true
		}
	}
	return 0, false
}

// utc is Std, but of the zero Time, too.
func (t Time) utc() time.Time { return time.UnixMilli(int64(t)).UTC() }

// firesOn reports whether c fires on the day of t.
func (c *Cron) firesOn(t time.Time) bool {
	last := time.Date(t.Year(), t.Month()+1, 0, 0, 0, 0, 0, time.UTC)
	for _, d := range c.monthDays {
		switch {
		case d.last:
			if t.Day() == last.Day() {
				return true
			}
		case d.nearest != 0:
			if t.Day() == nearestWeekday(last, d.nearest) {
				return true
			}
		case d.days>>t.Day()&1 == 1:
			return true
		}
	}
	today := int(t.Weekday()) + 1
	for _, d := range c.weekDays {
		switch {
		case d.nth == -1:
			if today == d.day && t.Day()+7 > last.Day() {
				return true
			}
		case d.nth > 0:
			if today == d.day && (t.Day()-1)/7+1 == d.nth {
				return true
			}
		case d.days>>today&1 == 1:
			return true
		}
	}
	return false
}

// nearestWeekday returns the day from Monday to Friday that is nearest to day n, or for -1
// to the end, of the month that ends with last, without leaving the month; 0 if the month
// has no day n.
func nearestWeekday(last time.Time, n int) int {
	if n > last.Day() {
		return 0
	}
	if n < 0 {
		n = last.Day()
	}
	switch last.AddDate(0, 0, n-last.Day()).Weekday() {
	case time.Saturday:
		if n == 1 {
			return 3
		}
		return n - 1
	case time.Sunday:
		if n == last.Day() {
			return n - 2
		}
		return n + 1
	}
	return n
}
