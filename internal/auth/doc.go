// Package auth establishes who sends an HTTP request. It verifies AWS Signature
// Version 4 in its header form, and keeps the access key of a data folder.
//
// A [Verifier] works out the canonical request from what was received, never from what
// it would have sent itself: the path as it stands on the request line, and the header
// list that the client says it signed. Nothing is normalised, so no two requests that a
// handler could tell apart have the same signature.
//
// Checks run from cheap to dear: the form of the request, the key, the time, and only
// then the body, of which at most [Verifier.MaxBody] bytes are read.
package auth
