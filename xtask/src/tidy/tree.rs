//! The files that the rules look at, read once.
//!
//! Decides what is a source and what is test code by its place; skips what is built and what is data.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Context;

use super::tokens::Tokens;

/// Folders that hold nothing that a person wrote.
const SKIPPED_FOLDERS: [&str; 4] = ["target", ".git", "node_modules", "__pycache__"];
/// The ends of files that are data, not text.
const SKIPPED_ENDS: [&str; 7] = [".npy", ".jsonl", ".json", ".png", ".svg", ".woff2", ".snap"];

/// A text file.
pub struct Text {
    /// From the workspace's folder, with `/`.
    pub path: String,
    pub text: String,
}

/// A Rust source.
pub struct Rust {
    pub path: String,
    pub text: String,
    pub tokens: Tokens,
    /// The whole file is test or bench code.
    pub is_test: bool,
}

#[derive(Default)]
pub struct Tree {
    pub rust: Vec<Rust>,
    /// Every text file, the Rust sources among them.
    pub texts: Vec<Text>,
    /// Rust files that don't lex, and why.
    pub unreadable: Vec<(String, String)>,
}

impl Tree {
    /// # Errors
    /// When a folder or file can't be read.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let mut texts = Vec::new();
        walk(root, "", &mut texts)?;
        texts.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self::of(texts))
    }

    /// The tree that these files make.
    pub fn of(texts: Vec<Text>) -> Self {
        let mut tree = Self { texts, ..Self::default() };
        let mut test_modules = BTreeSet::new();
        for file in tree.texts.iter().filter(|file| file.path.ends_with(".rs")) {
            match Tokens::read(&file.text) {
                Ok(tokens) => {
                    let folder = module_folder(&file.path);
                    test_modules.extend(
                        tokens.test_modules().into_iter().map(|name| format!("{folder}/{name}")),
                    );
                    let is_test = is_test_place(&file.path);
                    tree.rust.push(Rust {
                        path: file.path.clone(),
                        text: file.text.clone(),
                        tokens,
                        is_test,
                    });
                }
                Err(why) => tree.unreadable.push((file.path.clone(), why)),
            }
        }
        for file in &mut tree.rust {
            let stem = file.path.trim_end_matches(".rs").trim_end_matches("/mod");
            file.is_test |=
                stem.match_indices('/').any(|(at, _)| test_modules.contains(&stem[..at]));
            file.is_test |= test_modules.contains(stem);
        }
        tree
    }

    /// The text of one file, if there is one.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.texts.iter().find(|file| file.path == path).map(|file| file.text.as_str())
    }

    pub fn rust(&self, path: &str) -> Option<&Rust> {
        self.rust.iter().find(|file| file.path == path)
    }
}

fn walk(folder: &Path, prefix: &str, texts: &mut Vec<Text>) -> anyhow::Result<()> {
    let entries = fs::read_dir(folder)
        .with_context(|| format!("can't read the folder {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() && !SKIPPED_FOLDERS.contains(&name.as_str()) {
            walk(&entry.path(), &format!("{path}/"), texts)?;
        } else if kind.is_file() && !SKIPPED_ENDS.iter().any(|end| name.ends_with(end)) {
            let bytes = fs::read(entry.path()).with_context(|| format!("can't read {path}"))?;
            if let Ok(text) = String::from_utf8(bytes) {
                texts.push(Text { path, text });
            }
        }
    }
    Ok(())
}

/// The folder in which the modules that a file declares are looked for.
fn module_folder(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    match name {
        "lib.rs" | "main.rs" | "mod.rs" => folder.to_owned(),
        _ => path.trim_end_matches(".rs").to_owned(),
    }
}

/// Folders and files whose code only tests and measures.
const TEST_PLACES: [&str; 6] =
    ["tests", "benches", "examples", "conformance", "tests.rs", "conformance.rs"];

fn is_test_place(path: &str) -> bool {
    path.split('/').any(|part| TEST_PLACES.contains(&part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_test_code_by_its_place_or_by_its_declaration() {
        let sources = [
            ("crates/a/src/lib.rs", "#[cfg(test)]\nmod model;\nmod b;"),
            ("crates/a/src/model.rs", "mod inner;"),
            ("crates/a/src/model/inner.rs", "fn f() {}"),
            ("crates/a/src/b.rs", "#[cfg(test)]\nmod scripts;"),
            ("crates/a/src/b/scripts.rs", "fn f() {}"),
            ("crates/a/src/scripts.rs", "fn f() {}"),
            ("crates/a/tests/t.rs", "fn f() {}"),
        ];
        let texts = sources.map(|(path, text)| Text { path: path.into(), text: text.into() });
        let tree = Tree::of(texts.into());
        let tests: Vec<&str> =
            tree.rust.iter().filter(|file| file.is_test).map(|file| file.path.as_str()).collect();
        assert_eq!(
            tests,
            [
                "crates/a/src/model.rs",
                "crates/a/src/model/inner.rs",
                "crates/a/src/b/scripts.rs",
                "crates/a/tests/t.rs"
            ]
        );
    }

    #[test]
    fn what_is_not_rust_is_told() {
        let tree = Tree::of(vec![Text { path: "a.rs".into(), text: "fn (".into() }]);
        assert_eq!(tree.unreadable.len(), 1);
    }
}
