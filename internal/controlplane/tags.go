package controlplane

import (
	"context"

	"drover/internal/iot"
	"drover/internal/wire"
)

// tagPage is the size of a page of tags: all that a resource can have, unless the quota is raised.
const tagPage = iot.MaxTags

// tagResourceRequest is TagResourceRequest (registry spec §6.2).
type tagResourceRequest struct {
	ResourceArn string `json:"resourceArn" required:"true"`
	Tags        []tag  `json:"tags" required:"true"`
}

func (s *Server) tagResource(ctx context.Context, in *tagResourceRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.registry.Tag(ctx, iot.Tagging{ARN: in.ResourceArn, Tags: newTags(in.Tags), Actor: actor(ctx)})
}

// untagResourceRequest is UntagResourceRequest.
type untagResourceRequest struct {
	ResourceArn string   `json:"resourceArn" required:"true"`
	TagKeys     []string `json:"tagKeys" required:"true" itemlen:"1,128" itempattern:"([\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*)"`
}

func (s *Server) untagResource(ctx context.Context, in *untagResourceRequest) (*wire.Empty, error) {
	return &wire.Empty{}, s.registry.Untag(ctx, iot.Untagging{ARN: in.ResourceArn, Keys: in.TagKeys, Actor: actor(ctx)})
}

// listTagsForResourceRequest is ListTagsForResourceRequest.
type listTagsForResourceRequest struct {
	ResourceArn string  `json:"resourceArn" in:"query" required:"true"`
	NextToken   *string `json:"nextToken" in:"query"`
}

// listTagsForResourceResponse is ListTagsForResourceResponse.
type listTagsForResourceResponse struct {
	Tags      []tag   `json:"tags"`
	NextToken *string `json:"nextToken,omitempty"`
}

func (s *Server) listTagsForResource(ctx context.Context, in *listTagsForResourceRequest) (*listTagsForResourceResponse, error) {
	page, err := s.page("ListTagsForResource", in.ResourceArn, in.NextToken, nil, tagPage)
	if err != nil {
		return nil, err
	}
	tags, next, err := s.registry.Tags(ctx, in.ResourceArn, page)
	if err != nil {
		return nil, err
	}
	out := &listTagsForResourceResponse{
		Tags:      make([]tag, len(tags)),
		NextToken: s.nextToken("ListTagsForResource", in.ResourceArn, next),
	}
	for i, t := range tags {
		out.Tags[i] = tag(t)
	}
	return out, nil
}
