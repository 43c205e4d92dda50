//! A point as it is stored and moved: an id and one opaque body.
//!
//! The body is `[dim: u32 LE][vector: dim × f32 LE][payload: canonical JSON, or nothing]`; a document's vectors follow each other as
//! one long one. Cores, streams and
//! digests treat it as bytes, so what arrives at a recipient is byte-equal to what the donor holds.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{CollectionId, PointHash, PointId};

/// A point as an engine returns it whole.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoredPoint {
    pub id: PointId,
    pub hash: PointHash,
    pub body: PointBody,
}

impl StoredPoint {
    /// The point with its hash calculated from the body.
    pub fn new(collection: CollectionId, id: PointId, body: PointBody) -> Self {
        let hash = PointHash::of(collection, &id, body.as_bytes());
        Self { id, hash, body }
    }
}

/// The encoded vector and payload of a point.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PointBody(Bytes);

/// Why bytes are not a point's body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("a point's body of {bytes} bytes is too short for its vector")]
    Truncated { bytes: usize },
    #[error("a point's payload is not UTF-8")]
    NotText,
}

impl PointBody {
    /// Encodes a vector and its payload; `payload` is canonical JSON (keys sorted), `None` when absent.
    pub fn encode(vector: &[f32], payload: Option<&str>) -> Self {
        let numbers_end = 4 + vector.len() * 4;
        let mut bytes = Vec::with_capacity(numbers_end + payload.map_or(0, str::len));
        bytes.extend_from_slice(&(vector.len() as u32).to_le_bytes());
        bytes.resize(numbers_end, 0);
        let (places, _) = bytes[4..].as_chunks_mut::<4>();
        for (place, value) in places.iter_mut().zip(vector) {
            *place = value.to_le_bytes();
        }
        bytes.extend_from_slice(payload.unwrap_or_default().as_bytes());
        Self(Bytes::from(bytes))
    }

    /// Checks received bytes.
    ///
    /// # Errors
    /// The bytes are too short for the vector that they announce, or the payload isn't UTF-8.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, BodyError> {
        let too_short = BodyError::Truncated { bytes: bytes.len() };
        let dim = bytes.first_chunk::<4>().ok_or(too_short.clone())?;
        let vector_bytes = u32::from_le_bytes(*dim) as usize * 4;
        let payload = bytes.get(4 + vector_bytes..).ok_or(too_short)?;
        std::str::from_utf8(payload).map_err(|_| BodyError::NotText)?;
        Ok(Self(bytes))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    pub fn dim(&self) -> usize {
        self.0.first_chunk::<4>().map_or(0, |dim| u32::from_le_bytes(*dim) as usize)
    }

    /// The vector's bytes, four for each number, little-endian.
    pub fn vector_bytes(&self) -> &[u8] {
        self.0.get(4..4 + self.dim() * 4).unwrap_or_default()
    }

    pub fn vector(&self) -> Vec<f32> {
        let (numbers, _) = self.vector_bytes().as_chunks::<4>();
        numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    }

    /// The payload as JSON text, `None` when absent.
    pub fn payload(&self) -> Option<&str> {
        let bytes = self.0.get(4 + self.dim() * 4..).unwrap_or_default();
        if bytes.is_empty() { None } else { std::str::from_utf8(bytes).ok() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_keeps_every_bit_of_the_vector_and_the_payload() {
        let vector = [0.1f32, -0.0, f32::MIN_POSITIVE, 1.0e38];
        let body = PointBody::encode(&vector, Some("{\"a\":1}"));
        let again = PointBody::from_bytes(body.clone().into_bytes()).unwrap();
        assert_eq!(again.vector().map_bits(), vector.to_vec().map_bits());
        assert_eq!(again.payload(), Some("{\"a\":1}"));
        assert_eq!(PointBody::encode(&vector, None).payload(), None);
    }

    trait Bits {
        fn map_bits(&self) -> Vec<u32>;
    }
    impl Bits for Vec<f32> {
        fn map_bits(&self) -> Vec<u32> {
            self.iter().map(|v| v.to_bits()).collect()
        }
    }

    #[test]
    fn a_body_that_is_cut_short_is_refused() {
        let bytes = PointBody::encode(&[1.0, 2.0], None).into_bytes();
        for length in 0..bytes.len() {
            assert!(PointBody::from_bytes(bytes.slice(..length)).is_err(), "{length} bytes");
        }
        assert!(PointBody::from_bytes(Bytes::from_static(&[0xff; 4])).is_err());
    }
}
