package broker

import (
	"strings"
	"unicode/utf8"
)

// validTopic reports whether topic may be published to: not empty, valid
// UTF-8 without NUL, and without wildcards. Limits are not looked at.
func validTopic(topic string) bool {
	return topic != "" && !strings.ContainsAny(topic, "+#\x00") && utf8.ValidString(topic)
}

// validFilter reports whether filter may be subscribed to: not empty, valid
// UTF-8 without NUL, "+" only as a whole level and "#" only as the last one.
// Limits are not looked at.
func validFilter(filter string) bool {
	if filter == "" || strings.IndexByte(filter, 0) >= 0 || !utf8.ValidString(filter) {
		return false
	}
	for rest, more := filter, true; more; {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		switch {
		case level == "+", level == "#" && !more:
		case strings.ContainsAny(level, "+#"):
			return false
		}
	}
	return true
}

// covers reports whether a message on topic is for a valid filter that is not a shared one. "a/#" does
// not match "a", as with AWS.
func covers(filter, topic string) bool {
	for {
		level, filters, more := strings.Cut(filter, "/")
		part, topics, below := strings.Cut(topic, "/")
		switch {
		case level == "#":
			return true
		case level != "+" && level != part, more != below:
			return false
		case !more:
			return true
		}
		filter, topic = filters, topics
	}
}

// hasWildcard reports whether a valid filter matches more than one topic.
func hasWildcard(filter string) bool { return strings.ContainsAny(filter, "+#") }

// shared reports whether filter asks for a shared subscription.
func shared(filter string) bool { return strings.HasPrefix(filter, "$share/") || filter == "$share" }

// withinLimits reports whether a topic or filter has at most maxBytes bytes and
// maxSlashes slashes. The first three levels of a Basic Ingest topic,
// "$aws/rules/{rule}/", do not count, nor do the first two of a shared
// subscription, "$share/{name}/" (spec §2.20), nor those of a topic of commands, of which
// some would have too many (registry spec §11.5).
func withinLimits(topic string, maxBytes, maxSlashes int) bool {
	if rest, ok := strings.CutPrefix(topic, sharePrefix); ok {
		if _, rest, ok = strings.Cut(rest, "/"); ok {
			topic = rest
		}
	}
	if rest, ok := strings.CutPrefix(topic, "$aws/rules/"); ok {
		if _, rest, ok = strings.Cut(rest, "/"); ok {
			topic = rest
		}
	}
	topic = strings.TrimPrefix(topic, "$aws/commands/")
	return len(topic) <= maxBytes && strings.Count(topic, "/") <= maxSlashes
}

// reserved reports whether a topic or client id belongs to the server (spec
// §2.3, §2.18).
func reserved(name string) bool { return strings.HasPrefix(name, "$") }
