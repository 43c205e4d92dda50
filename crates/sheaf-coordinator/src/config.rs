//! The settings of a coordinator.

use serde::{Deserialize, Serialize};
use sheaf_types::limits::FENCE_BUDGET_MS_DEFAULT;

use crate::autoscale::AutoscaleConfig;

/// How a coordinator behaves where its record doesn't say.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Milliseconds that a fence may last, for transitions that don't say.
    pub fence_budget_ms: u64,
    pub autoscale: AutoscaleConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self { fence_budget_ms: FENCE_BUDGET_MS_DEFAULT, autoscale: AutoscaleConfig::default() }
    }
}
