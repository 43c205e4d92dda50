//! What `cargo metadata` says of the workspace, as far as the checks need it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;

#[derive(Deserialize)]
pub struct Metadata {
    pub packages: Vec<Package>,
}

#[derive(Deserialize)]
pub struct Package {
    pub name: String,
    pub version: String,
    /// An SPDX expression; `None` when the package names a licence file or nothing.
    pub license: Option<String>,
    /// `None` for a package of this workspace.
    pub source: Option<String>,
    pub manifest_path: PathBuf,
    pub dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
pub struct Dependency {
    pub name: String,
    pub kind: Option<Kind>,
    /// `None` for a package from a registry.
    pub path: Option<PathBuf>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Dev,
    Build,
}

/// Asks cargo.
///
/// # Errors
/// When cargo can't be run, or doesn't understand the manifests: its words are in the error.
pub fn read(root: &Path) -> anyhow::Result<Metadata> {
    let answer = crate::cargo(root)
        .args(["metadata", "--format-version", "1"])
        .output()
        .context("can't run cargo metadata")?;
    if !answer.status.success() {
        bail!("cargo metadata failed:\n{}", String::from_utf8_lossy(&answer.stderr));
    }
    serde_json::from_slice(&answer.stdout)
        .context("cargo metadata answered something else than expected")
}
