#!/usr/bin/env bash
# A file of SIZE bytes into the object store in the box and back with the AWS CLI, and what else
# people do with `aws s3`. AWS is the command to use, BUCKET a bucket to make, DIR a folder for files.
set -euo pipefail

aws() { command ${AWS:-aws} --output text "$@"; }
fail() {
	printf 'aws_s3: %s\n' "$*" >&2
	exit 1
}
sum() { sha256sum "$1" | cut -d' ' -f1; }

cd "$DIR"
head -c "$SIZE" /dev/urandom >up
aws s3 mb "s3://$BUCKET" >/dev/null
aws s3 cp --no-progress up "s3://$BUCKET/pump/7.bin" >/dev/null
aws s3 cp --no-progress "s3://$BUCKET/pump/7.bin" down >/dev/null
[ "$(sum up)" = "$(sum down)" ] || fail 'what came back is not what was sent'
aws s3 ls --recursive "s3://$BUCKET" | grep -q " $SIZE pump/7.bin$" || fail 'the object is not listed'
aws s3 ls "s3://$BUCKET" | grep -q 'PRE pump/' || fail 'the folder is not listed'

# Within the store, in parts.
head -c 20000000 up >part
aws s3 cp --no-progress part "s3://$BUCKET/part" >/dev/null
aws s3 cp --no-progress "s3://$BUCKET/part" "s3://$BUCKET/copy" >/dev/null
[ "$(aws s3 cp "s3://$BUCKET/copy" - | sha256sum | cut -d' ' -f1)" = "$(sum part)" ] || fail 'a copy is another'

# A PUT of one piece, and everything in a folder, of which only what is new is sent.
mkdir -p tree/sub
printf one >tree/a
printf two >'tree/sub/b ä'
aws s3 sync tree "s3://$BUCKET/tree" >/dev/null
[ -z "$(aws s3 sync tree "s3://$BUCKET/tree")" ] || fail 'what has not changed is sent again'
aws s3 sync "s3://$BUCKET/tree" copy >/dev/null
diff -r tree copy >&2 || fail 'a folder came back changed'
[ "$(printf piped | aws s3 cp - "s3://$BUCKET/piped" && aws s3 cp "s3://$BUCKET/piped" -)" = piped ] || fail 'a pipe'
aws s3 mv "s3://$BUCKET/piped" "s3://$BUCKET/moved" >/dev/null
[ "$(aws s3api head-object --bucket "$BUCKET" --key moved --query ContentLength)" = 5 ] || fail 'a moved object'
if error=$(aws s3api get-bucket-policy --bucket "$BUCKET" 2>&1); then
	fail 'there is a policy'
fi
case $error in
*NotImplemented*GetBucketPolicy*) ;;
*) fail "a policy: $error" ;;
esac
aws s3 rb --force "s3://$BUCKET" >/dev/null
echo ok >&2
