//! The list of coverage marks and the marks in the code are the same.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sheaf_sim::marks::DECLARED;

/// The sources in which marks stand: all that runs in the simulator.
const SOURCES: [&str; 4] = [
    "crates/sheaf-gate/src",
    "crates/sheaf-coordinator/src",
    "crates/sheaf-router/src",
    "sim/sheaf-sim/src",
];

#[test]
fn each_mark_in_the_code_is_declared_once_and_each_declared_one_is_in_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    for folder in SOURCES {
        for file in sources(&root.join(folder)) {
            let text = std::fs::read_to_string(&file).expect("a source can be read");
            found.extend(marks_of(&text));
        }
    }
    found.sort_unstable();
    assert_eq!(found, DECLARED, "DECLARED is in the order of letters; a mark stands in one place");
}

#[test]
fn a_mark_is_found_with_and_without_a_condition_and_over_lines() {
    let text = concat!(
        "mark!(",
        "\"a\");\n mark",
        "!(x(1) == \"no\", \"b\");\n mark",
        "!(\n  y,\n  \"c\"\n);",
        "A => mark",
        "!(\"d (e)\"),\n",
    );
    assert_eq!(marks_of(text), ["a", "b", "c", "d (e)"]);
}

#[test]
fn a_rare_turn_is_a_mark() {
    let text = "if ctx.buggify(\"a\") || rare.takes(\n  \"b\",\n now) || self.buggify_of(proc) {}";
    assert_eq!(marks_of(text), ["a", "b"]);
}

/// Other crates have no marks: they don't run in the simulator, so nothing would count them.
#[test]
fn no_other_crate_has_marks() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let marked: BTreeSet<PathBuf> = sources(&root.join("crates"))
        .into_iter()
        .filter(|file| {
            !calls_of_the_macro(&std::fs::read_to_string(file).expect("it is text")).is_empty()
        })
        .filter(|file| !SOURCES.iter().any(|folder| file.starts_with(root.join(folder))))
        .collect();
    assert_eq!(marked, BTreeSet::new());
}

/// The names of the marks in a source: the last string of each call of the macro, and what rare turns are called.
fn marks_of(text: &str) -> Vec<String> {
    let mut marks = calls_of_the_macro(text);
    for call in ["buggify(", ".takes("] {
        let arguments = text.split(call).skip(1).map(str::trim_start);
        let named = arguments.filter_map(|rest| rest.strip_prefix('"'));
        marks.extend(named.filter_map(|rest| rest.split('"').next().map(str::to_owned)));
    }
    marks
}

fn calls_of_the_macro(text: &str) -> Vec<String> {
    let calls = text.split("mark!(").skip(1).map(arguments);
    calls.filter_map(|arguments| arguments.split('"').rev().nth(1).map(str::to_owned)).collect()
}

/// What comes before the bracket that ends a call.
fn arguments(rest: &str) -> &str {
    let (mut open, mut quoted) = (1, false);
    let end = rest.char_indices().find(|(_, letter)| {
        quoted ^= *letter == '"';
        match letter {
            '(' if !quoted => open += 1,
            ')' if !quoted => open -= 1,
            _ => {}
        }
        open == 0
    });
    end.map_or("", |(at, _)| &rest[..at])
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
