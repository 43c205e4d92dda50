//! What documents promise: every source says what it is, links lead somewhere, commands exist, words are explained.

use super::Finding;
use super::tree::{Rust, Text};

pub const GLOSSARY: &str = "docs/GLOSSARY.md";

/// The words of the design, each of which the glossary explains.
const WORDS: [&str; 16] = [
    "shard",
    "map",
    "placement",
    "transition",
    "move",
    "gate",
    "engine",
    "capture",
    "reconcile",
    "fence",
    "commit",
    "sweep",
    "refusal",
    "term",
    "incarnation",
    "attempt",
];

/// A first line of fewer characters says nothing.
const FIRST_LINE_CHARS_MIN: usize = 16;

/// A source begins with `//!` and a sentence.
pub fn first_line(file: &Rust) -> Option<Finding> {
    let first = file.text.lines().next().unwrap_or_default();
    let remedy = "begin it with `//!`: what it decides or does, and what it never does";
    match first.strip_prefix("//!") {
        None => Some(Finding::new(&file.path, 1, "does not say what it is", remedy)),
        Some(text) if text.trim().chars().count() < FIRST_LINE_CHARS_MIN => {
            Some(Finding::new(&file.path, 1, "says too little about what it is", remedy))
        }
        Some(_) => None,
    }
}

/// Links to files of the project lead to files that exist.
pub fn links(file: &Text, exists: &dyn Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    for (line, text) in prose(&file.text) {
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', ' ']).next().unwrap_or_default();
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            if !exists(&joined(folder, path)) {
                findings.push(Finding::new(
                    &file.path,
                    line,
                    format!("the link to {path} leads nowhere"),
                    "mend the path",
                ));
            }
        }
    }
    findings
}

/// `cargo xtask NAME` names a command that there is.
pub fn commands(file: &Text, known: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (i, text) in file.text.lines().enumerate() {
        for (at, lead) in text.match_indices("cargo xtask ") {
            let rest = &text[at + lead.len()..];
            let name: String =
                rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            if !name.is_empty() && !known.contains(&name) {
                let what = format!("there is no `cargo xtask {name}`");
                findings.push(Finding::new(
                    &file.path,
                    i + 1,
                    what,
                    format!("there are: {}", known.join(", ")),
                ));
            }
        }
    }
    findings
}

/// The glossary explains the words of the design, as `**word**`.
pub fn glossary(text: Option<&str>) -> Vec<Finding> {
    let text = text.unwrap_or_default();
    let missing = WORDS.iter().filter(|word| !text.contains(&format!("**{word}**")));
    missing
        .map(|word| {
            Finding::new(GLOSSARY, 1, format!("does not explain **{word}**"), "add a sentence")
        })
        .collect()
}

/// The lines outside code blocks, numbered from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    text.lines().enumerate().filter_map(move |(i, line)| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        (!in_code && !fence).then_some((i + 1, line))
    })
}

/// `path` as seen from `folder`, without `.` and `..`.
fn joined(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::Tree;

    fn text(path: &str, text: &str) -> Text {
        Text { path: path.into(), text: text.into() }
    }

    #[test]
    fn a_source_says_what_it_is() {
        let say = |source: &str| {
            let tree = Tree::of(vec![text("a.rs", source)]);
            first_line(&tree.rust[0]).map(|finding| finding.what)
        };
        assert_eq!(say("//! Chooses the donor of a move.\nfn f() {}"), None);
        assert_eq!(say("//! A thing.").as_deref(), Some("says too little about what it is"));
        assert_eq!(say("fn f() {}").as_deref(), Some("does not say what it is"));
    }

    #[test]
    fn a_link_is_followed_from_its_own_folder() {
        let page = "[a](STYLE.md#x) [b](../README.md) [c](https://x.y/z) [d](#here) [e](adr/1.md)\n```\n[f](no.md)\n```\n";
        let exists = |path: &str| ["docs/STYLE.md", "README.md"].contains(&path);
        let findings = links(&text("docs/A.md", page), &exists);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].what, "the link to adr/1.md leads nowhere");
    }

    #[test]
    fn a_command_must_exist() {
        let known = ["ci".to_owned(), "sim".to_owned()];
        let findings = commands(
            &text("README.md", "`cargo xtask ci`, cargo xtask sim --seed 1\ncargo xtask dev"),
            &known,
        );
        assert_eq!(findings.len(), 1);
        assert_eq!(
            (findings[0].line, findings[0].what.as_str()),
            (2, "there is no `cargo xtask dev`")
        );
    }

    #[test]
    fn a_word_without_a_sentence_is_told() {
        let all: String = WORDS.iter().map(|word| format!("**{word}** … ")).collect();
        assert_eq!(glossary(Some(&all)), []);
        assert_eq!(glossary(Some(&all.replace("**fence**", "fence"))).len(), 1);
        assert_eq!(glossary(None).len(), WORDS.len());
    }
}
