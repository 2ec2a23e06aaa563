package dataplane

import (
	"slices"
	"strconv"
	"unicode/utf8"

	"drover/internal/iot"
)

// The functions below append JSON to b. Members stand in the order of the specification's
// examples, times are whole seconds (spec §0, §11.4).

// appendAccepted appends the answer to a request, with its document, if any, as the device is
// to get it. token is the JSON text of the clientToken,
// or empty.
func appendAccepted(b []byte, op iot.Op, a *iot.Answer, document string, now iot.Time, token string) []byte {
	switch op {
	case iot.OpGetPending:
		b = appendSummaries(append(b, `{"inProgressJobs":`...), a.InProgress)
		b = appendSummaries(append(b, `,"queuedJobs":`...), a.Queued)
		b = append(b, ',')
	case iot.OpStartNext, iot.OpDescribe:
		b = append(b, '{')
		if a.Execution != nil {
			b = appendExecution(append(b, `"execution":`...), a.Execution, document, now)
			b = append(b, ',')
		}
	default:
		b = append(b, '{')
	}
	b = appendTime(append(b, `"timestamp":`...), now)
	b = appendToken(b, token)
	if op == iot.OpUpdate {
		b = appendState(b, a.State)
		b = appendDocument(b, document)
	}
	return append(b, '}')
}

// appendRejected appends a refusal (spec §11.10).
func appendRejected(b []byte, err error, now iot.Time, token string) []byte {
	e, r := refusal(err)
	b = appendString(append(b, `{"code":`...), r.mqtt)
	b = appendString(append(b, `,"message":`...), e.Message)
	b = appendToken(b, token)
	b = appendTime(append(b, `,"timestamp":`...), now)
	if r.state {
		b = appendState(b, e.State)
	}
	return append(b, '}')
}

// appendList appends a ListNotification: the head of a pending list, split by status (spec §13.2).
func appendList(b []byte, queue []iot.Execution, now iot.Time) []byte {
	queue = iot.Visible(queue)
	running := slices.IndexFunc(queue, func(e iot.Execution) bool { return e.Status != iot.InProgress })
	if running < 0 {
		running = len(queue)
	}
	b = appendTime(append(b, `{"timestamp":`...), now)
	b = append(b, `,"jobs":{`...)
	if running > 0 {
		b = appendSummaries(append(b, `"IN_PROGRESS":`...), queue[:running])
	}
	if running < len(queue) {
		if running > 0 {
			b = append(b, ',')
		}
		b = appendSummaries(append(b, `"QUEUED":`...), queue[running:])
	}
	return append(b, "}}"...)
}

// appendNext appends a NextNotification; a nil execution says that nothing is pending (spec §13.3).
func appendNext(b []byte, e *iot.Execution, document string, now iot.Time) []byte {
	b = appendTime(append(b, `{"timestamp":`...), now)
	if e == nil {
		return append(b, '}')
	}
	b = appendString(append(b, `,"execution":{"jobId":`...), string(e.JobID))
	b = appendString(append(b, `,"status":`...), e.Status.String())
	b = appendTimes(append(b, ','), e, now)
	b = appendDetailsMember(b, e.Details)
	b = appendDocument(b, document)
	return append(b, "}}"...)
}

func appendExecution(b []byte, e *iot.Execution, document string, now iot.Time) []byte {
	b = appendString(append(b, `{"jobId":`...), string(e.JobID))
	b = appendString(append(b, `,"thingName":`...), string(e.Thing))
	b = appendString(append(b, `,"status":`...), e.Status.String())
	b = appendDetailsMember(b, e.Details)
	b = appendTimes(append(b, ','), e, now)
	b = appendDocument(b, document)
	return append(b, '}')
}

// appendSummaries appends a list of JobExecutionSummary.
func appendSummaries(b []byte, list []iot.Execution) []byte {
	b = append(b, '[')
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, `{"jobId":`...), string(list[i].JobID))
		b = appendTimes(append(b, ','), &list[i], 0)
		b = append(b, '}')
	}
	return append(b, ']')
}

// appendTimes appends the members from queuedAt to executionNumber, with the time that is
// left at now if e has a timer; a zero now leaves that out.
func appendTimes(b []byte, e *iot.Execution, now iot.Time) []byte {
	b = appendTime(append(b, `"queuedAt":`...), e.QueuedAt)
	if e.StartedAt != 0 {
		b = appendTime(append(b, `,"startedAt":`...), e.StartedAt)
	}
	b = appendTime(append(b, `,"lastUpdatedAt":`...), e.UpdatedAt)
	if seconds, ok := e.Remaining(now); ok && now != 0 {
		b = strconv.AppendInt(append(b, `,"approximateSecondsBeforeTimedOut":`...), seconds, 10)
	}
	b = strconv.AppendInt(append(b, `,"versionNumber":`...), e.Version, 10)
	return strconv.AppendInt(append(b, `,"executionNumber":`...), e.Number, 10)
}

// appendState appends the member executionState, nothing if s is nil.
func appendState(b []byte, s *iot.ExecutionState) []byte {
	if s == nil {
		return b
	}
	b = appendString(append(b, `,"executionState":{"status":`...), s.Status.String())
	b = appendDetails(append(b, `,"statusDetails":`...), s.Details)
	b = strconv.AppendInt(append(b, `,"versionNumber":`...), s.Version, 10)
	return append(b, '}')
}

// appendDocument appends the member jobDocument, which is JSON text already.
func appendDocument(b []byte, document string) []byte {
	if document == "" {
		return b
	}
	return append(append(b, `,"jobDocument":`...), document...)
}

// appendDetailsMember appends the member statusDetails unless it is empty.
func appendDetailsMember(b []byte, d iot.Details) []byte {
	if len(d) == 0 {
		return b
	}
	return appendDetails(append(b, `,"statusDetails":`...), d)
}

// appendDetails appends an object, sorted by key.
func appendDetails(b []byte, d iot.Details) []byte {
	var keys [10]string // on the stack
	b = append(b, '{')
	for i, k := range d.AppendKeys(keys[:0]) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, k)
		b = appendString(append(b, ':'), d[k])
	}
	return append(b, '}')
}

func appendToken(b []byte, token string) []byte {
	if token == "" {
		return b
	}
	return append(append(b, `,"clientToken":`...), token...)
}

func appendTime(b []byte, t iot.Time) []byte { return strconv.AppendInt(b, t.Seconds(), 10) }

// appendString appends s as a JSON string. What is not UTF-8 becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	start := 0 // of what is still to be copied as it is
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			if r, n := utf8.DecodeRuneInString(s[i:]); r != utf8.RuneError || n > 1 {
				i += n
				continue
			}
		}
		b = append(b, s[start:i]...)
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\r':
			b = append(b, `\r`...)
		case c == '\t':
			b = append(b, `\t`...)
		case c < ' ':
			b = append(b, `\u00`...)
			b = append(b, hex[c>>4], hex[c&15])
		default:
			b = append(b, string(utf8.RuneError)...)
		}
		i++
		start = i
	}
	return append(append(b, s[start:]...), '"')
}
