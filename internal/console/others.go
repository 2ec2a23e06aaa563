package console

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"drover/internal/auth"
	"drover/internal/iot"
)

// Streams, updates over the air, billing groups and users.

type streamInfo struct {
	ID      string  `json:"streamId"`
	ARN     string  `json:"streamArn"`
	Text    string  `json:"description"`
	Version int64   `json:"streamVersion"`
	Created seconds `json:"createdAt"`
	Changed seconds `json:"lastUpdatedAt"`
	Files   []struct {
		ID int64 `json:"fileId"`
		s3Place
	} `json:"files"`
}

func (r *request) streams() error {
	s := sheet{Title: "Streams", Hint: "Files that devices fetch block by block over MQTT. An OTA update makes its own."}
	var out struct {
		Streams []streamInfo
		Next    string `json:"nextToken"`
	}
	if err := r.call(http.MethodGet, "/streams", r.onPage(&s, 50), nil, &out); err != nil {
		return err
	}
	t := table{Label: "Streams", Head: []string{"Stream", "Description", "Version"}, Empty: "There are no streams."}
	for _, x := range out.Streams {
		t.Rows = append(t.Rows, []cell{to(x.ID, "streams/"+url.PathEscape(x.ID)), plain(x.Text), plain(strconv.FormatInt(x.Version, 10))})
	}
	s.Tables, s.Next = []table{t}, out.Next
	return r.sheet(s)
}

func (r *request) streamPage() error { return r.showStream(sheet{}) }

func (r *request) showStream(s sheet) error {
	id := r.PathValue("id")
	var out struct {
		Info streamInfo `json:"streamInfo"`
	}
	if err := r.call(http.MethodGet, "/streams/"+url.PathEscape(id), nil, nil, &out); err != nil {
		return err
	}
	x := out.Info
	s.Title, s.First = "Stream "+id, true
	s.Facts = facts("Description", plain(x.Text), "Version", plain(strconv.FormatInt(x.Version, 10)), "Created", when(x.Created), "Changed", when(x.Changed), "ARN", cell{Text: x.ARN, Code: true})
	t := table{Title: "Files", Label: "Files", Head: []string{"File", "Where it is"}}
	for _, f := range x.Files {
		t.Rows = append(t.Rows, []cell{plain(strconv.FormatInt(f.ID, 10)), f.cell(r.Files)})
	}
	s.Tables = []table{t}
	if r.can("iot:DeleteStream", x.ARN) {
		s.Forms = []form{{Title: "Delete the stream", Do: "delete", Button: "Delete…", Danger: true}}
	}
	return r.sheet(s)
}

func (r *request) doStream() error {
	id := r.PathValue("id")
	return r.do(orders{"delete": r.sure("Delete this stream?", id, "Devices cannot fetch its files any more. One that an update uses is not deleted.", "Delete", Path+"streams",
		func() error { return r.call(http.MethodDelete, "/streams/"+url.PathEscape(id), nil, nil, nil) })}, r.showStream)
}

type otaUpdate struct {
	ID        string                          `json:"otaUpdateId"`
	ARN       string                          `json:"otaUpdateArn"`
	Text      string                          `json:"description"`
	Status    string                          `json:"otaUpdateStatus"`
	Job       string                          `json:"awsIotJobId"`
	Targets   []string                        `json:"targets"`
	Protocols []string                        `json:"protocols"`
	Created   seconds                         `json:"creationDate"`
	Error     *struct{ Code, Message string } `json:"errorInfo"`
	Files     []struct {
		Name    string `json:"fileName"`
		Version string `json:"fileVersion"`
		At      struct {
			Stream *struct {
				ID string `json:"streamId"`
			} `json:"stream"`
			S3 *struct{ Bucket, Key string } `json:"s3Location"`
		} `json:"fileLocation"`
	} `json:"otaUpdateFiles"`
}

func (r *request) updates() error {
	s := sheet{Title: "OTA updates", Hint: "Files for FreeRTOS devices, over MQTT or HTTP. Each is carried out as a job."}
	var out struct {
		Updates []otaUpdate `json:"otaUpdates"`
		Next    string      `json:"nextToken"`
	}
	if err := r.call(http.MethodGet, "/otaUpdates", r.onPage(&s, 50), nil, &out); err != nil {
		return err
	}
	t := table{Label: "Updates", Head: []string{"Update", "Created"}, Empty: "There are no updates."}
	for _, u := range out.Updates {
		t.Rows = append(t.Rows, []cell{to(u.ID, "updates/"+url.PathEscape(u.ID)), when(u.Created)})
	}
	s.Tables, s.Next = []table{t}, out.Next
	return r.sheet(s)
}

