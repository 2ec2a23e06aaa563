package iot

// BillingGroup is a set of things for which somebody pays (registry spec §6.1). A thing is in one at most.
type BillingGroup struct {
	Name        string
	UUID        string
	Version     int64 // 1 at first; one more with every update
	Description string
	CreatedAt   Time
}

// NewBillingGroup is what CreateBillingGroup asks for.
type NewBillingGroup struct {
	Name        string
	Description string
	Tags        []Tag
	Actor       string
}

// BillingGroupUpdate is what UpdateBillingGroup asks for.
type BillingGroupUpdate struct {
	Name            string
	Description     *string // nil: as it is
	ExpectedVersion *int64
	Actor           string
}

// BillingGroupDeletion is what DeleteBillingGroup asks for.
type BillingGroupDeletion struct {
	Name            string
	ExpectedVersion *int64
	Actor           string
}

// BillingEvent is the Data of the records about a billing group, and about a thing that joins or leaves one.
type BillingEvent struct {
	Name  string    `json:"name"`
	Thing ThingName `json:"thing,omitempty"`
}
