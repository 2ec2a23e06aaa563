package internal_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "drover"

// anything stands for every package in a row.
const anything = "*"

// packages says which packages of ours each package may import. Who needs something else
// declares a small interface; cmd/drover connects.
var packages = map[string]struct {
	imports string // in the package
	tests   string // in its tests, besides
}{
	"cmd/drover":               {imports: anything},
	"conformance":              {tests: "internal/envtest internal/faulttest internal/mqtttest"}, // a black box: knows nothing of our code
	"internal":                 {},
	"internal/access":          {imports: "internal/auth internal/auth/policy internal/iot internal/store", tests: "internal/pki internal/registry internal/store/sqlstore"},
	"internal/audit":           {},
	"internal/artifacts":       {imports: "internal/iot"},
	"internal/auth":            {imports: "internal/auth/policy internal/iot internal/pki"},
	"internal/authorizer":      {imports: "internal/iot internal/webhook"},
	"internal/auth/policy":     {},
	"internal/backup":          {},
	"internal/broker":          {tests: "internal/mqtttest"},
	"internal/cluster":         {tests: "internal/pki"},
	"internal/commands":        {imports: "internal/iot internal/store", tests: "internal/store/sqlstore"},
	"internal/console":         {imports: "internal/auth internal/iot internal/sso", tests: anything},
	"internal/controlplane":    {imports: "internal/iot internal/wire internal/auth", tests: anything},
	"internal/dataplane":       {imports: "internal/iot internal/wire internal/auth", tests: anything},
	"internal/engine":          {imports: "internal/iot internal/store", tests: "internal/envtest internal/store/sqlstore"},
	"internal/envtest":         {},
	"internal/faulttest":       {imports: "internal/iot internal/store internal/store/sqlstore"},
	"internal/fleetsim":        {},
	"internal/gate":            {imports: "internal/auth internal/iot internal/pki"},
	"internal/iot":             {},
	"internal/iotdata":         {imports: "internal/auth internal/broker internal/iot internal/wire"},
	"internal/mqtttest":        {},
	"internal/ota":             {imports: "internal/iot internal/store", tests: "internal/engine internal/store/sqlstore"},
	"internal/packages":        {imports: "internal/iot internal/store", tests: "internal/store/sqlstore"},
	"internal/pki":             {imports: "internal/iot"},
	"internal/rehearse":        {imports: "internal/iot internal/store internal/store/sqlstore internal/engine"},
	"internal/objects":         {imports: "internal/auth internal/iot"},
	"internal/registry":        {imports: "internal/auth/policy internal/iot internal/pki internal/query internal/store", tests: "internal/envtest internal/store/sqlstore"},
	"internal/query":           {imports: "internal/iot"},
	"internal/sso":             {imports: "internal/auth"},
	"internal/store":           {imports: "internal/iot internal/query", tests: "internal/store/sqlstore"},
	"internal/store/sqlstore":  {imports: "internal/iot internal/query internal/store", tests: "internal/envtest internal/store/storetest"},
	"internal/store/storetest": {imports: "internal/iot internal/query internal/store"},
	"internal/webhook":         {imports: "internal/iot"},
	"internal/wire":            {},
}

