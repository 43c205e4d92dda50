//! End-to-end tests on real processes; each module is one promise. They need the built binary, see `sheaf_tests::binary`.
//!
//! Every test starts its own cluster, is bounded, and ends what it started.

mod autoscale;
mod bad_cluster_requests;
mod bad_data_requests;
mod bad_starts;
mod catalogue_while_moving;
mod full_disks;
mod kills;
mod leaders;
mod load_while_changing;
mod odd_ids;
mod on_etcd;
mod shapes;
mod snapshots;
mod stale_routers;
mod steering;
mod store_moves;
mod two_step_join;
mod wiped_disks;
