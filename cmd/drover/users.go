package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"drover/internal/auth"
	"drover/internal/iot"
	"drover/internal/wire"
)

// usersCmd is about the people who sign in to the console with a password. They are the running
// server's, as keys are.
type usersCmd struct {
	Create   usersCreateCmd   `cmd:"" help:"Make a user. The password is asked for, or read from standard input."`
	List     usersListCmd     `cmd:"" help:"List the users."`
	Password usersPasswordCmd `cmd:"" help:"Change the password of a user, which is asked for or read from standard input. His sessions end."`
	TOTP     usersTOTPCmd     `cmd:"" name:"totp" help:"Have a user need one-time codes of a new key, which is printed this once, or none any more."`
	Role     usersRoleCmd     `cmd:"" help:"Print what a user may do, or change it. His sessions end then."`
	Roles    usersRolesCmd    `cmd:"" help:"Print the roles and their policies."`
	Remove   usersRemoveCmd   `cmd:"" help:"Forget a user. His sessions end."`
}

type usersCreateCmd struct {
	apiFlags
	User   string `arg:"" help:"Name, such as alice."`
	Role   string `help:"What the user may do: viewer, operator or administrator." xor:"may" required:"" placeholder:"ROLE"`
	Policy string `help:"File with a policy of his own, as of IAM." xor:"may" required:"" placeholder:"FILE"`
}

func (c *usersCreateCmd) Run(ctx context.Context, s *streams) error {
	if c.Policy == "-" {
		return errors.New("--policy: standard input is for the password")
	}
	document, err := readPolicy(c.Policy)
	if err != nil {
		return err
	}
	a, err := c.api()
	if err != nil {
		return err
	}
	password, err := readPassword(s)
	if err != nil {
		return err
	}
	return a.call(ctx, http.MethodPost, usersPath, userChange{Name: c.User, Password: &password, Role: &c.Role, Policy: document}, nil)
}

type usersListCmd struct {
	apiFlags
	JSON bool `help:"Print JSON, with the policies."`
}

func (c *usersListCmd) Run(ctx context.Context, s *streams) error {
	users, err := c.users(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		text := json.NewEncoder(s.out)
		text.SetIndent("", "  ")
		return text.Encode(users)
	}
	table := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	say(table, "NAME\tROLE\tCODES\tCREATED\n")
	for _, u := range users {
		role := u.Role
		if role == "" {
			role = "(own policy)"
		}
		say(table, "%s\t%s\t%s\t%s\n", u.Name, role, map[bool]string{true: "yes", false: "no"}[u.TOTP], u.CreatedAt.Format(time.RFC3339))
	}
	return table.Flush()
}

type usersPasswordCmd struct {
	apiFlags
	User string `arg:"" help:"Name of the user."`
}

func (c *usersPasswordCmd) Run(ctx context.Context, s *streams) error {
	a, err := c.api()
	if err != nil {
		return err
	}
	password, err := readPassword(s)
	if err != nil {
		return err
	}
	return a.call(ctx, http.MethodPut, userPath(c.User), userChange{Password: &password}, nil)
}

type usersTOTPCmd struct {
	apiFlags
	User string `arg:"" help:"Name of the user."`
	Off  bool   `help:"He needs no codes any more."`
}

func (c *usersTOTPCmd) Run(ctx context.Context, s *streams) error {
	a, err := c.api()
	if err != nil {
		return err
	}
	on := !c.Off
	var out changedUser
	if err := a.call(ctx, http.MethodPut, userPath(c.User), userChange{TOTP: &on}, &out); err != nil || c.Off {
		return err
	}
	_, err = fmt.Fprintln(s.out, out.TOTP)
	return err
}

type usersRoleCmd struct {
	apiFlags
	User   string `arg:"" help:"Name of the user."`
	Role   string `arg:"" optional:"" help:"What he is to be: viewer, operator or administrator."`
	Policy string `help:"File with a policy of his own instead of a role; \"-\" reads standard input." placeholder:"FILE"`
}

func (c *usersRoleCmd) Run(ctx context.Context, s *streams) error {
	if c.Role == "" && c.Policy == "" {
		return c.print(ctx, s)
	}
	document, err := readPolicy(c.Policy)
	if err != nil {
		return err
	}
	a, err := c.api()
	if err != nil {
		return err
	}
	return a.call(ctx, http.MethodPut, userPath(c.User), userChange{Role: &c.Role, Policy: document}, nil)
}

func (c *usersRoleCmd) print(ctx context.Context, s *streams) error {
	users, err := c.users(ctx)
	if err != nil {
		return err
	}
	for _, u := range users {
		if u.Name != c.User {
			continue
		}
		if role, ok := auth.RoleNamed(u.Role); ok {
			return printRole(s.out, role)
		}
		_, err := fmt.Fprintln(s.out, strings.TrimSpace(u.Policy))
		return err
	}
	return fmt.Errorf("there is no user %s", c.User)
}

type usersRolesCmd struct {
	Role string `arg:"" optional:"" help:"Only this one."`
}

func (c *usersRolesCmd) Run(s *streams) error {
	if c.Role != "" {
		role, ok := auth.RoleNamed(c.Role)
		if !ok {
			return fmt.Errorf("there is no role %s", c.Role)
		}
		return printRole(s.out, role)
	}
	for _, role := range auth.Roles {
		if err := printRole(s.out, role); err != nil {
			return err
		}
	}
	return nil
}

func printRole(w io.Writer, r auth.Role) error {
	_, err := fmt.Fprintf(w, "%s: %s\n%s\n", r.Name, r.Text, r.Policy)
	return err
}

type usersRemoveCmd struct {
	apiFlags
	User string `arg:"" help:"Name of the user."`
}

