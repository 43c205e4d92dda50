//! Words that may not stand in a source, and where: leftovers, a core's forbidden words, clocks, paths of one machine.

use super::tokens::{Attribute, Kind, Tokens};
use super::tree::{Rust, Text};
use super::{Finding, layers};

/// Macros of unfinished work.
const LEFTOVER_MACROS: [&str; 3] = ["todo", "unimplemented", "dbg"];
/// Attributes that hide a failing test, or can't say which panic was meant.
const LEFTOVER_ATTRIBUTES: [&str; 2] = ["ignore", concat!("should_", "panic")];
/// Marks in comments. Written in two halves, or this line would be one.
const LEFTOVER_MARKS: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];
/// Beginnings of paths that exist on one machine only.
const MACHINE_PATHS: [&str; 2] = [concat!("/wo", "rk/"), concat!("/tm", "p/")];

/// Words that have no place in a core, which must be replayable.
const CORE_WORDS: [&str; 14] = [
    "async",
    "await",
    "tokio",
    "futures_util",
    "Instant",
    "SystemTime",
    "HashMap",
    "HashSet",
    "rand",
    "getrandom",
    "println",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
];
/// Parts of `std` that have no place in a core. Of `std::net` the addresses are plain data.
const CORE_STD: [&str; 6] = ["fs", "thread", "env", "process", "io", "os"];

/// The only files that may read a clock or the system's entropy, and so lift clippy's ban.
/// A bench or a measuring example reads a clock too: that is what it is for.
const CLOCK_READERS: &[&str] = &[
    "crates/sheaf-runtime/src/clock.rs",
    "crates/sheaf-runtime/src/entropy.rs",
    "xtask/src/clock.rs",
    "sim/sheaf-sim/src/bench.rs",
    "sim/sheaf-sim/src/main.rs",
    "sim/sheaf-model/src/clock.rs",
    "sim/turmoil/src/clock.rs",
];

pub fn check_rust(file: &Rust) -> Vec<Finding> {
    let mut findings = leftovers(&file.path, &file.tokens);
    findings.extend(unfair_selects(&file.path, &file.tokens));
    findings.extend(lifted_bans(&file.path, &file.tokens));
    if !file.is_test && layers::is_core_source(&file.path) {
        findings.extend(core_words(&file.path, &file.tokens));
    }
    findings
}

/// Checks any text file, Rust or not.
pub fn check_text(file: &Text) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (i, line) in file.text.lines().enumerate() {
        for path in MACHINE_PATHS.iter().filter(|path| begins_a_path(line, path)) {
            let remedy =
                "take the path as an argument, or make a temporary folder with the tempfile crate";
            findings.push(Finding::new(
                &file.path,
                i + 1,
                format!("`{path}` is a path of one machine"),
                remedy,
            ));
        }
        let marks = LEFTOVER_MARKS
            .iter()
            .filter(|mark| !file.path.ends_with(".md") && has_word(line, mark));
        for mark in marks {
            findings.push(leftover(&file.path, i + 1, mark));
        }
    }
    findings
}

fn leftover(path: &str, line: usize, word: &str) -> Finding {
    Finding::new(
        path,
        line,
        format!("`{word}` is unfinished work"),
        "finish it, or take it out and open an issue",
    )
}

fn leftovers(path: &str, tokens: &Tokens) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, token) in tokens.iter() {
        if let Some(word) = tokens.ident(at)
            && LEFTOVER_MACROS.contains(&word)
            && tokens.is_punct(at + 1, '!')
        {
            findings.push(leftover(path, token.line, word));
        }
    }
    for Attribute { open, close, .. } in tokens.attributes() {
        let conditional = tokens.ident(open + 1) == Some("cfg_attr");
        let words = (open + 1..if conditional { close } else { open + 2 })
            .filter_map(|at| tokens.ident(at));
        for word in words.filter(|word| LEFTOVER_ATTRIBUTES.contains(word)) {
            let remedy =
                "assert what the code does today and say why that is wrong, or delete the test";
            findings.push(Finding::new(
                path,
                tokens.line(open),
                format!("`#[{word}]` hides a failure"),
                remedy,
            ));
        }
    }
    findings
}

/// `select!` asks its branches in random order unless told otherwise; then a run can't be replayed.
fn unfair_selects(path: &str, tokens: &Tokens) -> Vec<Finding> {
    let selects = tokens.iter().filter(|&(at, _)| {
        tokens.ident(at) == Some("select")
            && tokens.is_punct(at + 1, '!')
            && matches!(tokens.kind(at + 2), Some(Kind::Open(_)))
            && tokens.ident(at + 3) != Some("biased")
    });
    let remedy = "begin it with `biased;`, the branches in the order that matters";
    selects
        .map(|(_, token)| {
            Finding::new(path, token.line, "`select!` picks a branch at random", remedy)
        })
        .collect()
}