// modules says which packages may import what is not ours and not the standard library's.
var modules = map[string]struct {
	imports string
	tests   string // besides
}{
	"github.com/alecthomas/kong":                                    {imports: "cmd/drover"},
	"github.com/aws/aws-sdk-go-v2/aws":                              {imports: "cmd/drover internal/fleetsim internal/artifacts", tests: anything}, // and its signer
	"github.com/aws/aws-sdk-go-v2/config":                           {imports: "internal/artifacts"},
	"github.com/aws/aws-sdk-go-v2/credentials":                      {imports: "cmd/drover", tests: anything},
	"github.com/aws/aws-sdk-go-v2/service/s3":                       {imports: "internal/artifacts", tests: anything},
	"github.com/aws/aws-sdk-go-v2/feature/s3":                       {tests: anything},
	"github.com/aws/aws-sdk-go-v2/service/iot":                      {tests: anything},
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane":             {tests: anything},
	"github.com/aws/smithy-go":                                      {tests: anything},
	"github.com/eclipse/paho.golang":                                {imports: "internal/fleetsim", tests: anything},
	"github.com/eclipse/paho.mqtt.golang":                           {imports: "internal/fleetsim", tests: anything},
	"github.com/fxamacker/cbor/v2":                                  {imports: "internal/commands internal/dataplane", tests: "conformance"},
	"github.com/chromedp/cdproto":                                   {tests: "conformance"},
	"github.com/chromedp/chromedp":                                  {tests: "conformance"},
	"github.com/goccy/go-yaml":                                      {imports: "cmd/drover"},
	"github.com/google/uuid":                                        {imports: anything},
	"github.com/coreos/go-oidc/v3":                                  {imports: "internal/sso"},
	"golang.org/x/oauth2":                                           {imports: "internal/sso"},
	"github.com/gorilla/websocket":                                  {imports: "internal/broker internal/fleetsim"},
	"github.com/jackc/pgx/v5":                                       {imports: "internal/store/sqlstore"},
	"github.com/nats-io/nats-server/v2":                             {imports: "internal/cluster"},
	"github.com/nats-io/nats.go":                                    {imports: "internal/cluster"},
	"github.com/prometheus/client_golang":                           {imports: anything},
	"github.com/schollz/progressbar/v3":                             {imports: "cmd/drover internal/fleetsim"},
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp": {imports: "cmd/drover"},
	"go.opentelemetry.io/otel":                                      {imports: "cmd/drover internal/engine internal/store internal/wire"},
	"go.opentelemetry.io/proto/otlp":                                {tests: "conformance"},
	"google.golang.org/grpc":                                        {tests: "conformance"},
	"google.golang.org/protobuf":                                    {tests: "conformance"},
	"golang.org/x/crypto":                                           {imports: "internal/auth"},
	"golang.org/x/sync":                                             {imports: anything},
	"golang.org/x/sys":                                              {imports: anything},
	"golang.org/x/time":                                             {imports: "internal/audit internal/auth internal/broker internal/controlplane internal/dataplane internal/objects"},
	"golang.org/x/term":                                             {imports: "cmd/drover internal/fleetsim"},
	"modernc.org/sqlite":                                            {tests: "internal/store/sqlstore"}, // the yardstick of its benchmarks
	"pgregory.net/rapid":                                            {tests: anything},
	"zombiezen.com/go/sqlite":                                       {imports: "internal/store/sqlstore"},
}

// pure lists packages that do no I/O, keep no goroutines and read no clock, and what they
// therefore do not import.
var pure = map[string]string{
	"internal/auth/policy": "context database/sql log log/slog net net/http os os/exec sync",
	"internal/query":       "context database/sql io log log/slog net net/http os os/exec sync",
	"internal/iot":         "context database/sql io log log/slog net net/http os os/exec sync",
}

func TestImportRules(t *testing.T) {
	t.Parallel()
	for _, complaint := range check(t, os.DirFS("..")) {
		t.Error(complaint)
	}
}

// check returns what breaks a rule in the Go files below the root.
func check(t *testing.T, root fs.FS) (complaints []string) {
	t.Helper()
	seen := map[string]bool{}
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if base := entry.Name(); name != "." && (strings.HasPrefix(base, ".") || base == "testdata" || base == "drover-data") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, name, text, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		seen[path.Dir(name)] = true
		c := checker{dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go")}
		c.file(file)
		for _, complaint := range c.complaints {
			complaints = append(complaints, fmt.Sprintf("%s: %s", files.Position(complaint.pos), complaint.text))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir := range seen {
		if _, listed := packages[dir]; !listed {
			complaints = append(complaints, dir+": the package has no row in the table of internal/deps_test.go")
		}
	}
	for dir := range packages {
		if !seen[dir] {
			complaints = append(complaints, dir+": the table of internal/deps_test.go has a row for a package that is not there")
		}
	}
	slices.Sort(complaints)
	return complaints
}

type complaint struct {
	pos  token.Pos
	text string
}

type checker struct {
	dir        string
	test       bool // a _test.go file
	complaints []complaint
}

func (c *checker) complain(pos token.Pos, format string, args ...any) {
	c.complaints = append(c.complaints, complaint{pos, fmt.Sprintf(format, args...)})
}

func (c *checker) file(file *ast.File) {
	clock := ""
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			c.complain(spec.Pos(), "import %s: %v", spec.Path.Value, err)
			continue
		}
		c.imported(spec.Pos(), imported)
		if imported == "time" {
			clock = "time"
			if spec.Name != nil {
				clock = spec.Name.Name
			}
			if clock == "." {
				c.complain(spec.Pos(), "dot import of time hides who reads the clock")
			}
		}
	}
	if clock == "" {
		return
	}
	ast.Inspect(file, func(n ast.Node) bool {
		selector, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if from, ok := selector.X.(*ast.Ident); !ok || from.Name != clock {
			return true
		}
		_, isPure := pure[c.dir]
		switch {
		case selector.Sel.Name == "Sleep" && c.test:
			c.complain(selector.Pos(), "tests do not sleep: wait for a channel, poll with a deadline, or use testing/synctest")
		case slices.Contains([]string{"Now", "Since", "Until"}, selector.Sel.Name) && isPure && !c.test:
			c.complain(selector.Pos(), "time.%s: this package reads no clock, now is a parameter", selector.Sel.Name)
		}
		return true
	})
}

