// The PostgreSQL plugin: bridges the upstream Terraform provider (1.7.1, the newest that is published as a Go module), with
// the names that the npm package @pulumi/postgresql uses. The published plugin is newer; the program uses only what both have.
package main

import (
	"github.com/hashicorp/terraform-plugin-sdk/helper/schema"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge"
	"github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfbridge/tokens"
	shimv1 "github.com/pulumi/pulumi-terraform-bridge/v3/pkg/tfshim/sdk-v1"
	"github.com/terraform-providers/terraform-provider-postgresql/postgresql"
)

// version is set by the linker to the version that the npm package requires.
var version = "0.0.0"

func main() {
	info := tfbridge.ProviderInfo{
		P:            shimv1.NewProvider(postgresql.Provider().(*schema.Provider)),
		Name:         "postgresql",
		Version:      version,
		MetadataInfo: tfbridge.NewProviderMetadata([]byte("{}")),
		Config: map[string]*tfbridge.SchemaInfo{
			"sslmode":         {Default: &tfbridge.DefaultInfo{EnvVars: []string{"PGSSLMODE"}}},
			"connect_timeout": {Default: &tfbridge.DefaultInfo{EnvVars: []string{"PGCONNECT_TIMEOUT"}, Value: 180}},
		},
	}
	info.MustComputeTokens(tokens.SingleModule("postgresql_", "index", tokens.MakeStandard("postgresql")))
	tfbridge.Main(info.Name, info.Version, info, []byte(`{"name": "postgresql"}`))
}
