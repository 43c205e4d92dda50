//! What an engine of this crate takes: collections it can hold, points and questions that can be right.
//!
//! The same rules for every engine, so that moving a point to another one never changes the verdict.

use sheaf_types::limits::{
    DIM_MAX, DOCUMENT_NUMBERS_MAX, K_MAX, PAYLOAD_BYTES_MAX, POINT_ID_BYTES_MAX,
};
use sheaf_types::{
    CollectionConfig, CollectionId, IndexKind, Metric, PointHash, StoredPoint, VectorEncryption,
};

use crate::score::norm;
use crate::{EngineError, Search, Write};

/// Checks that the embedded engine, or one like it, can hold the collection.
///
/// # Errors
/// `Invalid` for a dimension out of bounds, `Unsupported` for features that need another engine.
pub fn collection(config: &CollectionConfig) -> Result<(), EngineError> {
    collection_of("the embedded engine", config)
}

/// Checks what no engine could make sense of.
///
/// # Errors
/// `Invalid`, with the reason.
pub fn makes_sense(config: &CollectionConfig) -> Result<(), EngineError> {
    let (name, dim) = (&config.name, config.dim);
    let wrong = if dim == 0 || dim > DIM_MAX {
        format!("the dimension {dim} is out of bounds: 1 to {DIM_MAX}")
    } else if config.holds_documents() && config.metric == Metric::L2 {
        format!(
            "the collection {name:?} holds documents, which are ranked by similarity; choose the metric cosine or dot"
        )
    } else if config.index == IndexKind::Colbert && !config.holds_documents() {
        format!(
            "the index `colbert` of the collection {name:?} is for documents; add `multivector`, or choose another index"
        )
    } else {
        return encryption(config);
    };
    Err(EngineError::Invalid(wrong))
}

/// Whether every engine of Sheaf can hold the collection.
pub fn is_held_everywhere(config: &CollectionConfig) -> bool {
    collection_of("any engine", config).is_ok()
}

/// Checks that an engine with an HNSW index and exact search can hold the collection; `engine` is its name in the refusal.
///
/// # Errors
/// As for [`collection`].
pub fn collection_of(engine: &str, config: &CollectionConfig) -> Result<(), EngineError> {
    makes_sense(config)?;
    let missing = match config.index {
        // The second is of documents, which are compared without an index.
        IndexKind::Hnsw | IndexKind::Colbert => None,
        IndexKind::Vamana | IndexKind::DiskVamana | IndexKind::Ivf => {
            Some("its only index is `hnsw`; leave `index` out or say `hnsw`")
        }
    };
    let missing = missing
        .or(config.pq_subspaces.map(|_| "it doesn't compress vectors; leave `pq_subspaces` out"))
        .or(is_set(config.binary, "it doesn't compress vectors; leave `binary` out"));
    match missing {
        None => Ok(()),
        Some(reason) => Err(EngineError::Unsupported(format!(
            "{engine} can't hold the collection {:?}: {reason}",
            config.name
        ))),
    }
}

/// Checks that what clients encrypt their vectors with leaves sense in the rest of the configuration. The same for every engine:
/// encrypted vectors are stored as any others.
///
/// # Errors
/// `Invalid`, with the reason.
pub fn encryption(config: &CollectionConfig) -> Result<(), EngineError> {
    let wrong = match config.vector_encryption {
        VectorEncryption::Dcpe if config.metric != Metric::L2 => {
            "vectors under `dcpe` keep the order of their distances under the metric `l2` only"
        }
        VectorEncryption::ClientSide if config.multivector == Some(true) => {
            "documents of several vectors can't be encrypted by clients; leave `multivector` or `vector_encryption` out"
        }
        VectorEncryption::None | VectorEncryption::Dcpe | VectorEncryption::ClientSide => {
            return Ok(());
        }
    };
    Err(EngineError::Invalid(format!("the collection {:?} can't be: {wrong}", config.name)))
}

/// Whether the vectors of the collection can be compared by who stores them.
pub fn is_ranked(config: &CollectionConfig) -> bool {
    config.vector_encryption != VectorEncryption::ClientSide
}

