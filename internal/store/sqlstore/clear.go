package sqlstore

import (
	"context"
	"fmt"

	"drover/internal/iot"
	"drover/internal/store"
)

// cleared are the tables with data of users. The counters are none of them: numbers are never used
// again, not even after a Clear. Nor are the nodes, their transactions and what they tell
// each other.
var cleared = []string{
	"things", "thing_types", "thing_groups", "members", "jobs", "job_documents", "job_targets", "job_counts",
	"executions", "queues", "journal", "tags", "settings", "templates", "certificates", "ca_certificates", "thing_principals",
	"authorizers", "provisioning_templates", "provisioning_versions", "ownerships", "claims",
	"policies", "policy_versions", "policy_targets", "api_keys", "console_users",
	"mqtt_sessions", "mqtt_groups", "mqtt_messages", "mqtt_entries", "mqtt_retained", "mqtt_wills", "downloads", "download_devices",
	"billing_groups", "streams", "ota_updates", "commands", "command_executions",
	"packages", "package_versions", "deployments", "client_tokens",
	"shadows", "installs",
	"index_fields", "index_terms", "connections",
}

// Clear forgets everything that users have stored, in one transaction. records are appended
// to the journal that is empty then. It is for servers that are there to be tested against.
func (d *DB) Clear(ctx context.Context, records ...iot.Record) error {
	return d.Update(ctx, func(w store.Tx) error {
		t, ok := w.(*tx)
		if !ok {
			return fmt.Errorf("sqlstore: transaction of the kind %T", w)
		}
		for _, table := range cleared {
			if _, err := t.exec("DELETE FROM " + table); err != nil {
				return err
			}
		}
		return t.Append(records...)
	})
}
