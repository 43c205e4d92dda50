//! How much a gate does at once, and holds. Production has the defaults; a simulation draws smaller ones, so that full queues and ranges of
//! one point are ordinary.

use serde::{Deserialize, Serialize};
use sheaf_types::buggify::Buggify;
use sheaf_types::limits;

/// The bounds of one gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests that wait for a fence or a map.
    pub held_requests_max: usize,
    /// Bytes of the ids that are dirty for one recipient; beyond it all of them are compared again.
    pub dirty_bytes_max: usize,
    /// Points of a range that is sent whole.
    pub copy_range_points_max: usize,
    /// Points of a range that is compared.
    pub check_range_points_max: usize,
    /// Dirty ids in one frame.
    pub drain_points_max: usize,
    /// Frames of a stream that aren't answered; at most [`limits::STREAM_WINDOW_FRAMES_MAX`].
    pub window_frames_max: usize,
    /// Points looked at in one step of a sweep.
    pub sweep_points_max: usize,
    /// Rare turns, in a simulation.
    #[serde(skip)]
    pub buggify: Buggify,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            held_requests_max: limits::HELD_REQUESTS_MAX,
            dirty_bytes_max: limits::DIRTY_BYTES_MAX,
            copy_range_points_max: limits::COPY_RANGE_POINTS_MAX,
            check_range_points_max: limits::CHECK_RANGE_POINTS_MAX,
            drain_points_max: limits::DRAIN_POINTS_MAX,
            window_frames_max: limits::STREAM_WINDOW_FRAMES_MAX,
            sweep_points_max: limits::SWEEP_POINTS_MAX,
            buggify: Buggify::default(),
        }
    }
}
