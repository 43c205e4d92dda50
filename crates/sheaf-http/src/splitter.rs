//! Finds the points of an upsert body, `{"points": [{"id": …, …}, …]}`, without parsing their numbers.
//!
//! Decides where each point begins and ends and what its id is. Never judges a vector or a payload: the gate parses every
//! byte that it stores. Each point's bytes are handed on as they came, so what isn't JSON here isn't JSON there.

use std::borrow::Cow;
use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};
use memchr::{memchr, memchr2, memchr3};
use serde::Deserialize;
use serde_json::value::RawValue;

/// One point of an upsert body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawPoint<'a> {
    pub id: Cow<'a, str>,
    /// Where the point's object is in the body.
    pub range: Range<usize>,
    /// What is between the brackets of its `vector`, if that is a flat list.
    pub vector: Option<&'a [u8]>,
}

impl RawPoint<'_> {
    /// How many numbers its vector has, if that is a list of numbers at all.
    pub fn dim(&self) -> Option<usize> {
        let vector = self.vector?;
        let is_empty = vector.iter().all(u8::is_ascii_whitespace);
        let commas = vector.iter().filter(|&&byte| byte == b',').count();
        Some(if is_empty { 0 } else { commas + 1 })
    }

    /// Whether its vector is written with no other digit than 0.
    pub fn is_zero(&self) -> bool {
        let blank = |byte: &u8| matches!(byte, b'0' | b'.' | b',' | b'-' | b'e' | b'E' | b'+');
        let blank = |byte: &u8| blank(byte) || byte.is_ascii_whitespace();
        self.vector.is_some_and(|vector| vector.iter().all(blank))
    }
}

/// Why a body's points can't be told apart. Nothing was applied.
#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    #[error(
        "the body is not an upsert, {{\"points\": [{{\"id\", \"vector\", \"payload\"?}}, …]}}: {0}"
    )]
    Malformed(#[from] serde_json::Error),
    #[error("the request has more than {limit} points; send them in several requests")]
    TooMany { limit: usize },
}

/// The points of an upsert body, in order; at most `limit`.
///
/// # Errors
/// The body is no upsert, or has too many points.
pub fn split(body: &[u8], limit: usize) -> Result<Vec<RawPoint<'_>>, SplitError> {
    let points = match split_plain(body, limit) {
        Some(points) => points,
        None => split_any(body)?,
    };
    if points.len() > limit {
        return Err(SplitError::TooMany { limit });
    }
    Ok(points)
}

/// An upsert body of these parts of `body`, in this order, copied as they are.
pub fn join(body: &[u8], parts: impl Iterator<Item = Range<usize>> + Clone) -> Bytes {
    const HEAD: &[u8] = b"{\"points\":[";
    let length: usize = parts.clone().map(|part| part.len() + 1).sum();
    let mut joined = BytesMut::with_capacity(HEAD.len() + length + 2);
    joined.put_slice(HEAD);
    for (at, part) in parts.enumerate() {
        if at > 0 {
            joined.put_u8(b',');
        }
        joined.put_slice(&body[part]);
    }
    joined.put_slice(b"]}");
    joined.freeze()
}

/// Like [`split`], for any body that serde_json takes. Parses everything.
fn split_any(body: &[u8]) -> Result<Vec<RawPoint<'_>>, serde_json::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Upsert<'a> {
        #[serde(borrow)]
        points: Vec<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Point<'a> {
        #[serde(borrow)]
        id: Text<'a>,
        #[serde(borrow, default)]
        vector: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    let upsert: Upsert = serde_json::from_slice(body)?;
    let start = body.as_ptr() as usize;
    let mut points = Vec::with_capacity(upsert.points.len());
    for raw in upsert.points {
        let text = raw.get();
        let from = text.as_ptr() as usize - start;
        let point: Point = serde_json::from_str(text)?;
        let vector = point.vector.and_then(|raw| flat(raw.get().as_bytes()));
        points.push(RawPoint { id: point.id.0, range: from..from + text.len(), vector });
    }
    Ok(points)
}

/// What is between the brackets of the list of numbers that `text` begins with.
fn flat(text: &[u8]) -> Option<&[u8]> {
    let list = text.strip_prefix(b"[")?;
    let list = &list[..memchr(b']', list)?];
    memchr3(b'[', b'{', b'"', list).is_none().then_some(list)
}

