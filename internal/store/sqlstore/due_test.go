package sqlstore

import (
	"strings"
	"testing"
)

// TestDuePlans shows that what is not due costs nothing: each of the queries that are
// asked again and again starts at one end of a partial index and takes its rows from there
// in order, so it never reads more of them than it returns, and one to stop at.
func TestDuePlans(t *testing.T) {
	t.Parallel()
	d := openInternal(t)
	for _, c := range []struct{ query, want string }{
		{dueExecutions, "SEARCH e USING INDEX executions_by_due (due_at>? AND due_at<?)"},
		{nextDueExecution, "SEARCH executions USING COVERING INDEX executions_by_due (due_at>?)"},
		{dueJobs, "SEARCH j USING INDEX jobs_by_due (due_at>? AND due_at<?)"},
		{hastenJobs, "SEARCH jobs USING INDEX jobs_by_due (due_at>?)"},
		{nextDueJob, "SEARCH jobs USING COVERING INDEX jobs_by_due (due_at>?)"},
		{endedJobs, "SEARCH j USING INDEX jobs_by_end (updated_at<?)"},
	} {
		var plan []string
		err := d.writer.list("EXPLAIN QUERY PLAN "+c.query, func(r *row) error {
			r.col = 3
			plan = append(plan, r.text())
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if plan[0] != c.want {
			t.Errorf("starts with %q, want %q\n\tin %s", plan[0], c.want, c.query)
		}
		for _, step := range plan[1:] {
			if !strings.HasPrefix(step, "SEARCH") {
				t.Errorf("%s\n\tin %s", step, c.query)
			}
		}
	}
}
