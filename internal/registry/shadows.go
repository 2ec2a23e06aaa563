package registry

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"time"

	"drover/internal/iot"
	"drover/internal/query"
	"drover/internal/store"
)

// The shadow $package (registry spec §10.4): which versions of which packages a thing has. Devices and operators write it
// like any shadow; jobs that have succeeded are noted in it in the background.

// sources are the data that an index of things has.
func sources(i iot.Index) query.Sources {
	return query.Sources{Connectivity: i.Connectivity, Packages: i.Packages}
}

// shadowsOf returns the shadows of things by their IDs, nil if they are not indexed.
func shadowsOf(rd store.ShadowReader, state iot.Index, things []*iot.Thing) (map[int64]*iot.Shadow, error) {
	if !state.Packages {
		return nil, nil
	}
	ids := make([]int64, len(things))
	for i, t := range things {
		ids[i] = t.ID
	}
	return rd.Shadows(ids)
}

// shadowDocument adds to d what can be found of a shadow.
func shadowDocument(d query.Document, s *iot.Shadow) {
	values := make(map[string][]string)
	s.Flatten(func(path, text string) { values[path] = append(values[path], text) })
	for path, list := range values {
		d.Set(query.Package(path), list...)
	}
	delta, _ := s.Delta()
	d.Set(query.Package("hasDelta"), strconv.FormatBool(delta != nil))
	d.Set(query.Package("version"), strconv.FormatInt(s.Version, 10))
	d.Set(query.Package("reported.totalCount"), strconv.Itoa(len(s.Reported)))
}

// shadowOf returns the shadow of a thing, which may be one that is not there. NotFound for the thing.
func shadowOf(rd store.Reader, name iot.ThingName) (*iot.Shadow, error) {
	t, err := rd.ThingByName(name)
	if err := store.Absent(err, "Thing", name); err != nil {
		return nil, err
	}
	found, err := rd.Shadows([]int64{t.ID})
	if err != nil {
		return nil, err
	}
	s := found[t.ID]
	if s == nil {
		s = &iot.Shadow{ThingID: t.ID}
	}
	s.Thing = name
	return s, nil
}

var errNoShadow = iot.Errorf(iot.NotFound, "No shadow exists with name: '%s'", iot.PackageShadow)

// Shadow returns the shadow $package of a thing, as a get is answered. NotFound.
func (r *Registry) Shadow(ctx context.Context, name iot.ThingName, payload []byte) (answer []byte, err error) {
	token, err := iot.ParseShadowToken(payload)
	if err != nil {
		return nil, err
	}
	return view(ctx, r, func(rd store.Reader) ([]byte, error) {
		s, err := shadowOf(rd, name)
		if err != nil {
			return nil, err
		}
		if !s.Exists {
			return nil, errNoShadow
		}
		return s.Answer(token, iot.At(r.now()))
	})
}

// HasShadow reports whether a thing has the shadow $package. NotFound for the thing.
func (r *Registry) HasShadow(ctx context.Context, name iot.ThingName) (bool, error) {
	return view(ctx, r, func(rd store.Reader) (bool, error) {
		s, err := shadowOf(rd, name)
		return err == nil && s.Exists, err
	})
}

// UpdateShadow changes the shadow $package of a thing, and returns the answer, which is told on its topics as well.
// Errors as of iot.ParseShadowUpdate and iot.Shadow.Apply; NotFound for the thing.
func (r *Registry) UpdateShadow(ctx context.Context, name iot.ThingName, payload []byte, actor string) (answer []byte, err error) {
	u, err := iot.ParseShadowUpdate(payload)
	if err != nil {
		return nil, err
	}
	err = r.update(ctx, actor, func(c *change) error {
		s, err := shadowOf(c, name)
		if err != nil {
			return err
		}
		answer, err = c.updateShadow(s, u)
		return err
	})
	return answer, err
}

// updateShadow changes a shadow and returns the answer.
func (c *change) updateShadow(s *iot.Shadow, u iot.ShadowUpdate) (answer []byte, err error) {
	former := *s // what Apply changes are other maps
	updated, err := s.Apply(u, c.now)
	if err != nil {
		return nil, err
	}
	if err := c.SaveShadows([]*iot.Shadow{s}); err != nil {
		return nil, err
	}
	ev, err := s.Event(&former, u, updated, c.now)
	if err != nil {
		return nil, err
	}
	c.touched.things = append(c.touched.things, s.Thing)
	return ev.Accepted, c.record(iot.ShadowUpdated, ev)
}

