//! From two placements to moves: which points change their owner, between which shards.
//!
//! Decides what a transition moves; never whether or when. A move is calculated, never listed, so all sides agree.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sheaf_types::{PlacementKey, ShardId};

use crate::Placement;

/// One pair of a transition: points go from `donor` to `recipient`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Move {
    /// The owner before the transition.
    pub donor: ShardId,
    /// The owner after it.
    pub recipient: ShardId,
}

/// What moves between two placements. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moves(Arc<Inner>);

#[derive(Debug, PartialEq, Eq)]
struct Inner {
    current: Placement,
    next: Placement,
    pairs: Vec<Move>,
    donors: Vec<ShardId>,
    recipients: Vec<ShardId>,
}

/// All else is calculated from the placements.
impl Hash for Moves {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.0.current, &self.0.next).hash(state);
    }
}

impl Moves {
    /// The moves that lead from `current` to `next`. The first shards of a cluster have no donor, so no moves.
    pub fn between(current: &Placement, next: &Placement) -> Self {
        let risen = Change::by_rise(current, next);
        let mut pairs = Vec::new();
        for donor in Change::of_shards(current, current, next) {
            let recipients = donor.outrisen_by(&risen).iter();
            pairs.extend(recipients.map(|r| Move { donor: donor.id, recipient: r.id }));
        }
        pairs.sort_unstable();
        let donors: BTreeSet<ShardId> = pairs.iter().map(|pair| pair.donor).collect();
        let recipients: BTreeSet<ShardId> = pairs.iter().map(|pair| pair.recipient).collect();
        Self(Arc::new(Inner {
            current: current.clone(),
            next: next.clone(),
            pairs,
            donors: donors.into_iter().collect(),
            recipients: recipients.into_iter().collect(),
        }))
    }

    /// How many pairs [`Moves::between`] would list, without listing them.
    ///
    /// Up to half the square of the number of shards, when each is re-weighted differently: ask before you list.
    pub fn count_between(current: &Placement, next: &Placement) -> usize {
        let risen = Change::by_rise(current, next);
        Change::of_shards(current, current, next).map(|d| d.outrisen_by(&risen).len()).sum()
    }

    /// The move of the point with this key, `None` when it stays.
    pub fn of(&self, key: PlacementKey) -> Option<Move> {
        let donor = self.0.current.owner(key)?;
        let recipient = self.0.next.owner(key)?;
        (donor != recipient).then_some(Move { donor, recipient })
    }

    /// Every pair that can have points, sorted. No point moves between any other two shards.
    pub fn pairs(&self) -> &[Move] {
        &self.0.pairs
    }

    /// The shards that can lose points, sorted.
    pub fn donors(&self) -> &[ShardId] {
        &self.0.donors
    }

    /// The shards that can gain points, sorted.
    pub fn recipients(&self) -> &[ShardId] {
        &self.0.recipients
    }

    /// The placement that is left.
    pub fn current(&self) -> &Placement {
        &self.0.current
    }

    /// The placement that is reached.
    pub fn next(&self) -> &Placement {
        &self.0.next
    }
}

/// The weight of one shard before and after, in thousandths; 0 where it is absent.
struct Change {
    id: ShardId,
    before: u64,
    after: u64,
}