/// The points of a body that looks as nearly all do; `None`: it looks otherwise, ask serde_json.
///
/// Jumps from quote to brace to quote. In a body that is JSON, braces outside of strings nest, and a string
/// before a colon is a key; in one that is not, some point's bytes aren't JSON either, and its gate says so.
fn split_plain(body: &[u8], limit: usize) -> Option<Vec<RawPoint<'_>>> {
    let mut cursor = Cursor { body, at: 0 };
    cursor.pass(b'{')?;
    cursor.space();
    if !cursor.rest().starts_with(b"\"points\"") {
        return None;
    }
    cursor.at += b"\"points\"".len();
    cursor.pass(b':')?;
    cursor.pass(b'[')?;
    let mut points = Vec::new();
    if cursor.peek()? == b']' {
        cursor.at += 1;
    } else {
        loop {
            // One more than allowed is enough to refuse the body, so the rest needn't be looked at.
            if points.len() > limit {
                return Some(points);
            }
            points.push(cursor.point()?);
            match cursor.next()? {
                b',' => {}
                b']' => break,
                _ => return None,
            }
        }
    }
    cursor.pass(b'}')?;
    cursor.space();
    cursor.rest().is_empty().then_some(points)
}

struct Cursor<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a [u8] {
        self.body.get(self.at..).unwrap_or_default()
    }

    /// Skips what JSON calls white space.
    fn space(&mut self) {
        let rest = self.rest();
        let spaces = rest.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r')).count();
        self.at += spaces;
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        self.space();
        self.rest().first().copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn pass(&mut self, wanted: u8) -> Option<()> {
        (self.next()? == wanted).then_some(())
    }

    /// The string whose opening quote was just passed: what is between its quotes, and whether there are escapes.
    fn string(&mut self) -> Option<(&'a [u8], bool)> {
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += memchr2(b'"', b'\\', self.rest())? + 1;
            if self.body[self.at - 1] == b'"' {
                return Some((&self.body[start..self.at - 1], escaped));
            }
            escaped = true;
            self.at += 1; // Whatever is escaped doesn't end the string.
        }
    }

    /// The next object, which must have exactly one key `id`, written plainly, with a string; and one `vector` at most.
    fn point(&mut self) -> Option<RawPoint<'a>> {
        self.pass(b'{')?;
        let start = self.at - 1;
        let mut depth = 1;
        let mut id = None;
        let mut vector = None;
        while depth > 0 {
            self.at += memchr3(b'"', b'{', b'}', self.rest())? + 1;
            match self.body[self.at - 1] {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {
                    let (text, escaped) = self.string()?;
                    if depth > 1 || self.peek()? != b':' {
                        continue;
                    }
                    if escaped {
                        return None; // A key that might be `id` in disguise.
                    }
                    if text == b"id" {
                        self.at += 1;
                        if id.replace(self.id()?).is_some() {
                            return None;
                        }
                    } else if text == b"vector" {
                        self.at += 1;
                        if vector.replace(self.vector()).is_some() {
                            return None;
                        }
                    }
                }
            }
        }
        Some(RawPoint { id: id?, range: start..self.at, vector: vector.flatten() })
    }

    /// Passes the next value if it is a flat list.
    fn vector(&mut self) -> Option<&'a [u8]> {
        self.space();
        let list = flat(self.rest())?;
        self.at += list.len() + 2;
        Some(list)
    }

    fn id(&mut self) -> Option<Cow<'a, str>> {
        self.pass(b'"')?;
        let start = self.at - 1;
        let (text, escaped) = self.string()?;
        if escaped {
            return serde_json::from_slice(&self.body[start..self.at]).ok().map(Cow::Owned);
        }
        if text.iter().any(|byte| *byte < b' ') {
            return None;
        }
        std::str::from_utf8(text).ok().map(Cow::Borrowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn ids(body: &str) -> Option<Vec<String>> {
        let points = split(body.as_bytes(), 1_000).ok()?;
        Some(points.into_iter().map(|point| point.id.into_owned()).collect())
    }

    fn is_plain(body: &str) -> bool {
        split_plain(body.as_bytes(), 1_000).is_some()
    }

    #[test]
    fn the_usual_body_is_split_without_serde_json() {
        let body = " {\"points\" : [ {\"id\":\"a\",\"vector\":[1,-2.5e-3],\"payload\":{\"id\":\"x\",\"t\":[\"id\"]}} ,\n{\"vector\":[],\"id\":\"\"}]}\r\n";
        assert!(is_plain(body));
        assert_eq!(ids(body).unwrap(), ["a", ""]);
        let points = split(body.as_bytes(), 2).unwrap();
        assert_eq!(&body[points[1].range.clone()], "{\"vector\":[],\"id\":\"\"}");
        assert!(is_plain("{\"points\":[]}"));
        assert_eq!(ids("{\"points\":[]}").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn the_numbers_of_a_vector_are_counted_but_not_read() {
        let body = r#"{"points":[{"id":"a","vector":[1,-2.5e-3]},{"id":"b","vector": [ ]},{"vector":[0, -0.0e+0,0],"id":"c"},
            {"id":"d","vector":[[1,2]]},{"id":"e"},{"id":"f","vector":null,"payload":{"vector":[1]}},{"id":"g","vector":["]"]}]}"#;
        assert!(is_plain(body));
        let points = split(body.as_bytes(), 9).unwrap();
        let dims: Vec<_> = points.iter().map(RawPoint::dim).collect();
        assert_eq!(dims, [Some(2), Some(0), Some(3), None, None, None, None]);
        let zero: Vec<_> = points.iter().map(RawPoint::is_zero).collect();
        assert_eq!(zero, [false, true, true, false, false, false, false]);
        assert!(!is_plain(r#"{"points":[{"id":"a","vector":[1],"vector":[2]}]}"#));
    }

    #[test]
    fn ids_with_escapes_braces_quotes_and_any_script_are_read_as_serde_json_reads_them() {
        for id in ["a\"b", "{", "}", "\\", "\"id\":", "\u{0}", "ä/b#c?d", "😀", "]},{\"id\":\"x\"}"]
        {
            let body = json!({ "points": [{ "id": id, "payload": { "k": id } }] }).to_string();
            assert!(is_plain(&body), "{body}");
            assert_eq!(ids(&body).unwrap(), [id]);
        }
        assert_eq!(ids(r#"{"points":[{"id":"\ud83d\ude00\u00e4"}]}"#).unwrap(), ["😀ä"]);
        assert_eq!(ids(r#"{"points":[{"id":"\ud83d"}]}"#), None, "half a surrogate pair");
    }

    #[test]
    fn unusual_bodies_are_left_to_serde_json_and_taken_where_it_takes_them() {
        for (body, wanted) in [
            (r#"{"points":[{"\u0069d":"a"}]}"#, Some("a")),
            (r#"{"\u0070oints":[{"id":"a"}]}"#, Some("a")),
            (r#"{"points":[{"id":"a","id":"b"}]}"#, None),
            (r#"{"points":[{"id":7}]}"#, None),
            (r#"{"points":[{"id":null}]}"#, None),
            (r#"{"points":[{}]}"#, None),
            (r#"{"points":[[]]}"#, None),
            (r#"{"points":{}}"#, None),
            (r#"{"points":[{"id":"a"}],"more":1}"#, None),
            (r#"{"points":[{"id":"a"}]} x"#, None),
            (r#"{"points":[{"id":"a"},]}"#, None),
            (r#"{"points":[{"id":"a"}"#, None),
            (r#"{"points":[{"id":"a"#, None),
            ("{\"points\":[{\"id\":\"a\nb\"}]}", None),
            ("", None),
        ] {
            assert!(!is_plain(body), "{body}");
            assert_eq!(ids(body), wanted.map(|id| vec![id.to_owned()]), "{body}");
        }
        assert!(split(b"{\"points\":[{\"id\":\"\xff\"}]}", 9).is_err());
    }

    #[test]
    fn more_points_than_allowed_are_refused_and_no_fewer() {
        let body = json!({ "points": [{ "id": "a" }, { "id": "b" }, { "id": "c" }] }).to_string();
        assert_eq!(split(body.as_bytes(), 3).unwrap().len(), 3);
        for limit in 0..3 {
            let error = split(body.as_bytes(), limit).unwrap_err();
            assert!(matches!(error, SplitError::TooMany { .. }), "{error}");
        }
    }

    #[test]
    fn what_is_joined_is_an_upsert_of_those_points() {
        let body =
            br#"{"points":[{"id":"a","vector":[1]}, {"id":"b"} ,{"id":"c","payload":null}]}"#;
        let points = split(body, 9).unwrap();
        let chosen = [2, 0].map(|at: usize| points[at].range.clone());
        let joined = join(body, chosen.into_iter());
        assert_eq!(joined, r#"{"points":[{"id":"c","payload":null},{"id":"a","vector":[1]}]}"#);
        assert_eq!(join(body, std::iter::empty()), r#"{"points":[]}"#);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_filter("JSON", |n| n.is_finite()).prop_map(Value::from),
            text().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(text(), inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["id|points|vector|payload", "[a-z\\\\\"{}\\[\\],:\n é😀]{0,8}"]
    }

    fn upsert() -> impl Strategy<Value = Value> {
        let numbers =
            prop::collection::vec(any::<f32>().prop_filter("JSON", |n| n.is_finite()), 0..4);
        let vector = prop_oneof![value(), numbers.prop_map(Value::from)];
        let point = (prop::option::weighted(0.95, text()), vector, value(), text(), value());
        let point = point.prop_map(|(id, vector, payload, key, more)| {
            let mut point = json!({ "vector": vector, "payload": payload, key: more });
            if let Some(id) = id {
                point["id"] = id.into();
            }
            point
        });
        prop::collection::vec(point, 0..6).prop_map(|points| json!({ "points": points }))
    }

    /// A cut, a change, a copy or a removal of some bytes.
    fn mutate(mut body: Vec<u8>, mutations: &[(prop::sample::Index, u8, u8)]) -> Vec<u8> {
        const BYTES: &[u8] = b"\"\\{}[],: id\xff\x00\n0";
        for (index, kind, byte) in mutations {
            if body.is_empty() {
                break;
            }
            let at = index.index(body.len());
            let byte = BYTES[usize::from(*byte) % BYTES.len()];
            match kind % 5 {
                0 => body[at] = byte,
                1 => body.insert(at, byte),
                2 => drop(body.remove(at)),
                3 => body.truncate(at),
                _ => {
                    let end = (at + usize::from(byte)).min(body.len());
                    let copy = body[at..end].to_vec();
                    body.splice(at..at, copy);
                }
            }
        }
        body
    }

    /// Whatever the plain way takes, serde_json takes in the same way; or it takes it not at all, and then it
    /// doesn't take one of the points either.
    fn assert_agrees_with_serde_json(body: &[u8]) -> Result<(), TestCaseError> {
        let Some(plain) = split_plain(body, 1_000) else { return Ok(()) };
        match split_any(body) {
            Ok(points) => prop_assert_eq!(plain, points),
            Err(error) => {
                let bad = |point: &RawPoint| {
                    serde_json::from_slice::<&RawValue>(&body[point.range.clone()]).is_err()
                };
                prop_assert!(plain.iter().any(bad), "only split_any refused it: {error}");
            }
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

        #[test]
        fn a_valid_body_is_split_as_serde_json_splits_it(upsert in upsert(), pretty in any::<bool>()) {
            let body = if pretty { serde_json::to_vec_pretty(&upsert) } else { serde_json::to_vec(&upsert) };
            let body = body.unwrap();
            assert_agrees_with_serde_json(&body)?;
            if let Ok(points) = split(&body, 1_000) {
                let joined = join(&body, points.iter().map(|point| point.range.clone()));
                prop_assert_eq!(serde_json::from_slice::<Value>(&joined).unwrap(), upsert);
            }
        }

        #[test]
        fn a_broken_body_is_never_split_otherwise_than_serde_json_splits_it(
            upsert in upsert(),
            mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<u8>()), 1..5)
        ) {
            let body = mutate(serde_json::to_vec(&upsert).unwrap(), &mutations);
            assert_agrees_with_serde_json(&body)?;
        }

        #[test]
        fn bytes_at_random_are_never_a_panic(body in prop::collection::vec(any::<u8>(), 0..80)) {
            assert_agrees_with_serde_json(&body)?;
        }
    }
}
