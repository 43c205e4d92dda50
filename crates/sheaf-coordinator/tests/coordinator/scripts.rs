//! Scripts: what the coordinator stores, sends and answers, command by command, as text that people review.
//!
//! Each snapshot is a script with its trace. `INSTA_UPDATE=always cargo test -p sheaf-coordinator --test coordinator scripts` rewrites them; the
//! difference is read like code.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::world::{StoreMood, World, options, shard, url};
use sheaf_coordinator::{Ask, CoordinatorRecord, NewShard, Outgoing, Phase};
use sheaf_types::{ShardId, TransitionId};

/// A world that is played by a script, and what was written down of it.
struct Script {
    world: World,
    trace: String,
    stored: String,
    sent: usize,
    published: usize,
    told: BTreeMap<ShardId, String>,
}

/// Plays the script on a cluster of `shards` shards and returns it with its trace.
fn play(shards: u64, script: &str) -> String {
    let world = World::of_shards(shards);
    let mut script_run = Script {
        stored: stored(&world.stored),
        sent: world.sent.len(),
        published: world.published.len(),
        told: BTreeMap::new(),
        trace: String::new(),
        world,
    };
    for command in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        script_run.command(command);
    }
    script_run.trace
}

impl Script {
    fn command(&mut self, command: &str) {
        let _ = writeln!(self.trace, "{command}\n----");
        let before = self.trace.len();
        let words: Vec<&str> = command.split_whitespace().collect();
        match words.as_slice() {
            ["ask", ask @ ..] => self.ask(ask),
            ["until", phase] => self.until(phase),
            ["step", count] => (0..number(count)).for_each(|_| self.step()),
            ["advance", ms] => self.world.advance(number(ms)),
            ["coordinator", "restarts"] => self.world.restart(),
            ["store", mood @ ..] => self.world.mood = mood_of(mood),
            ["gate", n, what @ ..] => self.gate(number(n), what),
            other => panic!("there is no command {other:?}"),
        }
        self.note();
        if self.trace.len() == before {
            self.trace.push_str("(nothing)\n");
        }
        self.trace.push('\n');
    }

    fn ask(&mut self, words: &[&str]) {
        let running = self.world.record().transition.as_ref().map(|running| running.id);
        let running = running.unwrap_or(TransitionId(0));
        let ask = match words {
            ["grow", nodes @ ..] => {
                let node = |n: &&str| NewShard::at(&url(number(n)));
                Ask::Grow { shards: nodes.iter().map(node).collect(), options: options() }
            }
            ["drain", n] => Ask::Drain { shard: shard(number(n)), options: options() },
            ["pause"] => Ask::Pause { transition: running },
            ["resume"] => Ask::Resume { transition: running },
            ["cancel"] => Ask::Cancel { transition: running },
            other => panic!("there is no ask {other:?}"),
        };
        let answer = match self.world.ask(ask) {
            Ok(reply) => format!("answer   {reply:?}"),
            Err(refusal) => format!("refuse   {refusal}"),
        };
        self.note();
        let _ = writeln!(self.trace, "{answer}");
    }

    fn until(&mut self, phase: &str) {
        for _ in 0..20_000 {
            if self.world.phase() == phase {
                return;
            }
            self.step();
        }
        panic!("{phase} was not reached; so far:\n{}", self.trace);
    }

    fn step(&mut self) {
        self.world.step();
        self.note();
    }

    fn gate(&mut self, n: u64, what: &[&str]) {
        let gate = self.world.gate(n);
        match what {
            ["dies"] => gate.alive = false,
            ["returns"] => {
                gate.alive = true;
                gate.restart();
            }
            ["restarts"] => gate.restart(),
            ["never", "drains"] => gate.drains = false,
            ["drains"] => gate.drains = true,
            ["miscounts"] => gate.miscounts = 1,
            ["counts", "right"] => gate.miscounts = 0,
            ["never", "sweeps"] => gate.sweeps = false,
            ["sweeps"] => gate.sweeps = true,
            other => panic!("a gate can't {other:?}"),
        }
    }