fn lifted_bans(path: &str, tokens: &Tokens) -> Vec<Finding> {
    if CLOCK_READERS.contains(&path)
        || path.split('/').any(|part| matches!(part, "benches" | "examples"))
    {
        return Vec::new();
    }
    let inside = tokens.attributes().flat_map(|attribute| attribute.open..attribute.close);
    let lifted = inside
        .filter(|&at| matches!(tokens.ident(at), Some("disallowed_methods" | "disallowed_types")));
    let remedy = format!(
        "ask sheaf_runtime's clock or entropy, which alone read them: {}",
        CLOCK_READERS.join(", ")
    );
    lifted
        .map(|at| {
            Finding::new(path, tokens.line(at), "lifts a ban of .clippy.toml", remedy.as_str())
        })
        .collect()
}

fn core_words(path: &str, tokens: &Tokens) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, token) in tokens.iter().filter(|(_, token)| !token.in_test) {
        let Some(word) = tokens.ident(at) else { continue };
        let from_std =
            word == "std" && tokens.is_punct(at + 1, ':') && tokens.is_punct(at + 2, ':');
        let part = tokens.ident(at + 3).filter(|part| from_std && CORE_STD.contains(part));
        let what = match part {
            Some(part) => format!("`std::{part}`"),
            None if CORE_WORDS.contains(&word) => format!("`{word}`"),
            None => continue,
        };
        let remedy = "a core gets time, randomness and answers as events and asks by effects; ordered collections only";
        findings.push(Finding::new(path, token.line, format!("{what} inside a core"), remedy));
    }
    findings
}

/// Whether `word` stands in `line` and no letter, digit or underscore touches it.
fn has_word(line: &str, word: &str) -> bool {
    let touches = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        !touches(line[..at].chars().next_back()) && !touches(line[at + word.len()..].chars().next())
    })
}

/// Whether a path begins with `beginning`, rather than having it in its middle.
fn begins_a_path(line: &str, beginning: &str) -> bool {
    line.match_indices(beginning).any(|(at, _)| {
        !line[..at].ends_with(|c: char| {
            c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '}' | '*' | '>')
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::Tree;

    fn said(path: &str, text: &str) -> Vec<String> {
        let tree = Tree::of(vec![Text { path: path.into(), text: text.into() }]);
        let mut findings = check_rust(&tree.rust[0]);
        findings.extend(check_text(&tree.texts[0]));
        findings.into_iter().map(|finding| format!("{} {}", finding.line, finding.what)).collect()
    }

    #[test]
    fn a_core_knows_no_clock_no_task_and_no_unordered_map() {
        let text = "use std::collections::HashMap;\nfn f() -> std::time::Instant { std::fs::read(x) }\nasync fn g() {}\n";
        assert_eq!(
            said("crates/sheaf-gate/src/a.rs", text),
            [
                "1 `HashMap` inside a core",
                "2 `Instant` inside a core",
                "2 `std::fs` inside a core",
                "3 `async` inside a core"
            ]
        );
        assert_eq!(said("crates/sheaf-http/src/a.rs", text), [""; 0]);
    }

    #[test]
    fn words_in_comments_strings_and_tests_of_a_core_are_free() {
        let text = "/// No HashMap, no async.\nfn f() { g(\"tokio\"); }\n#[cfg(test)]\nmod t { use std::fs; }\n";
        assert_eq!(said("crates/sheaf-gate/src/a.rs", text), [""; 0]);
    }

    #[test]
    fn unfinished_work_is_found() {
        let mark = LEFTOVER_MARKS[0];
        let text = format!(
            "// {mark}: later\nfn f() {{ todo!() }}\n#[test]\n#[ignore]\nfn g() {{}}\nlet {mark}S = 1;\n"
        );
        let found = said("crates/sheaf-http/src/a.rs", &text);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.iter().any(|what| what.starts_with("4 `#[ignore]`")), "{found:?}");
    }

    #[test]
    fn select_must_say_its_order() {
        assert_eq!(
            said("crates/sheaf-runtime/src/a.rs", "fn f() {\n tokio::select! { a = b => {} }\n}"),
            ["2 `select!` picks a branch at random"]
        );
        assert_eq!(
            said(
                "crates/sheaf-runtime/src/a.rs",
                "fn f() { tokio::select! { biased; a = b => {} } }"
            ),
            [""; 0]
        );
    }

    #[test]
    fn only_the_clock_lifts_the_ban() {
        let text = "#[expect(clippy::disallowed_methods, reason = \"the one clock\")]\nfn now() {}";
        assert_eq!(said(CLOCK_READERS[0], text), [""; 0]);
        assert_eq!(said("crates/sheaf-map/benches/b.rs", text), [""; 0]);
        assert_eq!(said("crates/sheaf-http/src/a.rs", text), ["1 lifts a ban of .clippy.toml"]);
    }

    #[test]
    fn a_machines_path_is_found_at_its_beginning_only() {
        let path = MACHINE_PATHS[1];
        assert!(begins_a_path(&format!("open(\"{path}x\")"), path));
        assert!(!begins_a_path(&format!("target{path}x"), path));
        assert!(!begins_a_path(&format!("${{dir}}{path}x"), path));
    }
}
