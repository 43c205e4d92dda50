//! The record in etcd: the store of a control plane that outlives one machine.
//!
//! Decides how a record is laid out in keys, and how a write of unknown outcome becomes known (docs/adr/0004). Uses no more of
//! etcd than its simulated twin has: transactions that compare values, and reads.

mod address;
mod election;
mod head;
mod members;
mod state;
mod store;

pub use address::{AddressError, EtcdAddress};
pub use election::EtcdElection;
pub use head::{PAGE_BYTES_MAX, RECORD_BYTES_MAX};
pub use members::{EtcdAccess, EtcdTls};
pub use store::{EtcdOptions, EtcdStore};
