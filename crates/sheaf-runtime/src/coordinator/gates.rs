//! The gates, as a port. How they are reached is decided elsewhere.

use std::future::Future;
use std::pin::Pin;

use sheaf_coordinator::{Identity, Outgoing, PollAnswer};

/// An answer, when it comes.
pub type GateReply<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The way to the gates. Every call ends within bounded time.
pub trait Gates: Send + Sync + 'static {
    /// Tells a gate what it should be doing, and waits for news.
    fn direct(&self, outgoing: Outgoing) -> GateReply<'_, PollAnswer>;

    /// Who answers at this URL.
    fn identify(&self, url: String) -> GateReply<'_, Identity>;
}
