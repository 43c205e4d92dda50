//! The catalogue as this shard's map has it, with this shard's counts.

use axum::response::Response;
use sheaf_map::Collection;
use sheaf_protocol::Refusal;
use sheaf_runtime::gate::{Go, NotServed, Operation};
use sheaf_types::MapVersion;

use super::{Api, Asked, answer_json, refusal};
use crate::auth::Role;
use crate::problem::Problem;
use crate::wire::collection::CollectionView;

impl Api {
    /// Collections that are dropped meanwhile are left out.
    pub(super) async fn list_collections(&self, asked: &Asked) -> Result<Response, Problem> {
        let map = self.host.map().ok_or_else(not_serving)?;
        let mut counted = Vec::new();
        for collection in map.collections() {
            if !asked.caller.may(Role::Read, collection.name()) {
                continue;
            }
            match self.counted(asked, collection).await {
                Ok((_, count)) => counted.push(view(collection, count)),
                Err(NotServed::Refused(Refusal::NoCollection { .. })) => {}
                Err(not_served) => return Err(refusal::problem(not_served)),
            }
        }
        answer_json(map.version(), &counted)
    }

    pub(super) async fn show_collection(
        &self,
        asked: &Asked,
        name: &str,
    ) -> Result<Response, Problem> {
        let map = self.host.map().ok_or_else(not_serving)?;
        let Some(collection) = map.collection(name) else {
            let version = map.version();
            return Err(refusal::problem(NotServed::Refused(Refusal::NoCollection { version })));
        };
        let (version, count) = self.counted(asked, collection).await.map_err(refusal::problem)?;
        answer_json(version, &view(collection, count))
    }

    async fn counted(
        &self,
        asked: &Asked,
        collection: &Collection,
    ) -> Result<(MapVersion, u64), NotServed> {
        let request = asked.request(collection.name(), Operation::Gather);
        let work = |go: Go| async move { go.engine.count(go.collection, go.accept, None).await };
        let served = self.host.serve(request, work).await?;
        Ok((served.version, served.value))
    }
}

fn not_serving() -> Problem {
    refusal::problem(NotServed::Refused(Refusal::NotServing))
}

/// The index is always ready: points that it doesn't hold yet are searched one by one.
fn view(collection: &Collection, count: u64) -> CollectionView<'_> {
    CollectionView { config: &collection.config, count, index_ready: true }
}
