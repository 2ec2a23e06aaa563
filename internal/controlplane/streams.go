package controlplane

import (
	"context"

	"drover/internal/iot"
	"drover/internal/wire"
)

// Streams is what the operations on streams ask for. Errors are *iot.Error if the caller caused
// them.
type Streams interface {
	CreateStream(context.Context, iot.NewStream) (*iot.Stream, error)
	UpdateStream(context.Context, iot.StreamUpdate) (*iot.Stream, error)
	DeleteStream(ctx context.Context, id, actor string) error
	Stream(ctx context.Context, id string) (*iot.Stream, error)
	Streams(ctx context.Context, ascending bool, page iot.Page) (streams []*iot.Stream, next string, err error)
}

// s3Location is S3Location.
type s3Location struct {
	Bucket  *string `json:"bucket" len:"1,"`
	Key     *string `json:"key" len:"1,"`
	Version *string `json:"version,omitempty"`
}

// streamFile is StreamFile.
type streamFile struct {
	FileID     *int64      `json:"fileId" range:"0,255"`
	S3Location *s3Location `json:"s3Location"`
}

// newStreamFiles returns nil for a list that was not given. InvalidRequest for a file without a number
// or a place, though the model requires neither.
func newStreamFiles(files []streamFile) ([]iot.StreamFile, error) {
	if files == nil {
		return nil, nil
	}
	out := make([]iot.StreamFile, len(files))
	for i, f := range files {
		switch {
		case f.FileID == nil:
			return nil, iot.Invalid("files.fileId", nil, "Member must not be null")
		case f.S3Location == nil || f.S3Location.Bucket == nil || f.S3Location.Key == nil:
			return nil, iot.Errorf(iot.InvalidRequest, "The file %d needs an s3Location with bucket and key", *f.FileID)
		}
		out[i] = iot.StreamFile{ID: *f.FileID, Bucket: *f.S3Location.Bucket, Key: *f.S3Location.Key, ObjectVersion: value(f.S3Location.Version)}
	}
	return out, nil
}

// createStreamRequest is CreateStreamRequest (registry spec §8.1).
type createStreamRequest struct {
	StreamID    string       `json:"streamId" in:"label" len:"1,128" pattern:"[a-zA-Z0-9_-]+"`
	Description *string      `json:"description" len:",2028" pattern:"[^\\p{C}]+"`
	Files       []streamFile `json:"files" required:"true" size:"1,50"`
	RoleArn     string       `json:"roleArn" required:"true" len:"20,2048"`
	Tags        []tag        `json:"tags"`
}

// streamSummary is CreateStreamResponse, UpdateStreamResponse and StreamSummary.
type streamSummary struct {
	StreamID      string `json:"streamId"`
	StreamArn     string `json:"streamArn"`
	Description   string `json:"description,omitempty"`
	StreamVersion int64  `json:"streamVersion"`
}

func (s *Server) streamSummary(stream *iot.Stream) *streamSummary {
	return &streamSummary{StreamID: stream.ID, StreamArn: s.realm.ARN(iot.KindStream, stream.ID), Description: stream.Description, StreamVersion: stream.Version}
}

func (s *Server) createStream(ctx context.Context, in *createStreamRequest) (*streamSummary, error) {
	files, err := newStreamFiles(in.Files)
	if err != nil {
		return nil, err
	}
	stream, err := s.streams.CreateStream(ctx, iot.NewStream{
		ID: in.StreamID, Description: value(in.Description), Files: files, RoleARN: in.RoleArn, Tags: newTags(in.Tags), Actor: actor(ctx),
	})
	if err != nil {
		return nil, err
	}
	return s.streamSummary(stream), nil
}

// updateStreamRequest is UpdateStreamRequest.
type updateStreamRequest struct {
	StreamID    string       `json:"streamId" in:"label" len:"1,128" pattern:"[a-zA-Z0-9_-]+"`
	Description *string      `json:"description" len:",2028" pattern:"[^\\p{C}]+"`
	Files       []streamFile `json:"files" size:"1,50"`
	RoleArn     *string      `json:"roleArn" len:"20,2048"`
}

func (s *Server) updateStream(ctx context.Context, in *updateStreamRequest) (*streamSummary, error) {
	files, err := newStreamFiles(in.Files)
	if err != nil {
		return nil, err
	}
	stream, err := s.streams.UpdateStream(ctx, iot.StreamUpdate{
		ID: in.StreamID, Description: in.Description, Files: files, RoleARN: in.RoleArn, Actor: actor(ctx),
	})
	if err != nil {
		return nil, err
	}
	return s.streamSummary(stream), nil
}

// streamRequest is DeleteStreamRequest and DescribeStreamRequest.
type streamRequest struct {
	StreamID string `json:"streamId" in:"label" len:"1,128" pattern:"[a-zA-Z0-9_-]+"`
}

func (s *Server) deleteStream(ctx context.Context, in *streamRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.streams.DeleteStream(ctx, in.StreamID, actor(ctx))
}

// describeStreamResponse is DescribeStreamResponse.
type describeStreamResponse struct {
	StreamInfo streamInfo `json:"streamInfo"`
}

// streamInfo is StreamInfo.
type streamInfo struct {
	streamSummary
	Files         []streamFile   `json:"files"`
	CreatedAt     wire.Timestamp `json:"createdAt"`
	LastUpdatedAt wire.Timestamp `json:"lastUpdatedAt"`
	RoleArn       string         `json:"roleArn"`
}

func (s *Server) describeStream(ctx context.Context, in *streamRequest) (*describeStreamResponse, error) {
	stream, err := s.streams.Stream(ctx, in.StreamID)
	if err != nil {
		return nil, err
	}
	files := make([]streamFile, len(stream.Files))
	for i, f := range stream.Files {
		files[i] = streamFile{FileID: &f.ID, S3Location: &s3Location{Bucket: &f.Bucket, Key: &f.Key, Version: optional(f.ObjectVersion)}}
	}
	return &describeStreamResponse{streamInfo{
		streamSummary: *s.streamSummary(stream), Files: files, CreatedAt: timestamp(stream.CreatedAt), LastUpdatedAt: timestamp(stream.UpdatedAt), RoleArn: stream.RoleARN,
	}}, nil
}

// listStreamsRequest is ListStreamsRequest.
type listStreamsRequest struct {
	MaxResults     *int32  `json:"maxResults" in:"query" range:"1,250"`
	NextToken      *string `json:"nextToken" in:"query"`
	AscendingOrder bool    `json:"ascendingOrder" in:"query" query:"isAscendingOrder"`
}

// listStreamsResponse is ListStreamsResponse.
type listStreamsResponse struct {
	Streams   []streamSummary `json:"streams"`
	NextToken *string         `json:"nextToken,omitempty"`
}

func (s *Server) listStreams(ctx context.Context, in *listStreamsRequest) (*listStreamsResponse, error) {
	const op = "ListStreams"
	page, err := s.page(op, in.AscendingOrder, in.NextToken, in.MaxResults, defaultRegistryPage)
	if err != nil {
		return nil, err
	}
	streams, next, err := s.streams.Streams(ctx, in.AscendingOrder, page)
	if err != nil {
		return nil, err
	}
	out := &listStreamsResponse{Streams: make([]streamSummary, len(streams)), NextToken: s.nextToken(op, in.AscendingOrder, next)}
	for i, stream := range streams {
		out.Streams[i] = *s.streamSummary(stream)
	}
	return out, nil
}
