package iot

// User is a person who signs in to the console with a password. Nothing of it tells the password, and
// nothing in a database opens the key of his codes.
type User struct {
	Name      string // no two have the same
	Role      string // "" if he has a policy of his own
	Policy    string // document; "" if he has a role
	Password  string // its hash, in the PHC string format
	TOTP      []byte // the key of his one-time codes, sealed; nil: he needs none
	CodeStep  int64  // of the last code that was used: none is good twice
	CreatedAt Time
}

// ValidUserName reports whether n can name a user: as a key, but not as if it was the id of one.
func ValidUserName(n string) bool {
	return ValidKeyName(n) && (len(n) < 4 || n[:4] != "AKIA")
}

// UserEvent is the Data of the records about a user.
type UserEvent struct {
	Name   string `json:"name"`
	Change string `json:"change,omitempty"` // password, role or totp
}