impl Change {
    fn of_shards<'a>(
        shards: &'a Placement,
        current: &'a Placement,
        next: &'a Placement,
    ) -> impl Iterator<Item = Self> + 'a {
        let weight = |placement: &Placement, id| {
            placement.weight(id).map_or(0, |weight| u64::from(weight.thousandths()))
        };
        shards.shards().map(move |(id, _)| Self {
            id,
            before: weight(current, id),
            after: weight(next, id),
        })
    }

    /// The shards of `next`, those whose weight grew by the largest factor first.
    fn by_rise(current: &Placement, next: &Placement) -> Vec<Self> {
        let mut risen: Vec<Self> = Self::of_shards(next, current, next).collect();
        risen.sort_by(|a, b| b.rise(a));
        risen
    }

    /// Compares `after / before`, where a shard that joins has risen without bound and one that leaves not at all.
    fn rise(&self, other: &Self) -> Ordering {
        (self.after * other.before).cmp(&(other.after * self.before))
    }

    /// The part of `risen` that takes points from this shard: those that rose by more than it did.
    ///
    /// A point that goes from d to r had depth(d)/before(d) <= depth(r)/before(r) and has the reverse with
    /// `after`, so r rose at least as much as d; where they rose equally, their order is the same as before.
    fn outrisen_by<'a>(&self, risen: &'a [Self]) -> &'a [Self] {
        let (more, _) = risen.split_at(risen.partition_point(|r| r.rise(self).is_gt()));
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Weight;

    /// Shards of these ids and weights in thousandths.
    fn placement(shards: &[(u64, u32)]) -> Placement {
        let weight = |n| Weight::from_thousandths(n).unwrap();
        Placement::new(shards.iter().map(|&(id, n)| (ShardId(id), weight(n))))
    }

    fn pairs(current: &[(u64, u32)], next: &[(u64, u32)]) -> Vec<(u64, u64)> {
        let (current, next) = (placement(current), placement(next));
        let moves = Moves::between(&current, &next);
        assert_eq!(Moves::count_between(&current, &next), moves.pairs().len());
        moves.pairs().iter().map(|pair| (pair.donor.0, pair.recipient.0)).collect()
    }

    #[test]
    fn a_join_takes_from_every_shard_and_a_drain_gives_to_every_shard() {
        let two = [(1, 1_000), (2, 2_000)];
        let three = [(1, 1_000), (2, 2_000), (3, 500)];
        assert_eq!(pairs(&two, &three), [(1, 3), (2, 3)]);
        assert_eq!(pairs(&three, &two), [(3, 1), (3, 2)]);
    }

    #[test]
    fn a_replacement_at_the_same_weight_takes_from_all_and_gives_to_all() {
        let moves = pairs(&[(1, 1_000), (2, 1_000)], &[(2, 1_000), (3, 1_000)]);
        assert_eq!(moves, [(1, 2), (1, 3), (2, 3)]);
    }

    #[test]
    fn weights_that_change_by_the_same_factor_move_nothing() {
        assert_eq!(pairs(&[(1, 1_000), (2, 2_500)], &[(1, 2_000), (2, 5_000)]), []);
        // The shard whose weight stayed is the one that gained.
        assert_eq!(pairs(&[(1, 1_000), (2, 1_000)], &[(1, 500), (2, 1_000)]), [(1, 2)]);
    }

    #[test]
    fn the_first_shards_have_no_donor_and_the_last_have_no_recipient() {
        assert_eq!(pairs(&[], &[(1, 1_000), (2, 1_000)]), []);
        assert_eq!(pairs(&[(1, 1_000)], &[]), []);
        let first = Moves::between(&placement(&[]), &placement(&[(1, 1_000)]));
        assert_eq!(first.of(PlacementKey::of("a")), None);
    }

    #[test]
    fn donors_and_recipients_are_those_of_the_pairs() {
        let (current, next) =
            (placement(&[(1, 1_000), (2, 1_000)]), placement(&[(1, 1_000), (3, 1_000)]));
        let moves = Moves::between(&current, &next);
        assert_eq!(moves.donors(), [ShardId(1), ShardId(2)]);
        assert_eq!(moves.recipients(), [ShardId(1), ShardId(3)]);
        assert_eq!((moves.current(), moves.next()), (&current, &next));
    }

    #[test]
    fn every_listed_pair_has_points() {
        let current = placement(&[(1, 1_000), (2, 2_000), (3, 500), (4, 1_000)]);
        let next = placement(&[(1, 1_100), (2, 1_800), (4, 1_000), (5, 3_000)]);
        let moves = Moves::between(&current, &next);
        let seen: BTreeSet<Move> =
            (0..50_000).filter_map(|n| moves.of(PlacementKey::of(&format!("point-{n}")))).collect();
        assert_eq!(moves.pairs(), seen.into_iter().collect::<Vec<_>>());
    }
}
