package console

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"drover/internal/iot"
)

const thingsPage = 50

// things lists things, or searches for them: by a query of the fleet index if there is one, else by name.
func (r *request) things() error {
	if err := r.may("iot:ListThings", "*"); err != nil {
		return err
	}
	state, err := r.Registry.Indexing(r.Context())
	if err != nil {
		return err
	}
	text := strings.TrimSpace(r.FormValue("q"))
	page := iot.Page{Cursor: r.FormValue("after"), Limit: thingsPage}
	data := map[string]any{"Query": text, "Indexed": state.Things.On, "First": page.Cursor == ""}
	switch {
	case text == "":
		list, next, err := r.Registry.Things(r.Context(), iot.ThingQuery{}, page)
		if err != nil {
			return err
		}
		data["Things"], data["Next"] = list, next
	case state.Things.On:
		if err := r.may("iot:SearchIndex", r.Realm.ARN(iot.KindIndex, string(iot.ThingsIndex))); err != nil {
			return err
		}
		found, _, next, err := r.Registry.Search(r.Context(), iot.Search{Query: text}, page)
		if code := iot.ErrorCode(err); code == iot.InvalidQuery || code == iot.IndexNotReady {
			data["Error"] = err
		} else if err != nil {
			return err
		}
		list := make([]*iot.Thing, len(found))
		for i := range found {
			list[i] = found[i].Thing
		}
		data["Things"], data["Next"] = list, next
	default:
		thing, err := r.Registry.Thing(r.Context(), iot.ThingName(text))
		if err != nil && iot.ErrorCode(err) != iot.NotFound {
			return err
		}
		if err == nil {
			data["Things"] = []*iot.Thing{thing}
		}
	}
	return r.render(http.StatusOK, "things", "Things", data)
}

// thing shows one thing, and what it has been told to do.
func (r *request) thing() error {
	name := iot.ThingName(r.PathValue("name"))
	arn := r.Realm.ARN(iot.KindThing, string(name))
	if err := r.may("iot:DescribeThing", arn); err != nil {
		return err
	}
	thing, err := r.Registry.Thing(r.Context(), name)
	if err != nil {
		return err
	}
	groups, _, err := r.Registry.GroupsOfThing(r.Context(), name, iot.Page{Limit: 100})
	if err != nil {
		return err
	}
	data := map[string]any{"Thing": thing, "Groups": groups}
	data["Presence"], data["Seen"] = r.presence(string(name))
	if r.can("iot:ListJobExecutionsForThing", arn) {
		executions, next, err := r.Jobs.ThingExecutions(r.Context(), name, iot.ExecutionQuery{}, iot.Page{Cursor: r.FormValue("after"), Limit: executionsPage})
		if err != nil {
			return err
		}
		data["Executions"], data["Next"], data["CanExecutions"] = executions, next, true
	}
	if r.can("iot:ListThingPrincipals", arn) {
		principals, _, err := r.Registry.PrincipalsOfThing(r.Context(), name, iot.AttachmentQuery{}, iot.Page{Limit: 50})
		if err != nil {
			return err
		}
		data["Principals"] = principals
	}
	if r.can("iot:GetThingShadow", arn+"/"+iot.PackageShadow) {
		if data["Installed"], err = r.installed(name); err != nil {
			return err
		}
	}
	return r.render(http.StatusOK, "thing", string(name), data)
}

// installed is a version of a package that a thing has, or is to have.
type installed struct {
	Package, Version, Wanted string
	Attributes               map[string]string
}

