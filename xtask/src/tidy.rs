//! `cargo xtask tidy`: the rules of docs/STYLE.md that neither the compiler nor clippy knows.
//!
//! Each rule has its file below and looks at text or tokens that it is given; this file gathers and prints. Nothing is changed.

mod docs;
mod exceptions;
mod invariants;
mod layers;
mod licences;
mod panics;
mod sizes;
mod tokens;
mod tree;
mod words;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use crate::metadata;
use exceptions::Excess;
use tree::Tree;

/// One breach of a rule: where, what, and what to do.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// From the workspace's folder, with `/`.
    pub path: String,
    /// From 1.
    pub line: usize,
    pub what: String,
    pub remedy: String,
}

impl Finding {
    fn new(path: &str, line: usize, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}\n    remedy: {}", self.path, self.line, self.what, self.remedy)
    }
}

/// Checks everything and prints what it finds. `commands` are the names that may follow `cargo xtask`.
///
/// # Errors
/// When the tree or cargo's metadata can't be read.
pub fn run(root: &Path, commands: &[String]) -> anyhow::Result<ExitCode> {
    let tree = Tree::read(root)?;
    let metadata = metadata::read(root)?;
    let mut findings = Vec::new();
    let mut excesses: Vec<Excess> = Vec::new();
    for file in &tree.rust {
        findings.extend(docs::first_line(file));
        findings.extend(words::check_rust(file));
        excesses.extend(sizes::check(file));
        excesses.extend(panics::check(file));
    }
    for file in &tree.texts {
        findings.extend(words::check_text(file));
        if file.path.ends_with(".md") {
            findings.extend(docs::links(file, &|path| root.join(path).exists()));
            findings.extend(docs::commands(file, commands));
        }
    }
    findings.extend(docs::glossary(tree.text(docs::GLOSSARY)));
    findings.extend(tree.unreadable.iter().map(|(path, why)| {
        Finding::new(
            path,
            1,
            format!("can't be read as Rust: {why}"),
            "run cargo check, it says more",
        )
    }));
    findings.extend(layers::check(root, &metadata.packages));
    findings.extend(licences::check(&metadata.packages, tree.text("Cargo.lock")));
    findings.extend(invariants::check(&tree));
    findings.extend(exceptions::apply(tree.text(exceptions::PATH), excesses));
    findings.sort();
    findings.dedup();
    for finding in &findings {
        println!("{finding}");
    }
    let looked_at = format!("{} Rust files, {} packages", tree.rust.len(), metadata.packages.len());
    match findings.len() {
        0 => println!("tidy: nothing to say about {looked_at}"),
        count => println!("tidy: {count} findings in {looked_at}"),
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
