package objects

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// decodePath is encodeKey backwards.
func decodePath(t *testing.T, path string) string {
	t.Helper()
	key := ""
	parts := strings.Split(path, string(filepath.Separator))
	for i, name := range parts {
		part, folder, err := decodeName(name)
		if err != nil || folder != (i < len(parts)-1) {
			t.Fatalf("%q in %q: %v", name, path, err)
		}
		key += part
	}
	return key
}

func FuzzEncodeKey(f *testing.F) {
	for _, key := range awkwardKeys {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		if key == "" || len(key) > maxKey {
			return
		}
		path := encodeKey(key)
		if !filepath.IsLocal(path) || filepath.Clean(path) != path || strings.ToLower(path) != path {
			t.Errorf("%q becomes %q", key, path)
		}
		for name := range strings.SplitSeq(path, string(filepath.Separator)) {
			if len(name) > nameLength+len(folderMark) || strings.Trim(name, "0123456789abcdefghijklmnopqrstuv+") != "" {
				t.Errorf("%q becomes %q", key, path)
			}
		}
		if got := decodePath(t, path); got != key {
			t.Errorf("%q comes back as %q", key, got)
		}
	})
}

func FuzzDecodeName(f *testing.F) {
	f.Add("00")
	f.Add("c5h66p35+")
	f.Add("..")
	f.Add(strings.Repeat("0", nameLength) + folderMark)
	f.Fuzz(func(t *testing.T, name string) {
		part, folder, err := decodeName(name)
		if err != nil {
			return
		}
		want := encodeKey(part)
		if folder {
			want += folderMark
		}
		if want != name {
			t.Errorf("%q is read as %q, which is written %q", name, part, want)
		}
	})
}

// TestKeysKeepTheirOrder: a walk over files in the order of their names is one over keys in theirs.
func TestKeysKeepTheirOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.StringMatching(`[a-c/é]{0,4}|a{100,140}`)
		key := rapid.Custom(func(t *rapid.T) string { return "k" + part.Draw(t, "a") + part.Draw(t, "b") + part.Draw(t, "c") })
		keys := rapid.SliceOfNDistinct(key, 2, 2, rapid.ID).Draw(t, "keys")
		slices.Sort(keys)
		a, b := strings.Split(encodeKey(keys[0]), "/"), strings.Split(encodeKey(keys[1]), "/")
		if slices.Compare(a, b) >= 0 {
			t.Errorf("%q is before %q, and %q is not before %q", keys[0], keys[1], a, b)
		}
	})
}

// awkwardKeys are keys that file systems, paths, URLs or XML may mistake for something else.
var awkwardKeys = []string{
	"a", "A", "a/b", "a/", "a//b", "/a", "//", ".", "..", "../x", "../../../../etc/passwd", "a/../b", "a/./b", "..%2f", "%2e%2e/x", "%00", `..\x`, `C:\x`,
	"con", "nul.txt", "a ", " a", "a.", "a+b", "a b", "a%20b", "a?b", "a#b", "a&b=c", "a;b", "a:b", "a*b", "a\"b", "<a>", "a'b", "a|b",
	"é", "e\u0301", "日本語", "😀", "\u202e", "a\nb", "a\tb", "\x7f", "\u0085", "~", "-", "_", strings.Repeat("x", 125), strings.Repeat("x", 126),
	strings.Repeat("x", 250), strings.Repeat("x", 251), strings.Repeat("é", 512), strings.Repeat("a/", 512), strings.Repeat("y", maxKey),
}

func TestCheckKey(t *testing.T) {
	t.Parallel()
	for _, key := range awkwardKeys {
		if err := checkKey(key); err != nil {
			t.Errorf("%q: %v", key, err)
		}
	}
	for _, key := range []string{"", "a\x00b", "\xff", strings.Repeat("x", maxKey+1), strings.Repeat("é", 512) + "x"} {
		if err := checkKey(key); err == nil {
			t.Errorf("%q (valid UTF-8: %t) is accepted", key, utf8.ValidString(key))
		}
	}
}

func TestCheckBucketName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"abc", "a-b.c", "0ab", strings.Repeat("a", 63), "1.2.3", "1.2.3.4.5"} {
		if err := checkBucketName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", "ab", "..", ".ab", "ab.", "-ab", "ab-", "a..b", "aBc", "a_b", "a/b", "1.2.3.4", "xn--ab", strings.Repeat("a", 64),
		"healthz", "readyz", "metrics", "_drover", "a\x00b", "é-é"} {
		if err := checkBucketName(name); err == nil {
			t.Errorf("%q is accepted", name)
		}
	}
}
