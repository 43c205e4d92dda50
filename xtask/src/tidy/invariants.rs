//! docs/INVARIANTS.md held to the code and the zoo: every invariant has a number, a name, an assertion, a checker and a mutant.
//!
//! A row reads `| I3 | one-writer | what | …asserted in… | …checker… | …mutant… |`: an assertion's message begins with the first two
//! cells ("I3 one-writer: …"), the last three name files. A promise's row reads `| P4 | one owner | what | I3 | …checker… | …mutant… |`: the
//! fourth cell has the numbers by which its violation is told. A mutant's header says which numbers fire, and each of them has a row.

use std::collections::{BTreeMap, BTreeSet};

use super::Finding;
use super::tokens::{Kind, Tokens};
use super::tree::Tree;

const PAGE: &str = "docs/INVARIANTS.md";
/// Where the mutants are.
const ZOO: &str = "sim/zoo/";
/// What no core can assert: a core sees no disk.
const UNSEEN_BY_CORES: [&str; 1] = ["I5"];
/// Where checkers live.
const CHECKERS: [&str; 6] = [
    "sim/sheaf-checkers/src/",
    "sim/sheaf-sim/src/",
    "sim/turmoil/src/",
    "tests/",
    "crates/sheaf-gate/tests/",
    "crates/sheaf-coordinator/tests/",
];
const REMEDY: &str = "write the row as | I3 | one-writer | … | `crates/…/file.rs` | `sim/sheaf-checkers/src/file.rs` | `05-name` |, or as \
                      | P4 | one owner | … | I3 | `sim/sheaf-checkers/src/file.rs` | `05-name` |";

struct Row {
    line: usize,
    label: String,
    name: String,
    asserted_in: Vec<String>,
    /// The numbers of which one is told when it is broken.
    fires_as: Vec<String>,
    checkers: Vec<String>,
    /// Names in the zoo, without `.patch`.
    mutants: Vec<String>,
}

impl Row {
    fn is_promise(&self) -> bool {
        self.label.starts_with('P')
    }
}

/// The header of one file of the zoo.
struct Mutant<'a> {
    path: &'a str,
    line: usize,
    /// `None`: it doesn't say.
    fires: Option<Vec<&'a str>>,
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
    findings.extend(check_zoo(tree, &rows));
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
    let mut findings = check_assertions(tree, row);
    findings.extend(check_checkers(tree, row));
    findings.extend(check_mutants(tree, row));
    findings
}

fn check_assertions(tree: &Tree, row: &Row) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Row { line, label, name, .. } = row;
    let mut say =
        |what: String, remedy: &str| findings.push(Finding::new(PAGE, *line, what, remedy));
    let unseen = UNSEEN_BY_CORES.contains(&label.as_str());
    if row.asserted_in.is_empty() && !row.is_promise() && !unseen {
        say(format!("{label} names no file that asserts it"), REMEDY);
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
    findings
}