// DeleteShadow forgets the shadow $package of a thing, but for its version. NotFound.
func (r *Registry) DeleteShadow(ctx context.Context, name iot.ThingName, payload []byte, actor string) (answer []byte, err error) {
	token, err := iot.ParseShadowToken(payload)
	if err != nil {
		return nil, err
	}
	err = r.update(ctx, actor, func(c *change) error {
		s, err := shadowOf(c, name)
		if err != nil {
			return err
		}
		if !s.Exists {
			return errNoShadow
		}
		ev, err := s.Deletion(token, c.now) // of the version that is deleted
		if err != nil {
			return err
		}
		s.Delete()
		if err := c.SaveShadows([]*iot.Shadow{s}); err != nil {
			return err
		}
		answer = ev.Accepted
		c.touched.things = append(c.touched.things, s.Thing)
		return c.record(iot.ShadowDeleted, ev)
	})
	return answer, err
}

const (
	installChunk  = 200 // in a transaction
	installPeriod = 5 * time.Second
)

// Installed says that jobs have brought versions to things.
func (r *Registry) Installed() { hintTo(r.installing) }

// KeepInstalled notes in the shadows of things which versions jobs have brought to them, until ctx ends.
func (r *Registry) KeepInstalled(ctx context.Context) {
	ticker := time.NewTicker(installPeriod)
	defer ticker.Stop()
	for {
		for more := true; more; {
			var err error
			if more, err = r.installSome(ctx); err != nil && ctx.Err() == nil {
				r.log.WarnContext(ctx, "note installed package versions", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-r.installing:
		case <-ticker.C: // another node may have stopped in the middle
		}
	}
}

// installSome notes some of what has been installed, and reports whether there may be more.
func (r *Registry) installSome(ctx context.Context) (more bool, err error) {
	waiting, err := view(ctx, r, func(rd store.Reader) (bool, error) {
		list, err := rd.Installs(1)
		return len(list) > 0, err
	})
	if err != nil || !waiting {
		return false, err
	}
	err = r.update(ctx, keeper, func(c *change) error {
		list, err := c.Installs(installChunk)
		if err != nil {
			return err
		}
		more = len(list) == installChunk
		if err := r.install(c, list); err != nil {
			return err
		}
		return c.DeleteInstalls(list)
	})
	return more, err
}

// install notes what jobs have brought to things.
func (r *Registry) install(c *change, list []store.Install) error {
	var ids []int64
	for _, i := range list {
		ids = append(ids, i.Thing)
	}
	things, err := c.ThingsByID(ids)
	if err != nil {
		return err
	}
	shadows, err := c.Shadows(slices.Collect(maps.Keys(things)))
	if err != nil {
		return err
	}
	brought := make(map[int64]map[string]*iot.PackageVersion) // by job
	for _, i := range list {
		thing := things[i.Thing]
		if thing == nil {
			continue // deleted since
		}
		versions, known := brought[i.Job]
		if !known {
			if versions, err = r.brought(c, i.Job); err != nil {
				return err
			}
			brought[i.Job] = versions
		}
		s := shadows[thing.ID]
		if s == nil {
			s = &iot.Shadow{ThingID: thing.ID}
			shadows[thing.ID] = s
		}
		s.Thing = thing.Name
		u, err := s.Installed(versions)
		if err != nil {
			return err
		}
		if len(u.Reported) == 0 {
			continue
		}
		before := *s
		if _, err = c.updateShadow(s, u); iot.ErrorCode(err) == iot.ShadowTooLarge {
			*s = before
			r.log.Warn("installed package versions do not fit into the shadow", "thing", thing.Name, "err", err)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// brought returns the versions that a job brings to its things, by package; nil for one that it takes away. One that has been
// deleted since is left out.
func (r *Registry) brought(c *change, job int64) (map[string]*iot.PackageVersion, error) {
	d, err := c.Deployment(job)
	if err != nil {
		if err = store.Absent(err, "Deployment of job", job); iot.ErrorCode(err) == iot.NotFound {
			return nil, nil // the job is gone
		}
		return nil, err
	}
	destinations, err := r.realm.ParseDestinations(d.Versions)
	if err != nil {
		return nil, err
	}
	versions := make(map[string]*iot.PackageVersion, len(destinations))
	for _, to := range destinations {
		if to.Version == iot.NoVersion {
			versions[to.Package] = nil
			continue
		}
		v, err := c.PackageVersion(to.Package, to.Version)
		err = store.Absent(err, "Package version", to.Package+"/"+to.Version)
		if iot.ErrorCode(err) == iot.NotFound {
			r.log.Warn("installed package version does not exist any more", "job", job, "package", to.Package, "version", to.Version)
			continue
		}
		if err != nil {
			return nil, err
		}
		versions[to.Package] = v
	}
	return versions, nil
}