func (c *usersRemoveCmd) Run(ctx context.Context, s *streams) error {
	a, err := c.api()
	if err != nil {
		return err
	}
	return a.call(ctx, http.MethodDelete, userPath(c.User), nil, nil)
}

func (f *apiFlags) users(ctx context.Context) ([]listedUser, error) {
	a, err := f.api()
	if err != nil {
		return nil, err
	}
	var out userList
	err = a.call(ctx, http.MethodGet, usersPath, nil, &out)
	return out.Users, err
}

func readPolicy(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	return readInput(file)
}

// readPassword asks for a new password, twice, or reads the first line of standard input if nobody
// is there to be asked.
func readPassword(s *streams) (string, error) {
	in := int(os.Stdin.Fd())
	if !term.IsTerminal(in) {
		const most = 64 << 10
		text, err := io.ReadAll(io.LimitReader(os.Stdin, most))
		line, _, _ := strings.Cut(string(text), "\n")
		return strings.TrimSuffix(line, "\r"), err
	}
	ask := func(what string) (string, error) {
		say(s.err, "%s: ", what)
		text, err := term.ReadPassword(in)
		say(s.err, "\n")
		return string(text), err
	}
	first, err := ask("New password")
	if err != nil {
		return "", err
	}
	again, err := ask("Again")
	if err != nil {
		return "", err
	}
	if first != again {
		return "", errors.New("the two are not the same")
	}
	return first, nil
}

// What the tool and the server say to each other.
const usersPath = "/_drover/users"

func userPath(name string) string { return usersPath + "?user=" + url.QueryEscape(name) }

// userChange makes a user, or changes what is not nil of one.
type userChange struct {
	Name     string  `json:"name,omitempty"`
	Password *string `json:"password,omitempty"`
	Role     *string `json:"role,omitempty"` // "": policy is his own
	Policy   string  `json:"policy,omitempty"`
	TOTP     *bool   `json:"totp,omitempty"`
}

type changedUser struct {
	TOTP string `json:"totp,omitempty"` // URL of the new key
}

type userList struct {
	Users []listedUser `json:"users"`
}

type listedUser struct {
	Name      string    `json:"name"`
	Role      string    `json:"role,omitempty"`
	Policy    string    `json:"policy,omitempty"`
	TOTP      bool      `json:"totp"`
	CreatedAt time.Time `json:"createdAt"`
}

// userService answers the tool. Who may call it has been checked: who can make users can make one that
// may do everything.
type userService struct {
	users *auth.Users
	log   *slog.Logger
}

func (u *userService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id, _ := auth.IdentityFrom(r.Context())
	actor := id.Principal.Actor()
	name := r.URL.Query().Get("user")
	var out any = struct{}{}
	var err error
	switch r.Method {
	case http.MethodGet:
		out, err = u.list(r.Context())
	case http.MethodPost, http.MethodPut:
		var in userChange
		if err = json.NewDecoder(r.Body).Decode(&in); err != nil {
			err = iot.Errorf(iot.InvalidRequest, "The body must be a JSON object with name, password, role, policy or totp: %v", err)
		} else if r.Method == http.MethodPost {
			err = u.create(r.Context(), in, actor)
		} else {
			out, err = u.change(r.Context(), name, in, actor)
		}
	case http.MethodDelete:
		err = u.users.Remove(r.Context(), name, actor)
	default:
		err = &wire.Error{Code: "MethodNotAllowedException", Status: http.StatusMethodNotAllowed, Message: r.Method + " is not for " + usersPath}
	}
	if err != nil {
		wire.WriteError(w, refusal(r.Context(), u.log, "users", err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	// Whoever asked has gone if this fails.
	_ = json.NewEncoder(w).Encode(out)
}

func (u *userService) list(ctx context.Context) (*userList, error) {
	users, err := u.users.List(ctx)
	out := &userList{Users: make([]listedUser, len(users))}
	for i, s := range users {
		out.Users[i] = listedUser{Name: s.Name, Role: s.Role, Policy: s.Policy, TOTP: s.TOTP != nil, CreatedAt: s.CreatedAt.Std().UTC()}
	}
	return out, err
}

func (u *userService) create(ctx context.Context, in userChange, actor string) error {
	switch {
	case in.Password == nil:
		return iot.Errorf(iot.InvalidRequest, "A user needs a password")
	case in.TOTP != nil:
		return iot.Errorf(iot.InvalidRequest, "totp is for users that there are")
	case in.Role == nil:
		in.Role = new(string)
	}
	return u.users.Create(ctx, in.Name, *in.Password, *in.Role, in.Policy, actor)
}

// change changes one thing of a user.
func (u *userService) change(ctx context.Context, name string, in userChange, actor string) (out changedUser, err error) {
	role := in.Role != nil || in.Policy != ""
	switch {
	case in.Name == "" && in.Password != nil && !role && in.TOTP == nil:
		return out, u.users.SetPassword(ctx, name, *in.Password, actor)
	case in.Name == "" && in.Password == nil && role && in.TOTP == nil:
		if in.Role == nil {
			in.Role = new(string)
		}
		return out, u.users.SetRole(ctx, name, *in.Role, in.Policy, actor)
	case in.Name == "" && in.Password == nil && !role && in.TOTP != nil:
		var key []byte
		if *in.TOTP {
			key = auth.NewTOTP()
			out.TOTP = auth.TOTPURL(key, name)
		}
		return out, u.users.SetTOTP(ctx, name, key, actor)
	}
	return out, iot.Errorf(iot.InvalidRequest, "One of password, role or policy, and totp can be changed at a time")
}

// userOwners is the users, who need the registry, for who is needed by that.
type userOwners struct{ *auth.Users }
