//! `sheaf-model`: searches all states of a scope.

use std::process::ExitCode;

use stateright::{Checker, Model};

fn main() -> anyhow::Result<ExitCode> {
    if std::env::var("LOUD").is_err() {
        sheaf_sim::report::keep_panics();
    }
    let name = std::env::args().nth(1).unwrap_or_default();
    for scope in sheaf_model::scope::ALL.iter().filter(|s| s.name == name) {
        let mut scope = scope.clone();
        if let Ok(flags) = std::env::var("INSTANT") {
            scope.instant = sheaf_model::scope::Instant {
                directives: flags.contains('c'),
                reports: flags.contains('r'),
                frames: flags.contains('f'),
                disks: flags.contains('d'),
                engines: flags.contains('e'),
                store: flags.contains('s'),
                answers: flags.contains('a'),
            };
        }
        if let Ok(b) = std::env::var("BUDGET") {
            let n: Vec<u8> = b.bytes().map(|c| c - b'0').collect();
            scope.budget = sheaf_model::scope::Budget {
                crashes: n[0],
                losses: n[1],
                repeats: n[2],
                unknowns: n[3],
                early: n[4],
                cancels: n[5],
            };
        }
        if let Ok(c) = std::env::var("CLIENTS") {
            use sheaf_model::scope::{Id, Op};
            scope.clients = match c.as_str() {
                "" => &[],
                "pa" => &[&[Op::Put(Id::A)]],
                "pa,ga" => &[&[Op::Put(Id::A)], &[Op::Get(Id::A)]],
                "paga" => &[&[Op::Put(Id::A), Op::Get(Id::A)]],
                "pa,da" => &[&[Op::Put(Id::A)], &[Op::Delete(Id::A)]],
                "da" => &[&[Op::Delete(Id::A)]],
                "gather" => &[&[Op::Gather]],
                "pa,gather" => &[&[Op::Put(Id::A)], &[Op::Gather]],
                "papb" => &[&[Op::PutBoth(Id::A, Id::B)]],
                _ => panic!(),
            };
        }
        if let Ok(c) = std::env::var("IDS") {
            use sheaf_model::scope::Id;
            scope.ids = match c.as_str() {
                "a" => &[Id::A],
                "ab" => &[Id::A, Id::B],
                _ => &[Id::A, Id::B, Id::C],
            };
        }
        if std::env::var("DRAIN").is_ok() {
            scope.change = sheaf_model::scope::Change::Drain;
        }
        scope.split_reads = std::env::var("SPLIT").is_ok();
        let search = sheaf_model::setup::prepare(&scope)?;
        match std::env::args().nth(2).as_deref() {
            Some("linear") => {
                linear(&search);
                continue;
            }
            Some("census") => {
                census(&search, 300_000);
                continue;
            }
            _ => {}
        }
        let checker = search
            .checker()
            .threads(2)
            .target_state_count(std::env::args().nth(2).map_or(100_000_000, |n| n.parse().unwrap()))
            .spawn_bfs()
            .join();
        println!(
            "{} states {} unique {} depth {}",
            scope.name,
            checker.state_count(),
            checker.unique_state_count(),
            checker.max_depth()
        );
        for (name, path) in checker.discoveries() {
            println!("{name}: {:?}", path.last_state().broken);
            for action in path.into_actions() {
                println!("   {action:?}");
            }
        }
        for mark in sheaf_model::marks::Mark::ALL {
            println!("{:>9} {}", checker.model().marks.count(*mark), mark.text());
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[allow(dead_code)]
fn linear(search: &sheaf_model::model::Search) {
    let mut state = search.first.clone();
    for n in 0..1000 {
        let mut actions = Vec::new();
        sheaf_model::model::ordinary(&state, &mut actions);
        if actions.is_empty() && state.is_done() {
            println!("done after {n}, quiet {}", state.quiet);
            return;
        }
        let action = actions.first().copied().unwrap_or(sheaf_model::model::Action::TimePasses);
        println!(
            "{n} {action:?}   of {} in {:?}",
            actions.len(),
            state.store.get().transition.as_ref().map(|t| t.phase.clone())
        );
        state = search.perform(&state, action);
        if let Some(b) = &state.broken {
            println!("{b:?}");
            return;
        }
    }
}

#[allow(dead_code)]
fn census(search: &sheaf_model::model::Search, max: usize) {
    use sheaf_model::node::digest_of;
    use std::collections::{BTreeMap, BTreeSet, VecDeque};
    let mut seen = BTreeSet::from([digest_of(&search.first)]);
    let mut queue = VecDeque::from([search.first.clone()]);
    let mut parts: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    let mut cores: BTreeMap<String, Vec<String>> = BTreeMap::new();
    while let Some(state) = queue.pop_front() {
        let mut note = |n: &str, d: u64| {
            parts.entry(n.to_owned()).or_default().insert(d);
        };
        note("coordinator", digest_of(&state.coordinator));
        note("router", digest_of(&state.router));
        for (i, g) in state.gates.iter().enumerate() {
            note(&format!("gate{i}"), digest_of(g));
        }
        note("flights", digest_of(&state.flights));
        note("open", digest_of(&state.open));
        note("store", digest_of(&state.store));
        note("clients", digest_of(&state.clients));
        note("clock", state.clock_ms);
        let phase =
            state.store.get().transition.as_ref().map(|t| format!("{:?} {}", t.phase, t.attempt));
        if let Ok(only) = std::env::var("SHOW") {
            let n = match only.as_str() {
                "c" => format!("{:#?}", state.coordinator.get()),
                g => format!("{:#?}", state.gates[g.parse::<usize>().unwrap()].get()),
            };
            let v = cores.entry(format!("{phase:?}")).or_default();
            if !v.contains(&n) && v.len() < 400 {
                v.push(n);
            }
        }
        let mut actions = Vec::new();
        stateright::Model::actions(search, &state, &mut actions);
        for a in actions {
            let next = search.perform(&state, a);
            if seen.insert(digest_of(&next)) {
                queue.push_back(next);
            }
        }
        if seen.len() > max {
            break;
        }
    }
    println!("{} states", seen.len());
    for (n, s) in parts {
        println!("{n}: {}", s.len());
    }
    for (n, v) in cores {
        for (i, t) in v.iter().enumerate() {
            std::fs::write(
                format!("/tmp/show-{}-{i}.txt", n.replace(['(', ')', '"', ' ', '{', '}', ':'], "")),
                t,
            )
            .unwrap();
        }
    }
}