fn is_set(flag: Option<bool>, reason: &'static str) -> Option<&'static str> {
    flag.filter(|set| *set).map(|_| reason)
}

/// Checks all writes of a batch; the first wrong one decides.
///
/// # Errors
/// `Invalid`, naming the id and what is wrong with it.
pub fn writes(
    collection: CollectionId,
    config: &CollectionConfig,
    writes: &[Write],
) -> Result<(), EngineError> {
    for write in writes {
        match write {
            Write::Upsert(stored) => point(collection, config, stored)?,
            Write::Delete(_) => {}
        }
    }
    Ok(())
}

fn point(
    collection: CollectionId,
    config: &CollectionConfig,
    point: &StoredPoint,
) -> Result<(), EngineError> {
    let wrong = |what: String| {
        Err(EngineError::Invalid(format!("the point {}: {what}", quoted(&point.id))))
    };
    if point.id.as_str().len() > POINT_ID_BYTES_MAX {
        return wrong(format!("its id has more than {POINT_ID_BYTES_MAX} bytes"));
    }
    if let Err(what) = fits(config, point.body.dim()) {
        return wrong(what);
    }
    if point.body.payload().is_some_and(|payload| payload.len() > PAYLOAD_BYTES_MAX) {
        return wrong(format!("its payload has more than {PAYLOAD_BYTES_MAX} bytes"));
    }
    let numbers = point.body.vector();
    for one in numbers.chunks(config.dim.max(1) as usize) {
        if let Err(what) = vector(config, one) {
            return wrong(format!("its {what}"));
        }
    }
    if point.hash != PointHash::of(collection, &point.id, point.body.as_bytes()) {
        return wrong(
            "its hash doesn't fit its body; it was damaged on its way, send it again".into(),
        );
    }
    Ok(())
}

/// Whether a body with so many numbers can be one of this collection.
///
/// # Errors
/// What is wrong with it.
pub fn fits(config: &CollectionConfig, numbers: usize) -> Result<(), String> {
    let dim = config.dim.max(1) as usize;
    match config.holds_documents() {
        false if numbers != dim => {
            Err(format!("its vector has {numbers} numbers, the collection takes {dim}"))
        }
        true if numbers == 0 => Err("it has no vector; a document needs at least one".to_owned()),
        true if !numbers.is_multiple_of(dim) => {
            Err(format!("its vectors have {numbers} numbers, the collection takes {dim} for each"))
        }
        true if numbers > DOCUMENT_NUMBERS_MAX => Err(format!(
            "its vectors have {numbers} numbers, the limit is {DOCUMENT_NUMBERS_MAX} for one document"
        )),
        _ => Ok(()),
    }
}

/// The id for an error message: shortened, so that a message stays readable.
fn quoted(id: &sheaf_types::PointId) -> String {
    let start: String = id.as_str().chars().take(64).collect();
    let more = if start.len() < id.as_str().len() { "…" } else { "" };
    format!("{start:?}{more}")
}

fn vector(config: &CollectionConfig, vector: &[f32]) -> Result<(), &'static str> {
    if vector.iter().any(|number| !number.is_finite()) {
        return Err("vector holds a number that is not finite");
    }
    if config.metric == Metric::Cosine && is_ranked(config) {
        let length = norm(vector);
        if length == 0.0 {
            return Err("vector has no length, so it has no cosine similarity");
        }
        if !length.is_finite() {
            return Err("vector is too long for a cosine similarity; scale it down");
        }
    }
    Ok(())
}

