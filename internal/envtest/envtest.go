// Package envtest finds what tests need beyond Go. scripts/setup-tests.sh installs it and
// says where in the environment; a test whose need is not there is skipped with a reason,
// and scripts/gotest.sh counts it.
package envtest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// PythonVar is the environment variable that names the Python interpreter for tests.
const PythonVar = "DROVER_TEST_PYTHON"

// Python returns the path of a Python 3 interpreter that can import the modules, such as
// "boto3", "awscli" and "awsiot". The test is skipped if there is none.
func Python(t testing.TB, modules ...string) string {
	t.Helper()
	python := os.Getenv(PythonVar)
	if python == "" {
		t.Skipf("needs Python with %s: run scripts/setup-tests.sh, then tests by \"make test\" (%s is not set)", strings.Join(modules, ", "), PythonVar)
	}
	for _, module := range modules {
		if out, err := exec.CommandContext(t.Context(), python, "-c", "import "+module).CombinedOutput(); err != nil {
			t.Skipf("needs the Python module %s: %v: %s", module, err, out)
		}
	}
	return python
}
