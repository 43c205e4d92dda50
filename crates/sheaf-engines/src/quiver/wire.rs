//! Points in Quiver's JSON, to the bit and back.
//!
//! Quiver reads numbers without correcting the last bit, and reads a stored payload anew at every request. So a number of a
//! vector is written with enough digits to survive that, and a payload with a float that might not is sent together with
//! its exact text, which is what comes back.

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};
use sheaf_types::{CollectionConfig, CollectionId, PointBody, PointId, StoredPoint};

use super::documents;
use crate::{EngineError, ShownPoint};

/// The member of a payload that holds its exact text.
pub const EXACT_MEMBER: &str = "__sheaf_exact__";

/// Digits that fit into a float's 53 bits whatever they are.
const SURE_DIGITS: usize = 15;
/// Powers of ten that a float holds exactly.
const SURE_POWER: i32 = 22;

/// Bytes of the largest request: half of Quiver's default limit.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Points in one request: Quiver's default limit.
pub const REQUEST_POINTS_MAX: usize = 1_000;

/// A point as Quiver shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub id: PointId,
    /// `None`: it was not asked for, or (of a hit) the point is gone and only the index still has it.
    pub vector: Option<Vec<f32>>,
    /// Canonical JSON.
    pub payload: Option<String>,
    /// Of a hit, what Quiver's index says.
    pub score: Option<f32>,
}

impl Row {
    pub fn of(id: PointId, body: &PointBody) -> Self {
        let payload = body.payload().map(str::to_owned);
        Self { id, vector: Some(body.vector()), payload, score: None }
    }

    /// The point, when its vector is there.
    pub fn into_point(self, collection: CollectionId) -> Option<StoredPoint> {
        let body = PointBody::encode(&self.vector?, self.payload.as_deref());
        Some(StoredPoint::new(collection, self.id, body))
    }
}

#[derive(Deserialize)]
struct RowAnswer<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(default)]
    vector: Option<Vec<f32>>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
    #[serde(default)]
    score: Option<f32>,
}

#[derive(Deserialize)]
struct RowsAnswer<'a> {
    #[serde(borrow, alias = "matches")]
    points: Vec<RowAnswer<'a>>,
}

/// A point as it was read, before anybody knows what its payload means.
pub struct Read {
    pub id: PointId,
    pub vector: Option<Vec<f32>>,
    pub payload: Option<Value>,
    pub score: Option<f32>,
}

/// The points of a `fetch`, or the matches of a `query`.
///
/// # Errors
/// The answer is not of Quiver's form.
pub fn read_rows(body: &[u8]) -> Result<Vec<Row>, EngineError> {
    let answer: RowsAnswer<'_> = serde_json::from_slice(body).map_err(|error| no_quiver(&error))?;
    answer.points.into_iter().map(|answer| read(answer).map(row)).collect()
}

/// The matches of a `query`. Payloads are as Quiver writes them, equal to what was given but perhaps not the same text: they are to be
/// shown, and never to be digested.
///
/// # Errors
/// As of [`read_rows`].
pub fn read_hits(body: &[u8]) -> Result<Vec<Row>, EngineError> {
    let answer: RowsAnswer<'_> = serde_json::from_slice(body).map_err(|error| no_quiver(&error))?;
    let hit = |answer: RowAnswer<'_>| {
        // Only to be shown, so it needn't be read and written again.
        let payload = answer.payload.map(RawValue::get).filter(|text| !text.contains(EXACT_MEMBER));
        let Some(text) = payload else { return read(answer).map(row) };
        let (id, payload) = (PointId::from(answer.id.as_ref()), Some(text.to_owned()));
        Ok(Row { id, vector: answer.vector, payload, score: answer.score })
    };
    answer.points.into_iter().map(hit).collect()
}

/// The same as of [`read_rows`] of a collection with this configuration: the rows of documents have all their vectors.
///
/// # Errors
/// As of [`read_rows`]; `Damaged` for what is no document.
pub fn read_rows_of(config: &CollectionConfig, body: &[u8]) -> Result<Vec<Row>, EngineError> {
    if !config.holds_documents() {
        return read_rows(body);
    }
    let answer: RowsAnswer<'_> = serde_json::from_slice(body).map_err(|error| no_quiver(&error))?;
    answer.points.into_iter().map(|answer| read(answer).and_then(documents::row)).collect()
}

/// One point.
///
/// # Errors
/// As of [`read_rows_of`].
pub fn read_row(config: &CollectionConfig, body: &[u8]) -> Result<Row, EngineError> {
    row_of(config, read(serde_json::from_slice(body).map_err(|error| no_quiver(&error))?)?)
}

/// One point as it is shown; `None`: it has no vector, so it is none of ours.
///
/// # Errors
/// As of [`read_rows`].
pub fn read_shown(body: &[u8]) -> Result<Option<ShownPoint>, EngineError> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        vector: Option<Box<RawValue>>,
        #[serde(borrow, default)]
        payload: Option<&'a RawValue>,
    }
    let Answer { vector, payload } = serde_json::from_slice(body).map_err(|e| no_quiver(&e))?;
    let payload = read_payload(payload)?.map(payload_text);
    Ok(vector.map(|vector| ShownPoint::Json { vector, payload }))
}

