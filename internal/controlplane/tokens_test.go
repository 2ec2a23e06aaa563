package controlplane

import (
	"encoding/base64"
	"strings"
	"testing"

	"drover/internal/iot"
)

func TestPage(t *testing.T) {
	t.Parallel()
	s := &Server{}
	filters := iot.JobQuery{Status: iot.JobCanceled, GroupName: "g"}
	token := s.nextToken("ListJobs", filters, "CANCELED 17")
	if token == nil {
		t.Fatal("no token for a cursor")
	}

	t.Run("the first page has the default size and no cursor", func(t *testing.T) {
		t.Parallel()
		got, err := s.page("ListJobs", filters, nil, nil, 50)
		if want := (iot.Page{Limit: 50}); err != nil || got != want {
			t.Errorf("page = %+v, %v; want %+v", got, err, want)
		}
	})
	t.Run("a token leads to its cursor, with another page size, too", func(t *testing.T) {
		t.Parallel()
		size := int32(7)
		got, err := s.page("ListJobs", filters, token, &size, 50)
		if want := (iot.Page{Cursor: "CANCELED 17", Limit: 7}); err != nil || got != want {
			t.Errorf("page = %+v, %v; want %+v", got, err, want)
		}
	})
	t.Run("the last page has no token", func(t *testing.T) {
		t.Parallel()
		if got := s.nextToken("ListJobs", filters, ""); got != nil {
			t.Errorf("nextToken = %q, want none", *got)
		}
	})

	refused := map[string]struct {
		op      string
		filters any
		token   string
	}{
		"of another operation": {"ListThings", filters, *token},
		"of other filters":     {"ListJobs", iot.JobQuery{Status: iot.JobCompleted, GroupName: "g"}, *token},
		"of no filters":        {"ListJobs", iot.JobQuery{}, *token},
		"empty":                {"ListJobs", filters, ""},
		"no base64":            {"ListJobs", filters, "!" + *token},
		"cut":                  {"ListJobs", filters, (*token)[:len(*token)-2]},
		"with a line break":    {"ListJobs", filters, (*token)[:4] + "\n" + (*token)[4:]},
		"of another version":   {"ListJobs", filters, "Ag" + (*token)[2:]},
		"too long":             {"ListJobs", filters, strings.Repeat("A", maxToken+1)},
		"a bare cursor":        {"ListJobs", filters, base64.RawURLEncoding.EncodeToString([]byte("CANCELED 17"))},
	}
	for name, c := range refused {
		t.Run("a token is refused that is "+name, func(t *testing.T) {
			t.Parallel()
			got, err := s.page(c.op, c.filters, &c.token, nil, 50)
			if iot.ErrorCode(err) != iot.InvalidRequest {
				t.Errorf("page = %+v, %v; want InvalidRequest", got, err)
			}
		})
	}
	t.Run("a token is refused if any character is altered", func(t *testing.T) {
		t.Parallel()
		for i := range len(*token) {
			altered := []byte(*token)
			altered[i] = map[bool]byte{true: 'B', false: 'A'}[altered[i] == 'A']
			text := string(altered)
			if got, err := s.page("ListJobs", filters, &text, nil, 50); err == nil {
				t.Errorf("character %d altered: page = %+v, want InvalidRequest", i, got)
			}
		}
	})
}

// FuzzToken looks for tokens that panic, and for texts that are tokens but not those which
// nextToken makes.
func FuzzToken(f *testing.F) {
	s := &Server{}
	f.Add("")
	f.Add("AQ")
	f.Add("not a token")
	f.Add(*s.nextToken("ListJobs", "x", "IN_PROGRESS 1"))
	f.Add(*s.nextToken("ListJobs", "y", "IN_PROGRESS 1"))
	f.Add(*s.nextToken("ListThings", "x", "é"))
	f.Fuzz(func(t *testing.T, text string) {
		page, err := s.page("ListJobs", "x", &text, nil, 50)
		if err != nil {
			if iot.ErrorCode(err) != iot.InvalidRequest {
				t.Fatalf("page(%q): %v, want InvalidRequest", text, err)
			}
		} else if again := s.nextToken("ListJobs", "x", page.Cursor); again == nil || *again != text {
			t.Fatalf("page(%q) has cursor %q, whose token is another", text, page.Cursor)
		}
		// Any text is a cursor that comes back as it was, if it is UTF-8 and of a sane length.
		if cursor := strings.ToValidUTF8(text, "?"); cursor != "" && len(cursor) < maxToken/2 {
			token := s.nextToken("ListJobs", "x", cursor)
			if page, err := s.page("ListJobs", "x", token, nil, 50); err != nil || page.Cursor != cursor {
				t.Fatalf("cursor %q came back as %q, %v", cursor, page.Cursor, err)
			}
		}
	})
}