func (c *checker) imported(pos token.Pos, imported string) {
	if imported == "testing" || strings.HasPrefix(imported, "testing/") {
		if !c.test && !strings.HasSuffix(c.dir, "test") {
			c.complain(pos, "%s is for tests and for packages whose names end in test", imported)
		}
		return
	}
	if ours, ok := strings.CutPrefix(imported, module+"/"); ok {
		row := packages[c.dir]
		if !allowed(row.imports, ours) && !(c.test && (ours == c.dir || allowed(row.tests, ours))) {
			c.complain(pos, "%s may not import %s", c.dir, ours)
		}
		return
	}
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
		if !c.test && allowed(pure[c.dir], imported) {
			c.complain(pos, "%s is pure and may not import %s", c.dir, imported)
		}
		return
	}
	for prefix, row := range modules {
		if imported == prefix || strings.HasPrefix(imported, prefix+"/") {
			if !allowed(row.imports, c.dir) && !(c.test && allowed(row.tests, c.dir)) {
				c.complain(pos, "%s may not import %s", c.dir, imported)
			}
			return
		}
	}
	c.complain(pos, "the module of %s has no row in the table of internal/deps_test.go", imported)
}

func allowed(list, name string) bool {
	return list == anything || slices.Contains(strings.Fields(list), name)
}

// TestImportRulesBite gives each rule something that breaks it, and what just does not.
func TestImportRulesBite(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file, text, want string // want "": no complaint
	}{
		"package against the table":  {"internal/auth/a.go", `import _ "drover/internal/store"`, "internal/auth may not import internal/store"},
		"package by the table":       {"internal/auth/a.go", `import _ "drover/internal/iot"`, ""},
		"package for tests":          {"internal/engine/a.go", `import _ "drover/internal/store/sqlstore"`, "may not import"},
		"package in tests":           {"internal/engine/a_test.go", `import _ "drover/internal/store/sqlstore"`, ""},
		"itself in tests":            {"internal/auth/a_test.go", `import _ "drover/internal/auth"`, ""},
		"command imports all":        {"cmd/drover/a.go", `import _ "drover/internal/engine"`, ""},
		"package without a row":      {"internal/new/a.go", ``, "internal/new: the package has no row"},
		"module against the table":   {"internal/engine/a_test.go", `import _ "github.com/schollz/progressbar/v3"`, "may not import"},
		"module by the table":        {"internal/fleetsim/a.go", `import _ "github.com/schollz/progressbar/v3"`, ""},
		"database outside the store": {"internal/engine/a.go", `import _ "zombiezen.com/go/sqlite/sqlitex"`, "may not import"},
		"flags outside the command":  {"internal/engine/a.go", `import _ "github.com/alecthomas/kong"`, "may not import"},
		"module without a row":       {"internal/engine/a.go", `import _ "example.com/x"`, "the module of example.com/x has no row"},
		"testing shipped":            {"internal/iot/a.go", `import _ "testing"`, "is for tests"},
		"testing in a test package":  {"internal/store/storetest/a.go", `import _ "testing"`, ""},
		"clock in rules":             {"internal/iot/a.go", `import "time"; var _ = time.Now()`, "reads no clock"},
		"clock by another name":      {"internal/iot/a.go", `import clock "time"; var _ = clock.Now`, "reads no clock"},
		"hidden clock":               {"internal/iot/a.go", `import . "time"`, "dot import"},
		"clock elsewhere":            {"internal/engine/a.go", `import "time"; var _ = time.Now()`, ""},
		"I/O in rules":               {"internal/iot/a.go", `import _ "net/http"`, "is pure and may not import net/http"},
		"sleeping test":              {"internal/engine/a_test.go", `import "time"; func f() { time.Sleep(1) }`, "tests do not sleep"},
		"hidden folder":              {".cache/x/a.go", `import _ "example.com/x"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := fstest.MapFS{}
			for dir := range packages {
				root[dir+"/doc.go"] = &fstest.MapFile{Data: []byte("package p")}
			}
			root[c.file] = &fstest.MapFile{Data: []byte("package p\n" + c.text)}
			got := check(t, root)
			if c.want == "" && len(got) > 0 {
				t.Errorf("complains: %q", got)
			}
			if c.want != "" && (len(got) != 1 || !strings.Contains(got[0], c.want)) {
				t.Errorf("got %q, want one that says %q", got, c.want)
			}
		})
	}
	t.Run("row without a package", func(t *testing.T) {
		t.Parallel()
		if got := check(t, fstest.MapFS{}); len(got) != len(packages) {
			t.Errorf("got %q", got)
		}
	})
}
