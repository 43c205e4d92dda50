//! Donor gate → recipient gate: one ordered, numbered stream of frames for each move.
//!
//! Only this stream writes those ids at the recipient. A frame is acknowledged when it is durable there. Both
//! sides add up what the slice holds, each from its own engine, as the pass goes through it; see ADR 0002.

use serde::{Deserialize, Serialize};
use sheaf_types::{
    Attempt, ClusterId, CollectionId, Digest, Incarnation, PointId, ShardId, StoredPoint,
    TransitionId,
};

/// A stream of a donor; later ones are greater, also after its restart.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct StreamId {
    pub incarnation: Incarnation,
    pub number: u64,
}

/// One message of a stream.
#[derive(Clone, Debug, PartialEq, Hash)]
pub struct Frame {
    pub cluster_id: ClusterId,
    pub transition: TransitionId,
    pub donor: ShardId,
    pub recipient: ShardId,
    pub stream: StreamId,
    /// 1 for the first frame of a stream, then without gaps.
    pub seq: u64,
    pub content: Content,
}

/// What a frame asks the recipient to do.
#[derive(Clone, Debug, PartialEq, Hash)]
pub enum Content {
    /// A pass begins: both sides count from nothing. Always the first frame. Only a `Check` counts its range.
    BeginPass,
    /// Compare the range with `digest`, the ids of `except` left out on both sides. Writes nothing.
    Check { range: Range, digest: Digest, except: Vec<PointId> },
    /// Make the range hold exactly these points of the move.
    Replace { range: Range, points: Vec<StoredPoint> },
    /// Make these ids as they are now at the donor. All are behind the cursor of the pass.
    Drain { deltas: Vec<Delta> },
    /// Nothing follows in this attempt; the donor's count is `digest`.
    Seal { attempt: Attempt, digest: Digest },
}

/// A stretch of ids of one collection, in the order of their bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Range {
    pub collection: CollectionId,
    /// Excluded; `None`: from the start.
    pub after: Option<PointId>,
    /// Included; `None`: to the end.
    pub through: Option<PointId>,
}

/// What became of one id at the donor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Delta {
    Put { collection: CollectionId, point: StoredPoint },
    Deleted { collection: CollectionId, id: PointId },
}

impl Delta {
    pub fn collection(&self) -> CollectionId {
        match self {
            Self::Put { collection, .. } | Self::Deleted { collection, .. } => *collection,
        }
    }

    pub fn id(&self) -> &PointId {
        match self {
            Self::Put { point, .. } => &point.id,
            Self::Deleted { id, .. } => id,
        }
    }
}

/// How far a pass has come: everything up to and including it is counted.
///
/// Ordered as the pass goes: by collection, then by id; the end of a collection behind all its ids.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Position {
    Start,
    At {
        collection: CollectionId,
        through: Through,
    },
    /// The pass has ended: every id is behind it, those of later collections too.
    End,
}

/// The end of a range within its collection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Through {
    Id(PointId),
    CollectionEnd,
}

impl Position {
    /// The end of this range.
    pub fn end_of(range: &Range) -> Self {
        let through = range.through.clone().map_or(Through::CollectionEnd, Through::Id);
        Self::At { collection: range.collection, through }
    }

    /// Whether the pass has counted this id already.
    pub fn has_passed(&self, collection: CollectionId, id: &PointId) -> bool {
        *self >= Self::At { collection, through: Through::Id(id.clone()) }
    }
}

/// The recipient's answer to a frame that it carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Verdict {
    /// `empty`: nothing of this move can be here yet, so ranges needn't be compared before they are sent.
    Begun {
        empty: bool,
    },
    /// `excepted`: what the recipient holds of the ids that were left out.
    Checked {
        equal: bool,
        excepted: Digest,
    },
    Replaced,
    /// `old`: what the recipient held of these ids before.
    Drained {
        old: Digest,
    },
    /// `digest`: what the recipient counts.
    Sealed {
        digest: Digest,
    },
}

/// Why a recipient didn't carry out a frame. Nothing was applied.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FrameRefusal {
    #[error("the recipient isn't prepared yet")]
    NotPrepared,
    #[error("the recipient doesn't take part in this transition, or it is over")]
    NoTransition,
    #[error("the recipient doesn't know this stream; begin a new one")]
    UnknownStream,
    #[error("a later stream than this one has begun")]
    OldStream,
    #[error("frame {seq} is too far ahead; {expected} comes next")]
    TooFarAhead { seq: u64, expected: u64 },
    #[error("the frame is meant for another gate")]
    OtherGate,
    #[error("the recipient's engine failed: {reason}")]
    Engine { reason: String },
}