    /// Writes down what happened since the last time.
    fn note(&mut self) {
        let stored = stored(&self.world.stored);
        if stored != self.stored {
            let _ = writeln!(self.trace, "store    {stored}");
            self.stored = stored;
        }
        for map in self.world.published.drain(self.published..) {
            let ids: Vec<String> = map.shards().iter().map(|entry| entry.id.to_string()).collect();
            let _ = writeln!(self.trace, "publish  {} of {}", map.version(), ids.join(" "));
        }
        for out in &self.world.sent[self.sent..] {
            let told = told(out);
            if self.told.get(&out.shard) != Some(&told) {
                let _ = writeln!(self.trace, "send     {} {told}", out.shard);
                self.told.insert(out.shard, told);
            }
        }
        self.sent = self.world.sent.len();
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{text} is no number"))
}

fn mood_of(words: &[&str]) -> StoreMood {
    match words {
        ["works"] => StoreMood::Works,
        ["stores", "silently"] => StoreMood::StoresSilently,
        ["forgets", "silently"] => StoreMood::ForgetsSilently,
        other => panic!("a store can't {other:?}"),
    }
}

/// What of the record a reader of scripts follows.
fn stored(record: &CoordinatorRecord) -> String {
    let running = record.transition.as_ref().map_or("idle".to_owned(), |running| {
        let phase = match running.phase {
            Phase::Prepare => "prepare",
            Phase::Copy => "copy",
            Phase::Fence => "fence",
            Phase::Sweep { permitted: false } => "committed",
            Phase::Sweep { permitted: true } => "sweep",
            Phase::Abort { .. } => "abort",
        };
        format!("x{} {phase} a{}", running.id.0, running.attempt.0)
    });
    format!("t{} {} {running}", record.term.0, record.map.version())
}

/// What a directive says, without what only orders it.
fn told(out: &Outgoing) -> String {
    let directive = &out.directive;
    let mut told = directive.map.version().to_string();
    if let Some(order) = &directive.order {
        let stage = format!("{:?}", order.stage).to_lowercase();
        let paused = if order.copy.paused { " paused" } else { "" };
        let _ = write!(told, " x{} {stage} a{}{paused}", order.transition.0, order.attempt.0);
    }
    for (set, word) in [(directive.sweep, "sweep"), (directive.retired, "retired")] {
        if set {
            let _ = write!(told, " {word}");
        }
    }
    told
}

#[test]
fn a_grow_is_stored_before_it_is_told_in_every_phase() {
    insta::assert_snapshot!(play(
        2,
        "ask grow 3
         until copy
         until fence
         until committed
         until sweep
         until none"
    ));
}

#[test]
fn two_nodes_join_in_one_transition() {
    insta::assert_snapshot!(play(
        1,
        "ask grow 2 3
         until fence
         until none"
    ));
}

#[test]
fn a_drained_node_is_retired_after_the_commit() {
    insta::assert_snapshot!(play(
        3,
        "ask drain 2
         until fence
         until committed
         until none
         advance 100"
    ));
}

#[test]
fn a_fence_over_its_budget_is_backed_out_and_tried_again_with_a_new_attempt() {
    insta::assert_snapshot!(play(
        2,
        "gate 1 never drains
         ask grow 3
         until fence
         until copy
         gate 1 drains
         until committed"
    ));
}

#[test]
fn unequal_digests_never_commit() {
    insta::assert_snapshot!(play(
        2,
        "gate 1 miscounts
         ask grow 3
         until fence
         until copy
         gate 1 counts right
         until committed"
    ));
}

#[test]
fn an_abort_in_each_phase_before_the_commit_ends_with_the_old_map_and_after_it_is_refused() {
    let mut all = String::new();
    for phase in ["prepare", "copy", "fence", "committed", "sweep"] {
        let script = format!("gate 1 never sweeps\nask grow 3\nuntil {phase}\nask cancel");
        let ends = if ["committed", "sweep"].contains(&phase) { "gate 1 sweeps" } else { "" };
        let _ =
            writeln!(all, "== in {phase}\n{}", play(2, &format!("{script}\n{ends}\nuntil none")));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn a_coordinator_that_restarts_in_each_phase_goes_on_from_what_is_stored() {
    let mut all = String::new();
    for phase in ["prepare", "copy", "fence", "committed", "sweep"] {
        let script = format!("ask grow 3\nuntil {phase}\ncoordinator restarts\nuntil none");
        let _ = writeln!(all, "== in {phase}\n{}", play(2, &script));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn a_donor_that_restarts_in_each_phase_delays_the_commit_or_nothing() {
    let mut all = String::new();
    for phase in ["prepare", "copy", "fence", "committed", "sweep"] {
        let script = format!("ask grow 3\nuntil {phase}\ngate 1 restarts\nuntil none");
        let _ = writeln!(all, "== in {phase}\n{}", play(2, &script));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn a_commit_of_unknown_outcome_is_looked_up_and_is_neither_repeated_nor_given_up() {
    insta::assert_snapshot!(play(
        2,
        "ask grow 3
         until fence
         store stores silently
         until committed
         store works
         until none"
    ));
}
