#!/usr/bin/env bash
# The workflow of AWS's "Managing jobs" guide with the AWS CLI. AWS is the command to use;
# the server is found by AWS's own variables, which `drover env` prints.
set -euo pipefail

aws() { command ${AWS:-aws} --output text "$@"; }
fail() {
	printf 'aws_cli: %s\n' "$*" >&2
	exit 1
}
# is WANT COMMAND... fails unless the command prints WANT.
is() {
	local want=$1 got
	shift
	got=$("$@")
	[ "$got" = "$want" ] || fail "$*: printed '$got', not '$want'"
}

thing=cli-$$-$RANDOM
job=$thing-job
target=$(aws iot create-thing --thing-name "$thing" --query thingArn)

aws iot create-job --job-id "$job" --targets "$target" --document '{"operation":"update"}' --description 'from the CLI' >/dev/null
is '{"operation":"update"}' aws iot get-job-document --job-id "$job" --query document
is "$job" aws iot list-jobs --query "jobs[?jobId=='$job'].jobId"
is 'IN_PROGRESS	from the CLI' aws iot describe-job --job-id "$job" --query 'job.[status,description]'
for _ in $(seq 50); do # the execution is created in the background
	[ "$(aws iot describe-job --job-id "$job" --query job.isConcurrent)" = True ] || break
done
is "$target	QUEUED" aws iot list-job-executions-for-job --job-id "$job" --query 'executionSummaries[].[thingArn,jobExecutionSummary.status]'
is "$job	QUEUED" aws iot list-job-executions-for-thing --thing-name "$thing" --query 'executionSummaries[].[jobId,jobExecutionSummary.status]'
is 'QUEUED	1	1' aws iot describe-job-execution --thing-name "$thing" --job-id "$job" --query 'execution.[status,executionNumber,versionNumber]'
is "$job" aws iot cancel-job --job-id "$job" --reason-code CLI_TEST --comment 'no more' --query jobId
is 'CANCELED	CLI_TEST	no more	1' aws iot describe-job --job-id "$job" --query 'job.[status,reasonCode,comment,jobProcessDetails.numberOfCanceledThings]'
is CANCELED aws iot describe-job-execution --thing-name "$thing" --job-id "$job" --query execution.status
aws iot delete-job --job-id "$job" >/dev/null
aws iot delete-thing --thing-name "$thing" >/dev/null
if error=$(aws iot describe-thing --thing-name "$thing" 2>&1); then
	fail 'a deleted thing is described'
fi
case $error in
*ResourceNotFoundException*) ;;
*) fail "a deleted thing: $error" ;;
esac
echo ok >&2
