package iot

import (
	"strings"
	"testing"
	"time"
)

func ptr[T any](v T) *T { return &v }

func TestCommandConditions(t *testing.T) {
	t.Parallel()
	text := func(s string) CommandValue { return CommandValue{S: &s} }
	long := func(n int64) CommandValue { return CommandValue{L: &n} }
	double := func(n float64) CommandValue { return CommandValue{D: &n} }
	huge := CommandValue{UL: ptr("18446744073709551615")}
	for _, c := range []struct {
		kind      string
		condition CommandCondition
		holds     []CommandValue
		fails     []CommandValue
	}{
		{"STRING", CommandCondition{Operator: "EQUALS", String: ptr("a")}, []CommandValue{text("a")}, []CommandValue{text("b"), text("A")}},
		{"STRING", CommandCondition{Operator: "NOT_EQUALS", String: ptr("a")}, []CommandValue{text("b")}, []CommandValue{text("a")}},
		{"STRING", CommandCondition{Operator: "IN_SET", Strings: []string{"a", "b"}}, []CommandValue{text("b")}, []CommandValue{text("c")}},
		{"STRING", CommandCondition{Operator: "NOT_IN_SET", Strings: []string{"a", "b"}}, []CommandValue{text("c")}, []CommandValue{text("a")}},
		{"LONG", CommandCondition{Operator: "EQUALS", Number: ptr("1e2")}, []CommandValue{long(100)}, []CommandValue{long(101)}},
		{"LONG", CommandCondition{Operator: "NOT_EQUALS", Number: ptr("5")}, []CommandValue{long(4)}, []CommandValue{long(5)}},
		{"LONG", CommandCondition{Operator: "LESS_THAN", Number: ptr("5")}, []CommandValue{long(4)}, []CommandValue{long(5)}},
		{"LONG", CommandCondition{Operator: "LESS_THAN_EQUALS", Number: ptr("5")}, []CommandValue{long(5)}, []CommandValue{long(6)}},
		{"LONG", CommandCondition{Operator: "GREATER_THAN", Number: ptr("-5")}, []CommandValue{long(-4)}, []CommandValue{long(-5)}},
		{"LONG", CommandCondition{Operator: "GREATER_THAN_EQUALS", Number: ptr("9007199254740993")}, []CommandValue{long(9007199254740993)}, []CommandValue{long(9007199254740992)}},
		{"DOUBLE", CommandCondition{Operator: "IN_SET", Numbers: []string{"0.5", "1.5"}}, []CommandValue{double(1.5)}, []CommandValue{double(1)}},
		{"DOUBLE", CommandCondition{Operator: "NOT_IN_SET", Numbers: []string{"0.5"}}, []CommandValue{double(1)}, []CommandValue{double(0.5)}},
		{"DOUBLE", CommandCondition{Operator: "IN_RANGE", Min: ptr("0"), Max: ptr("1")}, []CommandValue{double(0), double(1)}, []CommandValue{double(-0.1), double(1.1)}},
		{"DOUBLE", CommandCondition{Operator: "NOT_IN_RANGE", Min: ptr("0"), Max: ptr("1")}, []CommandValue{double(1.1)}, []CommandValue{double(0), double(1)}},
		{"UNSIGNEDLONG", CommandCondition{Operator: "EQUALS", Number: ptr("18446744073709551615")}, []CommandValue{huge}, []CommandValue{{UL: ptr("18446744073709551614")}}},
		{"", CommandCondition{Operator: "EQUALS", Number: ptr("1")}, []CommandValue{long(1), double(1)}, []CommandValue{text("1")}},
	} {
		cmd := &Command{ID: "c", Payload: []byte("x"), Parameters: []CommandParameter{{Name: "p", Type: c.kind, Conditions: []CommandCondition{c.condition}}}}
		if err := cmd.Check(); err != nil {
			t.Errorf("%+v: %v", c.condition, err)
			continue
		}
		for holds, values := range map[bool][]CommandValue{true: c.holds, false: c.fails} {
			for _, v := range values {
				if _, err := cmd.Resolve(map[string]CommandValue{"p": v}); (err == nil) != holds {
					t.Errorf("%s of %s: %v", c.condition.Operator, v.Text(), err)
				}
			}
		}
	}
	for _, bad := range []CommandParameter{
		{Name: "p", Type: "BINARY", Conditions: []CommandCondition{{Operator: "EQUALS", String: ptr("a")}}},
		{Name: "p", Type: "STRING", Conditions: []CommandCondition{{Operator: "LESS_THAN", Number: ptr("1")}}},
		{Name: "p", Type: "STRING", Conditions: []CommandCondition{{Operator: "EQUALS", Number: ptr("1")}}},
		{Name: "p", Type: "LONG", Conditions: []CommandCondition{{Operator: "EQUALS", String: ptr("1")}}},
		{Name: "p", Type: "LONG", Conditions: []CommandCondition{{Operator: "EQUALS", Number: ptr("one")}}},
		{Name: "p", Type: "LONG", Conditions: []CommandCondition{{Operator: "EQUALS", Number: ptr("1e9999999999")}}},
		{Name: "p", Type: "LONG", Conditions: []CommandCondition{{Operator: "EQUALS"}}},
		{Name: "p", Type: "LONG", Conditions: []CommandCondition{{Operator: "EQUALS", Number: ptr("1"), Numbers: []string{"1"}}}},
		{Name: "p", Type: "LONG", Conditions: []CommandCondition{{Operator: "IN_SET", Numbers: make([]string, 11)}}},
		{Name: "p", Type: "LONG", Conditions: []CommandCondition{{Operator: "IN_SET", Numbers: []string{}}}},
		{Name: "p", Type: "LONG", Conditions: []CommandCondition{{Operator: "IN_RANGE", Min: ptr("1")}}},
		{Name: "p", Type: "UNSIGNEDLONG", Default: &CommandValue{UL: ptr("18446744073709551616")}},
		{Name: "p", Default: &CommandValue{}},
		{Name: "p", Value: &CommandValue{S: ptr("x"), B: ptr(true)}},
	} {
		cmd := &Command{ID: "c", Payload: []byte("x"), Parameters: []CommandParameter{bad}}
		if err := cmd.Check(); ErrorCode(err) != InvalidRequest {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// What is given wins over the value of the command, and that over the default.
func TestCommandResolve(t *testing.T) {
	t.Parallel()
	v := func(s string) *CommandValue { return &CommandValue{S: &s} }
	c := &Command{ID: "c", Payload: []byte("x"), Parameters: []CommandParameter{{Name: "a", Default: v("default")}, {Name: "b", Value: v("value"), Default: v("default")}, {Name: "c", Value: v("value")}}}
	values, err := c.Resolve(map[string]CommandValue{"c": *v("given")})
	if err != nil || *values["a"].S != "default" || *values["b"].S != "value" || *values["c"].S != "given" || len(values) != 3 {
		t.Errorf("%v, %v", values, err)
	}
	c.Parameters = append(c.Parameters, CommandParameter{Name: "d"})
	if _, err := c.Resolve(nil); ErrorCode(err) != InvalidRequest || !strings.Contains(err.Error(), `"d"`) {
		t.Error(err)
	}
}

// From every state, every report.
func TestCommandReports(t *testing.T) {
	t.Parallel()
	const created, later = Time(1000), Time(5000)
	ended := func(s CommandStatus) CommandExecution {
		return CommandExecution{Status: s, CreatedAt: created, StartedAt: created, CompletedAt: created + 1}
	}
	all := []CommandStatus{CommandInProgress, CommandSucceeded, CommandFailed, CommandRejected, CommandTimedOut}
	for name, c := range map[string]struct {
		from CommandExecution
		want [5]Code // of the reports in the order of all; "": accepted
	}{
		"CREATED":             {CommandExecution{Status: CommandCreated, CreatedAt: created, StartedAt: created, DueAt: 9000}, [5]Code{}},
		"IN_PROGRESS":         {CommandExecution{Status: CommandInProgress, CreatedAt: created, StartedAt: created + 1, DueAt: 9000}, [5]Code{}},
		"timed out":           {CommandExecution{Status: CommandTimedOut, CreatedAt: created, StartedAt: created}, [5]Code{InvalidStateTransition}},
		"SUCCEEDED":           {ended(CommandSucceeded), [5]Code{TerminalState, TerminalState, TerminalState, TerminalState, TerminalState}},
		"FAILED":              {ended(CommandFailed), [5]Code{TerminalState, TerminalState, TerminalState, TerminalState, TerminalState}},
		"REJECTED":            {ended(CommandRejected), [5]Code{TerminalState, TerminalState, TerminalState, TerminalState, TerminalState}},
		"TIMED_OUT by device": {ended(CommandTimedOut), [5]Code{TerminalState, TerminalState, TerminalState, TerminalState, TerminalState}},
	} {
		for i, status := range all {
			x := c.from
			err := x.Report(&CommandReport{Status: status}, later)
			if ErrorCode(err) != c.want[i] {
				t.Errorf("%s → %s: %v, want %q", name, status, err, c.want[i])
			}
			if err != nil {
				if x.Status != c.from.Status || x.UpdatedAt != c.from.UpdatedAt {
					t.Errorf("%s → %s: refused, and changed", name, status)
				}
				continue
			}
			goesOn := status == CommandInProgress
			if x.Status != status || x.Terminal() == goesOn || goesOn != (x.DueAt == 9000) || x.UpdatedAt != later || !goesOn && !x.Deletable() || goesOn && x.Deletable() {
				t.Errorf("%s → %s: %+v", name, status, x)
			}
			if started := name == "CREATED" && goesOn; started != (x.StartedAt == later) {
				t.Errorf("%s → %s: started at %d", name, status, x.StartedAt)
			}
		}
	}
	x := CommandExecution{Status: CommandInProgress, DueAt: 9000}
	x.TimeOut(9000)
	if x.Status != CommandTimedOut || x.Reason.Code != NoResponse || x.Terminal() || !x.Deletable() || x.DueAt != 0 {
		t.Errorf("%+v", x)
	}
}

func TestCommandLife(t *testing.T) {
	t.Parallel()
	const now = Time(1_000_000_000)
	c := &Command{ID: "c"}
	if c.Delete(now) || !c.Pending() || c.DeleteAt != now.Add(12*time.Hour) || ErrorCode(c.Startable()) != InvalidRequest {
		t.Errorf("%+v", c)
	}
	if c.Delete(now + 5); c.DeleteAt != now.Add(12*time.Hour) {
		t.Errorf("waits anew: %+v", c)
	}
	if err := c.Update(CommandUpdate{Deprecated: ptr(false)}, now); ErrorCode(err) != ResourceConflict {
		t.Error(err)
	}
	c = &Command{ID: "c"}
	for _, yes := range []bool{true, true} {
		if err := c.Update(CommandUpdate{Deprecated: &yes}, now); err != nil || c.DeprecatedAt != now || ErrorCode(c.Startable()) != InvalidRequest {
			t.Errorf("%+v, %v", c, err)
		}
	}
	if c.Delete(now.Add(12 * time.Hour)) {
		t.Error("deprecated for not more than 12 h, and gone")
	}
	c.DeleteAt = 0
	if !c.Delete(now.Add(12*time.Hour) + 1) {
		t.Error("deprecated for more than 12 h, and not gone")
	}
	if err := c.Update(CommandUpdate{Deprecated: ptr(false)}, now); err != nil || c.Startable() != nil {
		t.Errorf("%+v, %v", c, err)
	}
}
