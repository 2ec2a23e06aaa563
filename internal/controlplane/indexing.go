package controlplane

import (
	"context"
	"encoding/json"
	"math"
	"slices"

	"drover/internal/iot"
	"drover/internal/wire"
)

// thingIndexingConfiguration is ThingIndexingConfiguration (registry spec §5.1).
type thingIndexingConfiguration struct {
	ThingIndexingMode             string          `json:"thingIndexingMode" required:"true" enum:"OFF,REGISTRY,REGISTRY_AND_SHADOW"`
	ThingConnectivityIndexingMode *string         `json:"thingConnectivityIndexingMode,omitempty" enum:"OFF,STATUS"`
	DeviceDefenderIndexingMode    *string         `json:"deviceDefenderIndexingMode,omitempty" enum:"OFF,VIOLATIONS"`
	NamedShadowIndexingMode       *string         `json:"namedShadowIndexingMode,omitempty" enum:"OFF,ON"`
	ManagedFields                 []indexField    `json:"managedFields,omitempty"`
	CustomFields                  []indexField    `json:"customFields,omitempty"`
	Filter                        *indexingFilter `json:"filter,omitempty"`
}

// thingGroupIndexingConfiguration is ThingGroupIndexingConfiguration.
type thingGroupIndexingConfiguration struct {
	ThingGroupIndexingMode string       `json:"thingGroupIndexingMode" required:"true" enum:"OFF,ON"`
	ManagedFields          []indexField `json:"managedFields,omitempty"`
	CustomFields           []indexField `json:"customFields,omitempty"`
}

// indexField is Field.
type indexField struct {
	Name *string `json:"name"`
	Type *string `json:"type" enum:"Number,String,Boolean"`
}

// indexingFilter is IndexingFilter.
type indexingFilter struct {
	NamedShadowNames []string            `json:"namedShadowNames,omitempty" itemlen:"1,64" itempattern:"[$a-zA-Z0-9:_-]+"`
	GeoLocations     []geoLocationTarget `json:"geoLocations,omitempty"`
	Connectivity     *connectivityFilter `json:"connectivity,omitempty"`
}

// geoLocationTarget is GeoLocationTarget.
type geoLocationTarget struct {
	Name  *string `json:"name"`
	Order *string `json:"order" enum:"LatLon,LonLat"`
}

// connectivityFilter is ConnectivityFilter.
type connectivityFilter struct {
	IncludeSocketInformation []string `json:"includeSocketInformation,omitempty" itemenum:"GET_THING_CONNECTIVITY_DATA"`
}

func newIndexFields(fields []indexField) []iot.IndexField {
	var list []iot.IndexField
	for _, f := range fields {
		list = append(list, iot.IndexField{Name: value(f.Name), Type: iot.IndexFieldType(value(f.Type))})
	}
	return list
}

func showIndexFields(fields []iot.IndexField) []indexField {
	list := make([]indexField, len(fields))
	for i, f := range fields {
		list[i] = indexField{Name: &f.Name, Type: optional(string(f.Type))}
	}
	return list
}

// indexingConfiguration is GetIndexingConfigurationResponse and UpdateIndexingConfigurationRequest.
type indexingConfiguration struct {
	Things *thingIndexingConfiguration      `json:"thingIndexingConfiguration,omitempty"`
	Groups *thingGroupIndexingConfiguration `json:"thingGroupIndexingConfiguration,omitempty"`
}

func mode(on bool, name string) string {
	if on {
		return name
	}
	return "OFF"
}

func (s *Server) getIndexingConfiguration(ctx context.Context, _ *wire.Empty) (*indexingConfiguration, error) {
	state, err := s.registry.Indexing(ctx)
	if err != nil {
		return nil, err
	}
	connectivity, named, off := mode(state.Things.Connectivity, "STATUS"), mode(state.Things.Packages, "ON"), "OFF"
	out := &indexingConfiguration{
		Things: &thingIndexingConfiguration{
			ThingIndexingMode: mode(state.Things.On, "REGISTRY"), ThingConnectivityIndexingMode: &connectivity,
			DeviceDefenderIndexingMode: &off, NamedShadowIndexingMode: &named, CustomFields: showIndexFields(state.Things.CustomFields),
		},
		Groups: &thingGroupIndexingConfiguration{
			ThingGroupIndexingMode: mode(state.Groups.On, "ON"), CustomFields: showIndexFields(state.Groups.CustomFields),
		},
	}
	if state.Things.Packages {
		out.Things.Filter = &indexingFilter{NamedShadowNames: []string{iot.PackageShadow}}
	}
	if state.Things.On {
		out.Things.ManagedFields = showIndexFields(iot.ManagedFields(iot.ThingsIndex, state.Things.Connectivity, state.Things.Packages))
	}
	if state.Groups.On {
		out.Groups.ManagedFields = showIndexFields(iot.ManagedFields(iot.GroupsIndex, false, false))
	}
	return out, nil
}

