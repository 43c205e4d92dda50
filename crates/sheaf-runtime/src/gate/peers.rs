//! Whom a gate talks to, as a port: other gates and the coordinators. How is decided elsewhere.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use sheaf_gate::FrameAnswer;
use sheaf_map::Map;
use sheaf_protocol::Frame;
use sheaf_types::MapVersion;

/// An answer, when it comes.
pub type Reply<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The way to other processes. Every call ends within bounded time.
pub trait Peers: Send + Sync + 'static {
    /// Has the gate at `url` carry out a frame.
    fn send_frame(&self, url: String, frame: Frame) -> Reply<'_, FrameAnswer>;

    /// A map of at least this version from any coordinator; `None`: none has it now, or none can be reached.
    fn fetch_map(&self, at_least: MapVersion) -> Reply<'_, Option<Arc<Map>>>;
}
