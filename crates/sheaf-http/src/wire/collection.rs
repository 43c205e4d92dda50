//! Collections as clients see them, and answers that are a number. Decides names of fields; counts nothing.

use serde::{Deserialize, Serialize};
use sheaf_types::CollectionConfig;

/// A collection in a list, or alone.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CollectionView<'a> {
    #[serde(flatten)]
    pub config: &'a CollectionConfig,
    /// Points that whoever answers owns.
    pub count: u64,
    /// Whether the index holds every point; until then searches are exact, and slower.
    pub index_ready: bool,
}

/// `POST …/count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    pub count: u64,
}

/// `POST …/points`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upserted {
    pub upserted: u64,
}

/// `DELETE …/points`: how many of the ids there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    pub deleted: u64,
}

/// `DELETE /v1/collections/{name}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Existed {
    pub existed: bool,
}

#[cfg(test)]
mod tests {
    use sheaf_types::VectorEncryption;

    use super::*;

    fn read(encryption: &str) -> Result<VectorEncryption, String> {
        let json = format!("{{\"name\": \"c\", \"dim\": 2{encryption}}}");
        let config = serde_json::from_str::<CollectionConfig>(&json);
        config.map(|config| config.vector_encryption).map_err(|error| error.to_string())
    }

    #[test]
    fn an_encryption_is_a_word_and_no_word_is_none() {
        assert_eq!(read(""), Ok(VectorEncryption::None));
        for (word, encryption) in [
            ("\"none\"", VectorEncryption::None),
            ("\"dcpe\"", VectorEncryption::Dcpe),
            ("\"client_side\"", VectorEncryption::ClientSide),
            ("false", VectorEncryption::None),
        ] {
            assert_eq!(read(&format!(", \"vector_encryption\": {word}")), Ok(encryption));
        }
        for wrong in ["true", "\"aes\"", "1"] {
            let error = read(&format!(", \"vector_encryption\": {wrong}")).unwrap_err();
            assert!(error.contains("client_side"), "{wrong}: {error}");
        }
    }

    #[test]
    fn only_an_encryption_that_there_is_is_written() {
        let config = |vector_encryption| CollectionConfig {
            vector_encryption,
            ..serde_json::from_str("{\"name\": \"c\", \"dim\": 2}").unwrap()
        };
        let written = serde_json::to_value(config(VectorEncryption::ClientSide)).unwrap();
        assert_eq!(written["vector_encryption"], "client_side");
        let written = serde_json::to_value(config(VectorEncryption::None)).unwrap();
        assert_eq!(written.get("vector_encryption"), None);
    }
}
