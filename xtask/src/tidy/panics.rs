//! Where production code may give up on a `Result` or an `Option`.
//!
//! `expect` with words that say why it can't fail is an assertion; `unwrap` says nothing and is for tests.

use super::exceptions::Excess;
use super::tokens::{Kind, Tokens};
use super::{Finding, tree::Rust};

/// A message of fewer words can't say why something holds.
const EXPECT_WORDS_MIN: usize = 3;

/// One excess a file, at its first place, counting all of them.
pub fn check(file: &Rust) -> Option<Excess> {
    if file.is_test || !file.path.starts_with("crates/") {
        return None;
    }
    let places = places(&file.tokens);
    let &(line, what) = places.first()?;
    let lines: Vec<String> = places.iter().map(|(line, _)| line.to_string()).collect();
    let remedy = "return an error that says what to do, or `.expect(\"why this can't happen, in a sentence\")`";
    Some(Excess {
        rule: "unwraps",
        subject: file.path.clone(),
        amount: places.len(),
        finding: Finding::new(
            &file.path,
            line,
            format!("{what} (lines {})", lines.join(", ")),
            remedy,
        ),
    })
}

fn places(tokens: &Tokens) -> Vec<(usize, &'static str)> {
    let mut places = Vec::new();
    for (at, token) in tokens.iter() {
        if token.in_test
            || !tokens.is_punct(at, '.')
            || tokens.kind(at + 2) != Some(&Kind::Open('('))
        {
            continue;
        }
        match tokens.ident(at + 1) {
            Some("unwrap" | "unwrap_err") if tokens.kind(at + 3) == Some(&Kind::Close(')')) => {
                places.push((tokens.line(at + 1), "`unwrap` outside tests"));
            }
            Some("expect" | "expect_err") if !states_a_reason(tokens.kind(at + 3)) => {
                places.push((tokens.line(at + 1), "`expect` without a reason"));
            }
            _ => {}
        }
    }
    places
}

fn states_a_reason(argument: Option<&Kind>) -> bool {
    matches!(argument, Some(Kind::Literal(text)) if text.split_whitespace().count() >= EXPECT_WORDS_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        places(&Tokens::read(text).expect("the sample is Rust"))
            .into_iter()
            .map(|(line, _)| line)
            .collect()
    }

    #[test]
    fn unwrap_is_found_inside_macros_too() {
        assert_eq!(lines("fn f() {\n a.unwrap();\n assert!(b.unwrap_err() == c);\n}"), [2, 3]);
    }

    #[test]
    fn tests_may_unwrap() {
        assert_eq!(lines("#[cfg(test)]\nmod t { fn f() { a.unwrap(); } }"), [0; 0]);
    }

    #[test]
    fn expect_needs_a_sentence() {
        let text = "fn f() {\n a.expect(\"set in new, never cleared\");\n a.expect(\"ok\");\n a.expect(why);\n}";
        assert_eq!(lines(text), [3, 4]);
    }

    #[test]
    fn the_attribute_and_the_cousins_are_something_else() {
        assert_eq!(
            lines(
                "#[expect(dead_code, reason = \"x\")]\nfn f() { a.unwrap_or(1).unwrap_or_default(); }"
            ),
            [0; 0]
        );
    }
}
