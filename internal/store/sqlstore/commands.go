package sqlstore

import (
	"cmp"
	"math"
	"strconv"

	"drover/internal/iot"
	"drover/internal/store"
)

// commandText is what a row of commands has as JSON: all but payload, template and times.
type commandText struct {
	DisplayName string                 `json:"displayName,omitempty"`
	Description string                 `json:"description,omitempty"`
	RoleARN     string                 `json:"roleArn,omitempty"`
	ContentType string                 `json:"contentType,omitempty"`
	Template    bool                   `json:"template,omitempty"` // payload is one
	Format      string                 `json:"format,omitempty"`
	Parameters  []iot.CommandParameter `json:"parameters,omitempty"`
}

func newCommandText(c *iot.Command) (string, error) {
	return toJSON(commandText{c.DisplayName, c.Description, c.RoleARN, c.ContentType, c.Template != "", c.Format, c.Parameters})
}

const commandColumns = `seq, id, description, deprecated_at, delete_at, created_at, updated_at`

// scanCommand reads the columns; template says whether the payload is one.
func scanCommand(r *row) (c *iot.Command, template bool, err error) {
	c = &iot.Command{Seq: r.int(), ID: r.text()}
	var t commandText
	if err := fromJSON(r.text(), &t); err != nil {
		return nil, false, err
	}
	c.DisplayName, c.Description, c.RoleARN, c.ContentType, c.Format, c.Parameters = t.DisplayName, t.Description, t.RoleARN, t.ContentType, t.Format, t.Parameters
	c.DeprecatedAt, c.DeleteAt, c.CreatedAt, c.UpdatedAt = r.time(), r.time(), r.time(), r.time()
	return c, t.Template, nil
}

// CommandByID implements store.CommandReader.
func (r reader) CommandByID(id string) (c *iot.Command, err error) {
	err = r.c.one(`SELECT `+commandColumns+`, payload FROM commands WHERE id = $1`, func(r *row) error {
		var template bool
		if c, template, err = scanCommand(r); err != nil {
			return err
		}
		if template {
			c.Template = r.blob()
		} else {
			c.Payload = []byte(r.blob())
		}
		return nil
	}, id)
	return c, err
}

func (r reader) commands(query string, values ...any) (list []*iot.Command, err error) {
	err = r.c.list(query, func(r *row) error {
		c, _, err := scanCommand(r)
		list = append(list, c)
		return err
	}, values...)
	return list, err
}

// Commands implements store.CommandReader.
func (r reader) Commands(ascending bool, after int64, limit int) ([]*iot.Command, error) {
	if ascending {
		return r.commands(`SELECT `+commandColumns+` FROM commands WHERE delete_at = 0 AND seq > $1 ORDER BY seq LIMIT $2`, after, limit)
	}
	return r.commands(`SELECT `+commandColumns+` FROM commands WHERE delete_at = 0 AND seq < $1 ORDER BY seq DESC LIMIT $2`, cmp.Or(after, maxID), limit)
}

// CommandsToDelete implements store.CommandReader.
func (r reader) CommandsToDelete(now iot.Time, limit int) ([]*iot.Command, error) {
	return r.commands(`SELECT `+commandColumns+` FROM commands WHERE delete_at > 0 AND delete_at <= $1 ORDER BY delete_at, seq LIMIT $2`, now, limit)
}

// NextDueCommand implements store.CommandReader.
func (r reader) NextDueCommand() (iot.Time, error) {
	execution, err := r.c.number(`SELECT due_at FROM command_executions WHERE due_at > 0 ORDER BY due_at LIMIT 1`)
	if err != nil {
		return 0, err
	}
	command, err := r.c.number(`SELECT delete_at FROM commands WHERE delete_at > 0 ORDER BY delete_at LIMIT 1`)
	if execution == 0 || command != 0 && command < execution {
		execution = command
	}
	return iot.Time(execution), err
}

const commandExecutionColumns = `seq, id, command, target, token, status, detail, created_at, started_at, updated_at, completed_at, due_at`

func (r reader) commandExecutions(query string, values ...any) (list []*iot.CommandExecution, err error) {
	err = r.c.list(query, func(r *row) error {
		x := &iot.CommandExecution{Seq: r.int(), ID: r.text(), Command: r.text(), Target: r.text(), Token: r.text(), Status: iot.CommandStatus(r.text())}
		if err := fromJSON(r.text(), &x.CommandDetail); err != nil {
			return err
		}
		x.CreatedAt, x.StartedAt, x.UpdatedAt, x.CompletedAt, x.DueAt = r.time(), r.time(), r.time(), r.time(), r.time()
		list = append(list, x)
		return nil
	}, values...)
	return list, err
}

