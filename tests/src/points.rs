//! What the tests write: each write has a stamp of its own, and the stamp says what the point must look like.
//!
//! So a reader needs no memory to see that a vector and a payload belong together.

use serde_json::{Value, json};

/// Numbers in a vector.
pub const DIM: usize = 8;

/// The vector of the write with this stamp. Its numbers are exact in binary and in decimal.
pub fn vector(stamp: u64) -> Vec<f32> {
    let mixed = stamp.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..DIM).map(|n| f32::from((mixed >> (n * 7)) as u8) / 16.0 - 8.0).collect()
}

/// The point with this id as the write with this stamp makes it.
pub fn point(id: &str, stamp: u64) -> Value {
    json!({ "id": id, "vector": vector(stamp), "payload": { "id": id, "stamp": stamp, "even": is_even(stamp) } })
}

/// Whether searches for the even ones find it.
fn is_even(stamp: u64) -> bool {
    stamp & 1 == 0
}

/// The squared distance, as a search by `l2` scores it.
pub fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b) * f64::from(a - b)).sum()
}

/// A point as a client was shown it.
///
/// # Errors
/// It is not what any write makes: the words say how it differs.
pub fn stamp_of(shown: &Value) -> Result<(String, u64), String> {
    let id = shown
        .get("id")
        .and_then(Value::as_str)
        .ok_or_else(|| format!("a point without id: {shown}"))?;
    let payload = shown.get("payload").unwrap_or(&Value::Null);
    let stamp = payload.get("stamp").and_then(Value::as_u64);
    let stamp = stamp.ok_or_else(|| format!("{id:?} has no stamp: {shown}"))?;
    let made = point(id, stamp);
    if payload != &made["payload"] {
        return Err(format!(
            "{id:?} has the payload {payload}, but was written with {}",
            made["payload"]
        ));
    }
    // Searches leave the vectors out unless asked.
    if let Some(numbers) = shown.get("vector").and_then(Value::as_array) {
        let shown: Vec<f32> = numbers.iter().filter_map(Value::as_f64).map(|n| n as f32).collect();
        if shown != vector(stamp) {
            return Err(format!("{id:?} with stamp {stamp} has another write's vector: {shown:?}"));
        }
    }
    Ok((id.to_owned(), stamp))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_that_mixes_two_writes_is_told_apart() {
        let mut shown = point("a", 7);
        assert_eq!(stamp_of(&shown), Ok(("a".to_owned(), 7)));
        shown["vector"] = json!(vector(8));
        assert!(stamp_of(&shown).is_err());
        let mut shown = point("a", 7);
        shown["id"] = json!("b");
        assert!(stamp_of(&shown).is_err());
    }
}
