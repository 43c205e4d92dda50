//! Every plan of the corpus and every scenario that ships: green, and it has shown what it is for.

use std::path::Path;

use sheaf_sim::corpus::{files, folders, judge, name_of};
use sheaf_sim::scenario::read_file;
use sheaf_sim::swarm::run_plan;
use sheaf_sim::trace::Trace;

fn every_file_of(folder: &Path) {
    let files = files(folder).unwrap_or_else(|error| panic!("{error}"));
    assert!(!files.is_empty(), "{} holds no plan", folder.display());
    let mut letters = Vec::new();
    for file in files {
        let scenario = read_file(&file).unwrap_or_else(|error| panic!("{error}"));
        let outcome = run_plan(&name_of(&file), scenario.plan.clone(), Trace::new(false), None);
        letters.extend(judge(&file, &scenario, &outcome).err());
    }
    assert!(letters.is_empty(), "{}", letters.join("\n\n"));
}

#[test]
fn no_plan_that_once_showed_a_bug_shows_one_now() {
    every_file_of(&folders()[0]);
}

#[test]
fn no_scenario_of_a_rivals_defect_breaks_anything_here() {
    every_file_of(&folders()[1]);
}