/// Checks the question of a search.
///
/// # Errors
/// `Invalid`, saying what is wrong.
pub fn search(config: &CollectionConfig, search: &Search) -> Result<(), EngineError> {
    let invalid = |what: String| Err(EngineError::Invalid(what));
    if config.holds_documents() {
        return invalid("the collection holds documents; ask for them by /documents/query".into());
    }
    if search.vector.len() != config.dim as usize {
        let (has, wants) = (search.vector.len(), config.dim);
        return invalid(format!("the vector has {has} numbers, the collection takes {wants}"));
    }
    if !is_ranked(config) {
        return invalid(
            "the collection's vectors are encrypted by its clients, so they can't be compared here; fetch points, and compare what you \
             decrypt"
                .to_owned(),
        );
    }
    if let Err(what) = vector(config, &search.vector) {
        return invalid(format!("the {what}"));
    }
    if search.k > K_MAX {
        return invalid(format!("k is {}, the limit is {K_MAX}", search.k));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::Bodies;
    use sheaf_types::{PointBody, PointId};

    use super::*;

    fn config() -> CollectionConfig {
        serde_json::from_value(serde_json::json!({"name": "c", "dim": 2, "metric": "cosine"}))
            .unwrap()
    }

    fn upsert(vector: &[f32]) -> Write {
        let body = PointBody::encode(vector, None);
        Write::Upsert(StoredPoint::new(CollectionId(1), PointId::from("p"), body))
    }

    #[test]
    fn what_the_engine_cannot_hold_is_refused_with_the_reason() {
        assert_eq!(collection(&config()), Ok(()));
        let refuse = |config: CollectionConfig| match collection(&config) {
            Err(EngineError::Unsupported(reason)) => reason,
            other => panic!("{other:?}"),
        };
        for index in [IndexKind::Vamana, IndexKind::DiskVamana, IndexKind::Ivf] {
            refuse(CollectionConfig { index, ..config() });
        }
        let colbert = CollectionConfig { index: IndexKind::Colbert, ..config() };
        assert!(matches!(collection(&colbert), Err(EngineError::Invalid(_))));
        assert!(
            refuse(CollectionConfig { pq_subspaces: Some(8), ..config() }).contains("pq_subspaces")
        );
        assert!(refuse(CollectionConfig { binary: Some(true), ..config() }).contains("binary"));
        let documents = CollectionConfig { multivector: Some(true), ..config() };
        assert_eq!(collection(&documents), Ok(()));
        assert_eq!(
            collection(&CollectionConfig { index: IndexKind::Colbert, ..documents.clone() }),
            Ok(())
        );
        let by_distance = CollectionConfig { metric: Metric::L2, ..documents.clone() };
        assert!(matches!(collection(&by_distance), Err(EngineError::Invalid(_))));
        assert!(is_held_everywhere(&documents));
        let harmless =
            CollectionConfig { binary: Some(false), multivector: Some(false), ..config() };
        assert_eq!(collection(&harmless), Ok(()));
        for dim in [0, DIM_MAX + 1] {
            let config = CollectionConfig { dim, ..config() };
            assert!(matches!(collection(&config), Err(EngineError::Invalid(_))), "{dim}");
        }
    }

    #[test]
    fn a_document_has_whole_vectors_each_with_a_direction_and_not_too_many() {
        let config = CollectionConfig { multivector: Some(true), ..config() };
        let check = |numbers: &[f32]| writes(CollectionId(1), &config, &[upsert(numbers)]);
        assert_eq!(check(&[1.0, 0.0]), Ok(()));
        assert_eq!(check(&[1.0, 0.0, 0.0, 1.0]), Ok(()));
        let long = vec![1.0; DOCUMENT_NUMBERS_MAX + 2];
        for wrong in [&[][..], &[1.0], &[1.0, 0.0, 1.0], &[1.0, 0.0, 0.0, 0.0], &long] {
            assert!(matches!(check(wrong), Err(EngineError::Invalid(_))), "{}", wrong.len());
        }
        assert_eq!(check(&long[2..]), Ok(()));
    }

    #[test]
    fn a_batch_is_refused_for_any_wrong_vector() {
        let check = |vector: &[f32]| writes(CollectionId(1), &config(), &[upsert(vector)]);
        assert_eq!(check(&[1.0, 0.0]), Ok(()));
        for wrong in
            [&[1.0][..], &[1.0, 2.0, 3.0], &[f32::NAN, 1.0], &[f32::INFINITY, 1.0], &[0.0, 0.0]]
        {
            assert!(matches!(check(wrong), Err(EngineError::Invalid(_))), "{wrong:?}");
        }
        assert!(matches!(check(&[f32::MAX, f32::MAX]), Err(EngineError::Invalid(_))));
    }

    #[test]
    fn what_clients_encrypt_is_stored_as_it_comes_and_searched_only_where_that_makes_sense() {
        let sealed = |metric| CollectionConfig {
            vector_encryption: VectorEncryption::ClientSide,
            metric,
            ..config()
        };
        let question = Search {
            vector: vec![1.0, 0.0],
            k: 1,
            ef: 1,
            accept: crate::Accept::All,
            filter: None,
            vector_json: None,
            bodies: Bodies::None,
        };
        for metric in [Metric::L2, Metric::Cosine, Metric::Dot] {
            assert_eq!(collection(&sealed(metric)), Ok(()));
            // In the place of a sealed vector there are zeros, which have no cosine similarity.
            assert_eq!(writes(CollectionId(1), &sealed(metric), &[upsert(&[0.0, 0.0])]), Ok(()));
            assert!(matches!(
                search(&sealed(metric), &question),
                Err(EngineError::Invalid(what)) if what.contains("decrypt")
            ));
        }
        let dcpe = |metric| CollectionConfig {
            vector_encryption: VectorEncryption::Dcpe,
            metric,
            ..config()
        };
        assert_eq!(collection(&dcpe(Metric::L2)), Ok(()));
        assert_eq!(search(&dcpe(Metric::L2), &question), Ok(()));
        assert!(matches!(collection(&dcpe(Metric::Cosine)), Err(EngineError::Invalid(_))));
        let both = CollectionConfig { multivector: Some(true), ..sealed(Metric::Dot) };
        assert!(matches!(collection(&both), Err(EngineError::Invalid(_))));
    }

    #[test]
    fn a_point_whose_hash_does_not_fit_is_refused() {
        let Write::Upsert(mut point) = upsert(&[1.0, 2.0]) else { unreachable!() };
        point.hash.0 ^= 1;
        let verdict = writes(CollectionId(1), &config(), &[Write::Upsert(point)]);
        assert!(matches!(verdict, Err(EngineError::Invalid(what)) if what.contains("hash")));
    }
}
