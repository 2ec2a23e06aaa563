package dataplane

import (
	"strings"

	"drover/internal/iot"
)

// Parts of topics.
const (
	thingsRoot = "$aws/things/"
	awsRoot    = "$aws/"
	shareRoot  = "$share/"

	accepted   = "/accepted"
	rejected   = "/rejected"
	notify     = "notify"
	notifyNext = "notify-next"
	inSpace    = "namespace-" // before the name of a namespace
)

// class says what a publish by a client to a topic is.
type class uint8

const (
	ordinary  class = iota // not reserved: routed to subscribers
	operation              // a request about jobs
	unknown                // below jobs, but no operation: InvalidTopic
	reserved               // not for clients
)

// address is what the topic of a request says.
type address struct {
	op        iot.Op
	thing     iot.ThingName
	job       iot.JobID
	namespace string
}

// parseTopic tells what a client's publish to topic is. The address is that of an operation;
// its names are as they came and not checked. It does not allocate.
//
// Below $aws/things/{thing}/jobs/ the operations are (spec §11.1, §11.9)
//
//	get, start-next                                the queue
//	{job}/get, {job}/update                        an execution; {job} may be $next
//	namespace-{ns}/get, namespace-{ns}/start-next  the same in a namespace
//	{job}/namespace-{ns}/get, {job}/namespace-{ns}/update
//
// so that the one topic with two meanings, namespace-{ns}/get, is the queue's: a job called
// namespace-… is described over HTTPS or as $next.
func parseTopic(topic string) (address, class) {
	if topic == "" || topic[0] != '$' {
		return address{}, ordinary
	}
	rest, ok := strings.CutPrefix(topic, thingsRoot)
	if !ok {
		return address{}, reserved
	}
	thing, rest, _ := strings.Cut(rest, "/")
	if rest == "jobs" {
		return address{}, unknown
	}
	path, ok := strings.CutPrefix(rest, "jobs/")
	if !ok {
		return address{}, reserved
	}
	if strings.HasSuffix(path, accepted) || strings.HasSuffix(path, rejected) || isNotice(path) {
		return address{}, reserved
	}

	a := address{thing: iot.ThingName(thing)}
	verb, ofJob := path, false
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		verb = path[i+1:]
		job, space, nested := strings.Cut(path[:i], "/")
		switch namespace, is := strings.CutPrefix(job, inSpace); {
		case nested:
			if a.namespace, ok = strings.CutPrefix(space, inSpace); !ok || !isNamespace(a.namespace) {
				return address{}, unknown
			}
			a.job, ofJob = iot.JobID(job), true
		case is && verb != "update" && isNamespace(namespace):
			a.namespace = namespace
		default:
			a.job, ofJob = iot.JobID(job), true
		}
	}
	switch {
	case verb == "get" && ofJob:
		a.op = iot.OpDescribe
	case verb == "get":
		a.op = iot.OpGetPending
	case verb == "start-next" && !ofJob:
		a.op = iot.OpStartNext
	case verb == "update" && ofJob:
		a.op = iot.OpUpdate
	default:
		return address{}, unknown
	}
	return a, operation
}

func isNamespace(ns string) bool { return ns != "" && iot.ValidNamespace(ns) }

// isNotice reports whether the server sends notices on path, which is below jobs/.
func isNotice(path string) bool {
	return path == notify || path == notifyNext ||
		!strings.Contains(path, "/") && (strings.HasPrefix(path, notify+"-"+inSpace) || strings.HasPrefix(path, notifyNext+"-"+inSpace))
}

// noticeTopic returns the topic on which a device gets notices of a kind.
func noticeTopic(thing iot.ThingName, kind, namespace string) string {
	if namespace == "" {
		return thingsRoot + string(thing) + "/jobs/" + kind
	}
	return thingsRoot + string(thing) + "/jobs/" + kind + "-" + inSpace + namespace
}

// AllowSubscribe reports whether a client may subscribe to filter: to everything but
// reserved roots other than $aws and $share. Inside $aws every filter is allowed, wildcards
// included, because device software subscribes to families that drover does not have and
// expects silence there, not a refusal.
func AllowSubscribe(filter string) bool {
	if shared, ok := strings.CutPrefix(filter, shareRoot); ok {
		group, inner, ok := strings.Cut(shared, "/")
		return ok && group != "" && inner != "" && !strings.HasPrefix(inner, shareRoot) && AllowSubscribe(inner)
	}
	return !strings.HasPrefix(filter, "$") || strings.HasPrefix(filter, awsRoot)
}
