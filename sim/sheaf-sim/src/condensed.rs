//! A story's run in a few lines, for people who review what a change did to the protocol's course.
//!
//! Says what follows from what, not when: gates that do the same within one phase stand in one line, and nothing is counted that
//! luck decides. Two seeds of a story differ little; two versions of the protocol differ where they should.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::clients::LASTING;
use crate::recording::{Arrow, GateState, Recording, Stored};

/// Refusals that say nothing about the migration: a poll that came late, a collection that isn't there.
const LUCK: [&str; 2] = ["Stale", "NoCollection"];

/// Something that a process did, said without its name.
struct Deed {
    at: u64,
    /// What kind of process, and which.
    who: String,
    what: String,
}

/// The course of the migrations of a completed recording.
pub fn condensed(run: &Recording) -> String {
    let first = run.stored.iter().position(|stored| stored.transition.is_some());
    let Some(first) = first.filter(|first| *first > 0) else {
        return "no migration\n".to_owned();
    };
    let mut deeds = deeds(run);
    deeds.sort_by_key(|deed| deed.at);
    let mut text = String::new();
    let stored = &run.stored[first - 1..];
    for (at, now) in stored.iter().enumerate() {
        let until = stored.get(at + 1).map_or(run.end, |next| next.at);
        let before = at.checked_sub(1).map(|at| &stored[at]);
        // Writing to a string can't fail.
        let _ = writeln!(text, "{}", heading(run, now, before));
        if before.is_some() {
            let within = deeds.iter().filter(|deed| (now.at..until).contains(&deed.at));
            for line in lines(within) {
                let _ = writeln!(text, "    {line}");
            }
        }
    }
    let _ = writeln!(text, "{}", outcome(run, run.stored[first].at));
    text
}

/// What the store holds, and what is new about it.
fn heading(run: &Recording, now: &Stored, before: Option<&Stored>) -> String {
    let version = |map: usize| run.maps[map].version;
    let map = match before.map(|before| version(before.map)) {
        Some(old) if old != version(now.map) => format!("v{old} → v{}", version(now.map)),
        _ => format!("v{}", version(now.map)),
    };
    let what = match now.transition {
        None => "no migration".to_owned(),
        Some(_) if now.phase == "fence" => format!("fence, attempt {}", now.attempt),
        Some(_) => now.phase.to_owned(),
    };
    let term = before.filter(|before| before.term != now.term).map(|_| ", a new term");
    format!("{map}: {what}{}", term.unwrap_or_default())
}

/// Deeds of one phase: the same deed of several is one line, where the first of them did it.
fn lines<'a>(deeds: impl Iterator<Item = &'a Deed>) -> Vec<String> {
    let mut merged: Vec<(&str, BTreeSet<&str>)> = Vec::new();
    for deed in deeds {
        match merged.iter_mut().find(|(what, _)| *what == deed.what) {
            Some((_, who)) => {
                who.insert(&deed.who);
            }
            None => merged.push((&deed.what, BTreeSet::from([deed.who.as_str()]))),
        }
    }
    let line = |(what, who): (&str, BTreeSet<&str>)| {
        let who: Vec<&str> = who.into_iter().collect();
        format!("{}: {what}", who.join(", "))
    };
    merged.into_iter().map(line).collect()
}

fn deeds(run: &Recording) -> Vec<Deed> {
    let name = |lane: usize| run.lanes[lane].name.clone();
    let mut deeds = Vec::new();
    for span in run.spans.iter().filter(|span| span.kind == "down") {
        if span.from > 1 {
            deeds.push(Deed { at: span.from, who: name(span.lane), what: "dies".to_owned() });
        }
        if let Some(at) = span.to {
            deeds.push(Deed { at, who: name(span.lane), what: "starts".to_owned() });
        }
    }
    for lane in 0..run.lanes.len() {
        let states: Vec<&GateState> = run.gates.iter().filter(|state| state.lane == lane).collect();
        for pair in states.windows(2) {
            let new = changes(run, pair[0], pair[1]);
            deeds.extend(new.into_iter().map(|what| Deed {
                at: pair[1].at,
                who: name(lane),
                what,
            }));
        }
    }
    deeds.extend(run.arrows.iter().filter_map(|arrow| refusal(run, arrow)));
    deeds
}

/// What is new on a gate's disk.
fn changes(run: &Recording, before: &GateState, after: &GateState) -> Vec<String> {
    let mut new = Vec::new();
    let order = |state: &GateState| (state.transition, state.stage, state.attempt);
    let version = |state: &GateState| state.map.map(|map| run.maps[map].version);
    if version(before) != version(after)
        && let Some(version) = version(after)
    {
        new.push(format!("records map v{version}"));
    }
    if order(before) != order(after) {
        new.push(match after.stage {
            "" => "records the end of its part".to_owned(),
            "fence" => format!("records fence {}", after.attempt),
            stage => format!("records {stage}"),
        });
    }
    if before.clean != after.clean {
        new.push(
            if after.clean { "is clean" } else { "holds what isn't its own, or will" }.to_owned(),
        );
    }
    if before.shard.is_some() && after.shard.is_none() {
        new.push("is free".to_owned());
    }
    new
}

fn refusal(run: &Recording, arrow: &Arrow) -> Option<Deed> {
    let refusal = arrow.refusal.as_ref().filter(|refusal| !LUCK.contains(&refusal.as_str()))?;
    let lane = &run.lanes[arrow.from];
    let what = match (lane.kind, arrow.kind) {
        ("gate", "directive") => format!("refuses a directive: {refusal}"),
        ("gate", "frame") => format!("refuses a frame: {refusal}"),
        ("gate", "data") => format!("refuses a request: {refusal}"),
        ("coordinator", "ask") => format!("refuses an ask: {refusal}"),
        _ => return None,
    };
    Some(Deed { at: arrow.sent, who: lane.name.clone(), what })
}

/// What clients saw of it all, from the first migration on.
fn outcome(run: &Recording, since: u64) -> String {
    let mut kinds: BTreeMap<(bool, &str), u32> = BTreeMap::new();
    for call in run.operations.iter().filter(|call| call.from >= since && !call.done) {
        let answer = if call.answer.is_empty() { "no answer" } else { &call.answer };
        *kinds.entry((&*call.collection != LASTING, answer)).or_default() += 1;
    }
    let mut text = String::from("clients:");
    for ((passing, answer), count) in &kinds {
        let whose = if *passing { " (the second collection)" } else { "" };
        // Writing to a string can't fail.
        let _ = write!(text, " {count} × {answer}{whose},");
    }
    let rest = if kinds.is_empty() { " each call was done" } else { " the others were done" };
    text + rest
}
