package registry

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"drover/internal/iot"
	"drover/internal/query"
	"drover/internal/store"
)

// The fleet index (registry spec §5). What a transaction has touched is put into the index before it
// ends, so that a search after an answer finds what was answered. An index that is switched on is
// built in the background.

const (
	buildChunk   = 500 // documents in a transaction
	buildPeriod  = 5 * time.Second
	customFields = 5
)

// touched is what a transaction has changed of things and groups.
type touched struct {
	things     []iot.ThingName
	goneThings []int64
	groups     []int64
	goneGroups []int64
}

// index brings the indexes, and dynamic groups, up to what has been touched.
func (r *Registry) index(c *change) error {
	t := c.touched
	if len(t.things)+len(t.goneThings)+len(t.groups)+len(t.goneGroups) == 0 {
		return nil
	}
	state, err := c.IndexState()
	if err != nil {
		return err
	}
	if state.Things.Status != iot.IndexNone {
		slices.Sort(t.things)
		byName, err := c.ThingsByName(slices.Compact(t.things))
		if err != nil {
			return err
		}
		if err := r.indexThings(c, state, slices.Collect(maps.Values(byName)), t.goneThings); err != nil {
			return err
		}
	}
	if state.Groups.Status == iot.IndexNone {
		return nil
	}
	groups, err := c.GroupsByID(t.groups)
	if err != nil {
		return err
	}
	return c.indexGroups(state.Groups, slices.Collect(maps.Values(groups)), t.goneGroups)
}

// indexThings replaces what the index has of things, and forgets those that are gone.
func (r *Registry) indexThings(c *change, state iot.IndexState, things []*iot.Thing, gone []int64) error {
	slices.SortFunc(things, func(a, b *iot.Thing) int { return cmp.Compare(a.ID, b.ID) }) // always in the same order
	connections, err := connectionsOf(c, state.Things, things)
	if err != nil {
		return err
	}
	if connections != nil && r.connections.on.Load() {
		var unseen []iot.ThingName
		for _, t := range things {
			if _, ever := connections[t.ID]; !ever {
				unseen = append(unseen, t.Name)
			}
		}
		if len(unseen) > 0 {
			c.AfterCommit(func() { r.connections.lookFor(unseen) })
		}
	}
	shadows, err := shadowsOf(c, state.Things, things)
	if err != nil {
		return err
	}
	groups, err := r.regroup(c, state, things, connections, shadows)
	if err != nil {
		return err
	}
	documents := make([]store.IndexDocument, 0, len(things)+len(gone))
	for _, t := range things {
		doc := store.IndexDocument{ID: t.ID}
		if state.Things.On {
			doc.Terms = query.Terms(thingDocument(t, groups[t.ID], connections, shadows[t.ID]))
		}
		documents = append(documents, doc)
	}
	for _, id := range gone {
		documents = append(documents, store.IndexDocument{ID: id})
	}
	if err := c.DeleteConnections(gone); err != nil {
		return err
	}
	return c.SaveTerms(iot.ThingsIndex, documents)
}

// connectionsOf returns the connections of things by their IDs, nil if they are not indexed.
func connectionsOf(rd store.IndexReader, state iot.Index, things []*iot.Thing) (map[int64]iot.Connection, error) {
	if !state.Connectivity {
		return nil, nil
	}
	ids := make([]int64, len(things))
	for i, t := range things {
		ids[i] = t.ID
	}
	return rd.Connections(ids)
}

func thingDocument(t *iot.Thing, groups []*iot.Group, connections map[int64]iot.Connection, shadow *iot.Shadow) query.Document {
	d := make(query.Document)
	if connections != nil {
		last, ever := connections[t.ID]
		d.Set(query.Connected, strconv.FormatBool(last.Connected))
		if ever {
			d.Set(query.ConnectivityTime, strconv.FormatInt(int64(last.At), 10))
			d.Set(query.DisconnectReason, last.Reason)
		}
	}
	d.Set(query.ThingName, string(t.Name))
	d.Set(query.ThingID, t.UUID)
	d.Set(query.ThingType, t.Type)
	d.Set(query.ThingVersion, strconv.FormatInt(t.Version, 10))
	for name, value := range t.Attributes {
		d.Set(query.Attribute(name), value)
	}
	names := make([]string, len(groups), len(groups)+1)
	for i, g := range groups {
		names[i] = string(g.Name)
	}
	if t.BillingGroup != "" {
		names = append(names, t.BillingGroup)
	}
	d.Set(query.ThingGroups, names...)
	if shadow != nil && shadow.Exists {
		shadowDocument(d, shadow)
	}
	return d
}