/// The point that was read, in a collection with this configuration.
///
/// # Errors
/// As of [`read_rows_of`].
pub fn row_of(config: &CollectionConfig, read: Read) -> Result<Row, EngineError> {
    if config.holds_documents() { documents::row(read) } else { Ok(row(read)) }
}

fn read(answer: RowAnswer<'_>) -> Result<Read, EngineError> {
    let payload = read_payload(answer.payload)?;
    let (id, score) = (PointId::from(answer.id.as_ref()), answer.score);
    Ok(Read { id, vector: answer.vector, payload, score })
}

fn read_payload(raw: Option<&RawValue>) -> Result<Option<Value>, EngineError> {
    let payload = raw.map(|raw| serde_json::from_str(raw.get())).transpose();
    payload.map_err(|error| no_quiver(&error))
}

fn row(read: Read) -> Row {
    let Read { id, vector, payload, score } = read;
    Row { id, vector, payload: payload.map(payload_text), score }
}

/// The payload that was given to Sheaf.
fn payload_text(payload: Value) -> String {
    match payload.get(EXACT_MEMBER).and_then(Value::as_str) {
        Some(exact) => exact.to_owned(),
        None => payload.to_string(),
    }
}

/// An answer that can't be understood.
pub fn no_quiver(error: &serde_json::Error) -> EngineError {
    EngineError::Unavailable(format!(
        "the engine's answer is not one of Quiver 1.1: {error}; is there a Quiver server at --engine-url?"
    ))
}

/// The bodies of as many requests as these upserts need, in their order, with the number of points in each.
pub fn upsert_requests<'a>(
    config: &CollectionConfig,
    mut points: impl Iterator<Item = &'a StoredPoint>,
) -> Vec<(usize, Bytes)> {
    const HEAD: &str = r#"{"points":["#;
    let mut requests = Vec::new();
    let (mut count, mut text) = (0, String::from(HEAD));
    let finish = |count, mut text: String| {
        text.push_str("]}");
        (count, Bytes::from(text))
    };
    while let Some(point) = points.next() {
        let start = text.len();
        if count > 0 {
            text.push(',');
        }
        push_point(&mut text, config, point);
        if count == 0 {
            // The others are about as long: a text that grows is copied each time.
            let others = points.size_hint().0.min(REQUEST_POINTS_MAX);
            text.reserve((text.len() * others * 9 / 8).min(REQUEST_BYTES_MAX));
        }
        if count > 0 && (count == REQUEST_POINTS_MAX || text.len() > REQUEST_BYTES_MAX) {
            let next = text.split_off(start);
            requests.push(finish(count, text));
            (count, text) = (0, format!("{HEAD}{}", &next[1..]));
        }
        count += 1;
    }
    if count > 0 {
        requests.push(finish(count, text));
    }
    requests
}

/// The body of one request that deletes these.
pub fn delete_request(ids: &[PointId]) -> Bytes {
    let texts: Vec<String> = ids.iter().map(|id| Value::from(id.as_str()).to_string()).collect();
    Bytes::from(format!(r#"{{"ids":[{}]}}"#, texts.join(",")))
}

fn push_point(text: &mut String, config: &CollectionConfig, point: &StoredPoint) {
    let (dim, payload) = (config.dim as usize, stored_payload(config, point));
    text.push_str("{\"id\":");
    text.push_str(&Value::from(point.id.as_str()).to_string());
    text.push_str(",\"vector\":");
    let vector = point.body.vector();
    push_vector(text, vector.get(..dim).unwrap_or(&vector));
    if let Some(payload) = payload {
        text.push_str(",\"payload\":");
        text.push_str(&payload);
    }
    text.push('}');
}

/// The payload under which Quiver stores the point.
pub fn stored_payload<'a>(
    config: &CollectionConfig,
    point: &'a StoredPoint,
) -> Option<Cow<'a, str>> {
    if config.holds_documents() {
        return documents::held_payload(&point.body, config.dim as usize).map(Cow::Owned);
    }
    point.body.payload().map(held_payload)
}

/// Appends the numbers so that Quiver reads the very same ones.
pub fn push_vector(text: &mut String, vector: &[f32]) {
    text.push('[');
    for (n, number) in vector.iter().enumerate() {
        if n > 0 {
            text.push(',');
        }
        push_number(text, *number);
    }
    text.push(']');
}

