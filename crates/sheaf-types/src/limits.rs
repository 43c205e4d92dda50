//! Every bound of the system: unit, meaning, source.

/// Nearest neighbours in one answer. Source: the public API (wire.md).
pub const K_MAX: usize = 10_000;
/// Candidates kept while an index is searched. Source: the public API.
pub const EF_SEARCH_MAX: usize = 4_096;
/// Points in one page of `fetch`. Source: the public API.
pub const FETCH_POINTS_MAX: usize = 10_000;
/// Numbers in a vector. Source: the public API.
pub const DIM_MAX: u32 = 8_192;
/// Numbers in all vectors of a document together: 2,048 vectors of 128. A document is one point, and moves in one frame.
pub const DOCUMENT_NUMBERS_MAX: usize = 256 * 1024;
/// Bytes of a payload as JSON text. Source: the public API.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// Points in one upsert. Source: the public API.
pub const BATCH_POINTS_MAX: usize = 1_000;
/// Points in one bulk upsert. Source: the public API.
pub const BULK_POINTS_MAX: usize = 50_000;
/// Bytes of a request body. Source: the public API.
pub const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Terms in the sparse vector of a query. Source: the public API.
pub const SPARSE_TERMS_MAX: usize = 4_096;
/// Bytes of a point's id. Twice what the end-to-end tests send; a longer one is refused.
pub const POINT_ID_BYTES_MAX: usize = 8 * 1024;
/// Nesting of a filter. Deeper ones are refused before anything recurses.
pub const FILTER_DEPTH_MAX: usize = 32;
/// Operators in one filter.
pub const FILTER_NODES_MAX: usize = 1_024;
/// Bytes of a collection's name.
pub const COLLECTION_NAME_BYTES_MAX: usize = 255;
/// Collections in a catalogue: the map carries all of them.
pub const COLLECTIONS_MAX: usize = 10_000;
/// Names of dropped collections that are remembered while a shard that hasn't heard may serve them.
pub const DROPPED_NAMES_MAX: usize = 1_024;
/// Shards in a map. Source: the placement bench goes this far.
pub const SHARDS_MAX: usize = 10_000;

/// Milliseconds that a client's request may take when it names no deadline.
pub const REQUEST_MS_DEFAULT: u64 = 10_000;
/// Milliseconds that a client may ask for.
pub const REQUEST_MS_MAX: u64 = 60_000;
/// Milliseconds that a map's long poll may wait.
pub const LONG_POLL_MS_MAX: u64 = 60_000;

/// Requests that one gate holds while fenced or waiting for a map; further ones are refused.
pub const HELD_REQUESTS_MAX: usize = 10_000;
/// Bytes of ids in one donor's dirty set; beyond it the set is dropped and the pass starts again.
/// Source: a donor's memory may grow by 64 MiB during a copy.
pub const DIRTY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Points in one range of a reconcile pass that sends them whole.
pub const COPY_RANGE_POINTS_MAX: usize = 512;
/// Bytes of points in one frame of a stream.
pub const COPY_FRAME_BYTES_MAX: usize = 1024 * 1024;
/// Points in one range of a reconcile pass that compares digests.
pub const CHECK_RANGE_POINTS_MAX: usize = 2_048;
/// Dirty ids that are read again and sent in one frame.
pub const DRAIN_POINTS_MAX: usize = 512;
/// Frames of one stream that wait for their acknowledgement.
pub const STREAM_WINDOW_FRAMES_MAX: usize = 4;
/// Points looked at in one step of a sweep.
pub const SWEEP_POINTS_MAX: usize = 1_024;

/// Milliseconds from the first fence to the back-out. Source: design §2, P7.
pub const FENCE_BUDGET_MS_DEFAULT: u64 = 500;
/// Transitions that wait for their turn.
pub const QUEUED_TRANSITIONS_MAX: usize = 64;
/// Ended transitions that the coordinator remembers, with their reports.
pub const HISTORY_ENTRIES_MAX: usize = 256;
/// Idempotency keys that the coordinator remembers.
pub const IDEMPOTENCY_KEYS_MAX: usize = 1_024;
/// Requests that wait for the coordinator's store; further ones are refused.
pub const PENDING_ASKS_MAX: usize = 1_024;

const _: () = assert!(COPY_FRAME_BYTES_MAX * STREAM_WINDOW_FRAMES_MAX <= 8 * 1024 * 1024);
const _: () = assert!(BATCH_POINTS_MAX <= BULK_POINTS_MAX);
