//! What is known of the ids of a collection, and what was written since.
//!
//! What a page of Quiver's has shown is kept as a window until a scan has passed it. Every write of this engine takes its ids out of the
//! windows, and is seen by whoever watches: what such a one was told of these ids may be of before or of after.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sheaf_types::{PointBody, PointHash, PointId};

use crate::Scan;

/// Windows of one collection: as many scans can be under way without reading anything twice.
const WINDOWS_MAX: usize = 4;
/// Points of a window at most: one that was written to so much is given up.
const WINDOW_POINTS_MAX: usize = 20_000;
/// Ids that one page looks at, accepted or not.
const LOOKED_MAX: usize = 16_384;
/// Ends of pages that are remembered, of each collection.
const ENDS_MAX: usize = 16;

/// What a window knows of an id.
#[derive(Clone)]
pub enum Known {
    Point(PointHash, PointBody),
    /// It was written since, or only its id was shown: it has to be read.
    Unread,
}

/// All points with ids behind `after`, up to `through`.
struct Window {
    number: u64,
    after: Option<PointId>,
    /// `None`: up to the end.
    through: Option<PointId>,
    points: BTreeMap<PointId, Known>,
}

impl Window {
    fn covers(&self, id: &PointId) -> bool {
        self.after.as_ref().is_none_or(|after| after < id)
            && self.through.as_ref().is_none_or(|through| id <= through)
    }

    /// Whether a scan behind this id finds its next points here.
    fn continues(&self, after: Option<&PointId>) -> bool {
        self.after.as_ref() <= after
            && self.through.as_ref().is_none_or(|through| after.is_none_or(|after| after < through))
    }
}

#[derive(Default)]
struct State {
    /// The newest last.
    windows: Vec<Window>,
    /// Ids that are being written, each with the number of writes.
    busy: BTreeMap<PointId, usize>,
    /// Ids that were written since the oldest watch began, in that order.
    written: VecDeque<PointId>,
    /// How many were before those.
    forgotten: u64,
    /// How many there had been when a watch began, by its number.
    watches: BTreeMap<u64, u64>,
    next_number: u64,
    /// The last ids of pages, and where they were.
    ends: Vec<(PointId, usize)>,
}

impl State {
    fn written_since(&self, watch: u64) -> BTreeSet<PointId> {
        let before = self.watches.get(&watch).map_or(0, |began| began - self.forgotten);
        let written = self.written.iter().skip(before as usize);
        written.chain(self.busy.keys()).cloned().collect()
    }

    /// What no watch needs any more.
    fn forget_written(&mut self) {
        let now = self.forgotten + self.written.len() as u64;
        // Those that began later have higher numbers.
        let oldest = self.watches.first_key_value().map_or(now, |(_, began)| *began);
        self.written.drain(..(oldest - self.forgotten) as usize);
        self.forgotten = oldest;
    }

    /// Whoever watches sees it.
    fn note_written(&mut self, id: &PointId) {
        if !self.watches.is_empty() {
            self.written.push_back(id.clone());
        }
    }
}

/// The windows of one collection.
#[derive(Default)]
pub struct Windows {
    state: Mutex<State>,
    turn: tokio::sync::Mutex<()>,
}

/// Ids that are being written, until it is dropped.
pub struct Writing<'a> {
    windows: &'a Windows,
    ids: &'a BTreeSet<PointId>,
}

/// Sees what is written, until it is dropped.
pub struct Watch<'a> {
    windows: &'a Windows,
    number: u64,
}

impl Watch<'_> {
    /// Ids that were written since, or are being written.
    pub fn written(&self) -> BTreeSet<PointId> {
        self.windows.state().written_since(self.number)
    }
}

impl Windows {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No page shows what these ids had before, from here on.
    pub fn writing<'a>(&'a self, ids: &'a BTreeSet<PointId>) -> Writing<'a> {
        let mut state = self.state();
        for window in &mut state.windows {
            let covered: Vec<&PointId> = ids.iter().filter(|id| window.covers(id)).collect();
            window.points.extend(covered.into_iter().map(|id| (id.clone(), Known::Unread)));
        }
        state.windows.retain(|window| window.points.len() <= WINDOW_POINTS_MAX);
        for id in ids {
            state.note_written(id);
            *state.busy.entry(id.clone()).or_default() += 1;
        }
        Writing { windows: self, ids }
    }

