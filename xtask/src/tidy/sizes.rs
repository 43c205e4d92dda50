//! How long a file and a function may be.

use super::exceptions::Excess;
use super::{Finding, tree::Rust};

/// Lines of a file. Beyond it a reader no longer holds the whole in mind.
const FILE_LINES_MAX: usize = 600;
/// Lines of a function, from `fn` to its closing brace: one screen.
const FUNCTION_LINES_MAX: usize = 70;

pub fn check(file: &Rust) -> Vec<Excess> {
    let mut excesses = Vec::new();
    let lines = file.text.lines().count();
    if lines > FILE_LINES_MAX {
        let what = format!("{lines} lines; a file has at most {FILE_LINES_MAX}");
        let remedy = "split it by decision (moves.rs → moves/fencing.rs), not by layer";
        excesses.push(Excess {
            rule: "file-lines",
            subject: file.path.clone(),
            amount: lines,
            finding: Finding::new(&file.path, FILE_LINES_MAX + 1, what, remedy),
        });
    }
    for function in file.tokens.functions() {
        if function.lines > FUNCTION_LINES_MAX {
            let what = format!(
                "`{}` has {} lines; at most {FUNCTION_LINES_MAX}",
                function.name, function.lines
            );
            excesses.push(Excess {
                rule: "function-lines",
                subject: format!("{}::{}", file.path, function.name),
                amount: function.lines,
                finding: Finding::new(
                    &file.path,
                    function.line,
                    what,
                    "give a part of it a name of its own",
                ),
            });
        }
    }
    excesses
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::{Text, Tree};

    fn check_text(text: String) -> Vec<(&'static str, usize, usize)> {
        let tree = Tree::of(vec![Text { path: "a.rs".into(), text }]);
        check(&tree.rust[0]).into_iter().map(|e| (e.rule, e.amount, e.finding.line)).collect()
    }

    #[test]
    fn the_bounds_themselves_are_allowed() {
        assert_eq!(check_text("//\n".repeat(600)), []);
        assert_eq!(check_text(format!("fn a() {{\n{}}}\n", "f();\n".repeat(68))), []);
    }

    #[test]
    fn one_line_more_is_not() {
        assert_eq!(check_text("//\n".repeat(601)), [("file-lines", 601, 601)]);
        assert_eq!(
            check_text(format!("\nfn a() {{\n{}}}\n", "f();\n".repeat(69))),
            [("function-lines", 71, 2)]
        );
    }
}
