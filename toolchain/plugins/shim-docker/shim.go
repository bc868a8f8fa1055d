// Package shim exports the Docker provider's internal constructor to the plugin.
package shim

import (
	"github.com/hashicorp/terraform-plugin-sdk/v2/helper/schema"
	"github.com/terraform-providers/terraform-provider-docker/internal/provider"
)

// NewProvider returns the upstream provider.
func NewProvider() *schema.Provider { return provider.New("dev")() }
