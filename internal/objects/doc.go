// Package objects is an object store that speaks S3's protocol, made for the files that
// jobs point at: firmware on the way to devices, logs on the way back.
//
// A [Server] answers HTTP. What it keeps are files below one folder, the [Store]; nothing
// is in a database, so that downloads of a whole fleet never wait for one.
//
//	buckets/BUCKET/bucket.json              the bucket: when it was made, versioning
//	buckets/BUCKET/current/KEY              an object: what a GET without versionId answers
//	buckets/BUCKET/versions/KEY/VERSION     objects that are not current any more
//	uploads/UPLOAD/upload.json, 00001, …    multipart uploads and their parts
//	tmp/                                    what is being written; emptied at every start
//
// An object is one file: its data, then what is known about it as JSON, then the length of
// that (see meta.go). So a rename puts data and metadata in place at once, and data starts
// at the beginning, where the kernel can send it from. KEY is the encoded key (names.go):
// of digits and lower-case letters only, in the order of the keys.
//
// Nothing is written in place. A file is written in tmp, flushed, and renamed, and then the
// folder is flushed: a crash leaves the old object or the new one. An object that is
// replaced in a bucket with versioning is first linked into versions; a crash in between
// leaves it in both places, which listings see through.
//
// Nothing is held in memory but buffers, and the names of one page of a listing.
package objects