// indexGroups is indexThings of groups.
func (c *change) indexGroups(state iot.Index, groups []*iot.Group, gone []int64) error {
	documents := make([]store.IndexDocument, 0, len(groups)+len(gone))
	for _, g := range groups {
		doc := store.IndexDocument{ID: g.ID}
		if state.On {
			ancestors, err := c.Ancestors(g.ID)
			if err != nil {
				return err
			}
			doc.Terms = query.Terms(groupDocument(g, ancestors))
		}
		documents = append(documents, doc)
	}
	for _, id := range gone {
		documents = append(documents, store.IndexDocument{ID: id})
	}
	return c.SaveTerms(iot.GroupsIndex, documents)
}

func groupDocument(g *iot.Group, ancestors []*iot.Group) query.Document {
	d := make(query.Document)
	d.Set(query.GroupName, string(g.Name))
	d.Set(query.GroupID, g.UUID)
	d.Set(query.Description, g.Description)
	d.Set(query.GroupVersion, strconv.FormatInt(g.Version, 10))
	for name, value := range g.Attributes {
		d.Set(query.Attribute(name), value)
	}
	names := make([]string, len(ancestors))
	for i, a := range ancestors {
		names[i] = string(a.Name)
	}
	d.Set(query.Parents, names...)
	return d
}

// Indexing returns the configuration of the fleet index.
func (r *Registry) Indexing(ctx context.Context) (iot.IndexState, error) {
	return view(ctx, r, store.Reader.IndexState)
}

// UpdateIndexing changes the configuration of the fleet index. InvalidRequest for fields that cannot
// be aggregated.
func (r *Registry) UpdateIndexing(ctx context.Context, u iot.IndexUpdate) error {
	err := r.update(ctx, u.Actor, func(c *change) error {
		state, err := c.IndexState()
		if err != nil {
			return err
		}
		if u.Things != nil {
			if u.Things.Connectivity && !u.Things.On {
				return iot.Errorf(iot.InvalidRequest, "thingConnectivityIndexingMode must be OFF while thingIndexingMode is OFF")
			}
			if u.Things.Packages && !u.Things.On {
				return iot.Errorf(iot.InvalidRequest, "namedShadowIndexingMode must be OFF while thingIndexingMode is OFF")
			}
			if err := checkCustomFields("thingIndexingConfiguration", iot.ThingsIndex, u.Things); err != nil {
				return err
			}
			if dynamic, err := c.DynamicGroups(); err != nil {
				return err
			} else if len(dynamic) > 0 && !u.Things.On {
				return iot.Errorf(iot.InvalidRequest, "The index %s cannot be switched off: there are dynamic thing groups, such as %s", iot.ThingsIndex, dynamic[0].Name)
			}
			configure(&state.Things, *u.Things)
		}
		if u.Groups != nil {
			if err := checkCustomFields("thingGroupIndexingConfiguration", iot.GroupsIndex, u.Groups); err != nil {
				return err
			}
			configure(&state.Groups, *u.Groups)
		}
		return c.SaveIndexState(state)
	})
	if err == nil {
		r.build()
		hintTo(r.connections.hint)
	}
	return err
}

// build says that there may be something to build.
func (r *Registry) build() { hintTo(r.building) }

