// Package access decides what devices may do: it finds the policies that are in force for whoever
// holds a certificate, and asks them (identity spec §5).
//
// In force are the policies attached to the certificate and those of the groups, and all groups
// above them, that the thing of the connection is in. A connection has a thing if its certificate is
// attached to one exclusively, or to the one that has the name of the client id. A certificate that
// is unknown or not active may nothing, and a claim nothing but to provision by its template.
//
//	Decider ── cache: certificate, client id ──► standing: thing, subject, policies
//	   ▲                                             ▲
//	   │ registry.Identities                         │ until it is stale
//	CertificateChanged, ThingsChanged,            Session: one connection, or one request
//	PoliciesChanged
//
// What has been found out is kept until the registry says that it changed. It says so after the
// commit and before it answers whoever asked for the change; a session looks at one flag per
// decision and finds out anew if that is set. So the next decision after an answer knows of the
// change. Where several servers share a database, the same three methods are what has to be called
// when another one tells of a change.
//
// Which topics are reserved is not decided here: that comes first and knows no exception.
package access
