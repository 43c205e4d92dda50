//! A frame's bytes: compact, versioned, and checked to the last one.
//!
//! Decides how a frame is written. What arrives malformed is an error that names the place; it never panics and never
//! allocates more than it was sent. Hashes aren't sent: the reader calculates them, so damage on the way shows.

mod read;

use bytes::{BufMut, Bytes, BytesMut};
use sheaf_protocol::{Content, Delta, Frame, Range};
use sheaf_types::{PointId, StoredPoint};

pub use read::FrameError;

/// The media type of a frame.
pub const FRAME_MEDIA_TYPE: &str = "application/vnd.sheaf.frame";

/// The form that is written and read; first byte of each frame.
const FORMAT: u8 = 1;

/// What a frame asks for.
mod kind {
    pub const BEGIN_PASS: u8 = 1;
    pub const CHECK: u8 = 2;
    pub const REPLACE: u8 = 3;
    pub const DRAIN: u8 = 4;
    pub const SEAL: u8 = 5;
    pub const PUT: u8 = 1;
    pub const DELETED: u8 = 2;
}

/// Writes a frame.
pub fn encode(frame: &Frame) -> Bytes {
    let mut to = BytesMut::with_capacity(size_hint(frame));
    to.put_u8(FORMAT);
    put_bytes(&mut to, frame.cluster_id.as_str().as_bytes());
    to.put_u64_le(frame.transition.0);
    to.put_u64_le(frame.donor.0);
    to.put_u64_le(frame.recipient.0);
    to.put_u64_le(frame.stream.incarnation.0);
    to.put_u64_le(frame.stream.number);
    to.put_u64_le(frame.seq);
    put_content(&mut to, &frame.content);
    to.freeze()
}

/// Reads a frame. Bodies of points share the memory of `bytes`.
///
/// # Errors
/// The bytes are no frame of this form, or more than one.
pub fn decode(bytes: Bytes) -> Result<Frame, FrameError> {
    read::frame(bytes)
}

fn size_hint(frame: &Frame) -> usize {
    let points: usize = match &frame.content {
        Content::Replace { points, .. } => points.iter().map(point_size).sum(),
        Content::Drain { deltas } => deltas
            .iter()
            .map(|delta| match delta {
                Delta::Put { point, .. } => point_size(point) + 9,
                Delta::Deleted { id, .. } => id.as_str().len() + 13,
            })
            .sum(),
        Content::Check { except, .. } => except.iter().map(|id| id.as_str().len() + 4).sum(),
        Content::BeginPass | Content::Seal { .. } => 0,
    };
    points + 256
}

fn point_size(point: &StoredPoint) -> usize {
    8 + point.id.as_str().len() + point.body.as_bytes().len()
}

fn put_content(to: &mut BytesMut, content: &Content) {
    match content {
        Content::BeginPass => to.put_u8(kind::BEGIN_PASS),
        Content::Check { range, digest, except } => {
            to.put_u8(kind::CHECK);
            put_range(to, range);
            put_digest(to, *digest);
            put_count(to, except.len());
            except.iter().for_each(|id| put_id(to, id));
        }
        Content::Replace { range, points } => {
            to.put_u8(kind::REPLACE);
            put_range(to, range);
            put_count(to, points.len());
            points.iter().for_each(|point| put_point(to, point));
        }
        Content::Drain { deltas } => {
            to.put_u8(kind::DRAIN);
            put_count(to, deltas.len());
            deltas.iter().for_each(|delta| put_delta(to, delta));
        }
        Content::Seal { attempt, digest } => {
            to.put_u8(kind::SEAL);
            to.put_u64_le(attempt.0);
            put_digest(to, *digest);
        }
    }
}

fn put_delta(to: &mut BytesMut, delta: &Delta) {
    match delta {
        Delta::Put { collection, point } => {
            to.put_u8(kind::PUT);
            to.put_u64_le(collection.0);
            put_point(to, point);
        }
        Delta::Deleted { collection, id } => {
            to.put_u8(kind::DELETED);
            to.put_u64_le(collection.0);
            put_id(to, id);
        }
    }
}

fn put_range(to: &mut BytesMut, range: &Range) {
    to.put_u64_le(range.collection.0);
    for end in [&range.after, &range.through] {
        to.put_u8(u8::from(end.is_some()));
        if let Some(id) = end {
            put_id(to, id);
        }
    }
}

fn put_digest(to: &mut BytesMut, digest: sheaf_types::Digest) {
    to.put_u64_le(digest.points);
    to.put_u128_le(digest.sum);
}

fn put_point(to: &mut BytesMut, point: &StoredPoint) {
    put_id(to, &point.id);
    put_bytes(to, point.body.as_bytes());
}

fn put_id(to: &mut BytesMut, id: &PointId) {
    put_bytes(to, id.as_str().as_bytes());
}

fn put_bytes(to: &mut BytesMut, bytes: &[u8]) {
    put_count(to, bytes.len());
    to.put_slice(bytes);
}

/// Counts fit: ids, bodies and batches have limits far below.
fn put_count(to: &mut BytesMut, count: usize) {
    to.put_u32_le(u32::try_from(count).unwrap_or(u32::MAX));
}

#[cfg(test)]
mod tests;
