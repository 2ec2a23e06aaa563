package conformance

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// statements says how many statements the behavioural specifications have, by the letter of
// their tests: S of jobs, whose rows have plain numbers, B of the broker and of identity, R of the registry.
var statements = map[string]int{"S": 206, "B": 268, "R": 206}

// statement is a row of the table in docs/compatibility.md.
type statement struct {
	status string
	tests  []string
}

// The page about compatibility says what the code does: every statement has a row, what
// holds is shown by tests that exist, and tests of statements are in their rows.
func TestCompatibility(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "docs", "compatibility.md"))
	if err != nil {
		t.Fatal(err)
	}
	here := testsIn(t, ".")
	all := slices.Clone(here)
	files, err := filepath.Glob(filepath.Join("..", "internal", "*", "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	below, err := filepath.Glob(filepath.Join("..", "internal", "*", "*", "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	folders := map[string]bool{}
	for _, file := range append(files, below...) {
		folders[filepath.Dir(file)] = true
	}
	for folder := range folders {
		all = append(all, testsIn(t, folder)...)
	}

	for letter, count := range statements {
		rows := readStatements(t, string(page), strings.TrimPrefix(letter, "S"), count)
		for n := 1; n <= count; n++ {
			row, ok := rows[n]
			if !ok {
				t.Errorf("statement %s%d has no row", letter, n)
				continue
			}
			switch row.status {
			case "holds", "in part":
				if !slices.ContainsFunc(row.tests, func(test string) bool { return slices.Contains(statementsOf(t, test, letter), n) }) {
					t.Errorf("statement %s%d holds, and no test in its row is named after it", letter, n)
				}
			case "later", "differs":
			default:
				t.Errorf("statement %s%d has the status %q", letter, n, row.status)
			}
			for _, name := range row.tests {
				if !slices.Contains(all, name) {
					t.Errorf("statement %s%d: there is no %s", letter, n, name)
				}
			}
		}
		for _, name := range all {
			for _, n := range statementsOf(t, name, letter) {
				if row := rows[n]; row.status == "later" {
					t.Errorf("%s shows statement %d, which is marked as later", name, n)
				} else if slices.Contains(here, name) && !slices.Contains(row.tests, name) {
					t.Errorf("%s is not in the row of statement %d", name, n)
				}
			}
		}
	}

	// What is said about attacks.
	security, err := os.ReadFile(filepath.Join("..", "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w+)`").FindAllStringSubmatch(string(security), -1)
	for _, m := range named {
		if m[1] != "TestAuthorization" && m[1] != "TestInvokeAuthorizer" && !slices.Contains(all, m[1]) { // operations
			t.Errorf("security.md: there is no %s", m[1])
		}
	}
	if len(named) < 10 {
		t.Errorf("security.md names %d tests", len(named))
	}

	// What is said about the API as a whole.
	for pattern, files := range map[string][]string{
		`\bop\("(\w+)"`:       {"routes.go"},
		`\basked\{"([\w.]+)"`: {"commands.go", "indexing.go", "policies.go"},
	} {
		found := 0
		for _, file := range files {
			text, err := os.ReadFile(filepath.Join("..", "internal", "controlplane", file))
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(text), -1) {
				found++
				if !strings.Contains(string(page), "`"+m[1]+"`") {
					t.Errorf("the page does not say that there is %s (%s)", m[1], file)
				}
			}
		}
		if found == 0 {
			t.Errorf("%v: no %s", files, pattern)
		}
	}
}

// readStatements reads the rows "| number | statement | status | tests and remarks |" whose
// numbers follow the prefix. A row may be of several statements: "| B6 to B21 | …".
func readStatements(t *testing.T, page, prefix string, count int) map[int]statement {
	t.Helper()
	rows := map[int]statement{}
	test := regexp.MustCompile("`(Test\\w+)`")
	which := regexp.MustCompile(`^` + prefix + `(\d+)(?: to ` + prefix + `(\d+))?$`)
	for line := range strings.Lines(page) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 2 {
			continue
		}
		numbers := which.FindStringSubmatch(strings.TrimSpace(cells[1]))
		if numbers == nil {
			continue
		}
		first, err := strconv.Atoi(numbers[1])
		last := first
		if err == nil && numbers[2] != "" {
			last, err = strconv.Atoi(numbers[2])
		}
		if err != nil || len(cells) != 6 || first < 1 || last < first || last > count {
			t.Errorf("bad row: %s", line)
			continue
		}
		row := statement{status: strings.TrimSpace(cells[3])}
		for _, m := range test.FindAllStringSubmatch(cells[4], -1) {
			row.tests = append(row.tests, m[1])
		}
		for n := first; n <= last; n++ {
			if _, twice := rows[n]; twice {
				t.Errorf("statement %s%d has two rows", prefix, n)
			}
			rows[n] = row
		}
	}
	return rows
}

// testsIn returns the names of the tests in a folder.
func testsIn(t *testing.T, folder string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range parsed.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && (strings.HasPrefix(f.Name.Name, "Test") || strings.HasPrefix(f.Name.Name, "Fuzz")) {
				names = append(names, f.Name.Name)
			}
		}
	}
	if len(names) == 0 && folder == "." {
		t.Fatalf("no tests in %s", folder)
	}
	return names
}

// statementsOf returns the numbers of the statements of a letter that a test shows, by its
// name: TestS058S059S060… and TestS034ToS037….
func statementsOf(t *testing.T, test, letter string) (all []int) {
	t.Helper()
	names := regexp.MustCompile(`^Test((?:(?:To)?[SBR]\d{3})+)`).FindStringSubmatch(test)
	if names == nil {
		return nil
	}
	for _, name := range regexp.MustCompile(`(?:To)?`+letter+`\d{3}`).FindAllString(names[1], -1) {
		n, err := strconv.Atoi(name[len(name)-3:])
		if err != nil {
			t.Fatal(err)
		}
		from := n
		if strings.HasPrefix(name, "To") {
			from = all[len(all)-1] + 1
		}
		for i := from; i <= n; i++ {
			all = append(all, i)
		}
	}
	return all
}
