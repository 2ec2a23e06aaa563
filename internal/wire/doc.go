// Package wire speaks restJson1, the protocol of the AWS IoT control plane and jobs data plane, on the server's side:
// it finds the operation of a request, binds the request to a struct, validates it against the declarations beside that
// struct's fields, calls the handler, and encodes the answer or the error.
//
// A request goes through these steps, and the first that fails answers:
//
//	path and method   404 UnknownOperationException, 405 MethodNotAllowedException
//	a handler         501 NotImplementedException
//	size of the body  413 RequestEntityTooLargeException
//	binding           400 InvalidRequestException: the first member that cannot be bound
//	validation        400 InvalidRequestException: all members that break a constraint, in AWS's wording
//	handler           its own [Error], or Config.MapError's; 503 if the request was cancelled; else 500
//
// Every answer, including those and the one after a panic, is a JSON object and carries x-amzn-RequestId: the SDKs lose
// the type of an error that comes as anything else.
//
// # Declarations
//
// A request type is a struct whose exported fields carry tags:
//
//	json:"name"         the member's name on the wire; names are case-sensitive
//	in:"label"          where it is: label, query, header, body (the default), "query,body" (the query wins), or payload
//	                    (a blob that is the whole body as it is)
//	header:"x-name"     the header of an in:"header" member, if not the member's name
//	query:"name"        the parameter of an in:"query" member, if not the member's name
//	required:"true"     it must be there; labels always are, and are not empty
//	len:"1,64"          length of a text in characters; either bound may be left out
//	bytes:",32768"      length of a text or blob in bytes
//	size:"1,"           number of items of a list or map
//	range:"1,250"       value of a number
//	pattern:"[a-z]+"    regular expression that a text matches as a whole; no anchors needed, \p{Graph}, \p{Upper}
//	                    and \p{Digit} may stand inside brackets as in Java; messages show it as declared
//	enum:"A,B"          the values of a text
//
// The item of a list takes the same constraints with the prefix item (itemlen, itempattern), key and value of a map with
// key and val (keypattern, vallen). Constraints on the members of a struct stand in that struct.
//
// Field types are strings, booleans, integers, floats, []byte (base64), slices, maps with text keys, structs, anything
// that implements json.Unmarshaler, and pointers to these. Embedded structs are part of the struct around them.
// No text may hold the character U+0000.
// JSON null is the same as an absent member, and is left out of lists and maps.
//
// A pointer tells absent (nil) from given. A plain text field is absent if empty: required then means not empty. A plain
// number or boolean is 0 or false if absent, so it cannot be constrained, unless it is a label. Nested structs are
// pointers. A declaration that breaks these rules, misspells a tag or cannot be parsed is a broken program: [Handle] and
// [Validate] panic.
//
// # Leniency
//
// Unknown members and query parameters are ignored, as the live service does. A scalar parameter given twice, a member
// given twice in one JSON object, text that is not UTF-8, a body nested deeper than 64 levels, and lists or maps with more
// than 10000 entries are refused. Content-Type is not looked at, nor is the body of an operation without body members. A
// number such as 1.0 is an integer. An unpaired surrogate in a JSON string becomes U+FFFD, as encoding/json has it.
package wire
