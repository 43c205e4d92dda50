//! Any frame survives the way through bytes; no bytes make the reader panic.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use sheaf_protocol::StreamId;
use sheaf_types::{
    Attempt, ClusterId, CollectionId, Digest, Incarnation, PointBody, ShardId, TransitionId,
};

use super::*;

fn id() -> impl Strategy<Value = PointId> {
    ".{0,12}".prop_map(PointId::from)
}

fn digest() -> impl Strategy<Value = Digest> {
    (any::<u64>(), any::<u128>()).prop_map(|(points, sum)| Digest { points, sum })
}

fn range() -> impl Strategy<Value = Range> {
    (any::<u64>(), option::of(id()), option::of(id())).prop_map(|(collection, after, through)| {
        Range { collection: CollectionId(collection), after, through }
    })
}

fn body() -> impl Strategy<Value = PointBody> {
    (vec(any::<f32>(), 0..5), option::of("[ -~]{1,20}"))
        .prop_map(|(vector, payload)| PointBody::encode(&vector, payload.as_deref()))
}

fn delta() -> impl Strategy<Value = Delta> {
    (any::<u64>(), id(), option::of(body())).prop_map(|(collection, id, body)| {
        let collection = CollectionId(collection);
        match body {
            Some(body) => Delta::Put { collection, point: StoredPoint::new(collection, id, body) },
            None => Delta::Deleted { collection, id },
        }
    })
}

fn content() -> impl Strategy<Value = Content> {
    let replace = (range(), vec((id(), body()), 0..4)).prop_map(|(range, points)| {
        let point = |(id, body)| StoredPoint::new(range.collection, id, body);
        Content::Replace { points: points.into_iter().map(point).collect(), range }
    });
    prop_oneof![
        Just(Content::BeginPass),
        (range(), digest(), vec(id(), 0..4)).prop_map(|(range, digest, except)| Content::Check {
            range,
            digest,
            except
        }),
        replace,
        vec(delta(), 0..4).prop_map(|deltas| Content::Drain { deltas }),
        (any::<u64>(), digest())
            .prop_map(|(n, digest)| Content::Seal { attempt: Attempt(n), digest }),
    ]
}

fn frame() -> impl Strategy<Value = Frame> {
    (".{0,8}", any::<[u64; 6]>(), content()).prop_map(|(cluster, n, content)| Frame {
        cluster_id: ClusterId::from(cluster),
        transition: TransitionId(n[0]),
        donor: ShardId(n[1]),
        recipient: ShardId(n[2]),
        stream: StreamId { incarnation: Incarnation(n[3]), number: n[4] },
        seq: n[5],
        content,
    })
}

proptest! {
    #[test]
    fn a_frame_that_is_written_is_read_back(frame in frame()) {
        prop_assert_eq!(decode(encode(&frame)), Ok(frame));
    }

    #[test]
    fn a_frame_that_is_cut_short_anywhere_or_goes_on_is_refused(frame in frame()) {
        let bytes = encode(&frame);
        for length in 0..bytes.len() {
            prop_assert!(decode(bytes.slice(..length)).is_err(), "{} of {}", length, bytes.len());
        }
        let mut longer = BytesMut::from(&bytes[..]);
        longer.put_u8(0);
        prop_assert_eq!(decode(longer.freeze()), Err(FrameError::Surplus { surplus: 1 }));
    }

    #[test]
    fn no_changed_byte_makes_the_reader_panic(frame in frame(), at: prop::sample::Index, to: u8) {
        let mut bytes = BytesMut::from(&encode(&frame)[..]);
        let at = at.index(bytes.len());
        bytes[at] = to;
        let _ = decode(bytes.freeze());
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in vec(any::<u8>(), 0..200)) {
        let _ = decode(Bytes::from(bytes));
    }
}

#[test]
fn counts_that_are_too_large_are_refused_before_memory_is_taken() {
    let frame = Frame {
        cluster_id: ClusterId::from("c"),
        transition: TransitionId(1),
        donor: ShardId(1),
        recipient: ShardId(2),
        stream: StreamId::default(),
        seq: 1,
        content: Content::Drain { deltas: Vec::new() },
    };
    let mut bytes = BytesMut::from(&encode(&frame)[..]);
    let count = bytes.len() - 4;
    bytes[count..].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(decode(bytes.freeze()), Err(FrameError::Truncated { .. })));
    let later = Bytes::from_static(&[2]);
    assert_eq!(decode(later), Err(FrameError::Form { found: 2 }));
}
