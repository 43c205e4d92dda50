//! `sheaf-model`: searches all states of a scope.

use std::process::ExitCode;

use stateright::{Checker, Model};

fn main() -> anyhow::Result<ExitCode> {
    sheaf_sim::report::keep_panics();
    let name = std::env::args().nth(1).unwrap_or_default();
    for scope in sheaf_model::scope::ALL.iter().filter(|s| s.name == name) {
        let search = sheaf_model::setup::prepare(scope)?;
        let checker = search.checker().threads(2).spawn_bfs().join();
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
