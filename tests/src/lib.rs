//! The harness of the end-to-end tests: a cluster of real processes, clients that see what any client sees, and a record
//! that judges them.
//!
//! Knows Sheaf by its command line and its HTTP surfaces only, never by its crates' insides. Each test is in `cluster/`.

pub mod ask;
pub mod binary;
pub mod certificates;
pub mod cli;
pub mod cluster;
mod contended;
pub mod etcd;
pub mod load;
pub mod models;
pub mod node;
pub mod operate;
pub mod patience;
pub mod points;
pub mod port;
pub mod postgres;
pub mod proxy;
pub mod python;
pub mod quiver;
pub mod record;
pub mod router;
pub mod story;

pub use ask::{Answer, Client, Gone};
pub use certificates::Certificates;
pub use cluster::{Cluster, Shape};
pub use etcd::Etcd;
pub use load::{Load, Tally, Workload};
pub use models::{Mischief, ModelServer};
pub use node::{Node, Role};
pub use operate::{Ended, Operator};
pub use patience::{eventually, pause_ms};
pub use postgres::Postgres;
pub use proxy::Proxy;
pub use quiver::QuiverServer;
pub use record::{Broken, Fate, Record};
pub use router::Router;
pub use story::{under_load, under_load_on};