func oneExecution(list []*iot.CommandExecution, err error) (*iot.CommandExecution, error) {
	if err == nil && len(list) == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// CommandExecution implements store.CommandReader.
func (r reader) CommandExecution(id string) (*iot.CommandExecution, error) {
	return oneExecution(r.commandExecutions(`SELECT `+commandExecutionColumns+` FROM command_executions WHERE id = $1`, id))
}

// CommandExecutionByToken implements store.CommandReader.
func (r reader) CommandExecutionByToken(token string) (*iot.CommandExecution, error) {
	return oneExecution(r.commandExecutions(`SELECT `+commandExecutionColumns+` FROM command_executions WHERE token = $1 AND token <> '' LIMIT 1`, token))
}

// CommandExecutions implements store.CommandReader.
func (r reader) CommandExecutions(q iot.CommandExecutionQuery, after store.CommandKey, limit int) ([]*iot.CommandExecution, error) {
	// Few queries, each of which has its index: what is asked for, by when, and in which order.
	what, by := "command", q.Command
	if q.Target != "" {
		what, by = "target", q.Target
	}
	at, ended := "started_at", ""
	if q.Completed {
		at, ended = "completed_at", " AND completed_at > 0"
	}
	from, until := q.After, iot.Time(math.MaxInt64)
	if q.Before != 0 {
		until = q.Before
	}
	beyond, order := " AND ("+at+" < $4 OR "+at+" = $4 AND seq < $5)", " DESC"
	if q.Ascending {
		beyond, order = " AND ("+at+" > $4 OR "+at+" = $4 AND seq > $5)", ""
	} else if after.Seq == 0 {
		after = store.CommandKey{At: math.MaxInt64, Seq: maxID}
	}
	values := []any{by, from, until, after.At, after.Seq}
	status := ""
	if q.Status != "" {
		status = " AND status = $6"
		values = append(values, string(q.Status))
	}
	values = append(values, limit)
	return r.commandExecutions(`SELECT `+commandExecutionColumns+` FROM command_executions WHERE `+what+` = $1`+ended+
		` AND `+at+` >= $2 AND `+at+` < $3`+beyond+status+` ORDER BY `+at+order+`, seq`+order+` LIMIT $`+strconv.Itoa(len(values)), values...)
}

// RunningCommands implements store.CommandReader.
func (r reader) RunningCommands(target string) (int, error) {
	n, err := r.c.number(`SELECT count(*) FROM command_executions WHERE target = $1 AND due_at > 0`, target)
	return int(n), err
}

// DueCommandExecutions implements store.CommandReader.
func (r reader) DueCommandExecutions(now iot.Time, limit int) ([]*iot.CommandExecution, error) {
	return r.commandExecutions(`SELECT `+commandExecutionColumns+` FROM command_executions WHERE due_at > 0 AND due_at <= $1 ORDER BY due_at, seq LIMIT $2`, now, limit)
}

// InsertCommand implements store.CommandWriter.
func (t *tx) InsertCommand(c *iot.Command) error {
	text, err := newCommandText(c)
	if err != nil {
		return t.failing(err)
	}
	seq, err := t.Sequence(1)
	if err != nil {
		return err
	}
	payload := c.Payload
	if c.Template != "" {
		payload = []byte(c.Template)
	}
	err = t.write(`INSERT INTO commands (seq, id, description, payload, deprecated_at, delete_at, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`, 1, func(_ int, a *args) {
		a.int(seq)
		a.text(c.ID)
		a.text(text)
		a.blob(payload)
		a.time(c.DeprecatedAt)
		a.time(c.DeleteAt)
		a.time(c.CreatedAt)
		a.time(c.UpdatedAt)
	}, nil)
	if err == nil {
		c.Seq = seq
	}
	return err
}

// SaveCommand implements store.CommandWriter.
func (t *tx) SaveCommand(c *iot.Command) error {
	text, err := newCommandText(c)
	if err != nil {
		return t.failing(err)
	}
	return t.change(`UPDATE commands SET description = $1, deprecated_at = $2, delete_at = $3, updated_at = $4 WHERE seq = $5`,
		text, c.DeprecatedAt, c.DeleteAt, c.UpdatedAt, c.Seq)
}

// DeleteCommand implements store.CommandWriter.
func (t *tx) DeleteCommand(c *iot.Command) error {
	_, err := t.exec(`DELETE FROM commands WHERE seq = $1`, c.Seq)
	return err
}

// InsertCommandExecution implements store.CommandWriter.
func (t *tx) InsertCommandExecution(x *iot.CommandExecution) error {
	detail, err := toJSON(x.CommandDetail)
	if err != nil {
		return t.failing(err)
	}
	seq, err := t.Sequence(1)
	if err != nil {
		return err
	}
	_, err = t.exec(`INSERT INTO command_executions (`+commandExecutionColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		seq, x.ID, x.Command, x.Target, x.Token, string(x.Status), detail, x.CreatedAt, x.StartedAt, x.UpdatedAt, x.CompletedAt, x.DueAt)
	if err == nil {
		x.Seq = seq
	}
	return err
}

// SaveCommandExecution implements store.CommandWriter.
func (t *tx) SaveCommandExecution(x *iot.CommandExecution) error {
	detail, err := toJSON(x.CommandDetail)
	if err != nil {
		return t.failing(err)
	}
	return t.change(`UPDATE command_executions SET status = $1, detail = $2, started_at = $3, updated_at = $4, completed_at = $5, due_at = $6 WHERE seq = $7`,
		string(x.Status), detail, x.StartedAt, x.UpdatedAt, x.CompletedAt, x.DueAt, x.Seq)
}

// DeleteCommandExecution implements store.CommandWriter.
func (t *tx) DeleteCommandExecution(x *iot.CommandExecution) error {
	_, err := t.exec(`DELETE FROM command_executions WHERE seq = $1`, x.Seq)
	return err
}

// TrimCommandExecutions implements store.CommandWriter.
func (t *tx) TrimCommandExecutions(before iot.Time, limit int) (int, error) {
	return t.exec(`DELETE FROM command_executions WHERE seq IN (SELECT seq FROM command_executions WHERE created_at < $1 ORDER BY created_at LIMIT $2)`, before, limit)
}

var (
	_ store.CommandReader = reader{}
	_ store.CommandWriter = (*tx)(nil)
)