func (r *request) updatePage() error { return r.showUpdate(sheet{}) }

func (r *request) showUpdate(s sheet) error {
	id := r.PathValue("id")
	var out struct {
		Info otaUpdate `json:"otaUpdateInfo"`
	}
	if err := r.call(http.MethodGet, "/otaUpdates/"+url.PathEscape(id), nil, nil, &out); err != nil {
		return err
	}
	u := out.Info
	s.Title, s.First = "OTA update "+id, true
	job := cell{}
	if u.Job != "" {
		job = to(u.Job, "jobs/"+url.PathEscape(u.Job))
	}
	s.Facts = facts("Description", plain(u.Text), "Status", cell{Pill: u.Status}, "Job", job, "Created", when(u.Created), "Protocols", plain(strings.Join(u.Protocols, ", ")), "ARN", cell{Text: u.ARN, Code: true})
	if u.Error != nil {
		s.Facts = append(s.Facts, facts("What went wrong", plain(u.Error.Message))...)
	}
	files := table{Title: "Files", Label: "Files", Head: []string{"File", "Version", "Where it is"}}
	for _, f := range u.Files {
		at := cell{}
		if f.At.Stream != nil {
			at = to("stream "+f.At.Stream.ID, "streams/"+url.PathEscape(f.At.Stream.ID))
		} else if f.At.S3 != nil {
			at = plain("s3://" + f.At.S3.Bucket + "/" + f.At.S3.Key)
		}
		files.Rows = append(files.Rows, []cell{plain(f.Name), plain(f.Version), at})
	}
	targets := table{Title: "Targets", Label: "Targets", Head: []string{"Target"}}
	for _, l := range r.links(u.Targets) {
		targets.Rows = append(targets.Rows, []cell{{Text: l.Text, URL: l.URL}})
	}
	s.Tables = []table{files, targets}
	if r.can("iot:DeleteOTAUpdate", u.ARN) {
		s.Forms = []form{{Title: "Delete the update", Do: "delete", Button: "Delete…", Danger: true}}
	}
	return r.sheet(s)
}

func (r *request) doUpdate() error {
	id := r.PathValue("id")
	return r.do(orders{"delete": r.sure("Delete this update?", id, "Its job is deleted, too, whatever devices are doing, and the stream that was made for it.", "Delete", Path+"updates", func() error {
		return r.call(http.MethodDelete, "/otaUpdates/"+url.PathEscape(id), url.Values{"deleteStream": {"true"}, "forceDeleteAWSJob": {"true"}}, nil, nil)
	})}, r.showUpdate)
}

const billingPath = "/billing-groups"

func (r *request) billingGroups() error { return r.showBillingGroups(sheet{}) }

func (r *request) showBillingGroups(s sheet) error {
	s.Title, s.Hint = "Billing groups", "Things for which somebody pays. A thing is in one at most; drover bills nobody."
	var out struct {
		Groups []struct {
			Name string `json:"groupName"`
		} `json:"billingGroups"`
		Next string `json:"nextToken"`
	}
	if err := r.call(http.MethodGet, billingPath, r.onPage(&s, 100), nil, &out); err != nil {
		return err
	}
	t := table{Label: "Billing groups", Head: []string{"Group"}, Empty: "There are no billing groups."}
	for _, g := range out.Groups {
		t.Rows = append(t.Rows, []cell{to(g.Name, "billing-groups/"+url.PathEscape(g.Name))})
	}
	s.Tables, s.Next = []table{t}, out.Next
	if r.can("iot:CreateBillingGroup", r.Realm.ARN(iot.KindBillingGroup, "*")) {
		s.Forms = []form{{Title: "New billing group", Do: "create", Button: "Create the group", Fields: []field{
			{Label: "Name", Name: "name", Value: r.field("name"), Required: true}, {Label: "Description", Name: "description", Value: r.field("description")},
		}}}
	}
	return r.sheet(s)
}

