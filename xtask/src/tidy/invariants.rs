//! docs/INVARIANTS.md held to the code: every invariant has a number, a name, an assertion and a checker.
//!
//! A row reads `| I3 | one-writer | what | …asserted in… | …checker… |`: the first two cells are the number and the name, the
//! last two name files. An assertion's message begins with both: "I3 one-writer: …".

use std::collections::BTreeMap;

use super::Finding;
use super::tokens::{Kind, Tokens};
use super::tree::Tree;

const PAGE: &str = "docs/INVARIANTS.md";
/// Where checkers live.
const CHECKERS: [&str; 4] = [
    "sim/sheaf-checkers/src/",
    "tests/",
    "crates/sheaf-gate/tests/",
    "crates/sheaf-coordinator/tests/",
];
const REMEDY: &str = "write the row as | I3 | one-writer | … | `crates/…/file.rs` | `sim/sheaf-checkers/src/file.rs` |";

struct Row {
    line: usize,
    label: String,
    name: String,
    asserted_in: Vec<String>,
    checkers: Vec<String>,
}

/// Nothing to say while there is no page.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let Some(page) = tree.text(PAGE) else {
        return Vec::new();
    };
    let (rows, mut findings) = rows(page);
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    for row in &rows {
        if names.insert(&row.label, &row.name).is_some() {
            findings.push(Finding::new(
                PAGE,
                row.line,
                format!("{} is listed twice", row.label),
                "number it anew",
            ));
        }
        findings.extend(check_row(tree, row));
    }
    for file in tree.rust.iter().filter(|file| file.path.starts_with("crates/") && !file.is_test) {
        for (label, message, line) in assertions(&file.tokens) {
            let known =
                names.get(label.as_str()).is_some_and(|name| is_message(&message, &label, name));
            if !known {
                let what = format!(
                    "\"{message}\" asserts an invariant that {PAGE} does not list by this name"
                );
                findings.push(Finding::new(
                    &file.path,
                    line,
                    what,
                    format!("add or mend the row of {label} there"),
                ));
            }
        }
    }
    findings
}

fn check_row(tree: &Tree, row: &Row) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Row { line, label, name, .. } = row;
    let mut say =
        |what: String, remedy: &str| findings.push(Finding::new(PAGE, *line, what, remedy));
    if row.asserted_in.is_empty() {
        say(format!("{label} names no file that asserts it"), REMEDY);
    }
    if row.checkers.is_empty() {
        say(format!("{label} names no checker"), REMEDY);
    }
    for path in &row.asserted_in {
        let Some(file) = tree.rust(path) else {
            say(format!("{label}: there is no {path}"), "name the file that asserts it");
            continue;
        };
        let asserted =
            assertions(&file.tokens).iter().any(|(_, message, _)| is_message(message, label, name));
        if !asserted {
            say(
                format!("{label}: {path} asserts nothing as \"{label} {name}…\""),
                "assert it there, by number and name",
            );
        }
    }
    for path in &row.checkers {
        let Some(file) =
            tree.rust(path).filter(|_| CHECKERS.iter().any(|place| path.starts_with(place)))
        else {
            say(
                format!("{label}: there is no checker {path}"),
                "a checker is a file in sim/sheaf-checkers/src or tests",
            );
            continue;
        };
        if !mentions(&file.text, label) {
            say(
                format!("{label}: the checker {path} does not mention it"),
                "let its violation begin with number and name",
            );
        }
    }
    findings
}

fn rows(page: &str) -> (Vec<Row>, Vec<Finding>) {
    let (mut rows, mut findings) = (Vec::new(), Vec::new());
    for (i, text) in page.lines().enumerate() {
        let cells: Vec<&str> = text.trim().trim_matches('|').split('|').map(str::trim).collect();
        let Some(label) =
            cells.first().map(|cell| cell.trim_matches(['*', '`'])).filter(|cell| is_label(cell))
        else {
            continue;
        };
        let [_, name, .., asserted_in, checkers] = cells[..] else {
            findings.push(Finding::new(PAGE, i + 1, format!("{label}: a cell is missing"), REMEDY));
            continue;
        };
        rows.push(Row {
            line: i + 1,
            label: label.to_owned(),
            name: name.trim_matches(['*', '`']).to_owned(),
            asserted_in: paths(asserted_in),
            checkers: paths(checkers),
        });
    }
    (rows, findings)
}

/// The Rust files that a cell names.
fn paths(cell: &str) -> Vec<String> {
    let words = cell
        .split(|c: char| c.is_whitespace() || matches!(c, '`' | ',' | '·' | '(' | ')' | '[' | ']'));
    words
        .filter(|word| word.ends_with(".rs"))
        .map(|word| word.trim_start_matches("../").to_owned())
        .collect()
}

