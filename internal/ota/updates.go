package ota

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"drover/internal/iot"
	"drover/internal/store"
)

// Jobs is what carries updates out. Errors are *iot.Error if the caller caused them.
type Jobs interface {
	CreateJob(context.Context, iot.NewJob) (*iot.Job, error)
	Job(context.Context, iot.JobID) (*iot.Job, error)
	JobDocument(context.Context, iot.JobID) (string, error)
	DeleteJob(context.Context, iot.JobDeletion) error
}

// CreateUpdate stores an OTA update, whose stream and job Run makes. InvalidRequest for what cannot be, and bad
// tags; NotFound for a target, stream, file or object that does not exist; AlreadyExists.
func (s *Service) CreateUpdate(ctx context.Context, n iot.NewOTAUpdate) (*iot.OTAUpdate, error) {
	stream, err := n.Check()
	if err != nil {
		return nil, err
	}
	if err := iot.CheckNewTags(n.Tags); err != nil {
		return nil, err
	}
	u := &iot.OTAUpdate{ID: n.ID, Status: iot.OTACreatePending, Stream: stream, OTADefinition: n.OTADefinition}
	if stream == "" {
		if u.Over(iot.OverMQTT) {
			u.Stream, u.OwnStream = iot.OTAStream(uuid.NewString()), true
		}
		// What is not there is said at once; why something cannot be read is found out later.
		for _, f := range u.Files {
			if _, err := s.info(ctx, *f.Object); iot.ErrorCode(err) == iot.NotFound || s.objects == nil {
				return nil, err
			}
		}
	}
	err = s.update(ctx, n.Actor, func(c *change) error {
		switch _, err := c.OTAUpdateByID(u.ID); {
		case err == nil:
			return s.exists("OTA update", iot.KindOTAUpdate, u.ID)
		case !errors.Is(err, store.ErrNotFound):
			return err
		}
		if err := s.checkTargets(c, u.Targets); err != nil {
			return err
		}
		if stream != "" {
			if err := takeFiles(c, u); err != nil {
				return err
			}
		}
		u.CreatedAt, u.ModifiedAt, u.Node = c.now, c.now, s.store.Node()
		if err := c.InsertOTAUpdate(u); err != nil {
			return err
		}
		if err := c.PutTags(s.realm.ARN(iot.KindOTAUpdate, u.ID), n.Tags); err != nil {
			return err
		}
		return c.record(iot.OTACreated, iot.OTAEvent{ID: u.ID, Status: u.Status})
	})
	if err != nil {
		return nil, err
	}
	s.hint()
	return u, nil
}

// takeFiles notes which objects the files of a stream are, which is its owner's. NotFound.
func takeFiles(c *change, u *iot.OTAUpdate) error {
	stream, err := streamByID(c, u.Stream)
	if err != nil {
		return err
	}
	for i := range u.Files {
		f := &u.Files[i]
		object, ok := stream.File(f.StreamFile)
		if !ok {
			return iot.Errorf(iot.NotFound, "Stream %s has no file %d", stream.ID, f.StreamFile)
		}
		f.Object = &object
	}
	return nil
}

