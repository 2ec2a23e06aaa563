package storetest

import (
	"fmt"

	"drover/internal/iot"
	"drover/internal/store"
)

var commands = []testCase{
	{"are kept whole and listed", func(f *fixture) {
		text, number := "x", int32(-7)
		all := []*iot.Command{
			{ID: "b", DisplayName: "n", Description: "d", RoleARN: "r", ContentType: "text/plain", Payload: []byte{0, 255, 'x'}, CreatedAt: t0, UpdatedAt: t0},
			{ID: "a", Template: `{"a":1}`, Format: "CBOR", CreatedAt: t0, UpdatedAt: t0 + 1, DeprecatedAt: t0 + 1, Parameters: []iot.CommandParameter{
				{Name: "p", Type: "STRING", Value: &iot.CommandValue{S: &text}, Default: &iot.CommandValue{I: &number}, Description: "d", Conditions: []iot.CommandCondition{{Operator: "IN_SET", Strings: []string{"x"}}}},
			}},
			{ID: "c", Payload: []byte("p"), CreatedAt: t0, UpdatedAt: t0, DeleteAt: t0 + 50},
		}
		f.update(func(tx store.Tx) error {
			for _, c := range all {
				f.must(tx.InsertCommand(c))
			}
			return nil
		})
		f.reopen()
		for _, c := range all {
			f.equal(read(f, func(r store.Reader) (*iot.Command, error) { return r.CommandByID(c.ID) }), c)
		}
		ids := func(list []*iot.Command) []string { return names(list, func(c *iot.Command) string { return c.ID }) }
		listed := func(ascending bool, after int64, limit int) []string {
			return ids(read(f, func(r store.Reader) ([]*iot.Command, error) { return r.Commands(ascending, after, limit) }))
		}
		f.equal(listed(false, 0, 9), []string{"a", "b"})
		f.equal(listed(true, 0, 9), []string{"b", "a"})
		f.equal(listed(true, all[0].Seq, 1), []string{"a"})
		f.equal(listed(false, all[1].Seq, 9), []string{"b"})
		due := func(now iot.Time) []string {
			return ids(read(f, func(r store.Reader) ([]*iot.Command, error) { return r.CommandsToDelete(now, 9) }))
		}
		f.equal(due(t0+49), []string{})
		f.equal(due(t0+50), []string{"c"})
		f.equal(read(f, store.Reader.NextDueCommand), t0+50)
		f.refused(store.ErrExists, func(tx store.Tx) error { return tx.InsertCommand(&iot.Command{ID: "a", Payload: []byte("x")}) })

		c := all[0]
		c.DisplayName, c.Description, c.DeprecatedAt, c.DeleteAt, c.UpdatedAt = "m", "e", t0+3, t0+4, t0+5
		f.update(func(tx store.Tx) error { return tx.SaveCommand(c) })
		f.equal(read(f, func(r store.Reader) (*iot.Command, error) { return r.CommandByID("b") }), c)
		f.update(func(tx store.Tx) error { return tx.DeleteCommand(c) })
		f.view(func(r store.Reader) error {
			_, err := r.CommandByID("b")
			f.fails(store.ErrNotFound, err)
			return nil
		})
		f.refused(store.ErrNotFound, func(tx store.Tx) error { return tx.SaveCommand(c) })
	}},
	{"have executions", func(f *fixture) {
		yes := true
		var all []*iot.CommandExecution
		for i := range 6 {
			n := iot.Time(i)
			all = append(all, &iot.CommandExecution{
				ID: fmt.Sprint("x", i), Command: fmt.Sprint("c", i%2), Target: fmt.Sprint("t", i%3), Status: iot.CommandCreated,
				CommandDetail: iot.CommandDetail{TimeoutSeconds: 10}, CreatedAt: t0 + n, StartedAt: t0 + n/2, UpdatedAt: t0 + n, DueAt: t0 + 100 - n,
			})
		}
		all[0].Token = "token"
		all[0].CommandDetail = iot.CommandDetail{TimeoutSeconds: 1, Reason: &iot.CommandReason{Code: "C"}, Result: map[string]iot.CommandResult{"k": {B: &yes}}, Parameters: map[string]iot.CommandValue{"p": {BIN: []byte{1}}}}
		f.update(func(tx store.Tx) error {
			for _, x := range all {
				f.must(tx.InsertCommandExecution(x))
			}
			return nil
		})
		f.reopen()
		for _, x := range all {
			f.equal(read(f, func(r store.Reader) (*iot.CommandExecution, error) { return r.CommandExecution(x.ID) }), x)
		}
		f.equal(read(f, func(r store.Reader) (*iot.CommandExecution, error) { return r.CommandExecutionByToken("token") }), all[0])
		f.view(func(r store.Reader) error {
			for _, token := range []string{"", "other"} {
				_, err := r.CommandExecutionByToken(token)
				f.fails(store.ErrNotFound, err)
			}
			_, err := r.CommandExecution("x9")
			f.fails(store.ErrNotFound, err)
			return nil
		})
		ids := func(list []*iot.CommandExecution) []string {
			return names(list, func(x *iot.CommandExecution) string { return x.ID })
		}
		due := func(now iot.Time, limit int) []string {
			return ids(read(f, func(r store.Reader) ([]*iot.CommandExecution, error) { return r.DueCommandExecutions(now, limit) }))
		}
		f.equal(due(t0+94, 9), []string{})
		f.equal(due(t0+97, 9), []string{"x5", "x4", "x3"})
		f.equal(due(t0+97, 2), []string{"x5", "x4"})
		f.equal(read(f, store.Reader.NextDueCommand), t0+95)
		running := func(target string) int {
			return read(f, func(r store.Reader) (int, error) { return r.RunningCommands(target) })
		}
		f.equal(running("t0"), 2)

		x := all[3]
		x.Status, x.CompletedAt, x.DueAt, x.StartedAt, x.Result = iot.CommandSucceeded, t0+70, 0, t0+60, all[0].Result
		y := all[5]
		y.Status, y.CompletedAt, y.DueAt = iot.CommandFailed, t0+71, 0
		f.update(func(tx store.Tx) error {
			f.must(tx.SaveCommandExecution(x))
			return tx.SaveCommandExecution(y)
		})
		f.equal(read(f, func(r store.Reader) (*iot.CommandExecution, error) { return r.CommandExecution("x3") }), x)
		f.equal(running("t0"), 1)

		listed := func(q iot.CommandExecutionQuery, limit int) (pages [][]string) {
			var after store.CommandKey
			for {
				list := read(f, func(r store.Reader) ([]*iot.CommandExecution, error) { return r.CommandExecutions(q, after, limit) })
				pages = append(pages, ids(list))
				if len(list) < limit {
					return pages
				}
				last := list[len(list)-1]
				after = store.CommandKey{At: last.StartedAt, Seq: last.Seq}
				if q.Completed {
					after.At = last.CompletedAt
				}
			}
		}
		f.equal(listed(iot.CommandExecutionQuery{Command: "c1"}, 2), [][]string{{"x3", "x5"}, {"x1"}})
		f.equal(listed(iot.CommandExecutionQuery{Command: "c1", Ascending: true}, 2), [][]string{{"x1", "x5"}, {"x3"}})
		f.equal(listed(iot.CommandExecutionQuery{Command: "c0", Ascending: true}, 1), [][]string{{"x0"}, {"x2"}, {"x4"}, {}})
		f.equal(listed(iot.CommandExecutionQuery{Target: "t0"}, 9), [][]string{{"x3", "x0"}})
		f.equal(listed(iot.CommandExecutionQuery{Target: "t2", Completed: true}, 9), [][]string{{"x5"}})
		f.equal(listed(iot.CommandExecutionQuery{Command: "c1", Completed: true, Ascending: true}, 1), [][]string{{"x3"}, {"x5"}, {}})
		f.equal(listed(iot.CommandExecutionQuery{Command: "c1", Completed: true, Status: iot.CommandFailed}, 9), [][]string{{"x5"}})
		f.equal(listed(iot.CommandExecutionQuery{Command: "c0", After: t0 + 1, Before: t0 + 2}, 9), [][]string{{"x2"}})

		f.update(func(tx store.Tx) error { return tx.DeleteCommandExecution(x) })
		trimmed := 0
		f.update(func(tx store.Tx) (err error) {
			trimmed, err = tx.TrimCommandExecutions(t0+4, 2)
			return err
		})
		f.equal(trimmed, 2)
		f.equal(due(t0+1000, 9), []string{"x4", "x2"})
		f.refused(store.ErrNotFound, func(tx store.Tx) error { return tx.SaveCommandExecution(x) })
	}},
}
