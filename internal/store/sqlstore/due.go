package sqlstore

import "drover/internal/iot"

// dueExecutions and nextDueExecution repeat the condition of the index executions_by_due,
// and read nothing else until they have found a row.
const (
	dueExecutions    = selectExecutions + `WHERE e.due_at > 0 AND e.due_at <= $1 ORDER BY e.due_at, e.seq LIMIT $2`
	nextDueExecution = `SELECT due_at FROM executions WHERE due_at > 0 ORDER BY due_at LIMIT 1`
)

// DueExecutions implements store.ExecutionReader.
func (r reader) DueExecutions(now iot.Time, limit int) ([]iot.Execution, error) {
	return r.executions(dueExecutions, now, limit)
}

// NextDueExecution implements store.ExecutionReader.
func (r reader) NextDueExecution() (iot.Time, error) {
	at, err := r.c.number(nextDueExecution)
	return iot.Time(at), err
}