func (s *Server) updateIndexingConfiguration(ctx context.Context, in *indexingConfiguration) (*wire.Empty, error) {
	u := iot.IndexUpdate{Actor: actor(ctx)}
	if t := in.Things; t != nil {
		f := value(t.Filter)
		if len(f.NamedShadowNames) > maxNamedShadows {
			return nil, iot.Invalid("thingIndexingConfiguration.filter.namedShadowNames", len(f.NamedShadowNames), "Member must have length less than or equal to 10")
		}
		if err := refuse(
			asked{"thingIndexingConfiguration.thingIndexingMode", "classic shadows", t.ThingIndexingMode == "REGISTRY_AND_SHADOW"},
			asked{"thingIndexingConfiguration.filter.namedShadowNames", "named shadows other than " + iot.PackageShadow, slices.ContainsFunc(f.NamedShadowNames, func(n string) bool { return n != iot.PackageShadow })},
			asked{"thingIndexingConfiguration.deviceDefenderIndexingMode", "violations of Device Defender", value(t.DeviceDefenderIndexingMode) == "VIOLATIONS"},
			asked{"thingIndexingConfiguration.filter.geoLocations", "queries by place", len(f.GeoLocations) > 0},
			asked{"thingIndexingConfiguration.filter.connectivity", "an index of sockets", f.Connectivity != nil && len(f.Connectivity.IncludeSocketInformation) > 0},
		); err != nil {
			return nil, err
		}
		u.Things = &iot.IndexConfig{
			On: t.ThingIndexingMode != "OFF", Connectivity: value(t.ThingConnectivityIndexingMode) == "STATUS",
			Packages: value(t.NamedShadowIndexingMode) == "ON" && len(f.NamedShadowNames) > 0, CustomFields: newIndexFields(t.CustomFields),
		}
		if err := checkManagedFields(iot.ThingsIndex, t.ManagedFields); err != nil {
			return nil, err
		}
	}
	if g := in.Groups; g != nil {
		u.Groups = &iot.IndexConfig{On: g.ThingGroupIndexingMode == "ON", CustomFields: newIndexFields(g.CustomFields)}
		if err := checkManagedFields(iot.GroupsIndex, g.ManagedFields); err != nil {
			return nil, err
		}
	}
	return &wire.Empty{}, s.registry.UpdateIndexing(ctx, u)
}

// maxNamedShadows is how many named shadows can be indexed.
const maxNamedShadows = 10

// checkManagedFields accepts managed fields as they are: they can be read, and written back.
func checkManagedFields(index iot.IndexName, fields []indexField) error {
	known := iot.ManagedFields(index, true, true)
	for _, f := range newIndexFields(fields) {
		if !slices.Contains(known, f) {
			return iot.Errorf(iot.InvalidRequest, "The field %s of type %s is no managed field of %s", f.Name, f.Type, index)
		}
	}
	return nil
}

