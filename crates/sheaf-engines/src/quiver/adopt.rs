//! Collections that a Quiver server had before Sheaf: which there are, and how one becomes a collection of the catalogue, in place.
//!
//! Decides what may be taken over; changes no point. A collection that is taken over keeps its name in the server, and its entry says so.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use sheaf_types::{CollectionConfig, CollectionId};

use super::catalogue::{self, CATALOGUE, Entry, Shown};
use super::{Held, Inner};
use crate::{Adoptable, EngineError};

/// How the names begin that Sheaf gives.
const OWN: &str = "sheaf-c";

impl Inner {
    /// Notes what may be taken over. Once Sheaf has made a collection of its own here, nothing is: what is there besides came later.
    ///
    /// # Errors
    /// The server doesn't say.
    pub async fn find_adoptable(&self) -> Result<(), EngineError> {
        let is_own = |held: &Arc<Held>| held.name().starts_with(OWN);
        if !self.options.adopts || self.all().values().any(is_own) {
            return Ok(());
        }
        let shown = self.shown().await?;
        let is_known = |name: &str| self.all().values().any(|held| held.name() == name);
        let found: BTreeMap<String, Adoptable> = shown
            .into_iter()
            .filter(|shown| shown.name != CATALOGUE && !shown.name.starts_with(OWN))
            .filter(|shown| !is_known(&shown.name))
            .map(|shown| (shown.name.clone(), adoptable(shown)))
            .collect();
        *self.adoptable.lock().unwrap_or_else(PoisonError::into_inner) = found;
        Ok(())
    }

    pub fn is_adoptable(&self, name: &str) -> bool {
        self.adoptable.lock().unwrap_or_else(PoisonError::into_inner).contains_key(name)
    }

    /// Takes over the collection of this name; `None`: there is none, so a new one is made.
    ///
    /// # Errors
    /// It is there with another configuration, or the outcome isn't known: trying again settles that.
    pub async fn adopt(
        &self,
        id: CollectionId,
        config: &Arc<CollectionConfig>,
    ) -> Result<Option<Held>, EngineError> {
        let name = &config.name;
        let found = {
            let adoptable = self.adoptable.lock().unwrap_or_else(PoisonError::into_inner);
            adoptable.get(name).cloned()
        };
        let Some(found) = found else { return Ok(None) };
        // Quiver doesn't tell whether a collection is quantised to bits.
        let comparable = CollectionConfig { binary: None, ..CollectionConfig::clone(config) };
        if let Some(obstacle) = found.obstacle {
            return Err(EngineError::Unsupported(obstacle));
        }
        if comparable != *found.config {
            return Err(EngineError::Invalid(format!(
                "the Quiver server at {} has the collection {name:?} with another configuration than the catalogue; nothing was changed",
                self.server.url()
            )));
        }
        let entry = Entry { id, quiver: name.clone(), config: Arc::clone(config), dropping: false };
        self.remember(&entry).await?;
        let held = Held::new(entry, found.points, false);
        let points = self.points_of(&held).await.unwrap_or(found.points);
        held.points.store(points, std::sync::atomic::Ordering::Relaxed);
        self.adoptable.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
        Ok(Some(held))
    }
}

/// A collection as the server shows it, in the catalogue's words.
fn adoptable(shown: Shown) -> Adoptable {
    let Shown { name, dim, metric, index, count, pq_subspaces, filterable, .. } = shown;
    let config = CollectionConfig {
        name,
        dim,
        metric,
        index,
        pq_subspaces,
        binary: None,
        filterable,
        multivector: shown.multivector.then_some(true),
        vector_encryption: shown.vector_encryption,
    };
    let of_documents = config.holds_documents().then(|| {
        "it holds documents in Quiver's own form, which its REST API can't list; drop it there, and write the documents anew through a \
         router of Sheaf"
            .to_owned()
    });
    let obstacle =
        of_documents.or_else(|| catalogue::check(&config).err().map(|error| error.to_string()));
    Adoptable { config: Arc::new(config), points: count, obstacle }
}
