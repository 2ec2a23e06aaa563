package ota

import (
	"context"
	"errors"

	"drover/internal/iot"
	"drover/internal/store"
)

// CreateStream stores a stream. InvalidRequest for files that cannot be, an object that cannot be read
// or is too large, and bad tags; NotFound for an object that does not exist; AlreadyExists.
func (s *Service) CreateStream(ctx context.Context, n iot.NewStream) (*iot.Stream, error) {
	if err := iot.CheckStreamID(n.ID); err != nil {
		return nil, err
	}
	if err := iot.CheckNewTags(n.Tags); err != nil {
		return nil, err
	}
	stream := &iot.Stream{ID: n.ID, Version: 1, Description: n.Description, RoleARN: n.RoleARN}
	var err error
	if stream.Files, err = s.stat(ctx, n.Files); err != nil {
		return nil, err
	}
	err = s.update(ctx, n.Actor, func(c *change) error { return s.insertStream(c, stream, n.Tags) })
	if err != nil {
		return nil, err
	}
	return stream, nil
}

// insertStream stores a new stream. AlreadyExists.
func (s *Service) insertStream(c *change, stream *iot.Stream, tags []iot.Tag) error {
	switch _, err := c.StreamByID(stream.ID); {
	case err == nil:
		return s.exists("Stream", iot.KindStream, stream.ID)
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	stream.CreatedAt, stream.UpdatedAt = c.now, c.now
	if err := c.InsertStream(stream); err != nil {
		return err
	}
	if err := c.PutTags(s.realm.ARN(iot.KindStream, stream.ID), tags); err != nil {
		return err
	}
	return c.record(iot.StreamCreated, iot.StreamEvent{ID: stream.ID, Version: stream.Version})
}

// stat checks the files of a stream and looks up what their objects are at the moment.
func (s *Service) stat(ctx context.Context, files []iot.StreamFile) ([]iot.StreamFile, error) {
	if err := iot.CheckFiles(files); err != nil {
		return nil, err
	}
	out := make([]iot.StreamFile, len(files))
	for i, f := range files {
		info, err := s.info(ctx, f)
		if err != nil {
			return nil, err
		}
		if info.Size > s.fileSize {
			return nil, iot.Errorf(iot.InvalidRequest, "The object %s/%s has %d bytes; a file of a stream can have %d", f.Bucket, f.Key, info.Size, s.fileSize)
		}
		f.Size, f.ETag = info.Size, info.ETag
		out[i] = f
	}
	return out, nil
}

// info looks an object up. Errors are those of Objects.
func (s *Service) info(ctx context.Context, f iot.StreamFile) (iot.ObjectInfo, error) {
	if s.objects == nil {
		return iot.ObjectInfo{}, iot.Errorf(iot.InvalidRequest, "There is no S3 store that files could be in")
	}
	return s.objects.Stat(ctx, f.Object())
}

// UpdateStream changes a stream and gives it the next version. Its objects are looked up again if new
// ones are named. Errors are those of CreateStream, and NotFound for the stream; LimitExceeded if it
// has the last version there is.
func (s *Service) UpdateStream(ctx context.Context, u iot.StreamUpdate) (stream *iot.Stream, err error) {
	files := u.Files
	if files != nil {
		// Whether there is such a stream comes first.
		if _, err := s.Stream(ctx, u.ID); err != nil {
			return nil, err
		}
		if files, err = s.stat(ctx, files); err != nil {
			return nil, err
		}
	}
	err = s.update(ctx, u.Actor, func(c *change) error {
		if stream, err = streamByID(c, u.ID); err != nil {
			return err
		}
		if stream.Version >= iot.MaxStreamVersion {
			return iot.Errorf(iot.LimitExceeded, "Stream %s has been updated as often as it can be", u.ID)
		}
		stream.Version++
		stream.UpdatedAt = c.now
		if u.Description != nil {
			stream.Description = *u.Description
		}
		if u.RoleARN != nil {
			stream.RoleARN = *u.RoleARN
		}
		if files != nil {
			stream.Files = files
		}
		if err := c.SaveStream(stream); err != nil {
			return err
		}
		return c.record(iot.StreamUpdated, iot.StreamEvent{ID: stream.ID, Version: stream.Version})
	})
	if err != nil {
		return nil, err
	}
	return stream, nil
}

// DeleteStream forgets a stream. NotFound; DeleteConflict for one that an OTA update has its files in.
func (s *Service) DeleteStream(ctx context.Context, id, actor string) error {
	return s.update(ctx, actor, func(c *change) error {
		stream, err := streamByID(c, id)
		if err != nil {
			return err
		}
		if used, err := c.StreamInUse(id); err != nil {
			return err
		} else if used {
			return iot.Errorf(iot.DeleteConflict, "Stream %s is in use by an OTA update", id)
		}
		return s.deleteStream(c, stream)
	})
}

func (s *Service) deleteStream(c *change, stream *iot.Stream) error {
	if err := c.DeleteStream(stream); err != nil {
		return err
	}
	if err := c.DeleteTags(s.realm.ARN(iot.KindStream, stream.ID), nil); err != nil {
		return err
	}
	return c.record(iot.StreamDeleted, iot.StreamEvent{ID: stream.ID, Version: stream.Version})
}

// Stream returns a stream. NotFound.
func (s *Service) Stream(ctx context.Context, id string) (stream *iot.Stream, err error) {
	err = s.store.View(ctx, func(rd store.Reader) error {
		stream, err = streamByID(rd, id)
		return err
	})
	return stream, err
}

// Streams lists streams by when they were made.
func (s *Service) Streams(ctx context.Context, ascending bool, page iot.Page) ([]*iot.Stream, string, error) {
	return list(ctx, s, page, func(rd store.Reader, after int64, limit int) ([]*iot.Stream, error) {
		return rd.Streams(ascending, after, limit)
	}, func(s *iot.Stream) int64 { return s.Seq })
}

// Open opens a file of a stream for a device. iot.ETagMismatch, also from reading it, if the object
// has changed since the stream was made; NotFound if it is gone; iot.Unauthorized if it cannot be read.
func (s *Service) Open(ctx context.Context, f iot.StreamFile) (Blob, error) {
	if s.objects == nil {
		return nil, iot.Errorf(iot.Unauthorized, "There is no S3 store any more")
	}
	b, err := s.objects.Open(ctx, f.Object(), iot.ObjectInfo{Size: f.Size, ETag: f.ETag})
	if err != nil {
		return nil, unreadable(err)
	}
	return blob{b}, nil
}

// blob is a Blob for devices.
type blob struct{ Blob }

// ReadAt implements io.ReaderAt.
func (b blob) ReadAt(p []byte, at int64) (int, error) {
	n, err := b.Blob.ReadAt(p, at)
	return n, unreadable(err)
}

// unreadable is what a device is told of an object that the server cannot read, which is not for it to mend.
func unreadable(err error) error {
	if iot.ErrorCode(err) == iot.InvalidRequest {
		return iot.Errorf(iot.Unauthorized, "The server cannot read the object of the file")
	}
	return err
}

func streamByID(rd store.Reader, id string) (*iot.Stream, error) {
	stream, err := rd.StreamByID(id)
	return stream, store.Absent(err, "Stream", id)
}