// describeIndexRequest is DescribeIndexRequest.
type describeIndexRequest struct {
	IndexName string `json:"indexName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
}

// describeIndexResponse is DescribeIndexResponse.
type describeIndexResponse struct {
	IndexName   string `json:"indexName"`
	IndexStatus string `json:"indexStatus"`
	Schema      string `json:"schema"`
}

func (s *Server) describeIndex(ctx context.Context, in *describeIndexRequest) (*describeIndexResponse, error) {
	state, err := s.registry.Indexing(ctx)
	if err != nil {
		return nil, err
	}
	var index iot.Index
	schema := ""
	switch iot.IndexName(in.IndexName) {
	case iot.ThingsIndex:
		if index, schema = state.Things, "REGISTRY"; index.Connectivity {
			schema = "REGISTRY_AND_CONNECTIVITY_STATUS"
		}
		if index.Packages {
			schema = "MULTI_INDEXING_MODE"
		}
	case iot.GroupsIndex:
		index, schema = state.Groups, "THING_GROUPS"
	}
	if !index.On {
		return nil, iot.Errorf(iot.NotFound, "Index '%s' does not exist", in.IndexName)
	}
	return &describeIndexResponse{IndexName: in.IndexName, IndexStatus: string(index.Status), Schema: schema}, nil
}

// listIndicesRequest is ListIndicesRequest.
type listIndicesRequest struct {
	NextToken  *string `json:"nextToken" in:"query"`
	MaxResults *int32  `json:"maxResults" in:"query" range:"1,500"`
}

// listIndicesResponse is ListIndicesResponse.
type listIndicesResponse struct {
	IndexNames []string `json:"indexNames"`
	NextToken  *string  `json:"nextToken,omitempty"`
}

func (s *Server) listIndices(ctx context.Context, in *listIndicesRequest) (*listIndicesResponse, error) {
	page, err := s.page("ListIndices", nil, in.NextToken, in.MaxResults, 500)
	if err != nil {
		return nil, err
	}
	state, err := s.registry.Indexing(ctx)
	if err != nil {
		return nil, err
	}
	out := &listIndicesResponse{IndexNames: []string{}}
	for name, on := range map[iot.IndexName]bool{iot.GroupsIndex: state.Groups.On, iot.ThingsIndex: state.Things.On} {
		if on && string(name) > page.Cursor {
			out.IndexNames = append(out.IndexNames, string(name))
		}
	}
	slices.Sort(out.IndexNames)
	if len(out.IndexNames) > page.Limit {
		out.IndexNames = out.IndexNames[:page.Limit]
		out.NextToken = s.nextToken("ListIndices", nil, out.IndexNames[page.Limit-1])
	}
	return out, nil
}

// search is what all queries of an index have.
type search struct {
	IndexName    *string `json:"indexName" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	QueryString  string  `json:"queryString" required:"true" len:"1,"`
	QueryVersion *string `json:"queryVersion"`
}

func (q *search) search() iot.Search {
	return iot.Search{Index: iot.IndexName(value(q.IndexName)), Query: q.QueryString, Version: value(q.QueryVersion)}
}

// searchIndexRequest is SearchIndexRequest (registry spec §5.8).
type searchIndexRequest struct {
	search
	NextToken  *string `json:"nextToken"`
	MaxResults *int32  `json:"maxResults" range:"1,"`
}

// searchIndexResponse is SearchIndexResponse.
type searchIndexResponse struct {
	NextToken   *string              `json:"nextToken,omitempty"`
	Things      []thingDocument      `json:"things"`
	ThingGroups []thingGroupDocument `json:"thingGroups"`
}

// thingDocument is ThingDocument.
type thingDocument struct {
	ThingName       string            `json:"thingName"`
	ThingID         string            `json:"thingId"`
	ThingTypeName   string            `json:"thingTypeName,omitempty"`
	ThingGroupNames []string          `json:"thingGroupNames"`
	Attributes      map[string]string `json:"attributes"`
	Shadow          *string           `json:"shadow,omitempty"` // JSON
	Connectivity    *connectivity     `json:"connectivity,omitempty"`
}

// connectivity is ThingConnectivity.
type connectivity struct {
	Connected        bool   `json:"connected"`
	Timestamp        *int64 `json:"timestamp,omitempty"` // milliseconds
	DisconnectReason string `json:"disconnectReason,omitempty"`
}

// newConnectivity shows the last connection of a thing, the zero value if there was none.
func newConnectivity(last *iot.Connection) *connectivity {
	if last == nil {
		return nil
	}
	return &connectivity{Connected: last.Connected, Timestamp: optional(int64(last.At)), DisconnectReason: last.Reason}
}

// newShadowText is what a search shows of the shadows of a thing, as text.
func newShadowText(shadow *iot.Shadow) (*string, error) {
	if shadow == nil {
		return nil, nil
	}
	body, err := shadow.Indexed()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(map[string]any{"name": map[string]json.RawMessage{iot.PackageShadow: body}})
	if err != nil {
		return nil, err
	}
	return optional(string(text)), nil
}