    pub fn watch(&self) -> Watch<'_> {
        let mut state = self.state();
        let number = state.next_number;
        state.next_number += 1;
        let began = state.forgotten + state.written.len() as u64;
        state.watches.insert(number, began);
        Watch { windows: self, number }
    }

    /// Whose turn it is to load a window: who waits for it may find there what it wants.
    pub fn turn(&self) -> &tokio::sync::Mutex<()> {
        &self.turn
    }

    /// Keeps what a page has shown that was asked for under this watch.
    pub fn install(
        &self,
        watch: &Watch<'_>,
        after: Option<PointId>,
        through: Option<PointId>,
        points: BTreeMap<PointId, Known>,
    ) {
        let mut state = self.state();
        let mut window = Window { number: watch.number, after, through, points };
        for id in state.written_since(watch.number) {
            if window.covers(&id) {
                window.points.insert(id, Known::Unread);
            }
        }
        if state.windows.len() >= WINDOWS_MAX {
            state.windows.remove(0);
        }
        state.windows.push(window);
    }

    /// The next accepted points of the scan that a window knows; `None`: there is no window.
    pub fn next(&self, scan: &Scan) -> Option<Next> {
        let state = self.state();
        let after = scan.after.as_ref();
        // Of several, the one that shows least of what was scanned before.
        let fitting = state.windows.iter().filter(|window| window.continues(after));
        let window = fitting.max_by(|a, b| a.after.cmp(&b.after))?;
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = window.points.range::<PointId, _>((start, Bound::Unbounded));
        let (mut points, mut looked) = (Vec::new(), None);
        for (id, known) in range.take(LOOKED_MAX) {
            if scan.through.as_ref().is_some_and(|through| through < id) {
                return Some(Next { points, looked, end: End::Scan });
            }
            if points.len() >= scan.points_max.max(1) {
                return Some(Next { points, looked, end: End::More });
            }
            looked = Some(id.clone());
            if scan.accept.takes(id.placement_key()) {
                points.push((id.clone(), known.clone()));
            }
        }
        let is_all = looked.as_ref() == window.points.keys().next_back() || looked.is_none();
        let end = match is_all {
            true => End::Window { number: window.number, through: window.through.clone() },
            false => End::More,
        };
        Some(Next { points, looked, end })
    }

    /// What there is under this id, when a window knows it, and that is: nothing was written there since, nor is now.
    pub fn known(&self, id: &PointId) -> Option<Option<(PointHash, PointBody)>> {
        let state = self.state();
        let window = state.windows.iter().rev().find(|window| window.covers(id))?;
        match window.points.get(id) {
            None => Some(None),
            Some(Known::Point(hash, body)) => Some(Some((*hash, body.clone()))),
            Some(Known::Unread) => None,
        }
    }

    /// A scan has gone to the end of this window; `last` is the last id that it has seen. What it has seen isn't
    /// needed again. That nothing is behind it, is: a recipient asks so before each range that it receives.
    pub fn passed(&self, number: u64, last: Option<&PointId>) {
        self.state().windows.retain_mut(|window| {
            if window.number != number {
                return true;
            }
            if window.through.is_some() {
                return false;
            }
            if let Some(last) = last.filter(|last| window.after.as_ref() < Some(last)) {
                window.points = window.points.split_off(last);
                window.points.remove(last);
                window.after = Some(last.clone());
            }
            true
        });
    }

    /// Whether a scan from the start finds a window.
    pub fn know_the_first(&self) -> bool {
        self.state().windows.iter().any(|window| window.continues(None))
    }

    /// Where the point with this id was, if a page ended with it.
    pub fn offset_hint(&self, id: &PointId) -> Option<usize> {
        self.state().ends.iter().rev().find(|(end, _)| end == id).map(|(_, offset)| *offset)
    }

    pub fn remember_end(&self, id: &PointId, offset: usize) {
        let mut state = self.state();
        if state.ends.len() >= ENDS_MAX {
            state.ends.remove(0);
        }
        state.ends.push((id.clone(), offset));
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let mut state = self.windows.state();
        for id in self.ids {
            // No window shows it: those of before were told when it began, later ones that it is busy.
            state.note_written(id);
            let writes = state.busy.get_mut(id).map(|writes| {
                *writes -= 1;
                *writes
            });
            if writes == Some(0) {
                state.busy.remove(id);
            }
        }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let mut state = self.windows.state();
        state.watches.remove(&self.number);
        state.forget_written();
    }
}

/// What a window knows for a scan.
pub struct Next {
    /// The accepted ones.
    pub points: Vec<(PointId, Known)>,
    /// The last id that was looked at.
    pub looked: Option<PointId>,
    pub end: End,
}

/// Why there are no more.
pub enum End {
    /// There may be more in the window.
    More,
    /// The scan ends here.
    Scan,
    /// The window ends here; `through`: so does the collection when it is `None`.
    Window { number: u64, through: Option<PointId> },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[&str]) -> BTreeSet<PointId> {
        ids.iter().map(|id| PointId::from(*id)).collect()
    }

    #[test]
    fn a_watch_sees_what_was_written_since_it_began_or_is_being_written() {
        let windows = Windows::default();
        let [early, first, second, third] = [ids(&["e"]), ids(&["a"]), ids(&["b"]), ids(&["c"])];
        let under_way = windows.writing(&early);
        let watch = windows.watch();
        assert_eq!(watch.written(), early);
        drop(windows.writing(&first));
        let later = windows.watch();
        drop(windows.writing(&second));
        assert_eq!(watch.written(), ids(&["a", "b", "e"]));
        assert_eq!(later.written(), ids(&["b", "e"]));
        drop(watch);
        drop(windows.writing(&third));
        drop(under_way);
        assert_eq!(later.written(), ids(&["b", "c", "e"]));
        drop(later);
        assert!(windows.state().written.is_empty(), "nobody needs it any more");
        assert_eq!(windows.watch().written(), ids(&[]));
    }
}
