package iot

// NewJob is what CreateJob asks for.
type NewJob struct {
	JobID           JobID
	Targets         []string // ARNs of things and groups, at least one
	Document        string
	DocumentSource  string // URL that Document was read from, "" if it was given
	Description     string
	Selection       Selection // "" = Snapshot
	Namespace       string
	Config          JobConfig
	Schedule        *Schedule // StartAt and EndAt are set by the engine
	TemplateARN     string    // "" if none; members above that are set win over the template's
	Parameters      map[string]string
	PackageVersions []string
	Tags            []Tag
	Actor           string
}

// JobUpdate is what UpdateJob asks for; nil members stay as they are.
type JobUpdate struct {
	JobID       JobID
	Namespace   *string // if given, the job must be of it
	Description *string
	Presigned   *PresignedURLConfig
	Rollout     *RolloutConfig
	Abort       []AbortCriterion // nil: as it is
	Timeout     *int64           // minutes
	Retry       []RetryCriterion // nil: as it is
	Actor       string
}

// JobCancellation is what CancelJob asks for.
type JobCancellation struct {
	JobID      JobID
	Force      bool
	ReasonCode string
	Comment    string
	Actor      string
}

// JobDeletion is what DeleteJob asks for.
type JobDeletion struct {
	JobID     JobID
	Namespace *string
	Force     bool
	Actor     string
}

// NewTargets is what AssociateTargetsWithJob asks for.
type NewTargets struct {
	JobID     JobID
	Namespace *string
	Targets   []string // ARNs of groups
	Comment   string
	Actor     string
}

// JobQuery narrows a list of jobs; zero fields do not.
type JobQuery struct {
	Status    JobStatus
	Selection Selection
	GroupName GroupName
	GroupUUID string
	Namespace *string
}

// ExecutionQuery narrows a list of a thing's executions; zero fields do not.
type ExecutionQuery struct {
	Status    ExecutionStatus
	JobID     JobID
	Namespace *string
}

// ExecutionCancellation is what CancelJobExecution asks for; it is about the latest
// execution of the job on the thing.
type ExecutionCancellation struct {
	Thing           ThingName
	JobID           JobID
	Force           bool
	ExpectedVersion *int64
	Details         Details // nil = unchanged
	Actor           string
}

// ExecutionDeletion is what DeleteJobExecution asks for.
type ExecutionDeletion struct {
	Thing     ThingName
	JobID     JobID
	Number    int64
	Namespace *string
	Force     bool
	Actor     string
}

// Page asks for a part of a list. Cursor is what the former page returned as next, ""
// for the first page; it means something only to who made it.
type Page struct {
	Cursor string
	Limit  int
}
