//! Merging, compared with sorting everything.

use proptest::prelude::*;
use sheaf_router::merge::{Identified, MergeError, Ranked, best, page};

#[derive(Clone, Debug, PartialEq)]
struct Hit(String, f64);

impl Ranked for Hit {
    fn id(&self) -> &str {
        &self.0
    }
    fn score(&self) -> f64 {
        self.1
    }
}

impl Identified for Hit {
    fn id(&self) -> &str {
        &self.0
    }
}

fn hit(id: &str, score: f64) -> Hit {
    Hit(id.to_owned(), score)
}

#[test]
fn the_best_come_first_in_the_direction_of_the_metric() {
    let near = || vec![hit("a", 0.5), hit("b", 3.0)];
    let far = || vec![hit("c", 1.0), hit("d", 2.0)];
    let ids = |hits: Vec<Hit>| hits.into_iter().map(|hit| hit.0).collect::<String>();
    assert_eq!(ids(best(vec![near(), far()], 3, true).unwrap()), "acd");
    let (mut near, mut far) = (near(), far());
    near.reverse();
    far.reverse();
    assert_eq!(ids(best(vec![near, far], 3, false).unwrap()), "bdc");
}

#[test]
fn what_shards_should_never_answer_is_an_error_that_names_the_point() {
    let twice = best(vec![vec![hit("a", 1.0)], vec![hit("a", 2.0)]], 5, true);
    assert_eq!(twice, Err(MergeError::Twice { id: "a".into() }));
    let one = best(vec![vec![hit("a", 1.0), hit("a", 2.0)], vec![hit("b", 1.5)]], 5, true);
    assert_eq!(one, Err(MergeError::TwiceInOne { id: "a".into() }));
    let unordered = best(vec![vec![hit("a", 2.0), hit("b", 1.0)]], 5, true);
    assert_eq!(unordered, Err(MergeError::OutOfOrder { id: "b".into() }));
    let no_number = best(vec![vec![hit("a", f64::NAN)]], 5, true);
    assert_eq!(no_number, Err(MergeError::NoNumber { id: "a".into() }));
    let twice = page(vec![vec![hit("a", 0.0)], vec![hit("a", 0.0)]], 0, 5);
    assert_eq!(twice, Err(MergeError::Twice { id: "a".into() }));
    let unordered = page(vec![vec![hit("b", 0.0), hit("a", 0.0)]], 0, 5);
    assert_eq!(unordered, Err(MergeError::OutOfOrder { id: "a".into() }));
}

#[test]
fn minus_zero_and_zero_are_the_same_score() {
    let merged = best(vec![vec![hit("b", 0.0), hit("c", -0.0)], vec![hit("a", 0.0)]], 3, true);
    let ids: String = merged.unwrap().into_iter().map(|hit| hit.0).collect();
    assert_eq!(ids, "abc");
}

/// Points with distinct ids, dealt out to shards.
fn dealt() -> impl Strategy<Value = Vec<Vec<Hit>>> {
    let point = (0u8..5, -3i8..3);
    prop::collection::btree_map("[a-c]{1,4}", point, 0..60).prop_map(|points| {
        let mut shards = vec![Vec::new(); 5];
        for (id, (shard, score)) in points {
            shards[usize::from(shard)].push(Hit(id, f64::from(score)));
        }
        shards
    })
}

proptest! {
    #[test]
    fn the_best_of_all_shards_are_the_best_of_all_points(
        shards in dealt(), k in 0usize..20, lower in any::<bool>()
    ) {
        let rank = |a: &Hit, b: &Hit| {
            let by_score = if lower { a.1.total_cmp(&b.1) } else { b.1.total_cmp(&a.1) };
            by_score.then_with(|| a.0.cmp(&b.0))
        };
        let mut all = shards.concat();
        all.sort_by(rank);
        all.truncate(k);
        let lists = shards.into_iter().map(|mut list| {
            list.sort_by(rank);
            list.truncate(k);
            list
        });
        prop_assert_eq!(best(lists.collect(), k, lower).unwrap(), all);
    }

    #[test]
    fn a_page_of_all_shards_is_the_page_of_all_points(
        shards in dealt(), offset in 0usize..30, limit in 0usize..30
    ) {
        let mut all = shards.concat();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let wanted: Vec<Hit> = all.into_iter().skip(offset).take(limit).collect();
        let lists = shards.into_iter().map(|mut list| {
            list.truncate(offset + limit);
            list
        });
        prop_assert_eq!(page(lists.collect(), offset, limit).unwrap(), wanted);
    }
}