// checkTargets returns NotFound for a thing or group that does not exist.
func (s *Service) checkTargets(rd store.Reader, arns []string) error {
	for _, arn := range arns {
		kind, name, err := s.realm.ParseARN(arn)
		if err != nil {
			return err
		}
		switch kind {
		case iot.KindThing:
			_, err = rd.ThingByName(iot.ThingName(name))
			err = store.Absent(err, "Thing", name)
		case iot.KindGroup:
			_, err = rd.GroupByName(iot.GroupName(name))
			err = store.Absent(err, "Thing group", name)
		default:
			err = iot.Errorf(iot.InvalidRequest, "Target %s is neither a thing nor a thing group", arn)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// DeleteUpdate lets Run delete an OTA update and its job. NotFound; InvalidRequest if the job has not ended,
// unless that is forced, and for an update that is being deleted.
func (s *Service) DeleteUpdate(ctx context.Context, d iot.OTADeletion) error {
	u, err := s.Update(ctx, d.ID)
	if err != nil {
		return err
	}
	if !d.ForceJob {
		j, err := s.jobOf(ctx, u)
		switch {
		case err != nil:
			return err
		case j != nil && j.Status != iot.JobCompleted && j.Status != iot.JobCanceled:
			return iot.Errorf(iot.InvalidRequest, "The job %s of the update is %s: forceDeleteAWSJob deletes it nevertheless", j.JobID, j.Status)
		}
	}
	err = s.update(ctx, d.Actor, func(c *change) error {
		u, err := updateByID(c, d.ID)
		if err != nil {
			return err
		}
		if u.Status == iot.OTADeleteInProgress {
			return iot.Errorf(iot.InvalidRequest, "OTA update %s is being deleted", d.ID)
		}
		u.Node = s.store.Node()
		u.Deletion, u.Actor = &iot.OTADeletionChoice{Stream: d.Stream, Force: d.ForceJob}, d.Actor
		return c.setStatus(u, iot.OTADeleteInProgress, nil)
	})
	if err != nil {
		return err
	}
	s.hint()
	return nil
}

// Update returns an OTA update. NotFound.
func (s *Service) Update(ctx context.Context, id string) (u *iot.OTAUpdate, err error) {
	err = s.store.View(ctx, func(rd store.Reader) error {
		u, err = updateByID(rd, id)
		return err
	})
	return u, err
}

// Updates lists OTA updates, the newest first; status "" for all.
func (s *Service) Updates(ctx context.Context, status iot.OTAStatus, page iot.Page) ([]*iot.OTAUpdate, string, error) {
	return list(ctx, s, page, func(rd store.Reader, after int64, limit int) ([]*iot.OTAUpdate, error) {
		return rd.OTAUpdates(status, after, limit)
	}, func(u *iot.OTAUpdate) int64 { return u.Seq })
}

func updateByID(rd store.Reader, id string) (*iot.OTAUpdate, error) {
	u, err := rd.OTAUpdateByID(id)
	return u, store.Absent(err, "OTA update", id)
}

// setStatus stores an update that has come to a status, because of an error if there is one.
func (c *change) setStatus(u *iot.OTAUpdate, status iot.OTAStatus, because *iot.OTAError) error {
	u.Status, u.Error, u.ModifiedAt = status, because, c.now
	if err := c.SaveOTAUpdate(u); err != nil {
		return err
	}
	return c.record(iot.OTAChanged, iot.OTAEvent{ID: u.ID, Status: status})
}

// How often Run looks at what other nodes, or a former process, have left to do; how long it leaves them the time to
// do it; and how many updates are looked at together.
const (
	lookEvery = time.Second
	othersFor = 30 * time.Second
	atOnce    = 100
)

// hint tells Run that there is something to do.
func (s *Service) hint() {
	select {
	case s.work <- struct{}{}:
	default:
	}
}

// Run makes the streams and jobs of updates, and deletes them, until ctx ends. Several nodes may run at a time: the one
// that was asked carries an update out, and others if it seems to be dead, so that each step may be carried out twice.
func (s *Service) Run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := s.runOnce(ctx); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "OTA updates have to wait", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-s.work:
		case <-tick.C:
		}
	}
}

// runOnce carries out what there is to do. An update whose turn fails for a reason that may go away has another one
// the next time.
func (s *Service) runOnce(ctx context.Context) error {
	var todo []*iot.OTAUpdate
	err := s.store.View(ctx, func(rd store.Reader) error {
		todo = nil
		for _, status := range []iot.OTAStatus{iot.OTADeleteInProgress, iot.OTACreateInProgress, iot.OTACreatePending} {
			some, err := rd.OTAUpdates(status, 0, atOnce)
			if err != nil {
				return err
			}
			slices.Reverse(some) // the first come first
			todo = append(todo, some...)
		}
		return nil
	})
	long := iot.At(s.now()).Add(-othersFor)
	for _, u := range todo {
		if u.Node != s.store.Node() && u.ModifiedAt > long {
			continue
		}
		step, failed := s.create, iot.OTACreateFailed
		if u.Status == iot.OTADeleteInProgress {
			step, failed = s.delete, iot.OTADeleteFailed
		}
		if e := step(ctx, u); e != nil {
			err = errors.Join(err, s.failed(ctx, u, failed, e))
		}
	}
	return err
}

// failed notes that a step has failed for good. It returns the error of one that may succeed later.
func (s *Service) failed(ctx context.Context, u *iot.OTAUpdate, status iot.OTAStatus, err error) error {
	refused, ok := errors.AsType[*iot.Error](err)
	if !ok || refused.Code == iot.Unavailable || refused.Code == iot.Internal || ctx.Err() != nil {
		return err
	}
	s.log.WarnContext(ctx, "OTA update failed", "update", u.ID, "status", status, "err", err)
	_, err = s.advance(ctx, u, status, &iot.OTAError{Code: string(refused.Code), Message: refused.Message}, nil)
	return err
}

