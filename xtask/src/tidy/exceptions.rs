//! The list of places that break a bound and are known to: each entry says by how much, and may only shrink.
//!
//! Decides which excesses are excused. An entry that is too generous or excuses nothing is a finding too.

use super::Finding;

pub const PATH: &str = "xtask/tidy-exceptions.txt";
/// Entries that the list may have. Lower it when one goes; it is never raised.
const ENTRIES_MAX: usize = 0;

/// More of something than the rule allows.
#[derive(Debug)]
pub struct Excess {
    /// The rule's name in the list.
    pub rule: &'static str,
    /// What breaks it: a path, or `path::function`.
    pub subject: String,
    pub amount: usize,
    /// What to say unless the list excuses it.
    pub finding: Finding,
}

struct Entry<'a> {
    line: usize,
    rule: &'a str,
    subject: &'a str,
    amount: usize,
}

/// The findings that remain: excesses that are not excused, and entries that should shrink or go.
pub fn apply(list: Option<&str>, excesses: Vec<Excess>) -> Vec<Finding> {
    judge(list.unwrap_or_default(), excesses, ENTRIES_MAX)
}

fn judge(list: &str, excesses: Vec<Excess>, entries_max: usize) -> Vec<Finding> {
    let (entries, mut findings) = parse(list);
    if entries.len() > entries_max {
        let what = format!("{} exceptions; at most {entries_max} are allowed", entries.len());
        findings.push(Finding::new(
            PATH,
            1,
            what,
            "the list only shrinks: mend the code instead of adding an entry",
        ));
    }
    let mut used = vec![false; entries.len()];
    for excess in excesses {
        let known = entries
            .iter()
            .position(|entry| entry.rule == excess.rule && entry.subject == excess.subject);
        let Some(at) = known else {
            findings.push(excess.finding);
            continue;
        };
        used[at] = true;
        let entry = &entries[at];
        if excess.amount > entry.amount {
            findings.push(excess.finding);
        } else if excess.amount < entry.amount {
            let what = format!(
                "{} of {} is down from {} to {}",
                entry.rule, entry.subject, entry.amount, excess.amount
            );
            findings.push(Finding::new(
                PATH,
                entry.line,
                what,
                format!("write {} here", excess.amount),
            ));
        }
    }
    for (entry, _) in entries.iter().zip(used).filter(|(_, used)| !used) {
        let what = format!("{} no longer breaks {}", entry.subject, entry.rule);
        findings.push(Finding::new(PATH, entry.line, what, "delete this line"));
    }
    findings
}

fn parse(list: &str) -> (Vec<Entry<'_>>, Vec<Finding>) {
    let (mut entries, mut findings) = (Vec::new(), Vec::new());
    for (i, text) in list.lines().enumerate() {
        let line = i + 1;
        let content = text.split('#').next().unwrap_or_default();
        let words: Vec<&str> = content.split_whitespace().collect();
        match words[..] {
            [] => {}
            [rule, subject, amount] if amount.parse::<usize>().is_ok() => {
                let amount = amount.parse().unwrap_or_default();
                entries.push(Entry { line, rule, subject, amount });
            }
            _ => findings.push(Finding::new(
                PATH,
                line,
                "not an entry",
                "write: RULE SUBJECT AMOUNT  # reason",
            )),
        }
    }
    (entries, findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excess(amount: usize) -> Vec<Excess> {
        let finding = Finding::new("a.rs", 1, "too long", "split it");
        vec![Excess { rule: "file-lines", subject: "a.rs".into(), amount, finding }]
    }

    fn said(list: &str, amount: usize) -> Vec<String> {
        judge(list, excess(amount), 1).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn an_entry_excuses_exactly_what_it_says() {
        let list = "# why\nfile-lines a.rs 700 # an old file\n";
        assert_eq!(said(list, 700), [""; 0]);
        assert_eq!(said(list, 701), ["too long"]);
        assert_eq!(said(list, 650), ["file-lines of a.rs is down from 700 to 650"]);
        assert_eq!(said("", 700), ["too long"]);
    }

    #[test]
    fn an_entry_without_use_and_a_line_without_sense_are_findings() {
        assert_eq!(
            judge("file-lines b.rs 700", Vec::new(), 1)[0].what,
            "b.rs no longer breaks file-lines"
        );
        assert_eq!(judge("file-lines b.rs many", Vec::new(), 1)[0].what, "not an entry");
    }

    #[test]
    fn the_list_can_not_grow() {
        assert_eq!(judge("file-lines a.rs 700", excess(700), 0).len(), 1);
    }
}