// thingGroupDocument is ThingGroupDocument.
type thingGroupDocument struct {
	ThingGroupName        string            `json:"thingGroupName"`
	ThingGroupID          string            `json:"thingGroupId"`
	ThingGroupDescription string            `json:"thingGroupDescription,omitempty"`
	Attributes            map[string]string `json:"attributes"`
	ParentGroupNames      []string          `json:"parentGroupNames"`
}

// searchPage is how many documents a page has at most, and if a request does not say.
const searchPage = 100

func (s *Server) searchIndex(ctx context.Context, in *searchIndexRequest) (*searchIndexResponse, error) {
	filter := in.search.search()
	page, err := s.page("SearchIndex", filter, in.NextToken, in.MaxResults, searchPage)
	if err != nil {
		return nil, err
	}
	page.Limit = min(page.Limit, searchPage)
	things, groups, next, err := s.registry.Search(ctx, filter, page)
	if err != nil {
		return nil, err
	}
	out := &searchIndexResponse{NextToken: s.nextToken("SearchIndex", filter, next), Things: []thingDocument{}, ThingGroups: []thingGroupDocument{}}
	for _, t := range things {
		shadow, err := newShadowText(t.Shadow)
		if err != nil {
			return nil, err
		}
		out.Things = append(out.Things, thingDocument{
			ThingName: string(t.Name), ThingID: t.UUID, ThingTypeName: t.Type, ThingGroupNames: texts(t.Groups), Attributes: given(t.Attributes),
			Shadow: shadow, Connectivity: newConnectivity(t.Connection),
		})
	}
	for _, g := range groups {
		out.ThingGroups = append(out.ThingGroups, thingGroupDocument{
			ThingGroupName: string(g.Name), ThingGroupID: g.UUID, ThingGroupDescription: g.Description, Attributes: given(g.Attributes), ParentGroupNames: texts(g.Parents),
		})
	}
	return out, nil
}

func texts[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return out
}

// aggregation is what all aggregations of an index have.
type aggregation struct {
	search
	AggregationField *string `json:"aggregationField" len:"1,"`
}

// getStatisticsResponse is GetStatisticsResponse.
type getStatisticsResponse struct {
	Statistics statistics `json:"statistics"`
}

// statistics is Statistics.
type statistics struct {
	Count        int64    `json:"count"`
	Average      *float64 `json:"average,omitempty"`
	Sum          *float64 `json:"sum,omitempty"`
	Minimum      *float64 `json:"minimum,omitempty"`
	Maximum      *float64 `json:"maximum,omitempty"`
	SumOfSquares *float64 `json:"sumOfSquares,omitempty"`
	Variance     *float64 `json:"variance,omitempty"`
	StdDeviation *float64 `json:"stdDeviation,omitempty"`
}

func (s *Server) getStatistics(ctx context.Context, in *aggregation) (*getStatisticsResponse, error) {
	st, err := s.registry.Statistics(ctx, in.search.search(), value(in.AggregationField))
	if err != nil {
		return nil, err
	}
	out := statistics{Count: st.Count}
	if st.HasNumbers {
		out.Average, out.Sum, out.Minimum, out.Maximum = finite(st.Average), finite(st.Sum), finite(st.Minimum), finite(st.Maximum)
		out.SumOfSquares, out.Variance, out.StdDeviation = finite(st.SumOfSquares), finite(st.Variance), finite(st.StandardDeviation)
	}
	return &getStatisticsResponse{out}, nil
}

// finite leaves out what is beyond a float64.
func finite(n float64) *float64 {
	if math.IsInf(n, 0) || math.IsNaN(n) {
		return nil
	}
	return &n
}

// getCardinalityResponse is GetCardinalityResponse.
type getCardinalityResponse struct {
	Cardinality int64 `json:"cardinality"`
}

func (s *Server) getCardinality(ctx context.Context, in *aggregation) (*getCardinalityResponse, error) {
	n, err := s.registry.Cardinality(ctx, in.search.search(), value(in.AggregationField))
	if err != nil {
		return nil, err
	}
	return &getCardinalityResponse{n}, nil
}

