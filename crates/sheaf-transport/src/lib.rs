//! The one HTTP client of Sheaf: a port with a single method, and its production form on hyper.
//!
//! Decides which failures prove that a request never left. It knows no path, no JSON and no status code, and never
//! repeats a request that may have left.

pub mod aborting;
pub mod hyper;
pub mod port;
#[cfg(feature = "tls")]
pub mod tls;

pub use self::hyper::{HttpOptions, HyperTransport};
pub use port::{Body, Limits, Reply, Transport, TransportError, call_whole};
