//! A pass: one way through all outgoing ids of a move, collection by collection, in the order of ids.

use std::collections::VecDeque;

use sheaf_map::Map;
use sheaf_protocol::{Position, Range, Through};
use sheaf_types::{CollectionId, PointId};

/// How a pass makes both sides equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Mode {
    /// The recipient hasn't said yet whether it holds anything.
    Unknown,
    /// The recipient holds nothing: every range is sent whole.
    Send,
    /// Ranges are compared; those that differ are sent whole.
    Compare,
}

#[derive(Clone, Debug, Hash)]
pub(super) struct Pass {
    pub mode: Mode,
    /// Everything up to here has been read.
    pub cursor: Position,
    /// Ranges that differed, to be read again and sent whole.
    pub repairs: VecDeque<Range>,
    pub repaired_ranges: u64,
}

impl Pass {
    pub fn new() -> Self {
        Self {
            mode: Mode::Unknown,
            cursor: Position::Start,
            repairs: VecDeque::new(),
            repaired_ranges: 0,
        }
    }

    /// Where the next range begins; moves the cursor to the end when there is none.
    pub fn next_start(&mut self, map: &Map) -> Option<(CollectionId, Option<PointId>)> {
        let behind = match &self.cursor {
            Position::Start => None,
            Position::At { collection, through: Through::Id(id) }
                if map.collection_by_id(*collection).is_some() =>
            {
                return Some((*collection, Some(id.clone())));
            }
            Position::At { collection, .. } => Some(*collection),
            Position::End => return None,
        };
        let next = map
            .collections()
            .iter()
            .map(|collection| collection.id)
            .filter(|id| behind.is_none_or(|behind| *id > behind))
            .min();
        match next {
            Some(collection) => Some((collection, None)),
            None => {
                self.cursor = Position::End;
                None
            }
        }
    }

    /// Whether both sides were found equal all the way, without anything sent whole.
    pub fn found_equal(&self) -> bool {
        self.mode == Mode::Compare && self.repaired_ranges == 0
    }

    pub fn has_read_all(&self) -> bool {
        self.cursor == Position::End && self.repairs.is_empty()
    }
}
