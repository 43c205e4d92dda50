//! Every plan of the corpus and every scenario that ships: green, and it has shown what it is for.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use sheaf_sim::corpus::{self, files, folders};

/// Threads on which the plans of a folder are run.
const THREADS: usize = 2;

fn every_file_of(folder: &Path) {
    let files = files(folder).unwrap_or_else(|error| panic!("{error}"));
    assert!(!files.is_empty(), "{} holds no plan", folder.display());
    let next = AtomicUsize::new(0);
    let letters = || {
        let mut letters = Vec::new();
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            letters.extend(corpus::letters(file).unwrap_or_else(|error| panic!("{error}")));
        }
        letters
    };
    let letters: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(letters)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("it ends")).collect()
    });
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