func hintTo(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// configure gives an index another configuration, and says what there is to do for it.
func configure(i *iot.Index, c iot.IndexConfig) {
	switch {
	case c.On && !i.On:
		i.Status, i.Cursor = iot.IndexBuilding, 0
	case !c.On && i.On:
		i.Status, i.Cursor = iot.IndexClearing, 0
	case c.On && (c.Connectivity != i.Connectivity || c.Packages != i.Packages):
		if i.Cursor = 0; i.Status == iot.IndexActive {
			i.Status = iot.IndexRebuilding
		}
	}
	i.On, i.Connectivity, i.Packages, i.CustomFields = c.On, c.Connectivity, c.Packages, c.CustomFields
}

func checkCustomFields(member string, index iot.IndexName, c *iot.IndexConfig) error {
	if len(c.CustomFields) > customFields {
		return iot.Invalid(member+".customFields", c.CustomFields, fmt.Sprintf("Member must have length less than or equal to %d", customFields))
	}
	for i, f := range c.CustomFields {
		at := fmt.Sprintf("%s.customFields.%d.member.name", member, i+1)
		name, ok := strings.CutPrefix(f.Name, query.Attribute(""))
		for _, section := range []string{"desired.", "reported."} {
			if rest, found := strings.CutPrefix(f.Name, query.Package(section)); found && c.Packages && index == iot.ThingsIndex {
				name, ok = rest, true
			}
		}
		switch {
		case !c.On:
			return iot.Errorf(iot.InvalidRequest, "The field %s at '%s' is of an index that is off", f.Name, at)
		case managed(index, f.Name) != "":
			return iot.Errorf(iot.InvalidRequest, "The field %s at '%s' is a managed field, which can be aggregated anyway", f.Name, at)
		case index == iot.ThingsIndex && !c.Packages && strings.HasPrefix(f.Name, query.Package("")):
			return iot.Errorf(iot.InvalidRequest, "The field %s at '%s' is of the shadow %s, which is not indexed", f.Name, at, iot.PackageShadow)
		case !ok || name == "" || len(f.Name) > 1024 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "":
			return iot.Errorf(iot.InvalidRequest, "The field %s at '%s' is not indexed: fields are attributes.NAME, of letters, digits, '-' and '_'", f.Name, at)
		case slices.ContainsFunc(c.CustomFields[:i], func(o iot.IndexField) bool { return o.Name == f.Name }):
			return iot.Errorf(iot.InvalidRequest, "The field %s at '%s' is given twice", f.Name, at)
		}
	}
	return nil
}

// managed returns the type of a managed field, "" if it is none.
func managed(index iot.IndexName, field string) iot.IndexFieldType {
	for _, f := range iot.ManagedFields(index, true, true) {
		if query.Canonical(f.Name, index) == query.Canonical(field, index) {
			return f.Type
		}
	}
	return ""
}

// BuildIndexes brings indexes to their configuration and fills dynamic groups, until ctx ends.
func (r *Registry) BuildIndexes(ctx context.Context) {
	timer := time.NewTicker(buildPeriod)
	defer timer.Stop()
	for {
		for {
			more, err := r.buildSome(ctx)
			if err != nil && ctx.Err() == nil {
				r.log.WarnContext(ctx, "build the fleet index", "err", err)
			}
			if !more || err != nil {
				break
			}
		}
		if err := r.fillGroups(ctx); err != nil && ctx.Err() == nil {
			r.log.WarnContext(ctx, "fill dynamic thing groups", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-r.building:
		case <-timer.C: // another node may have changed the configuration, or have stopped in the middle
		}
	}
}

// buildSome indexes some documents, and reports whether there may be more to do.
func (r *Registry) buildSome(ctx context.Context) (more bool, err error) {
	state, err := r.Indexing(ctx)
	if err != nil || done(state.Things) && done(state.Groups) {
		return false, err
	}
	err = r.update(ctx, keeper, func(c *change) error {
		state, err := c.IndexState()
		if err != nil {
			return err
		}
		if !done(state.Things) {
			err = c.buildPart(&state.Things, iot.ThingsIndex, func(ids []int64) error {
				things, err := c.ThingsByID(ids)
				if err != nil {
					return err
				}
				return r.indexThings(c, state, slices.Collect(maps.Values(things)), nil)
			})
		} else if !done(state.Groups) {
			err = c.buildPart(&state.Groups, iot.GroupsIndex, func(ids []int64) error {
				groups, err := c.GroupsByID(ids)
				if err != nil {
					return err
				}
				return c.indexGroups(state.Groups, slices.Collect(maps.Values(groups)), nil)
			})
		}
		if err != nil {
			return err
		}
		more = !done(state.Things) || !done(state.Groups)
		return c.SaveIndexState(state)
	})
	return more, err
}

func done(i iot.Index) bool { return i.Status == iot.IndexActive || i.Status == iot.IndexNone }

// buildPart gives the next documents to save, and notes how far the index is.
func (c *change) buildPart(i *iot.Index, index iot.IndexName, save func(ids []int64) error) error {
	ids, err := c.Search(index, query.All{}, i.Cursor, buildChunk)
	if err != nil {
		return err
	}
	if err := save(ids); err != nil {
		return err
	}
	if len(ids) == buildChunk {
		i.Cursor = ids[len(ids)-1]
		return nil
	}
	i.Cursor, i.Status = 0, iot.IndexNone
	if i.On {
		i.Status = iot.IndexActive
	}
	return nil
}

// asked is a search that can be carried out.
type asked struct {
	index iot.IndexName
	state iot.Index
	root  query.Node
}

// ask reads a search. NotFound for an index that is not there, IndexNotReady, InvalidQuery, and
// InvalidRequest for a version of the language that there is not.
func (r *Registry) ask(rd store.Reader, s iot.Search) (a asked, err error) {
	state, err := rd.IndexState()
	if err != nil {
		return a, err
	}
	a.index = s.Index
	switch a.index {
	case "", iot.ThingsIndex:
		a.index, a.state = iot.ThingsIndex, state.Things
	case iot.GroupsIndex:
		a.state = state.Groups
	}
	if !a.state.On {
		return a, iot.Errorf(iot.NotFound, "Index '%s' does not exist", a.index)
	}
	if s.Version != "" && s.Version != iot.QueryVersion {
		return a, iot.Errorf(iot.InvalidRequest, "Query version '%s' is not supported: it is %s", s.Version, iot.QueryVersion)
	}
	q, err := query.Parse(s.Query, a.index, sources(a.state), query.Limits{Terms: r.limits.QueryTerms})
	if err != nil {
		return a, iot.Errorf(iot.InvalidQuery, "%s", err)
	}
	if a.state.Status == iot.IndexBuilding {
		return a, iot.Errorf(iot.IndexNotReady, "Index '%s' is still being built", a.index)
	}
	a.root = q.Root
	return a, nil
}

// Search finds things or groups, in the order of their creation. Errors as of ask.
func (r *Registry) Search(ctx context.Context, s iot.Search, page iot.Page) (things []iot.FoundThing, groups []iot.FoundGroup, next string, err error) {
	after := int64(0)
	if page.Cursor != "" {
		if after, err = strconv.ParseInt(page.Cursor, 10, 64); err != nil {
			return nil, nil, "", iot.Errorf(iot.InvalidRequest, "The nextToken is not one of this list")
		}
	}
	err = r.store.View(ctx, func(rd store.Reader) error {
		a, err := r.ask(rd, s)
		if err != nil {
			return err
		}
		ids, err := rd.Search(a.index, a.root, after, page.Limit+1)
		if err != nil {
			return err
		}
		ids, next = cut(ids, page.Limit, func(id int64) string { return strconv.FormatInt(id, 10) })
		if a.index == iot.GroupsIndex {
			groups, err = foundGroups(rd, ids)
			return err
		}
		things, err = foundThings(rd, a.state, ids)
		return err
	})
	return things, groups, next, err
}

func foundThings(rd store.Reader, state iot.Index, ids []int64) ([]iot.FoundThing, error) {
	byID, err := rd.ThingsByID(ids)
	if err != nil {
		return nil, err
	}
	connections, err := connectionsOf(rd, state, slices.Collect(maps.Values(byID)))
	if err != nil {
		return nil, err
	}
	shadows, err := shadowsOf(rd, state, slices.Collect(maps.Values(byID)))
	if err != nil {
		return nil, err
	}
	list := make([]iot.FoundThing, 0, len(ids))
	for _, id := range ids {
		if byID[id] == nil {
			continue
		}
		groups, err := rd.GroupsOfThing(id)
		if err != nil {
			return nil, err
		}
		found := iot.FoundThing{Thing: byID[id]}
		if connections != nil {
			last := connections[id]
			found.Connection = &last
		}
		if s := shadows[id]; s != nil && s.Exists {
			found.Shadow = s
		}
		for _, g := range groups {
			found.Groups = append(found.Groups, g.Name)
		}
		if g := found.BillingGroup; g != "" {
			found.Groups = append(found.Groups, iot.GroupName(g))
		}
		list = append(list, found)
	}
	return list, nil
}

func foundGroups(rd store.Reader, ids []int64) ([]iot.FoundGroup, error) {
	byID, err := rd.GroupsByID(ids)
	if err != nil {
		return nil, err
	}
	list := make([]iot.FoundGroup, 0, len(ids))
	for _, id := range ids {
		if byID[id] == nil {
			continue
		}
		ancestors, err := rd.Ancestors(id)
		if err != nil {
			return nil, err
		}
		found := iot.FoundGroup{Group: byID[id]}
		for _, g := range slices.Backward(ancestors) {
			found.Parents = append(found.Parents, g.Name)
		}
		list = append(list, found)
	}
	return list, nil
}

// aggregate carries out a search of which the values of a field are wanted. InvalidAggregation for a
// field that is not one of those.
func (r *Registry) aggregate(ctx context.Context, s iot.Search, field string, f func(rd store.Reader, a asked, field string, kind iot.IndexFieldType) error) error {
	return r.store.View(ctx, func(rd store.Reader) error {
		a, err := r.ask(rd, s)
		if err != nil {
			return err
		}
		kind := managed(a.index, field)
		for _, custom := range a.state.CustomFields {
			if custom.Name == field {
				kind = custom.Type
			}
		}
		if kind == "" {
			return iot.Errorf(iot.InvalidAggregation, "The field %s is neither a managed field of %s nor one of its custom fields", field, a.index)
		}
		return f(rd, a, query.Canonical(field, a.index), kind)
	})
}

// numbers gives the values of a field that is no text to visit, true as 1 and false as 0, in ascending order.
func (a asked) numbers(rd store.Reader, field string, kind iot.IndexFieldType, visit func(n float64, count int64)) error {
	if kind == iot.IndexNumber {
		return rd.IndexNumbers(a.index, a.root, field, func(n float64, count int64) error {
			visit(n, count)
			return nil
		})
	}
	var truths [2]int64
	list, err := rd.IndexValues(a.index, a.root, field, math.MaxInt32)
	for _, v := range list {
		switch strings.ToLower(v.Value) {
		case "false":
			truths[0] += v.Count
		case "true":
			truths[1] += v.Count
		}
	}
	for n, count := range truths {
		if count > 0 {
			visit(float64(n), count)
		}
	}
	return err
}

// Statistics returns figures of the values of a field in what matches. Errors as of ask, and
// InvalidAggregation.
func (r *Registry) Statistics(ctx context.Context, s iot.Search, field string) (st iot.Statistics, err error) {
	if field == "" {
		field = query.ThingVersion
		if s.Index == iot.GroupsIndex {
			field = query.GroupVersion
		}
	}
	err = r.aggregate(ctx, s, field, func(rd store.Reader, a asked, field string, kind iot.IndexFieldType) (err error) {
		if kind == iot.IndexString {
			st.Count, _, err = rd.CountValues(a.index, a.root, field)
			return err
		}
		// The variance is that of the differences from the first value: squares of large numbers that
		// are close to each other would leave nothing of it.
		var first, sum, squares float64
		err = a.numbers(rd, field, kind, func(n float64, count int64) {
			k := float64(count)
			if st.Count == 0 {
				st.Minimum, first = n, n
			}
			st.Maximum = n
			st.Count += count
			st.Sum += n * k
			st.SumOfSquares += n * n * k
			sum += (n - first) * k
			squares += (n - first) * (n - first) * k
		})
		if st.Count > 0 {
			k := float64(st.Count)
			st.HasNumbers = true
			st.Average = st.Sum / k
			st.Variance = max(squares/k-(sum/k)*(sum/k), 0)
			st.StandardDeviation = math.Sqrt(st.Variance)
		}
		return err
	})
	return st, err
}

// Cardinality returns how many different values a field has in what matches. Errors as of Statistics.
func (r *Registry) Cardinality(ctx context.Context, s iot.Search, field string) (n int64, err error) {
	if field == "" {
		field = query.ThingVersion
		if s.Index == iot.GroupsIndex {
			field = query.GroupVersion
		}
	}
	err = r.aggregate(ctx, s, field, func(rd store.Reader, a asked, field string, kind iot.IndexFieldType) (err error) {
		if kind == iot.IndexString {
			_, n, err = rd.CountValues(a.index, a.root, field)
			return err
		}
		return a.numbers(rd, field, kind, func(float64, int64) { n++ })
	})
	return n, err
}

// Percentiles returns the values of a field that percentages of all values do not exceed, in ascending
// order; between two values it is in proportion. Errors as of Statistics; InvalidAggregation also for a field that is not of numbers.
func (r *Registry) Percentiles(ctx context.Context, s iot.Search, field string, percents []float64) (list []iot.Percentile, err error) {
	if field == "" {
		field = query.ThingVersion
	}
	err = r.aggregate(ctx, s, field, func(rd store.Reader, a asked, field string, kind iot.IndexFieldType) error {
		if kind != iot.IndexNumber {
			return iot.Errorf(iot.InvalidAggregation, "The field %s is not of numbers", field)
		}
		type run struct {
			n   float64
			end int64 // how many values are not above n
		}
		var runs []run
		total := int64(0)
		if err := a.numbers(rd, field, kind, func(n float64, count int64) {
			total += count
			runs = append(runs, run{n, total})
		}); err != nil || total == 0 {
			return err
		}
		value := func(rank int64) float64 {
			i, _ := slices.BinarySearchFunc(runs, rank, func(r run, rank int64) int {
				if r.end <= rank {
					return -1
				}
				return 1
			})
			return runs[i].n
		}
		for _, p := range slices.Sorted(slices.Values(percents)) {
			rank := p / 100 * float64(total-1)
			low := math.Floor(rank)
			v := value(int64(low))
			if part := rank - low; part > 0 {
				v += part * (value(int64(low)+1) - v)
			}
			list = append(list, iot.Percentile{Percent: p, Value: v})
		}
		return nil
	})
	return list, err
}

// Buckets returns how many match, and the most frequent values of a field. Errors as of Statistics.
func (r *Registry) Buckets(ctx context.Context, s iot.Search, field string, limit int) (total int64, list []iot.IndexValue, err error) {
	err = r.aggregate(ctx, s, field, func(rd store.Reader, a asked, field string, kind iot.IndexFieldType) error {
		if total, err = rd.CountMatches(a.index, a.root); err != nil {
			return err
		}
		if kind == iot.IndexString {
			list, err = rd.IndexValues(a.index, a.root, field, limit)
			return err
		}
		err := a.numbers(rd, field, kind, func(n float64, count int64) {
			text := strconv.FormatFloat(n, 'f', -1, 64)
			if kind == iot.IndexBoolean {
				text = strconv.FormatBool(n == 1)
			}
			list = append(list, iot.IndexValue{Value: text, Count: count})
		})
		slices.SortStableFunc(list, func(a, b iot.IndexValue) int {
			if a.Count != b.Count {
				return int(min(max(b.Count-a.Count, -1), 1))
			}
			return strings.Compare(a.Value, b.Value)
		})
		list = list[:min(len(list), limit)]
		return err
	})
	return total, list, err
}
