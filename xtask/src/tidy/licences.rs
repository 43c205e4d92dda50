//! Which licences a dependency may have.

use spdx::{Expression, ParseMode};

use super::Finding;
use crate::metadata::Package;

/// Licences that ask for a notice at most.
const ALLOWED: [&str; 14] = [
    "0BSD",
    "Apache-2.0",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

pub fn check(packages: &[Package], lock: Option<&str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in packages {
        if let Err(what) = judge(package.license.as_deref()) {
            let what = format!("{} {}: {what}", package.name, package.version);
            let remedy = "use another library; if the licence is as free as MIT, add it to ALLOWED in xtask/src/tidy/licences.rs";
            findings.push(Finding::new(
                "Cargo.lock",
                line_of(lock.unwrap_or_default(), &package.name),
                what,
                remedy,
            ));
        }
    }
    findings
}

/// Whether the expression can be satisfied with allowed licences alone.
fn judge(license: Option<&str>) -> Result<(), String> {
    let text = license.ok_or("names no licence")?;
    let expression = Expression::parse_mode(text, ParseMode::LAX)
        .map_err(|error| format!("`{text}`: {}", error.reason))?;
    let allowed = expression.evaluate(|requirement| {
        requirement.license.id().is_some_and(|id| ALLOWED.contains(&id.name))
    });
    if allowed { Ok(()) } else { Err(format!("`{text}` is not allowed")) }
}

fn line_of(lock: &str, name: &str) -> usize {
    let entry = format!("name = \"{name}\"");
    lock.lines().position(|line| line == entry).map_or(1, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_free_choice_is_enough() {
        for text in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR MIT",
            "MIT OR Apache-2.0 OR LGPL-2.1-or-later",
        ] {
            assert_eq!(judge(Some(text)), Ok(()), "{text}");
        }
    }

    #[test]
    fn a_licence_that_binds_us_or_is_not_known_is_refused() {
        for text in ["MPL-2.0", "AGPL-3.0-only", "MIT AND GPL-2.0", "Whatever"] {
            assert!(judge(Some(text)).is_err(), "{text}");
        }
        assert!(judge(None).is_err());
    }
}
