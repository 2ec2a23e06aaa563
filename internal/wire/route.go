package wire

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// node is a place in the tree of URIs: what has been read of a path, segment by segment.
type node struct {
	literal map[string]*node      // next segment is this text
	label   *node                 // next segment is any text, also none
	greedy  *node                 // all segments that are left, at least one
	methods map[string]*operation // operations whose URI ends here
}

// add enters an operation. Two operations with the same method and the same URI but for the names of labels are a broken
// program.
func (n *node) add(op *operation) {
	for segment := range strings.SplitSeq(op.URI[1:], "/") {
		name, isLabel := strings.CutPrefix(segment, "{")
		if !isLabel {
			n = child(&n.literal, segment)
			continue
		}
		name = strings.TrimSuffix(name, "}")
		next := &n.label
		if greedy, ok := strings.CutSuffix(name, "+"); ok {
			name, next = greedy, &n.greedy
		}
		op.labels = append(op.labels, name)
		if *next == nil {
			*next = new(node)
		}
		n = *next
	}
	if n.methods == nil {
		n.methods = make(map[string]*operation)
	}
	if other := n.methods[op.Method]; other != nil {
		panic(fmt.Sprintf("wire: %s and %s have the same method and URI", other.Name, op.Name))
	}
	n.methods[op.Method] = op
}

func child(m *map[string]*node, segment string) *node {
	if *m == nil {
		*m = make(map[string]*node)
	}
	next := (*m)[segment]
	if next == nil {
		next = new(node)
		(*m)[segment] = next
	}
	return next
}

// find looks for an operation with the method among the URIs that fit the segments. A literal segment is preferred to a
// label, and an operation with the right method behind a label to one with the wrong method behind a literal: DELETE of
// the thing group addThingToThingGroup is possible. Values of labels are appended to values in their order in the URI. If
// there is none, the methods that do fit are appended to allowed.
func (n *node) find(method string, segments, values []string, allowed *[]string) (*operation, []string) {
	if len(segments) == 0 {
		if op := n.methods[method]; op != nil {
			return op, values
		}
		*allowed = slices.AppendSeq(*allowed, maps.Keys(n.methods))
		return nil, nil
	}
	if next := n.literal[segments[0]]; next != nil {
		if op, values := next.find(method, segments[1:], values, allowed); op != nil {
			return op, values
		}
	}
	if n.label != nil {
		if op, values := n.label.find(method, segments[1:], append(values, segments[0]), allowed); op != nil {
			return op, values
		}
	}
	if n.greedy != nil {
		return n.greedy.find(method, nil, append(values, strings.Join(segments, "/")), allowed)
	}
	return nil, nil
}

// route finds the operation of a request and the values of its labels, or else the methods that the path allows. path is
// the path as it came, percent-encoded: it is split first and decoded then, so that an encoded slash is part of a label
// and %24next is $next.
func (s *Service) route(method, path string) (op *operation, values, allowed []string, e *Error) {
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, raw := range segments {
		segment, err := url.PathUnescape(raw)
		if err != nil {
			return nil, nil, nil, invalid("The path %s is not percent-encoded correctly", shorten(path))
		}
		segments[i] = segment
	}
	op, values = s.routes.find(method, segments, nil, &allowed)
	if op != nil {
		return op, values, nil, nil
	}
	if len(allowed) == 0 {
		return nil, nil, nil, s.NewError(codeUnknown,
			fmt.Sprintf("The service %s has no operation %s %s", s.name, shorten(method), shorten(path)))
	}
	slices.Sort(allowed)
	allowed = slices.Compact(allowed)
	return nil, nil, allowed, s.NewError(codeMethod, fmt.Sprintf("The path %s allows %s, not %s",
		shorten(path), strings.Join(allowed, ", "), shorten(method)))
}
