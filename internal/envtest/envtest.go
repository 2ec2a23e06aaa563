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

// NodeVar is the environment variable that names the folder with the Node.js packages for tests.
const NodeVar = "DROVER_TEST_NODE_MODULES"

// Node returns the path of a Node.js that finds the package through the environment that is
// returned with it. The test is skipped if there is none.
func Node(t testing.TB, module string) (node, env string) {
	t.Helper()
	modules := os.Getenv(NodeVar)
	if modules == "" {
		t.Skipf("needs Node.js with %s: run scripts/setup-tests.sh, then tests by \"make test\" (%s is not set)", module, NodeVar)
	}
	env = "NODE_PATH=" + modules
	node = Command(t, "node")
	cmd := exec.CommandContext(t.Context(), node, "-e", "require('"+module+"')")
	cmd.Env = append(os.Environ(), env)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("needs the Node.js package %s: %v: %s", module, err, out)
	}
	return node, env
}

// Command returns the path of a command. The test is skipped if there is none.
func Command(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("needs %s: run scripts/setup-tests.sh: %v", name, err)
	}
	return path
}

// PythonVar is the environment variable that names the Python interpreter for tests.
const PythonVar = "DROVER_TEST_PYTHON"

// VersityGWVar is the environment variable that names the program of an S3 store for tests.
const VersityGWVar = "DROVER_TEST_VERSITYGW"

// VersityGW returns the path of VersityGW, an S3 store that is not ours. The test is skipped
// if it is not there.
func VersityGW(t testing.TB) string {
	t.Helper()
	path := os.Getenv(VersityGWVar)
	if path == "" {
		t.Skipf("needs VersityGW: run scripts/setup-tests.sh, then tests by \"make test\" (%s is not set)", VersityGWVar)
	}
	return path
}

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
