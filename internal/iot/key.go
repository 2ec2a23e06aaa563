package iot

// APIKey is an access key of a person or a program, with the policy that says what it may do. The
// secret is sealed: nothing in a database opens it.
type APIKey struct {
	ID        string // access key id
	Name      string // whose it is; no two keys have the same
	Policy    string // document
	Sealed    []byte // the secret access key
	CreatedAt Time
}

// ValidKeyName reports whether n can name an API key: 1 to 64 of [a-zA-Z0-9_+=,.@-], as a user of IAM.
func ValidKeyName(n string) bool {
	return len(n) >= 1 && len(n) <= 64 && spelledWith(n, "_+=,.@-")
}

// KeyEvent is the Data of the records about an API key.
type KeyEvent struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}