func (r *request) doBillingGroups() error {
	return r.do(orders{"create": func() (string, error) {
		name := url.PathEscape(r.field("name"))
		in := map[string]any{"billingGroupProperties": map[string]string{"billingGroupDescription": r.field("description")}}
		return Path + "billing-groups/" + name, r.call(http.MethodPost, billingPath+"/"+name, nil, in, nil)
	}}, r.showBillingGroups)
}

func (r *request) billingGroupPage() error { return r.showBillingGroup(sheet{}) }

func (r *request) showBillingGroup(s sheet) error {
	name := r.PathValue("name")
	path := billingPath + "/" + url.PathEscape(name)
	var g struct {
		ARN        string `json:"billingGroupArn"`
		Version    int64
		Properties struct {
			Text string `json:"billingGroupDescription"`
		} `json:"billingGroupProperties"`
		Metadata struct {
			Created seconds `json:"creationDate"`
		} `json:"billingGroupMetadata"`
	}
	if err := r.call(http.MethodGet, path, nil, nil, &g); err != nil {
		return err
	}
	var members struct {
		Things []string
		Next   string `json:"nextToken"`
	}
	if err := r.call(http.MethodGet, path+"/things", r.onPage(&s, 100), nil, &members); err != nil {
		return err
	}
	s.Title, s.Next = "Billing group "+name, members.Next
	s.Facts = facts("Description", plain(g.Properties.Text), "Created", when(g.Metadata.Created), "ARN", cell{Text: g.ARN, Code: true})
	t := table{Title: "Things", Label: "Things", Head: []string{"Thing"}, Empty: "It has none."}
	for _, n := range members.Things {
		t.Rows = append(t.Rows, []cell{to(n, "things/"+url.PathEscape(n))})
	}
	s.Tables = []table{t}
	if r.can("iot:AddThingToBillingGroup", g.ARN) {
		s.Forms = append(s.Forms, form{Title: "Add a thing", Do: "add", Button: "Add", Fields: []field{{Label: "Thing", Name: "thing", Value: r.field("thing"), Required: true}}})
	}
	if r.can("iot:RemoveThingFromBillingGroup", g.ARN) && len(members.Things) > 0 {
		s.Forms = append(s.Forms, form{Title: "Take a thing out", Do: "remove", Button: "Take out", Fields: []field{{Label: "Thing", Name: "thing", Required: true}}})
	}
	if r.can("iot:DeleteBillingGroup", g.ARN) {
		s.Forms = append(s.Forms, form{Title: "Delete the group", Do: "delete", Button: "Delete…", Danger: true})
	}
	return r.sheet(s)
}

func (r *request) doBillingGroup() error {
	name := r.PathValue("name")
	here := Path + "billing-groups/" + url.PathEscape(name)
	member := func(what string) func() (string, error) {
		return func() (string, error) {
			return here, r.call(http.MethodPut, billingPath+"/"+what, nil, map[string]string{"billingGroupName": name, "thingName": r.field("thing")}, nil)
		}
	}
	return r.do(orders{
		"add": member("addThingToBillingGroup"), "remove": member("removeThingFromBillingGroup"),
		"delete": r.sure("Delete this billing group?", name, "Its things leave it.", "Delete", Path+"billing-groups",
			func() error { return r.call(http.MethodDelete, billingPath+"/"+url.PathEscape(name), nil, nil, nil) }),
	}, r.showBillingGroup)
}

// usersPath is where the server manages users.
const usersPath = "/_drover/users"

type listedUser struct {
	Name    string    `json:"name"`
	Role    string    `json:"role"`
	Policy  string    `json:"policy"`
	TOTP    bool      `json:"totp"`
	Created time.Time `json:"createdAt"`
}

func (r *request) userList() ([]listedUser, error) {
	var out struct{ Users []listedUser }
	err := r.call(http.MethodGet, usersPath, nil, nil, &out)
	return out.Users, err
}

func roleNames() (names []string) {
	for _, role := range auth.Roles {
		names = append(names, role.Name)
	}
	return names
}

func (r *request) users() error { return r.showUsers(sheet{}) }

