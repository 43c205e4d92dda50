//! `sheaf coordinator`: checks its settings, puts its parts together, serves until it is told to stop.

use super::CoordinatorFlags;
use crate::client::Failure;
use crate::config::CoordinatorSettings;
use crate::config::check::{self, Complaints};

/// Runs it until SIGTERM or SIGINT.
///
/// # Errors
/// The settings can't be used, or it can't start.
pub async fn run(flags: &CoordinatorFlags) -> Result<(), Failure> {
    let loaded = super::settings::<CoordinatorSettings>(flags.common.config.as_deref(), flags)?;
    let mut complaints = Complaints::default();
    let checked = check::common(&loaded.common, &loaded.role.listen, &mut complaints);
    let checked = complaints.or(checked).map_err(super::usage)?;
    Err(Failure::Failed(format!("{checked:?}")))
}
