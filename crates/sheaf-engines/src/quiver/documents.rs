//! A document as one point of Quiver's: the first of its vectors is the point's, the others go with the payload.
//!
//! Decides that form, and none other: Quiver's own documents are written row by row, can't be read by their ids, and can't be listed
//! whole. Every bit of a number is kept, and so is the payload's text, whether it is there, empty, or has members of these names.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};
use sheaf_types::PointBody;

use super::wire::{self, EXACT_MEMBER, Read, Row};
use crate::EngineError;

/// The member of a document's payload that has its other vectors: their float32 bits, little-endian, in base64.
pub const VECTORS_MEMBER: &str = "__sheaf_vectors__";

/// The payload of the point that stands for a document.
pub fn held_payload(body: &PointBody, dim: usize) -> Option<String> {
    let others = body.vector_bytes().get(dim * 4..).unwrap_or_default();
    let mut members = Map::new();
    if let Some(text) = body.payload() {
        match serde_json::from_str::<Value>(text) {
            Ok(Value::Object(own)) if is_kept_open(&own) => members = own,
            _ => drop(members.insert(EXACT_MEMBER.to_owned(), Value::from(text))),
        }
    }
    if !others.is_empty() {
        members.insert(VECTORS_MEMBER.to_owned(), Value::from(STANDARD.encode(others)));
    }
    (!members.is_empty()).then(|| Value::Object(members).to_string())
}

/// Whether the payload's own members come back as they are, and as its own.
fn is_kept_open(own: &Map<String, Value>) -> bool {
    !own.is_empty() && !own.contains_key(VECTORS_MEMBER) && wire::are_kept(own)
}

/// The document that a point stands for, as a row with all its vectors.
///
/// # Errors
/// Its other vectors can't be read: somebody else wrote there.
pub fn row(read: Read) -> Result<Row, EngineError> {
    let Read { id, vector, payload, score } = read;
    let mut members = match payload {
        Some(Value::Object(members)) => members,
        Some(_) | None => Map::new(),
    };
    let others = members.remove(VECTORS_MEMBER);
    let payload = match members.remove(EXACT_MEMBER) {
        Some(Value::String(exact)) => Some(exact),
        Some(_) | None => (!members.is_empty()).then(|| Value::Object(members).to_string()),
    };
    let mut vector = vector;
    if let (Some(numbers), Some(others)) = (&mut vector, others) {
        let bytes = others.as_str().and_then(|text| STANDARD.decode(text).ok());
        let bytes = bytes.filter(|bytes| bytes.len().is_multiple_of(4)).ok_or_else(|| {
            EngineError::Damaged(format!(
                "the vectors of the document {id} in Quiver can't be read: somebody else wrote to its point; write the document anew"
            ))
        })?;
        let others = bytes.chunks_exact(4).map(|n| f32::from_le_bytes([n[0], n[1], n[2], n[3]]));
        numbers.extend(others);
    }
    Ok(Row { id, vector, payload, score })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sheaf_types::PointId;

    use super::*;

    fn come_back(numbers: &[f32], payload: Option<&str>) {
        let body = PointBody::encode(numbers, payload);
        let held = held_payload(&body, 2).map(|held| serde_json::from_str(&held).unwrap());
        let (id, vector) = (PointId::from("d"), Some(numbers[..2].to_vec()));
        let row = row(Read { id, vector, payload: held, score: None }).unwrap();
        let again = PointBody::encode(&row.vector.unwrap(), row.payload.as_deref());
        assert_eq!(again, body, "{payload:?}");
    }

    proptest! {
        #[test]
        fn vectors_come_back_to_the_bit(bits in prop::collection::vec(any::<u32>(), 1..20)) {
            let numbers: Vec<f32> = bits.iter().flat_map(|bits| [f32::from_bits(*bits); 2]).collect();
            come_back(&numbers, Some(r#"{"a":1}"#));
        }
    }

    #[test]
    fn a_payload_comes_back_whatever_its_members_are_called() {
        for payload in [
            None,
            Some("{}"),
            Some(r#"{"a":{"b":[1,0.5,null]}}"#),
            Some(r#"{"a":0.30000000000000004}"#),
            Some(r#"{"__sheaf_vectors__":"AAAA"}"#),
            Some(r#"{"__sheaf_exact__":"{}"}"#),
            Some(r#"{"__sheaf_exact__":1,"__sheaf_vectors__":2}"#),
            Some("7"),
        ] {
            come_back(&[1.0, -0.0], payload);
            come_back(&[1.0, -0.0, 0.0, 1e-45, 2.0, 3.0], payload);
        }
    }

    #[test]
    fn a_point_that_is_no_document_is_told_apart() {
        for others in [Value::from("?"), Value::from(1), Value::from("AAA=")] {
            let payload = Some(serde_json::json!({ VECTORS_MEMBER: others }));
            let (id, vector) = (PointId::from("d"), Some(vec![1.0]));
            let read = row(Read { id, vector, payload, score: None });
            assert!(matches!(read, Err(EngineError::Damaged(_))), "{read:?}");
        }
    }
}