fn check_checkers(tree: &Tree, row: &Row) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Row { line, label, .. } = row;
    let mut say =
        |what: String, remedy: &str| findings.push(Finding::new(PAGE, *line, what, remedy));
    if row.checkers.is_empty() {
        say(format!("{label} names no checker"), REMEDY);
    }
    for path in &row.checkers {
        let Some(file) =
            tree.rust(path).filter(|_| CHECKERS.iter().any(|place| path.starts_with(place)))
        else {
            say(
                format!("{label}: there is no checker {path}"),
                "a checker is a file in sim/sheaf-checkers/src, a harness or tests",
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

/// Every mutant that a row names is there, and says that it breaks what the row is about.
fn check_mutants(tree: &Tree, row: &Row) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Row { line, label, fires_as, .. } = row;
    let mut say =
        |what: String, remedy: &str| findings.push(Finding::new(PAGE, *line, what, remedy));
    if fires_as.is_empty() {
        say(format!("{label} does not say by which number its violation is told"), REMEDY);
        return findings;
    }
    if row.mutants.is_empty() {
        say(format!("{label} names no mutant"), REMEDY);
    }
    for name in &row.mutants {
        let path = format!("{ZOO}{name}.patch");
        let Some(mutant) = zoo(tree).find(|mutant| mutant.path == path) else {
            say(format!("{label}: there is no {path}"), "name a file of sim/zoo, without its end");
            continue;
        };
        let fires = mutant.fires.unwrap_or_default();
        if !fires.iter().any(|number| fires_as.iter().any(|known| known == number)) {
            let known = fires_as.join(" or ");
            say(
                format!("{label}: {path} does not fire {known}"),
                "name a mutant whose header says that it does, and that was seen to",
            );
        }
    }
    findings
}

/// Every number that a mutant or a promise names has a row.
fn check_zoo(tree: &Tree, rows: &[Row]) -> Vec<Finding> {
    let known: BTreeSet<&str> = rows.iter().map(|row| row.label.as_str()).collect();
    let missing = |number: &str| format!("{PAGE} has no row {number}");
    let mut findings = Vec::new();
    for row in rows {
        let unknown = row.fires_as.iter().filter(|number| !known.contains(number.as_str()));
        findings.extend(
            unknown.map(|number| Finding::new(PAGE, row.line, missing(number), "add its row")),
        );
    }
    for Mutant { path, line, fires } in zoo(tree) {
        let Some(fires) = fires else {
            let remedy = "add a line: # fires: I3 P1, or # fires: nothing";
            findings.push(Finding::new(path, line, "a mutant that doesn't say what fires", remedy));
            continue;
        };
        let unknown =
            fires.into_iter().filter(|&number| number != "nothing" && !known.contains(number));
        findings
            .extend(unknown.map(|number| Finding::new(path, line, missing(number), "add its row")));
    }
    findings
}

fn zoo(tree: &Tree) -> impl Iterator<Item = Mutant<'_>> {
    let patches = tree
        .texts
        .iter()
        .filter(|file| file.path.starts_with(ZOO) && file.path.ends_with(".patch"));
    patches.map(|file| {
        let mut lines = file.text.lines().zip(1..);
        let fires = lines.find_map(|(text, line)| Some((line, text.strip_prefix("# fires: ")?)));
        Mutant {
            path: &file.path,
            line: fires.map_or(1, |(line, _)| line),
            fires: fires.map(|(_, numbers)| numbers.split_whitespace().collect()),
        }
    })
}

fn rows(page: &str) -> (Vec<Row>, Vec<Finding>) {
    let (mut rows, mut findings) = (Vec::new(), Vec::new());
    for (i, text) in page.lines().enumerate() {
        let cells: Vec<&str> = text.trim().trim_matches('|').split('|').map(str::trim).collect();
        let Some(label) =
            cells.first().map(|cell| cell.trim_matches(['*', '`'])).filter(|cell| has_row(cell))
        else {
            continue;
        };
        let [_, name, _, fourth, checkers, mutants] = cells[..] else {
            let what = format!("{label}: a cell is missing, or there is one too many");
            findings.push(Finding::new(PAGE, i + 1, what, REMEDY));
            continue;
        };
        let numbers = words(fourth).filter(|word| has_row(word)).map(str::to_owned).collect();
        let promise = label.starts_with('P');
        rows.push(Row {
            line: i + 1,
            label: label.to_owned(),
            name: name.trim_matches(['*', '`']).to_owned(),
            asserted_in: if promise { Vec::new() } else { paths(fourth) },
            fires_as: if promise { numbers } else { vec![label.to_owned()] },
            checkers: paths(checkers),
            mutants: words(mutants).map(str::to_owned).collect(),
        });
    }
    (rows, findings)
}

fn words(cell: &str) -> impl Iterator<Item = &str> {
    let between =
        |c: char| c.is_whitespace() || matches!(c, '`' | ',' | '·' | '(' | ')' | '[' | ']');
    cell.split(between).filter(|word| !word.is_empty())
}

/// The Rust files that a cell names.
fn paths(cell: &str) -> Vec<String> {
    let files = words(cell).filter(|word| word.ends_with(".rs"));
    files.map(|word| word.trim_start_matches("../").to_owned()).collect()
}

/// The number of an invariant.
fn is_label(word: &str) -> bool {
    is_number(word, 'I')
}

/// The number of an invariant or of a promise.
fn has_row(word: &str) -> bool {
    is_number(word, 'I') || is_number(word, 'P')
}

fn is_number(word: &str, letter: char) -> bool {
    word.strip_prefix(letter)
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

    const MUTANT: &str = "sim/zoo/05-behind.patch";

    fn said(page: &str, core: &str, checker: &str) -> Vec<String> {
        with_zoo(page, core, checker, "# what: a write\n# fires: I3\n")
    }

    fn with_zoo(page: &str, core: &str, checker: &str, mutant: &str) -> Vec<String> {
        let files = [(PAGE, page), (GATE, core), (CHECKER, checker), (MUTANT, mutant)];
        let files = files.into_iter().filter(|(_, text)| !text.is_empty());
        let texts = files.map(|(path, text)| Text { path: path.into(), text: text.into() });
        check(&Tree::of(texts.collect())).into_iter().map(|finding| finding.what).collect()
    }

    fn page() -> String {
        format!(
            "| number | name | meaning | asserted in | checker | mutant |\n|---|---|---|---|---|---|\n\
             | I3 | one-writer | at most one | `{GATE}` | `{CHECKER}` | `05-behind` |\n"
        )
    }

    fn promise(fires_as: &str, mutant: &str) -> String {
        format!("{}| P4 | one owner | the same | {fires_as} | `{CHECKER}` | {mutant} |\n", page())
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
        let missing = "I3: a cell is missing, or there is one too many";
        assert_eq!(with_zoo("| I3 | one-writer |", "", "", ""), [missing]);
        let former = page().replace(" | `05-behind`", "");
        assert_eq!(with_zoo(&former, "", "", ""), [missing]);
    }

    #[test]
    fn an_invariant_that_no_core_sees_needs_no_assertion_and_the_others_do() {
        let page = |label: &str| {
            format!("| {label} | durable | kept | no core | `{CHECKER}` | `05-behind` |\n")
        };
        let of = |label: &str| {
            let (checker, mutant) = (format!("//! {label}."), format!("# fires: {label}\n"));
            with_zoo(&page(label), "", &checker, &mutant)
        };
        assert_eq!(of("I5"), [""; 0]);
        assert_eq!(of("I6"), ["I6 names no file that asserts it"]);
    }

    #[test]
    fn a_mutant_that_is_missing_or_fires_something_else_is_told() {
        let ok = "//! I3.";
        let none = page().replace("`05-behind`", "");
        assert_eq!(said(&none, ASSERTED, ok), ["I3 names no mutant"]);
        let other = page().replace("05-behind", "06-gone");
        assert_eq!(said(&other, ASSERTED, ok), ["I3: there is no sim/zoo/06-gone.patch"]);
        let fires = |header| with_zoo(&page(), ASSERTED, ok, header);
        let wrong = format!("I3: {MUTANT} does not fire I3");
        assert_eq!(fires("# fires: nothing\n"), [wrong.as_str()]);
        let unlisted = format!("{PAGE} has no row I33");
        assert_eq!(fires("# fires: I33\n"), [wrong.as_str(), unlisted.as_str()]);
        assert_eq!(fires("# fires: I3 I33\n"), [unlisted]);
        let silent = "a mutant that doesn't say what fires";
        assert_eq!(fires("# what: a write\n"), [wrong.as_str(), silent]);
    }

    #[test]
    fn a_promise_has_a_number_that_fires_a_checker_and_a_mutant() {
        let said = |page: &str, checker: &str| said(page, ASSERTED, checker);
        let both = "//! I3 and P4.";
        assert_eq!(said(&promise("I3", "`05-behind`"), both), [""; 0]);
        assert_eq!(said(&promise("I3", ""), both), ["P4 names no mutant"]);
        let wrong = format!("P4: {MUTANT} does not fire P4");
        assert_eq!(said(&promise("P4", "`05-behind`"), both), [wrong.as_str()]);
        assert_eq!(
            said(&promise("", "`05-behind`"), both),
            ["P4 does not say by which number its violation is told"]
        );
        let unlisted = format!("{PAGE} has no row I9");
        assert_eq!(said(&promise("I3 I9", "`05-behind`"), both), [unlisted]);
        let silent = format!("P4: the checker {CHECKER} does not mention it");
        assert_eq!(said(&promise("I3", "`05-behind`"), "//! I3."), [silent]);
        let unchecked =
            promise("I3", "`05-behind`").replace(&format!("I3 | `{CHECKER}`"), "I3 | later");
        assert_eq!(said(&unchecked, both), ["P4 names no checker"]);
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