// installed reads the shadow of a thing that says so. What does not look like a version is left out: devices write it.
func (r *request) installed(name iot.ThingName) (list []installed, err error) {
	text, err := r.Registry.Shadow(r.Context(), name, nil)
	if iot.ErrorCode(err) == iot.NotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var doc struct {
		State struct{ Desired, Reported map[string]any }
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	version := func(of map[string]any, pkg string) string {
		entry, _ := of[pkg].(map[string]any)
		s, _ := entry["version"].(string)
		return s
	}
	names := make(map[string]bool)
	for _, section := range []map[string]any{doc.State.Desired, doc.State.Reported} {
		for pkg := range section {
			names[pkg] = true
		}
	}
	for _, pkg := range slices.Sorted(maps.Keys(names)) {
		i := installed{Package: pkg, Version: version(doc.State.Reported, pkg), Attributes: make(map[string]string)}
		if wanted := version(doc.State.Desired, pkg); wanted != i.Version {
			i.Wanted = wanted
		}
		entry, _ := doc.State.Reported[pkg].(map[string]any)
		attributes, _ := entry["attributes"].(map[string]any)
		for k, v := range attributes {
			i.Attributes[k] = fmt.Sprint(v)
		}
		if i.Version != "" || i.Wanted != "" {
			list = append(list, i)
		}
	}
	return list, nil
}

func (r *request) presence(clientID string) (Presence, bool) { return r.Fleet.Presence(clientID) }

// groups lists the groups at the top, or those whose names begin with something.
func (r *request) groups() error {
	if err := r.may("iot:ListThingGroups", "*"); err != nil {
		return err
	}
	prefix := strings.TrimSpace(r.FormValue("q"))
	recursive := prefix != ""
	list, next, err := r.Registry.Groups(r.Context(), iot.GroupQuery{Prefix: prefix, Recursive: &recursive}, iot.Page{Cursor: r.FormValue("after"), Limit: thingsPage})
	if err != nil {
		return err
	}
	return r.render(http.StatusOK, "groups", "Groups", map[string]any{"Groups": list, "Next": next, "Query": prefix, "First": r.FormValue("after") == ""})
}

// group shows a group, the groups below it and its members.
func (r *request) group() error {
	name := iot.GroupName(r.PathValue("name"))
	arn := r.Realm.ARN(iot.KindGroup, string(name))
	if err := r.may("iot:DescribeThingGroup", arn); err != nil {
		return err
	}
	g, ancestors, err := r.Registry.Group(r.Context(), name)
	if err != nil {
		return err
	}
	children, _, err := r.Registry.Groups(r.Context(), iot.GroupQuery{Parent: name}, iot.Page{Limit: 100})
	if err != nil {
		return err
	}
	data := map[string]any{"Group": g, "Ancestors": ancestors, "Children": children}
	if data["Live"], err = r.groupLive(g); err != nil {
		return err
	}
	if r.can("iot:ListThingsInThingGroup", arn) {
		members, next, err := r.Registry.Members(r.Context(), name, false, iot.Page{Cursor: r.FormValue("after"), Limit: thingsPage})
		if err != nil {
			return err
		}
		data["Members"], data["Next"], data["CanMembers"] = members, next, true
	}
	return r.render(http.StatusOK, "group", string(name), data)
}

// groupLive is what changes on the page of a group.
type groupLive struct {
	*iot.Group
	Members int // of the group and those below it
	Many    bool
	Shown   bool
}

func (r *request) groupLive(g *iot.Group) (*groupLive, error) {
	l := &groupLive{Group: g, Shown: r.can("iot:ListThingsInThingGroup", r.Realm.ARN(iot.KindGroup, string(g.Name)))}
	if !l.Shown {
		return l, nil
	}
	n, err := r.count(g.Name)
	l.Members, l.Many = n, n >= maxCounted
	return l, err
}

// count is how many things are in a group and those below it, as far as maxCounted.
func (r *request) count(group iot.GroupName) (n int, err error) {
	for cursor := ""; n < maxCounted; {
		members, next, err := r.Registry.Members(r.Context(), group, true, iot.Page{Cursor: cursor, Limit: 1000})
		if err != nil {
			return 0, err
		}
		n += len(members)
		if cursor = next; next == "" {
			break
		}
	}
	return n, nil
}

// liveGroup keeps the page of a group up to date.
func (r *request) liveGroup() error {
	name := iot.GroupName(r.PathValue("name"))
	return r.stream(func() (string, bool, error) {
		if err := r.may("iot:DescribeThingGroup", r.Realm.ARN(iot.KindGroup, string(name))); err != nil {
			return "", false, err
		}
		g, _, err := r.Registry.Group(r.Context(), name)
		if err != nil {
			return "", false, err
		}
		live, err := r.groupLive(g)
		if err != nil {
			return "", false, err
		}
		html, err := r.fragment("group", "live", live)
		return html, false, err
	})
}