fn is_label(word: &str) -> bool {
    word.strip_prefix('I')
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether a message begins with number and name.
fn is_message(message: &str, label: &str, name: &str) -> bool {
    let rest = message
        .strip_prefix(label)
        .and_then(|rest| rest.strip_prefix(' '))
        .and_then(|rest| rest.strip_prefix(name));
    rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '-'))
}

fn mentions(text: &str, label: &str) -> bool {
    text.match_indices(label).any(|(at, _)| {
        !text[..at].ends_with(|c: char| c.is_alphanumeric())
            && !text[at + label.len()..].starts_with(|c: char| c.is_alphanumeric())
    })
}

/// Every message that begins with an invariant's number, inside an assertion outside tests: number, message, line.
fn assertions(tokens: &Tokens) -> Vec<(String, String, usize)> {
    let mut found = Vec::new();
    let mut ends: Vec<usize> = Vec::new(); // Where the assertions end that enclose the token.
    for (at, token) in tokens.iter() {
        ends.retain(|&end| end > at);
        match &token.kind {
            Kind::Open(_) if opens_assertion(tokens, at) => ends.push(token.partner),
            Kind::Literal(text) if !ends.is_empty() && !token.in_test => {
                let message = text.trim_start_matches(['r', '#', '"']).trim_end_matches(['#', '"']);
                let label = message.split(' ').next().unwrap_or_default();
                if is_label(label) {
                    found.push((label.to_owned(), message.to_owned(), token.line));
                }
            }
            _ => {}
        }
    }
    found
}

/// Whether the bracket at `at` opens an `assert…!(`, `panic!(`, `unreachable!(` or `.expect(`.
fn opens_assertion(tokens: &Tokens, at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).and_then(|at| tokens.ident(at));
    let is_macro = at.checked_sub(1).is_some_and(|at| tokens.is_punct(at, '!'));
    match is_macro {
        true => before(2).is_some_and(|name| {
            name.contains("assert") || name == "panic" || name == "unreachable"
        }),
        false => before(1) == Some("expect"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::Text;

    const GATE: &str = "crates/sheaf-gate/src/invariants.rs";
    const CHECKER: &str = "sim/sheaf-checkers/src/one_writer.rs";

    fn said(page: &str, core: &str, checker: &str) -> Vec<String> {
        let files = [(PAGE, page), (GATE, core), (CHECKER, checker)];
        let texts = files.map(|(path, text)| Text { path: path.into(), text: text.into() });
        check(&Tree::of(texts.into())).into_iter().map(|finding| finding.what).collect()
    }

    fn page() -> String {
        format!(
            "| number | name | meaning | asserted in | checker |\n|---|---|---|---|---|\n| I3 | one-writer | at most one | `{GATE}` | `{CHECKER}` |\n"
        )
    }

    const ASSERTED: &str = "fn f() { assert!(x <= 1, \"I3 one-writer: {x}\"); }";

    #[test]
    fn a_paired_invariant_is_fine() {
        assert_eq!(said(&page(), ASSERTED, "//! I3 one-writer."), [""; 0]);
    }

    #[test]
    fn each_missing_part_is_told() {
        assert_eq!(said(&page(), "fn f() { g(\"I3 one-writer\"); }", "//! I3.").len(), 1);
        assert_eq!(
            said(&page(), "#[test]\nfn f() { assert!(x, \"I3 one-writer\"); }", "//! I3.").len(),
            1
        );
        assert_eq!(said(&page(), ASSERTED, "//! I33.").len(), 1);
        assert_eq!(said(&page().replace(CHECKER, "sim/other.rs"), ASSERTED, "").len(), 1);
        assert_eq!(said(&page().replace(CHECKER, "later"), ASSERTED, ""), ["I3 names no checker"]);
        assert_eq!(said("| I3 | one-writer |", "", ""), ["I3: a cell is missing"]);
    }

    #[test]
    fn an_assertion_that_the_page_does_not_list_is_told() {
        let core = format!("{ASSERTED} fn g() {{ assert_eq!(a, b, \"I4 intent-first\"); }}");
        assert_eq!(said(&page(), &core, "//! I3.").len(), 1);
        assert_eq!(
            said(&page(), &ASSERTED.replace("one-writer", "one-writers"), "//! I3.").len(),
            2
        );
    }

    #[test]
    fn a_number_listed_twice_is_told() {
        let row = page().lines().last().expect("the page has a row").to_owned();
        assert_eq!(said(&format!("{}{row}", page()), ASSERTED, "//! I3."), ["I3 is listed twice"]);
    }
}