// advance brings an update to the next status, unless it is not any more what it was: then it reports false. also
// is carried out with it.
func (s *Service) advance(ctx context.Context, u *iot.OTAUpdate, status iot.OTAStatus, because *iot.OTAError, also func(*change) error) (done bool, err error) {
	before := u.Status
	err = s.update(ctx, u.Actor, func(c *change) error {
		now, err := c.OTAUpdateByID(u.ID)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if done = now.Seq == u.Seq && now.Status == before; !done {
			return nil
		}
		if also != nil {
			if err := also(c); err != nil {
				return err
			}
		}
		return c.setStatus(u, status, because)
	})
	return done && err == nil, err
}

// create makes the stream and the job of an update.
func (s *Service) create(ctx context.Context, u *iot.OTAUpdate) error {
	if u.Status == iot.OTACreatePending {
		if err := s.begin(ctx, u); err != nil || u.Status != iot.OTACreateInProgress {
			return err
		}
	}
	job, err := u.Job()
	if err != nil {
		return err
	}
	made := true
	if _, err := s.jobs.CreateJob(ctx, job); iot.ErrorCode(err) == iot.AlreadyExists {
		j, e := s.jobOf(ctx, u)
		if e != nil || j == nil {
			return errors.Join(e, err)
		}
		made = false
	} else if err != nil {
		return err
	}
	u.JobMade = true
	done, err := s.advance(ctx, u, iot.OTACreateComplete, nil, nil)
	switch {
	case err != nil:
		return err
	case !done && made: // it was deleted meanwhile
		return s.jobs.DeleteJob(ctx, iot.JobDeletion{JobID: job.JobID, Force: true, Actor: u.Actor})
	}
	return nil
}

// jobOf returns the job of an update, nil if there is none. One that Run did not come to tell it has made is
// told from somebody else's by its document.
func (s *Service) jobOf(ctx context.Context, u *iot.OTAUpdate) (*iot.Job, error) {
	j, err := s.jobs.Job(ctx, u.JobID())
	if err == nil && !u.JobMade {
		var own iot.NewJob
		var document string
		if own, err = u.Job(); err == nil {
			document, err = s.jobs.JobDocument(ctx, u.JobID())
		}
		if document != own.Document {
			j = nil
		}
	}
	if iot.ErrorCode(err) == iot.NotFound {
		return nil, nil
	}
	return j, err
}

// begin looks up the objects of an update and makes its stream, if it needs one of its own.
func (s *Service) begin(ctx context.Context, u *iot.OTAUpdate) error {
	var stream *iot.Stream
	if u.OwnStream {
		stream = &iot.Stream{ID: u.Stream, Version: 1, RoleARN: u.RoleARN}
		var files []iot.StreamFile
		for _, f := range u.Files {
			files = append(files, *f.Object)
		}
		var err error
		if stream.Files, err = s.stat(ctx, files); err != nil {
			return err
		}
		for i := range u.Files {
			u.Files[i].Object = &stream.Files[i]
		}
	} else if u.Stream == "" {
		for _, f := range u.Files {
			info, err := s.info(ctx, *f.Object)
			if err != nil {
				return err
			}
			f.Object.Size, f.Object.ETag = info.Size, info.ETag
		}
	}
	_, err := s.advance(ctx, u, iot.OTACreateInProgress, nil, func(c *change) error {
		if stream == nil {
			return nil
		}
		return s.insertStream(c, stream, nil)
	})
	return err
}

// delete forgets an update once its job is gone, and its stream if that is asked for.
func (s *Service) delete(ctx context.Context, u *iot.OTAUpdate) error {
	j, err := s.jobOf(ctx, u)
	if err != nil {
		return err
	}
	if j != nil && j.Status == iot.JobDeletionInProgress {
		return nil // look again
	}
	if j != nil {
		err := s.jobs.DeleteJob(ctx, iot.JobDeletion{JobID: j.JobID, Force: u.Deletion.Force, Actor: u.Actor})
		if iot.ErrorCode(err) == iot.LimitExceeded { // others are being deleted
			return nil
		}
		return err
	}
	return s.update(ctx, u.Actor, func(c *change) error {
		now, err := c.OTAUpdateByID(u.ID)
		if errors.Is(err, store.ErrNotFound) || err == nil && now.Seq != u.Seq {
			return nil // another node was faster
		}
		if err != nil {
			return err
		}
		if err := c.DeleteOTAUpdate(u); err != nil {
			return err
		}
		if u.OwnStream && u.Deletion.Stream {
			stream, err := c.StreamByID(u.Stream)
			if err == nil {
				err = s.deleteStream(c, stream)
			}
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
		if err := c.DeleteTags(s.realm.ARN(iot.KindOTAUpdate, u.ID), nil); err != nil {
			return err
		}
		return c.record(iot.OTADeleted, iot.OTAEvent{ID: u.ID})
	})
}
