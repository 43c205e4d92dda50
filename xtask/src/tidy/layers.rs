//! Which crate may depend on which: the table, and what a core may take from outside.
//!
//! Read from `cargo metadata`, so a dependency that is never used counts too.

use std::fs;
use std::path::Path;

use super::Finding;
use crate::metadata::{Kind, Package};

const CRATES: [&str; 15] = [
    "sheaf",
    "sheaf-coordinator",
    "sheaf-engines",
    "sheaf-etcd",
    "sheaf-gate",
    "sheaf-http",
    "sheaf-map",
    "sheaf-pgvector",
    "sheaf-protocol",
    "sheaf-quiver-grpc",
    "sheaf-router",
    "sheaf-runtime",
    "sheaf-stores",
    "sheaf-transport",
    "sheaf-types",
];

/// Crates without I/O, tasks, clock or entropy.
const CORES: [&str; 6] = [
    "sheaf-types",
    "sheaf-map",
    "sheaf-protocol",
    "sheaf-coordinator",
    "sheaf-gate",
    "sheaf-router",
];

/// A package of the workspace and the packages of the workspace that it may depend on, for tests too.
const LAYERS: [(&str, &[&str]); 21] = [
    ("sheaf-types", &[]),
    ("sheaf-map", &["sheaf-types"]),
    ("sheaf-protocol", &["sheaf-types", "sheaf-map"]),
    // The cores: none knows another.
    ("sheaf-coordinator", &["sheaf-types", "sheaf-map", "sheaf-protocol"]),
    ("sheaf-gate", &["sheaf-types", "sheaf-map", "sheaf-protocol"]),
    ("sheaf-router", &["sheaf-types", "sheaf-map", "sheaf-protocol"]),
    // The adapters: none knows a core.
    ("sheaf-transport", &[]),
    ("sheaf-engines", &["sheaf-types", "sheaf-protocol", "sheaf-transport"]),
    ("sheaf-stores", &["sheaf-types", "sheaf-protocol"]),
    ("sheaf-etcd", &["sheaf-types", "sheaf-stores"]),
    ("sheaf-pgvector", &["sheaf-types", "sheaf-engines", "sheaf-transport"]),
    ("sheaf-quiver-grpc", &["sheaf-engines"]),
    // The shell.
    (
        "sheaf-runtime",
        &[
            "sheaf-types",
            "sheaf-map",
            "sheaf-protocol",
            "sheaf-coordinator",
            "sheaf-gate",
            "sheaf-router",
            "sheaf-engines",
            "sheaf-stores",
            "sheaf-transport",
        ],
    ),
    (
        "sheaf-http",
        &[
            "sheaf-types",
            "sheaf-map",
            "sheaf-protocol",
            // The words of its questions and answers; a gate's are in sheaf-protocol.
            "sheaf-coordinator",
            "sheaf-router",
            "sheaf-engines",
            "sheaf-stores",
            "sheaf-transport",
            "sheaf-runtime",
        ],
    ),
    ("sheaf", &CRATES),
    // The proof: a checker sees facts, never a core.
    ("sheaf-checkers", &["sheaf-types", "sheaf-map", "sheaf-protocol"]),
    (
        "sheaf-sim",
        &[
            "sheaf-types",
            "sheaf-map",
            "sheaf-protocol",
            "sheaf-coordinator",
            "sheaf-gate",
            "sheaf-router",
            // Below the simulated machines' records.
            "sheaf-stores",
            "sheaf-checkers",
        ],
    ),
    (
        "sheaf-model",
        &[
            "sheaf-types",
            "sheaf-map",
            "sheaf-protocol",
            "sheaf-coordinator",
            "sheaf-gate",
            "sheaf-router",
            "sheaf-checkers",
            // Its models of engine and store.
            "sheaf-sim",
        ],
    ),
    (
        "sheaf-tests",
        &[
            "sheaf-types",
            "sheaf-map",
            "sheaf-protocol",
            "sheaf-engines",
            "sheaf-stores",
            "sheaf-etcd",
            "sheaf-pgvector",
            "sheaf-quiver-grpc",
            // For its clock.
            "sheaf-runtime",
            "sheaf-transport",
            "sheaf-http",
            "sheaf-checkers",
        ],
    ),
    // Measures real processes with the harness of the tests.
    ("sheaf-bench", &["sheaf-types", "sheaf-map", "sheaf-stores", "sheaf-tests"]),
    ("xtask", &[]),
];

/// All that a core may take from outside the workspace: plain data and errors.
const CORE_LIBRARIES: [&str; 5] = ["bytes", "serde", "serde_json", "thiserror", "twox-hash"];
/// What a core may not take even for its tests.
const CORE_TESTS_NEVER: [&str; 6] =
    ["tokio", "futures-util", "axum", "hyper", "reqwest", "getrandom"];

/// Whether a file is production code of a core.
pub fn is_core_source(path: &str) -> bool {
    CORES.iter().any(|core| {
        path.strip_prefix("crates/")
            .and_then(|rest| rest.strip_prefix(core))
            .is_some_and(|rest| rest.starts_with("/src/"))
    })
}