func (r *request) showUsers(s sheet) error {
	users, err := r.userList()
	if err != nil {
		return err
	}
	s.Title, s.Hint, s.First = "Users", "People who sign in here with a name and a password.", true
	t := table{Label: "Users", Head: []string{"User", "Role", "One-time codes", "Since"}, Empty: "There are no users. Keys sign in, too."}
	for _, u := range users {
		role, codes := u.Role, ""
		if role == "" {
			role = "a policy of his own"
		}
		if u.TOTP {
			codes = "needed"
		}
		t.Rows = append(t.Rows, []cell{to(u.Name, "users/"+url.PathEscape(u.Name)), plain(role), plain(codes), {At: iot.At(u.Created)}})
	}
	roles := table{Title: "Roles", Label: "Roles", Head: []string{"Role", "Who has it"}}
	for _, role := range auth.Roles {
		roles.Rows = append(roles.Rows, []cell{plain(role.Name), plain(role.Text)})
	}
	s.Tables = []table{t, roles}
	s.Forms = []form{{Title: "New user", Hint: "The password has 12 characters at least. Users change theirs themselves, under their names.", Do: "create", Button: "Create the user", Fields: []field{
		{Label: "Name", Name: "name", Value: r.field("name"), Required: true}, {Label: "Password", Name: "password", Kind: "password", Required: true},
		{Label: "Role", Name: "role", Kind: "select", Options: roleNames(), Value: r.field("role")},
	}}}
	return r.sheet(s)
}

func (r *request) doUsers() error {
	return r.do(orders{"create": func() (string, error) {
		name := r.field("name")
		return Path + "users/" + url.PathEscape(name), r.call(http.MethodPost, usersPath, nil, map[string]string{"name": name, "password": r.FormValue("password"), "role": r.field("role")}, nil)
	}}, r.showUsers)
}

func (r *request) userPage() error { return r.showUser(sheet{}) }

func (r *request) showUser(s sheet) error {
	users, err := r.userList()
	if err != nil {
		return err
	}
	for _, u := range users {
		if u.Name != r.PathValue("name") {
			continue
		}
		s.Title, s.First = "User "+u.Name, true
		role, codes := plain(u.Role), plain("not needed")
		if u.Role == "" {
			role = plain("a policy of his own")
			s.Code = []codeBlock{{"Policy", pretty(u.Policy)}}
		}
		if u.TOTP {
			codes = plain("needed")
		}
		s.Facts = facts("Role", role, "One-time codes", codes, "Since", cell{At: iot.At(u.Created)})
		s.Forms = []form{
			{Title: "Role", Hint: "Sessions of this user end.", Do: "role", Button: "Change the role", Fields: []field{{Label: "Role", Name: "role", Kind: "select", Options: roleNames(), Value: u.Role}}},
			{Title: "Password", Hint: "Sessions of this user end. The password has 12 characters at least.", Do: "password", Button: "Set the password", Fields: []field{{Label: "New password", Name: "password", Kind: "password", Required: true}}},
		}
		if u.TOTP {
			s.Forms = append(s.Forms, form{Title: "One-time codes", Hint: "For who has lost the authenticator. A password is enough from then on.", Do: "codes", Button: "Switch them off…", Danger: true})
		}
		s.Forms = append(s.Forms, form{Title: "Remove the user", Do: "remove", Button: "Remove…", Danger: true})
		return r.sheet(s)
	}
	return iot.Errorf(iot.NotFound, "There is no user %s.", r.PathValue("name"))
}

func (r *request) doUser() error {
	name := r.PathValue("name")
	here, who := Path+"users/"+url.PathEscape(name), url.Values{"user": {name}}
	change := func(in map[string]any, done string) (string, error) {
		err := r.call(http.MethodPut, usersPath, who, in, nil)
		if err == nil {
			r.notify("%s", done)
		}
		return here, err
	}
	return r.do(orders{
		"role": func() (string, error) {
			return change(map[string]any{"role": r.field("role")}, "The role was changed.")
		},
		"password": func() (string, error) {
			return change(map[string]any{"password": r.FormValue("password")}, "The password was set.")
		},
		"codes": r.sure("Switch one-time codes off?", name, "Whoever knows the password can sign in from then on.", "Switch off", here, func() error {
			_, err := change(map[string]any{"totp": false}, "One-time codes are not needed any more.")
			return err
		}),
		"remove": r.sure("Remove this user?", name, "Sessions of this user end.", "Remove", Path+"users", func() error { return r.call(http.MethodDelete, usersPath, who, nil, nil) }),
	}, r.showUser)
}
