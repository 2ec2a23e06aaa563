package cluster

import "strings"

// levels is how many levels of a topic take part in the subject.
const levels = 3

// Subjects, behind the name of the cluster.
const (
	plainRoot    = ".m" // topics
	dollarRoot   = ".s" // topics that begin with "$", which no wildcard at the first level matches
	announceRoot = ".a" // what every node gets
	controlRoot  = ".c"
	nodeRoot     = ".n." // and the name of a node
)

// subject returns the subject of a topic, or of a filter of MQTT: that of a filter covers those
// of all topics that it matches. "a/#" is without "a", as in MQTT at AWS and in NATS.
func subject(cluster, topic string) string {
	var b strings.Builder
	b.Grow(len(cluster) + len(topic) + 8)
	b.WriteString(cluster)
	if strings.HasPrefix(topic, "$") {
		b.WriteString(dollarRoot)
	} else {
		b.WriteString(plainRoot)
	}
	rest, more := topic, true
	for n := 0; more && n < levels; n++ {
		var level string
		level, rest, more = strings.Cut(rest, "/")
		b.WriteByte('.')
		switch level {
		case "#":
			b.WriteByte('>')
			return b.String()
		case "+":
			b.WriteByte('*')
		default:
			escape(&b, level)
		}
	}
	return b.String()
}

const hex = "0123456789ABCDEF"

// escape writes a level as a token of NATS, which is not empty and has no white space, control
// characters, dots and wildcards.
func escape(b *strings.Builder, level string) {
	if level == "" {
		b.WriteByte('%')
		return
	}
	for i := range len(level) {
		switch c := level[i]; {
		case c <= ' ', c == 0x7f, c == '.', c == '*', c == '>', c == '%':
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		default:
			b.WriteByte(c)
		}
	}
}