pub fn check(root: &Path, packages: &[Package]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages.iter().filter(|package| package.source.is_none()) {
        let manifest = package.manifest_path.strip_prefix(root).unwrap_or(&package.manifest_path);
        let manifest = manifest.to_string_lossy().replace('\\', "/");
        let text = fs::read_to_string(&package.manifest_path).unwrap_or_default();
        for (dependency, what, remedy) in judge(package) {
            findings.push(Finding::new(&manifest, line_of(&text, &dependency), what, remedy));
        }
    }
    findings
}

/// The dependencies that a package may not have: name, what is wrong, what to do.
fn judge(package: &Package) -> Vec<(String, String, &'static str)> {
    let name = package.name.as_str();
    let Some(&(_, may)) = LAYERS.iter().find(|(layer, _)| *layer == name) else {
        let remedy = "add its row to LAYERS in xtask/src/tidy/layers.rs";
        return vec![(String::new(), format!("{name} has no place in the layers"), remedy)];
    };
    let mut breaches = Vec::new();
    for dependency in &package.dependencies {
        let used = dependency.name.as_str();
        if dependency.path.is_some() {
            if !may.contains(&used) && used != name {
                let remedy = "turn the dependency round, or move the words that both need down to sheaf-protocol";
                breaches.push((
                    used.to_owned(),
                    format!("{name} may not depend on {used}"),
                    remedy,
                ));
            }
        } else if CORES.contains(&name) {
            let allowed = match dependency.kind {
                Some(Kind::Dev) => !CORE_TESTS_NEVER.contains(&used),
                Some(Kind::Build) | None => CORE_LIBRARIES.contains(&used),
            };
            if !allowed {
                let remedy = "do it in sheaf-runtime; if it is plain data, add it to CORE_LIBRARIES in xtask/src/tidy/layers.rs";
                breaches.push((
                    used.to_owned(),
                    format!("the core {name} may not use {used}"),
                    remedy,
                ));
            }
        }
    }
    breaches
}

fn line_of(manifest: &str, dependency: &str) -> usize {
    let named = |line: &str| {
        line.strip_prefix(dependency).is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
    };
    manifest.lines().position(named).map_or(1, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Dependency;

    fn said(name: &str, dependencies: &[(&str, Option<Kind>)]) -> Vec<String> {
        let dependencies = dependencies.iter().map(|&(used, kind)| Dependency {
            name: used.to_owned(),
            kind,
            path: used.starts_with("sheaf").then(|| used.into()),
        });
        let package = Package {
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            license: None,
            source: None,
            manifest_path: "Cargo.toml".into(),
            dependencies: dependencies.collect(),
        };
        judge(&package).into_iter().map(|(_, what, _)| what).collect()
    }

    #[test]
    fn a_core_depends_on_no_other_core_and_on_no_runtime() {
        assert_eq!(
            said(
                "sheaf-gate",
                &[("sheaf-types", None), ("sheaf-router", None), ("serde", None), ("tokio", None)]
            ),
            ["sheaf-gate may not depend on sheaf-router", "the core sheaf-gate may not use tokio"]
        );
    }

    #[test]
    fn a_cores_tests_may_use_test_libraries_but_no_runtime() {
        let dev = Some(Kind::Dev);
        assert_eq!(
            said("sheaf-map", &[("proptest", dev), ("tokio", dev)]),
            ["the core sheaf-map may not use tokio"]
        );
    }

    #[test]
    fn an_adapter_knows_no_core_and_production_code_no_simulator() {
        assert_eq!(
            said("sheaf-engines", &[("sheaf-gate", None)]),
            ["sheaf-engines may not depend on sheaf-gate"]
        );
        assert_eq!(
            said("sheaf-runtime", &[("sheaf-checkers", Some(Kind::Dev))]),
            ["sheaf-runtime may not depend on sheaf-checkers"]
        );
        assert_eq!(
            said("sheaf-checkers", &[("sheaf-gate", None)]),
            ["sheaf-checkers may not depend on sheaf-gate"]
        );
    }

    #[test]
    fn a_new_crate_needs_a_row() {
        assert_eq!(said("sheaf-new", &[]), ["sheaf-new has no place in the layers"]);
    }

    #[test]
    fn every_layer_stands_only_on_layers_above_it_in_the_table() {
        for (at, (name, may)) in LAYERS.iter().enumerate() {
            for used in may.iter().filter(|used| *used != name) {
                assert!(
                    LAYERS[..at].iter().any(|(layer, _)| layer == used),
                    "{name} on {used}: a cycle, or no row"
                );
            }
        }
    }

    #[test]
    fn production_code_of_a_core_is_told_by_its_path() {
        assert!(is_core_source("crates/sheaf-map/src/hrw.rs"));
        assert!(!is_core_source("crates/sheaf-map/tests/vectors.rs"));
        assert!(!is_core_source("crates/sheaf-mapper/src/lib.rs"));
    }

    #[test]
    fn a_finding_points_at_the_line_of_the_manifest() {
        assert_eq!(
            line_of("[dependencies]\ntokio-util = \"1\"\ntokio.workspace = true\n", "tokio"),
            3
        );
    }
}
