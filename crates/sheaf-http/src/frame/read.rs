//! Reads a frame's bytes. Every length is checked against what is there before anything is made of it.

use bytes::{Buf, Bytes};
use sheaf_protocol::{Content, Delta, Frame, Range, StreamId};
use sheaf_types::limits::POINT_ID_BYTES_MAX;
use sheaf_types::{
    Attempt, BodyError, ClusterId, CollectionId, Digest, Incarnation, PointBody, PointId, ShardId,
    StoredPoint, TransitionId,
};

use super::{FORMAT, kind};

/// Why bytes are not a frame. Nothing was applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("the frame has the form {found}, this version of Sheaf reads {FORMAT}")]
    Form { found: u8 },
    #[error("the frame ends {missing} bytes too early")]
    Truncated { missing: usize },
    #[error("{surplus} bytes follow the frame")]
    Surplus { surplus: usize },
    #[error("the frame has an unknown mark {mark} where it says what follows")]
    Mark { mark: u8 },
    #[error("an id in the frame is not UTF-8")]
    IdNotText,
    #[error("an id of {bytes} bytes in the frame is longer than any id may be")]
    IdTooLong { bytes: usize },
    #[error("a point in the frame is malformed: {0}")]
    Body(#[from] BodyError),
}

/// Fewest bytes of an id, of a point and of a delta: so many can't be announced without being there.
const ID_BYTES_MIN: usize = 4;
const POINT_BYTES_MIN: usize = ID_BYTES_MIN + 4 + 4;
const DELTA_BYTES_MIN: usize = 1 + 8 + ID_BYTES_MIN;

/// The one frame that `bytes` are.
pub(super) fn frame(bytes: Bytes) -> Result<Frame, FrameError> {
    let mut from = Reader(bytes);
    let found = from.u8()?;
    if found != FORMAT {
        return Err(FrameError::Form { found });
    }
    let frame = Frame {
        cluster_id: ClusterId::from(text(&from.bytes()?)?),
        transition: TransitionId(from.u64()?),
        donor: ShardId(from.u64()?),
        recipient: ShardId(from.u64()?),
        stream: StreamId { incarnation: Incarnation(from.u64()?), number: from.u64()? },
        seq: from.u64()?,
        content: from.content()?,
    };
    match from.0.len() {
        0 => Ok(frame),
        surplus => Err(FrameError::Surplus { surplus }),
    }
}

struct Reader(Bytes);

impl Reader {
    fn content(&mut self) -> Result<Content, FrameError> {
        match self.u8()? {
            kind::BEGIN_PASS => Ok(Content::BeginPass),
            kind::CHECK => {
                let (range, digest) = (self.range()?, self.digest()?);
                Ok(Content::Check { range, digest, except: self.many(ID_BYTES_MIN, Self::id)? })
            }
            kind::REPLACE => {
                let range = self.range()?;
                let collection = range.collection;
                let points = self.many(POINT_BYTES_MIN, |from| from.point(collection))?;
                Ok(Content::Replace { range, points })
            }
            kind::DRAIN => Ok(Content::Drain { deltas: self.many(DELTA_BYTES_MIN, Self::delta)? }),
            kind::SEAL => {
                let attempt = Attempt(self.u64()?);
                Ok(Content::Seal { attempt, digest: self.digest()? })
            }
            mark => Err(FrameError::Mark { mark }),
        }
    }

    fn delta(&mut self) -> Result<Delta, FrameError> {
        let mark = self.u8()?;
        let collection = CollectionId(self.u64()?);
        match mark {
            kind::PUT => Ok(Delta::Put { collection, point: self.point(collection)? }),
            kind::DELETED => Ok(Delta::Deleted { collection, id: self.id()? }),
            mark => Err(FrameError::Mark { mark }),
        }
    }

    fn range(&mut self) -> Result<Range, FrameError> {
        let collection = CollectionId(self.u64()?);
        Ok(Range { collection, after: self.end()?, through: self.end()? })
    }

    fn end(&mut self) -> Result<Option<PointId>, FrameError> {
        match self.u8()? {
            0 => Ok(None),
            1 => self.id().map(Some),
            mark => Err(FrameError::Mark { mark }),
        }
    }

    fn point(&mut self, collection: CollectionId) -> Result<StoredPoint, FrameError> {
        let id = self.id()?;
        let body = PointBody::from_bytes(self.bytes()?)?;
        Ok(StoredPoint::new(collection, id, body))
    }

    fn id(&mut self) -> Result<PointId, FrameError> {
        let bytes = self.bytes()?;
        if bytes.len() > POINT_ID_BYTES_MAX {
            return Err(FrameError::IdTooLong { bytes: bytes.len() });
        }
        text(&bytes).map(PointId::from)
    }

    fn digest(&mut self) -> Result<Digest, FrameError> {
        let points = self.u64()?;
        self.need(16)?;
        Ok(Digest { points, sum: self.0.get_u128_le() })
    }

    /// As many as announced, each of which takes `bytes_min` bytes at least.
    fn many<T>(
        &mut self,
        bytes_min: usize,
        mut one: impl FnMut(&mut Self) -> Result<T, FrameError>,
    ) -> Result<Vec<T>, FrameError> {
        let count = self.count()?;
        self.need(count.saturating_mul(bytes_min))?;
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            all.push(one(self)?);
        }
        Ok(all)
    }

    fn bytes(&mut self) -> Result<Bytes, FrameError> {
        let length = self.count()?;
        self.need(length)?;
        Ok(self.0.split_to(length))
    }

    fn count(&mut self) -> Result<usize, FrameError> {
        self.need(4)?;
        Ok(self.0.get_u32_le() as usize)
    }

    fn u8(&mut self) -> Result<u8, FrameError> {
        self.need(1)?;
        Ok(self.0.get_u8())
    }

    fn u64(&mut self) -> Result<u64, FrameError> {
        self.need(8)?;
        Ok(self.0.get_u64_le())
    }

    fn need(&self, bytes: usize) -> Result<(), FrameError> {
        match bytes.checked_sub(self.0.len()) {
            None | Some(0) => Ok(()),
            Some(missing) => Err(FrameError::Truncated { missing }),
        }
    }
}

fn text(bytes: &[u8]) -> Result<&str, FrameError> {
    std::str::from_utf8(bytes).map_err(|_| FrameError::IdNotText)
}
