"""Objects in the box with boto3, found by AWS's own variables. BUCKET is a bucket to make."""

import hashlib
import io
import os
import urllib.error
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

BUCKET = os.environ["BUCKET"]
s3 = boto3.client("s3", config=Config(signature_version="s3v4", s3={"addressing_style": "path"}))


def fails(code, call, **arguments):
    try:
        call(**arguments)
    except ClientError as e:
        assert e.response["Error"]["Code"] == code, e
    else:
        raise AssertionError(f"{call.__name__} went well, not {code}")


def fetch(url, method="GET", data=None, headers={}):
    """What a device does, without a key: the status and the body."""
    request = urllib.request.Request(url, method=method, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as e:
        return e.code, e.read()


s3.create_bucket(Bucket=BUCKET)
assert BUCKET in [b["Name"] for b in s3.list_buckets()["Buckets"]]

# Checksums of every kind, in headers and, of a stream, behind the body.
for algorithm in "CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256":
    try:
        s3.put_object(Bucket=BUCKET, Key=algorithm, Body=b"hello", ChecksumAlgorithm=algorithm, Metadata={"a": "b"})
    except Exception as e:  # some need a module that is not there
        if "awscrt" not in str(e).lower():
            raise
        continue
    got = s3.get_object(Bucket=BUCKET, Key=algorithm, ChecksumMode="ENABLED")
    assert got["Body"].read() == b"hello" and got["Metadata"] == {"a": "b"}, got
    assert "Checksum" + algorithm in got, got

# Several parts at a time, and back.
data = os.urandom(20 << 20)
s3.upload_fileobj(io.BytesIO(data), BUCKET, "big", ExtraArgs={"ContentType": "application/x-firmware"})
back = io.BytesIO()
s3.download_fileobj(BUCKET, "big", back)
assert hashlib.sha256(back.getvalue()).digest() == hashlib.sha256(data).digest()
head = s3.head_object(Bucket=BUCKET, Key="big")
assert head["ContentType"] == "application/x-firmware" and head["ETag"].endswith('-3"'), head

# Presigned URLs, as devices use them.
url = s3.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "big"}, ExpiresIn=600)
assert fetch(url) == (200, data)
assert fetch(url, headers={"Range": "bytes=5-9"}) == (206, data[5:10])
assert fetch(url, headers={"If-None-Match": head["ETag"]})[0] == 304
assert fetch(url.replace("big", "CRC32"))[0] == 403
assert fetch(url, method="DELETE")[0] == 403
status, body = fetch(url.replace("X-Amz-Expires=600", "X-Amz-Expires=601"))
assert status == 403 and b"<Code>SignatureDoesNotMatch</Code>" in body, body
url = s3.generate_presigned_url("put_object", Params={"Bucket": BUCKET, "Key": "up/ä b"}, ExpiresIn=600)
assert fetch(url, method="PUT", data=b"log")[0] == 200
assert s3.get_object(Bucket=BUCKET, Key="up/ä b")["Body"].read() == b"log"

# Versions.
s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
one = s3.put_object(Bucket=BUCKET, Key="v", Body=b"one")["VersionId"]
two = s3.put_object(Bucket=BUCKET, Key="v", Body=b"two")["VersionId"]
assert s3.get_object(Bucket=BUCKET, Key="v", VersionId=one)["Body"].read() == b"one"
s3.delete_object(Bucket=BUCKET, Key="v")
fails("NoSuchKey", s3.get_object, Bucket=BUCKET, Key="v")
listed = s3.list_object_versions(Bucket=BUCKET, Prefix="v")
assert [v["VersionId"] for v in listed["Versions"]] == [two, one] and len(listed["DeleteMarkers"]) == 1, listed

# Errors have S3's codes.
fails("NoSuchBucket", s3.list_objects_v2, Bucket="no-such-bucket-anywhere")
fails("NotImplemented", s3.get_bucket_acl, Bucket=BUCKET)
fails("PreconditionFailed", s3.put_object, Bucket=BUCKET, Key="big", Body=b"", IfNoneMatch="*")

# Listings, page by page.
pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, PaginationConfig={"PageSize": 2})
keys = [o["Key"] for page in pages for o in page.get("Contents", [])]
assert keys == sorted(keys) and "up/ä b" in keys and "v" not in keys, keys

pages = s3.get_paginator("list_object_versions").paginate(Bucket=BUCKET, PaginationConfig={"PageSize": 2})
doomed = [{"Key": v["Key"], "VersionId": v["VersionId"]} for p in pages for v in p.get("Versions", []) + p.get("DeleteMarkers", [])]
assert "Errors" not in s3.delete_objects(Bucket=BUCKET, Delete={"Objects": doomed})
s3.delete_bucket(Bucket=BUCKET)
