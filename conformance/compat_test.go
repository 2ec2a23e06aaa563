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

// statements is how many statements the behavioural specification has.
const statements = 206

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
	rows := readStatements(t, string(page))
	here := testsIn(t, ".")
	all := slices.Clone(here)
	for _, name := range []string{"access", "authorizer", "broker", "controlplane", "dataplane", "engine", "gate", "iot", "pki", "registry"} {
		all = append(all, testsIn(t, filepath.Join("..", "internal", name))...)
	}

	for n := 1; n <= statements; n++ {
		row, ok := rows[n]
		if !ok {
			t.Errorf("statement %d has no row", n)
			continue
		}
		switch row.status {
		case "holds", "in part":
			if len(row.tests) == 0 {
				t.Errorf("statement %d holds, and no test shows it", n)
			}
		case "later", "differs":
		default:
			t.Errorf("statement %d has the status %q", n, row.status)
		}
		for _, name := range row.tests {
			if !slices.Contains(all, name) {
				t.Errorf("statement %d: there is no %s", n, name)
			}
		}
	}
	for _, name := range all {
		for _, n := range statementsOf(t, name) {
			if row := rows[n]; row.status == "later" {
				t.Errorf("%s shows statement %d, which is marked as later", name, n)
			} else if slices.Contains(here, name) && !slices.Contains(row.tests, name) {
				t.Errorf("%s is not in the row of statement %d", name, n)
			}
		}
	}

	checkNumbered(t, string(page), all)

	// What is said about the API as a whole.
	for pattern, files := range map[string][]string{
		`\bop\("(\w+)"`:    {"routes.go"},
		`\basked\{"(\w+)"`: {"jobs.go", "things.go", "unsupported.go"},
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

// checkNumbered does for the statements about identity and broker, whose numbers begin with a
// B, what is done for the others: it takes the rows that there are.
func checkNumbered(t *testing.T, page string, tests []string) {
	t.Helper()
	rows := map[string]statement{}
	for _, m := range regexp.MustCompile(`(?m)^\| (B\d{3}) \|[^|]*\| ([a-z ]+) \|([^|]*)\|$`).FindAllStringSubmatch(page, -1) {
		if _, twice := rows[m[1]]; twice {
			t.Errorf("two rows of %s", m[1])
		}
		row := statement{status: m[2]}
		for _, name := range regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(m[3], -1) {
			row.tests = append(row.tests, name[1])
			if !slices.Contains(tests, name[1]) {
				t.Errorf("statement %s: there is no %s", m[1], name[1])
			}
		}
		if !slices.Contains([]string{"holds", "in part", "later", "differs"}, row.status) || row.status == "holds" && len(row.tests) == 0 {
			t.Errorf("statement %s: status %q, tests %q", m[1], row.status, row.tests)
		}
		rows[m[1]] = row
	}
	for _, name := range tests {
		for _, n := range regexp.MustCompile(`B\d{3}`).FindAllString(regexp.MustCompile(`^Test(B\d{3})+`).FindString(name), -1) {
			if !slices.Contains(rows[n].tests, name) {
				t.Errorf("%s is not in the row of statement %s", name, n)
			}
		}
	}
}

// readStatements reads the rows "| number | statement | status | tests and remarks |".
func readStatements(t *testing.T, page string) map[int]statement {
	t.Helper()
	rows := map[int]statement{}
	test := regexp.MustCompile("`(Test\\w+)`")
	for line := range strings.Lines(page) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) < 2 {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSpace(cells[1]))
		if err != nil {
			continue
		}
		if _, twice := rows[n]; twice || len(cells) != 6 || n < 1 || n > statements {
			t.Errorf("bad row: %s", line)
			continue
		}
		row := statement{status: strings.TrimSpace(cells[3])}
		for _, m := range test.FindAllStringSubmatch(cells[4], -1) {
			row.tests = append(row.tests, m[1])
		}
		rows[n] = row
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
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
				names = append(names, f.Name.Name)
			}
		}
	}
	if len(names) == 0 {
		t.Fatalf("no tests in %s", folder)
	}
	return names
}

var (
	numbered = regexp.MustCompile(`^Test((?:S|ToS|To)\d{3})+`)
	number   = regexp.MustCompile(`(S|ToS|To)(\d{3})`)
)

// statementsOf returns the numbers of the statements that a test shows, by its name:
// TestS058S059S060… and TestS034ToS037….
func statementsOf(t *testing.T, test string) (all []int) {
	t.Helper()
	for _, m := range number.FindAllStringSubmatch(numbered.FindString(test), -1) {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		from := n
		if m[1] != "S" {
			from = all[len(all)-1] + 1
		}
		for i := from; i <= n; i++ {
			all = append(all, i)
		}
	}
	return all
}