// getPercentilesRequest is GetPercentilesRequest.
type getPercentilesRequest struct {
	aggregation
	Percents []float64 `json:"percents" size:",100" itemrange:"0,100"`
}

// getPercentilesResponse is GetPercentilesResponse.
type getPercentilesResponse struct {
	Percentiles []percentPair `json:"percentiles"`
}

// percentPair is PercentPair.
type percentPair struct {
	Percent float64 `json:"percent"`
	Value   float64 `json:"value"`
}

func (s *Server) getPercentiles(ctx context.Context, in *getPercentilesRequest) (*getPercentilesResponse, error) {
	percents := in.Percents
	if len(percents) == 0 {
		percents = []float64{1, 5, 25, 50, 75, 95, 99}
	}
	list, err := s.registry.Percentiles(ctx, in.search.search(), value(in.AggregationField), percents)
	if err != nil {
		return nil, err
	}
	out := &getPercentilesResponse{Percentiles: []percentPair{}}
	for _, p := range list {
		out.Percentiles = append(out.Percentiles, percentPair(p))
	}
	return out, nil
}

// getBucketsAggregationRequest is GetBucketsAggregationRequest.
type getBucketsAggregationRequest struct {
	search
	AggregationField       string                  `json:"aggregationField" required:"true" len:"1,"`
	BucketsAggregationType *bucketsAggregationType `json:"bucketsAggregationType" required:"true"`
}

// bucketsAggregationType is BucketsAggregationType.
type bucketsAggregationType struct {
	TermsAggregation *termsAggregation `json:"termsAggregation"`
}

// termsAggregation is TermsAggregation.
type termsAggregation struct {
	MaxBuckets *int32 `json:"maxBuckets" range:"1,10000"`
}

// getBucketsAggregationResponse is GetBucketsAggregationResponse.
type getBucketsAggregationResponse struct {
	TotalCount int64    `json:"totalCount"`
	Buckets    []bucket `json:"buckets"`
}

// bucket is Bucket.
type bucket struct {
	KeyValue string `json:"keyValue"`
	Count    int64  `json:"count"`
}

func (s *Server) getBucketsAggregation(ctx context.Context, in *getBucketsAggregationRequest) (*getBucketsAggregationResponse, error) {
	limit := 10
	if terms := in.BucketsAggregationType.TermsAggregation; terms != nil && terms.MaxBuckets != nil {
		limit = int(*terms.MaxBuckets)
	}
	total, list, err := s.registry.Buckets(ctx, in.search.search(), in.AggregationField, limit)
	if err != nil {
		return nil, err
	}
	out := &getBucketsAggregationResponse{TotalCount: total, Buckets: []bucket{}}
	for _, v := range list {
		out.Buckets = append(out.Buckets, bucket{KeyValue: v.Value, Count: v.Count})
	}
	return out, nil
}

// getThingConnectivityDataRequest is GetThingConnectivityDataRequest (registry spec §5.8).
type getThingConnectivityDataRequest struct {
	ThingName                string `json:"thingName" in:"label" len:"1,128" pattern:"[a-zA-Z0-9:_-]+"`
	IncludeSocketInformation bool   `json:"includeSocketInformation"`
}

// getThingConnectivityDataResponse is GetThingConnectivityDataResponse.
type getThingConnectivityDataResponse struct {
	ThingName        string         `json:"thingName"`
	Connected        bool           `json:"connected"`
	Timestamp        wire.Timestamp `json:"timestamp,omitzero"`
	DisconnectReason string         `json:"disconnectReason,omitempty"`
}

func (s *Server) getThingConnectivityData(ctx context.Context, in *getThingConnectivityDataRequest) (*getThingConnectivityDataResponse, error) {
	if err := refuse(asked{"includeSocketInformation", "an index of sockets", in.IncludeSocketInformation}); err != nil {
		return nil, err
	}
	last, ever, err := s.registry.Connection(ctx, iot.ThingName(in.ThingName))
	if err != nil {
		return nil, err
	}
	out := &getThingConnectivityDataResponse{ThingName: in.ThingName, Connected: last.Connected, DisconnectReason: last.Reason}
	if ever {
		out.Timestamp = timestamp(last.At)
	}
	return out, nil
}
