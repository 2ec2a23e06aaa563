package engine

import (
	"context"
	"errors"
	"sync"

	"drover/internal/iot"
	"drover/internal/store"
)

// Jobs bring package versions to things (spec §9.4). What $default means, and what stands in the document for a
// version, is decided when the job starts, and stays so for all of its devices.

// checkDestinations returns an InvalidRequest error unless a job can have destinations together with a document.
func (e *Engine) checkDestinations(doc *iot.Document, arns []string) error {
	list, err := e.realm.ParseDestinations(arns)
	if err != nil {
		return err
	}
	return doc.CheckDestinations(list)
}

// deploy decides what a job that starts brings to its things. InvalidRequest and NotFound for a version that cannot be
// deployed.
func (e *Engine) deploy(tx store.Tx, j *iot.Job, document string) error {
	if len(j.PackageVersions) == 0 {
		return nil
	}
	list, err := e.realm.ParseDestinations(j.PackageVersions)
	if err != nil {
		return err
	}
	versions := make(map[iot.Destination]*iot.PackageVersion, len(list))
	var d iot.Deployment
	for i, to := range list {
		if to.Version == iot.NoVersion {
			d.Versions = append(d.Versions, j.PackageVersions[i])
			continue
		}
		v, err := deployable(tx, to)
		if err != nil {
			return err
		}
		versions[to] = v
		d.Versions = append(d.Versions, e.realm.PackageVersionARN(v.Package, v.Name))
	}
	doc, err := iot.LoadDocument(document, e.documents.objects)
	if err != nil {
		return err
	}
	if doc.Versioned() {
		if d.Document, err = doc.Resolve(list, versions); err != nil {
			return err
		}
		// What the attributes hold may be anything.
		if doc, err = iot.ParseDocument(d.Document, e.documents.objects); err != nil {
			return err
		}
		if err := doc.CheckPresigned(j.Config.Presigned); err != nil {
			return err
		}
		if doc.Versioned() {
			return iot.Errorf(iot.InvalidRequest, "An attribute of a package version has a placeholder for a package version")
		}
	}
	return tx.SaveDeployment(j.ID, d)
}

// deployable finds the version that a destination means. NotFound; InvalidRequest for a draft.
func deployable(tx store.Reader, to iot.Destination) (*iot.PackageVersion, error) {
	name := to.Version
	if name == iot.DefaultVersion {
		p, err := tx.Package(to.Package)
		if err := store.Absent(err, "Package", to.Package); err != nil {
			return nil, err
		}
		if name = p.DefaultVersion; name == "" {
			return nil, iot.Errorf(iot.InvalidRequest, "Package %s has no default version", to.Package)
		}
	}
	v, err := tx.PackageVersion(to.Package, name)
	if err := store.Absent(err, "Package version", to.Package+"/"+name); err != nil {
		return nil, err
	}
	if !v.Status.Deployable() {
		return nil, iot.Errorf(iot.InvalidRequest, "Version %s of package %s is %s: only versions that are PUBLISHED or DEPRECATED can be deployed", name, to.Package, v.Status)
	}
	return v, nil
}

// notDeployable is the reason of jobs that are canceled because their versions cannot be deployed when they are to start.
const notDeployable = "PACKAGE_VERSION_NOT_DEPLOYABLE"

// deployScheduled is deploy for a job that may start now. One whose versions cannot be deployed is canceled.
func (e *Engine) deployScheduled(w *work, j *iot.Job) (canceled bool, err error) {
	probe := *j
	if probe.Advance(w.now); probe.Status != iot.JobInProgress || probe.Pace.Over {
		return false, nil
	}
	switch _, err := w.tx.Deployment(j.ID); {
	case err == nil:
		return false, nil // it has been open before
	case !errors.Is(err, store.ErrNotFound):
		return false, err
	}
	document, err := w.tx.JobDocument(j.ID)
	if err != nil {
		return false, err
	}
	err = e.deploy(w.tx, j, document)
	if code := iot.ErrorCode(err); code != iot.InvalidRequest && code != iot.NotFound {
		return false, err
	}
	e.log.Warn("job cannot start and is canceled", "job", j.JobID, "err", err)
	refused, _ := errors.AsType[*iot.Error](err)
	if _, err := j.Cancel(w.now, false, notDeployable, refused.Message); err != nil {
		return false, err
	}
	return true, w.tell(iot.JobCancelStarted, j)
}

// Deployment returns what a job came to when it started, the zero value for a job that has no destinations or has not
// started. NotFound.
func (e *Engine) Deployment(ctx context.Context, id iot.JobID) (d iot.Deployment, err error) {
	err = e.view(ctx, func(tx store.Reader) error {
		j, err := job(tx, id)
		if err != nil || len(j.PackageVersions) == 0 {
			return err
		}
		d, err = tx.Deployment(j.ID)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	})
	return d, err
}

// installed notes that a job has succeeded on a thing, if the thing's shadow is to say what it has brought there.
func (w *work) installed(thing, job int64) error {
	if has, err := w.e.installing.of(w, job); err != nil || !has {
		return err
	}
	if w.packages == nil {
		cfg, err := w.tx.PackageConfiguration()
		if err != nil {
			return err
		}
		w.packages = &cfg
	}
	if w.packages.Enabled {
		w.installs = append(w.installs, store.Install{Thing: thing, Job: job})
	}
	return nil
}

// installing remembers which jobs have destinations, so that a success of one that has none costs no look at it. It never
// changes for a job.
type installing struct {
	mu    sync.Mutex
	byJob map[int64]bool
}

func (i *installing) of(w *work, job int64) (bool, error) {
	i.mu.Lock()
	has, known := i.byJob[job]
	i.mu.Unlock()
	if known {
		return has, nil
	}
	j, err := w.job(job)
	if err != nil || j == nil {
		return false, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.byJob == nil || len(i.byJob) >= maxDocuments {
		i.byJob = make(map[int64]bool)
	}
	i.byJob[job] = len(j.PackageVersions) > 0
	return i.byJob[job], nil
}
