package engine

import (
	"slices"

	"drover/internal/iot"
	"drover/internal/store"
)

// What follows is called by the registry inside its own transactions, so that a thing is
// never a member without its executions, nor the other way round (spec §3.6).

// Joined gives things that have joined groups their executions of the continuous jobs
// that target the group or one above it. Call it after the memberships are stored.
func (e *Engine) Joined(tx store.Tx, now iot.Time, members []iot.Member, actor string) error {
	byGroup := make(map[int64][]iot.Member)
	for _, m := range members {
		byGroup[m.GroupID] = append(byGroup[m.GroupID], m)
	}
	w := e.work(tx, now, actor)
	for _, g := range sortedKeys(byGroup) {
		covering, err := lineage(tx, g)
		if err != nil {
			return err
		}
		jobs, err := tx.ContinuousJobs(covering)
		if err != nil {
			return err
		}
		for _, j := range jobs {
			if !j.RollsOut() {
				continue // its end time has come
			}
			if err := e.join(w, j, byGroup[g]); err != nil {
				return err
			}
		}
	}
	return w.flush()
}

// join gives members of one group a new execution of j, unless one is pending already,
// or another target of j has covered the thing all the time.
func (e *Engine) join(w *work, j *iot.Job, members []iot.Member) error {
	ids := make([]int64, len(members))
	for i, m := range members {
		ids[i] = m.ThingID
	}
	latest, err := w.tx.LatestExecutions(j.ID, ids)
	if err != nil {
		return err
	}
	queues, err := w.tx.QueuesByID(ids)
	if err != nil {
		return err
	}
	if err := w.hide(queues); err != nil {
		return err
	}
	var todo []*iot.Queue
	for i, m := range members {
		q := &queues[i]
		if changed := w.queues[q.ThingID]; changed != nil {
			q = changed
		}
		if q.Find(j.JobID, 0) != nil {
			continue
		}
		if last, had := latest[m.ThingID]; had && last.Status != iot.Removed {
			covered, err := coveredBesides(w.tx, j, m)
			if err != nil {
				return err
			}
			if covered {
				continue
			}
		}
		todo = append(todo, q)
	}
	return w.createAll(j, todo, latest)
}

// coveredBesides reports whether j covers the thing by other ways than this membership.
func coveredBesides(tx store.Reader, j *iot.Job, m iot.Member) (bool, error) {
	if j.HasThing(m.ThingID) {
		return true, nil
	}
	groups, err := tx.GroupsOfThing(m.ThingID)
	if err != nil {
		return false, err
	}
	groups = slices.DeleteFunc(groups, func(g *iot.Group) bool { return g.ID == m.GroupID })
	ids, err := lineages(tx, groups)
	return j.HasGroup(ids), err
}

// Leaving gives a thing that is about to leave a group its execution of the snapshot
// jobs that are still rolling out to that group: who was a member when the job started
// is of it. Call it while the membership is stored.
func (e *Engine) Leaving(tx store.Tx, now iot.Time, thing *iot.Thing, group *iot.Group, actor string) error {
	covering, err := lineage(tx, group.ID)
	if err != nil {
		return err
	}
	jobs, err := tx.SnapshotRollouts(covering)
	if err != nil || len(jobs) == 0 {
		return err
	}
	m, err := tx.Member(group.ID, thing.ID)
	if err != nil {
		return err
	}
	w := e.work(tx, now, actor)
	for _, j := range jobs {
		if m.Seq > j.Members {
			continue
		}
		if _, err := e.enlist(w, j, []iot.Member{m}); err != nil {
			return err
		}
	}
	return w.flush()
}

// Left takes the waiting executions of continuous jobs that do not cover the thing any
// more out of its queue: QUEUED becomes REMOVED, what is in progress goes on (spec A-1).
// Call it after the membership is gone.
func (e *Engine) Left(tx store.Tx, now iot.Time, thing *iot.Thing, actor string) error {
	w := e.work(tx, now, actor)
	q, err := w.queue(thing.ID)
	if err != nil {
		return err
	}
	var ids []int64
	for _, x := range q.Entries {
		if x.Status == iot.Queued {
			ids = append(ids, x.Job)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	jobs, err := tx.JobsByID(ids)
	if err != nil {
		return err
	}
	groups, err := tx.GroupsOfThing(thing.ID)
	if err != nil {
		return err
	}
	covering, err := lineages(tx, groups)
	if err != nil {
		return err
	}
	for _, x := range slices.Clone(q.Entries) {
		j := jobs[x.Job]
		if x.Status != iot.Queued || j == nil || j.Selection != iot.Continuous || j.HasThing(thing.ID) || j.HasGroup(covering) {
			continue
		}
		w.move(q, x.Seq, iot.Removed, nil, false)
	}
	return w.flush()
}

// ThingDeleted ends the pending executions of a thing: they become REMOVED. Call it
// before the thing is deleted.
func (e *Engine) ThingDeleted(tx store.Tx, now iot.Time, thing *iot.Thing, actor string) error {
	w := e.work(tx, now, actor)
	q, err := w.queue(thing.ID)
	if err != nil {
		return err
	}
	for _, x := range slices.Clone(q.Entries) {
		w.move(q, x.Seq, iot.Removed, nil, false)
	}
	return w.flush()
}

// lineage returns the ids of a group and of all above it.
func lineage(tx store.Reader, group int64) ([]int64, error) {
	above, err := tx.Ancestors(group)
	if err != nil {
		return nil, err
	}
	ids := []int64{group}
	for _, g := range above {
		ids = append(ids, g.ID)
	}
	return ids, nil
}

func lineages(tx store.Reader, groups []*iot.Group) ([]int64, error) {
	var all []int64
	for _, g := range groups {
		ids, err := lineage(tx, g.ID)
		if err != nil {
			return nil, err
		}
		all = append(all, ids...)
	}
	return all, nil
}
