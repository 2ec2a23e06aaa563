package iot

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits of schedules (spec §8.1).
const (
	minLead     = 30 * time.Minute // from now to start or end, and from start to end
	maxWindow   = 1430             // minutes
	maxStart    = 1                // years from now
	maxDuration = 2                // years, to the end from now and from the start
)

// scheduleLayouts are the forms of a time in a schedule; without a zone it is UTC. What is
// not one of them may be seconds since the epoch (spec A-41).
var scheduleLayouts = []string{
	"2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02T15:04:05",
	"2006-01-02 15:04Z07:00", "2006-01-02T15:04Z07:00", "2006-01-02 15:04:05Z07:00", "2006-01-02T15:04:05Z07:00",
}

// ParseScheduleTime reads a time of a schedule.
func ParseScheduleTime(text string) (Time, error) {
	for _, layout := range scheduleLayouts {
		if t, err := time.Parse(layout, text); err == nil {
			return At(t), nil
		}
	}
	// Only digits: ParseFloat takes 0x1p10 and 1e9, too.
	if strings.Trim(text, "0123456789.") == "" {
		if seconds, err := strconv.ParseFloat(text, 64); err == nil && seconds > 0 && seconds < 1e11 {
			return Time(math.Round(seconds * 1000)), nil
		}
	}
	return 0, fmt.Errorf("%q is not a time such as 2030-12-31 23:59", shorten(text))
}

// Check reads the times of s, which were given now for a job with the selection, fills in
// what follows from them, and returns an InvalidRequest error that names the member for
// what breaks a rule of spec §8.1.
func (s *Schedule) Check(now Time, selection Selection) error {
	const member = "schedulingConfig."
	if err := s.checkTimes(now.utc()); err != nil {
		return err
	}
	switch s.EndBehavior {
	case "":
		if s.End != "" {
			s.EndBehavior = StopRollout
		}
	case StopRollout, EndCancel, ForceCancel:
		if s.End == "" {
			return Invalid(member+"endBehavior", s.EndBehavior, "Member can only be given with endTime")
		}
	default:
		return Invalid(member+"endBehavior", s.EndBehavior, "Member must satisfy enum value set: [STOP_ROLLOUT, CANCEL, FORCE_CANCEL]")
	}
	if len(s.Windows) > 0 && selection != Continuous {
		return Invalid(member+"maintenanceWindows", len(s.Windows), "Member can only be given for a CONTINUOUS job")
	}
	for i, w := range s.Windows {
		at := fmt.Sprintf("%smaintenanceWindows.%d.member.", member, i+1)
		if w.Minutes < 1 || w.Minutes > maxWindow {
			return Invalid(at+"durationInMinutes", w.Minutes, "Member must have a value between 1 and 1430")
		}
		if _, err := ParseCron(w.Cron); err != nil {
			return Invalid(at+"startTime", w.Cron, err.Error())
		}
	}
	return nil
}

func (s *Schedule) checkTimes(now time.Time) (err error) {
	const start, end = "schedulingConfig.startTime", "schedulingConfig.endTime"
	s.StartAt, s.EndAt = 0, 0
	if s.Start != "" {
		if s.StartAt, err = ParseScheduleTime(s.Start); err != nil {
			return Invalid(start, s.Start, err.Error())
		}
		switch t := s.StartAt.utc(); {
		case t.Before(now.Add(minLead)):
			return Invalid(start, s.Start, "Member must be at least 30 minutes from now")
		case t.After(now.AddDate(maxStart, 0, 0)):
			return Invalid(start, s.Start, "Member must be at most 1 year from now")
		}
	}
	if s.End == "" {
		return nil
	}
	if s.EndAt, err = ParseScheduleTime(s.End); err != nil {
		return Invalid(end, s.End, err.Error())
	}
	switch t := s.EndAt.utc(); {
	case t.Before(now.Add(minLead)):
		return Invalid(end, s.End, "Member must be at least 30 minutes from now")
	case t.After(now.AddDate(maxDuration, 0, 0)):
		return Invalid(end, s.End, "Member must be at most 2 years from now")
	case s.StartAt != 0 && t.Before(s.StartAt.utc().Add(minLead)):
		return Invalid(end, s.End, "Member must be at least 30 minutes after startTime")
	}
	return nil
}

// maxJoined bounds how many windows that touch each other are followed to find the end of
// the time they make together. At that end the schedule is simply looked at again.
const maxJoined = 1000

// WindowAt reports whether a window of s is open at now, and when that changes, zero for
// never; or, after very many windows that touch each other, when to look again. A window counts if it starts at or after the start of the job; the end of the job
// closes it (spec §8.4).
func (s *Schedule) WindowAt(now Time) (open bool, changes Time) {
	if s.EndAt != 0 && now >= s.EndAt {
		return false, 0
	}
	windows := s.parsed()
	end := now
	for range maxJoined {
		before := end
		for i := range windows {
			end = max(end, windows[i].covers(end, s.StartAt))
		}
		if end == before || s.EndAt != 0 && end >= s.EndAt {
			break
		}
	}
	if end > now {
		if s.EndAt != 0 {
			end = min(end, s.EndAt)
		}
		return true, end
	}
	next := s.NextWindows(now, 1)
	if len(next) == 0 {
		return false, 0
	}
	return false, next[0]
}

// parsedWindow is a window ready for use.
type parsedWindow struct {
	Cron
	length Time
}

func (s *Schedule) parsed() []parsedWindow {
	var windows []parsedWindow
	for _, w := range s.Windows {
		// Only what Check has accepted is stored; what is not is never open.
		if c, err := ParseCron(w.Cron); err == nil {
			windows = append(windows, parsedWindow{c, Time(w.Minutes) * Time(time.Minute/time.Millisecond)})
		}
	}
	return windows
}

// covers returns when the window that is open at t, and started at or after from, ends;
// zero if none is. Of several it is the one that started last, which is looked for in
// spans that grow, because a cron form may fire every minute of a long window.
func (w *parsedWindow) covers(t, from Time) (end Time) {
	earliest := max(t-w.length, from-1)
	for span := Time(time.Minute / time.Millisecond); end == 0 && earliest < t; span *= 2 {
		for at := max(t-span, earliest); ; {
			start, ok := w.Next(at)
			if !ok || start > t {
				break
			}
			end, at = start+w.length, start
		}
		if t-span <= earliest {
			break
		}
	}
	return end
}

// NextWindows returns the next n times after now at which a window of s starts, fewer if
// the job ends before.
func (s *Schedule) NextWindows(now Time, n int) []Time {
	windows := s.parsed()
	starts := make([]Time, 0, n)
	for at := max(now, s.StartAt-1); len(starts) < n; {
		var next Time
		for i := range windows {
			if t, ok := windows[i].Next(at); ok && (next == 0 || t < next) {
				next = t
			}
		}
		if next == 0 || s.EndAt != 0 && next >= s.EndAt {
			break
		}
		starts = append(starts, next)
		at = next
	}
	return slices.Clip(starts)
}