fn push_number(text: &mut String, number: f32) {
    let start = text.len();
    text.push_str(zmij::Buffer::new().format(number));
    let magnitude = number.abs();
    // A reader rounds the decimal to a double, and that to a float. It comes out elsewhere only if the decimal is so near to the
    // middle n / 2^j of two floats (n < 2^25) that the double is that middle: nearer than 2^-54 of it. With k digits behind the point
    // they differ by 1 / (n 5^k) of it at least, where j >= k; so k >= 13, which 9 digits from 0.001 on don't have.
    if (1e-3..1e7).contains(&magnitude) || number == 0.0 {
        return;
    }
    let is_sure = (1e-9..1e15).contains(&magnitude);
    let again = text[start..].parse::<f64>().map(|read| (read as f32).to_bits());
    if !is_sure || again != Ok(number.to_bits()) {
        // All digits of its exact value as a double: an error in the last bit of that is far from the next float.
        text.truncate(start);
        // Writing to a string can't fail.
        let _ = write!(text, "{:?}", f64::from(number));
    }
}

/// The payload as Quiver shall store it.
fn held_payload(payload: &str) -> Cow<'_, str> {
    let Ok(Value::Object(mut members)) = serde_json::from_str::<Value>(payload) else {
        return Cow::Borrowed(payload);
    };
    if are_kept(&members) {
        return Cow::Borrowed(payload);
    }
    members.insert(EXACT_MEMBER.to_owned(), Value::from(payload));
    Cow::Owned(Value::Object(members).to_string())
}

/// Whether Quiver surely gives these members of a payload back as they are.
pub fn are_kept(members: &Map<String, Value>) -> bool {
    !members.contains_key(EXACT_MEMBER) && members.values().all(is_kept)
}

/// Whether Quiver surely keeps every number of the value.
fn is_kept(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => is_number_kept(number),
        Value::Array(values) => values.iter().all(is_kept),
        Value::Object(members) => members.values().all(is_kept),
    }
}

/// Whether Quiver surely reads the number as it is.
pub fn is_number_kept(number: &Number) -> bool {
    if number.is_i64() || number.is_u64() {
        return true;
    }
    let text = number.to_string();
    let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((&text, "0"));
    let fraction = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count();
    let power = power.parse::<i32>().unwrap_or(i32::MAX).saturating_sub(fraction as i32);
    digits <= SURE_DIGITS && power.abs() <= SURE_POWER
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config() -> CollectionConfig {
        serde_json::from_value(serde_json::json!({"name": "c", "dim": 1})).unwrap()
    }

    /// How a reader sees a number that only multiplies digits by a power of ten, a bit wrong at times.
    fn read_roughly(text: &str) -> f64 {
        let exact: f64 = text.parse().unwrap();
        f64::from_bits(exact.to_bits() + u64::from(exact != 0.0))
    }

    proptest! {
        #[test]
        fn a_vectors_numbers_survive_a_reader_that_is_wrong_in_the_last_bit(
            bits in prop_oneof![any::<u32>(), (1e-4_f32..10.0).prop_map(f32::to_bits)],
        ) {
            let number = f32::from_bits(bits);
            prop_assume!(number.is_finite());
            let mut text = String::new();
            push_number(&mut text, number);
            prop_assert_eq!((text.parse::<f64>().unwrap() as f32).to_bits(), bits, "{}", text);
            if text != zmij::Buffer::new().format(number) {
                prop_assert_eq!((read_roughly(&text) as f32).to_bits(), bits, "{}", text);
            }
        }
    }

    #[test]
    fn a_payload_whose_floats_might_change_takes_its_text_along() {
        for kept in [r#"{"a":1.5,"b":[0.1,-2]}"#, r#"{"i":18446744073709551615}"#, "{}"] {
            assert_eq!(held_payload(kept), kept);
        }
        for changed in
            [r#"{"a":0.30000000000000004}"#, r#"{"a":[{"b":1e300}]}"#, r#"{"__sheaf_exact__":1}"#]
        {
            let held = held_payload(changed).into_owned();
            let body = format!(r#"{{"id":"x","payload":{held}}}"#);
            let row = read_row(&config(), body.as_bytes()).unwrap();
            assert_eq!(row.payload.as_deref(), Some(changed));
            let hits = read_hits(format!(r#"{{"matches":[{body}]}}"#).as_bytes()).unwrap();
            assert_eq!(hits, [row]);
        }
    }

    #[test]
    fn requests_are_split_at_their_limits() {
        let point = |n: usize| {
            let body = PointBody::encode(&[n as f32], None);
            StoredPoint::new(CollectionId(1), PointId::from(n.to_string()), body)
        };
        let points: Vec<StoredPoint> = (0..2_500).map(point).collect();
        let requests = |points: &[StoredPoint]| upsert_requests(&config(), points.iter());
        let counts: Vec<usize> = requests(&points).iter().map(|(count, _)| *count).collect();
        assert_eq!(counts, [1_000, 1_000, 500]);
        assert!(requests(&[]).is_empty());
        let ids = |body: &Bytes| {
            let body: Value = serde_json::from_slice(body).unwrap();
            let points = body["points"].as_array().unwrap().iter();
            points.map(|point| point["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let sent: Vec<String> = requests(&points).iter().flat_map(|(_, body)| ids(body)).collect();
        assert_eq!(sent, points.iter().map(|point| point.id.to_string()).collect::<Vec<_>>());
    }
}
