//! What a point's JSON means, and that nothing of it is lost.

use proptest::prelude::*;

use super::*;

fn one(point: &str) -> Result<(PointId, PointBody), Problem> {
    let body = format!("{{\"points\":[{point}]}}");
    read_upsert(body.as_bytes(), 10).map(|mut points| points.remove(0))
}

fn payload(text: &str) -> Option<String> {
    let (_, body) = one(&format!("{{\"id\":\"a\",\"vector\":[1],\"payload\":{text}}}")).unwrap();
    body.payload().map(str::to_owned)
}

#[test]
fn payloads_that_mean_the_same_have_the_same_bytes() {
    let canonical = payload(r#"{"b": [1, 2.5, {"z":null,"y":"é"}], "a": {}}"#);
    assert_eq!(canonical.as_deref(), Some(r#"{"a":{},"b":[1,2.5,{"y":"é","z":null}]}"#));
    assert_eq!(payload("{ \"a\" :{},\"b\":[1,2.5,{\"y\":\"\\u00e9\",\"z\":null}]}"), canonical);
    assert_eq!(payload(canonical.as_deref().unwrap()), canonical, "canonical is canonical");
    assert_eq!(payload("{}").as_deref(), Some("{}"));
}

#[test]
fn a_payload_of_null_is_none() {
    assert_eq!(payload("null"), None);
    let (id, body) = one(r#"{"id":"","vector":[]}"#).unwrap();
    assert_eq!((id.as_str(), body.payload(), body.dim()), ("", None, 0));
}

#[test]
fn integers_keep_every_digit() {
    let text = format!("{{\"least\":{},\"most\":{}}}", i64::MIN, u64::MAX);
    assert_eq!(payload(&text), Some(text));
}

#[test]
fn what_is_not_a_point_is_refused_with_a_sentence() {
    let wrong = [
        r#"{"vector":[1]}"#,
        r#"{"id":1,"vector":[1]}"#,
        r#"{"id":"a"}"#,
        r#"{"id":"a","vector":[1e39]}"#,
        r#"{"id":"a","vector":["1"]}"#,
        r#"{"id":"a","vector":[null]}"#,
        r#"{"id":"a","vector":[1],"payload":[1]}"#,
        r#"{"id":"a","vector":[1],"payload":7}"#,
        r#"{"id":"a","vector":[1],"text":"lost"}"#,
        r#"{"id":"a","id":"b","vector":[1]}"#,
        "7",
    ];
    for point in wrong {
        let read = one(point);
        // Out of range for an f32, but a number: the engine refuses what isn't finite.
        if let Ok((_, body)) = &read {
            assert!(body.vector().iter().any(|number| !number.is_finite()), "{point}");
        }
    }
    let deep = format!("{}1{}", "{\"a\":".repeat(2_000), "}".repeat(2_000));
    assert!(one(&format!(r#"{{"id":"a","vector":[1],"payload":{deep}}}"#)).is_err());
    assert!(read_upsert(b"", 10).is_err() && read_upsert(b"{}", 10).is_err());
    assert_eq!(read_upsert(b"{\"points\":[]}", 10).unwrap(), []);
}

#[test]
fn limits_hold_to_the_byte() {
    let id = |bytes: usize| one(&format!("{{\"id\":\"{}\",\"vector\":[1]}}", "i".repeat(bytes)));
    assert!(id(POINT_ID_BYTES_MAX).is_ok() && id(POINT_ID_BYTES_MAX + 1).is_err());
    let payload = |bytes: usize| {
        let text = "x".repeat(bytes - r#"{"a":""}"#.len());
        one(&format!(r#"{{"id":"a","vector":[1],"payload": {{ "a": "{text}" }} }}"#))
    };
    assert!(payload(PAYLOAD_BYTES_MAX).is_ok() && payload(PAYLOAD_BYTES_MAX + 1).is_err());
    let points = |count: usize| {
        let points = vec![r#"{"id":"a","vector":[1]}"#; count].join(",");
        read_upsert(format!("{{\"points\":[{points}]}}").as_bytes(), 3)
    };
    assert!(points(3).is_ok() && points(4).is_err());
}

#[test]
fn an_answer_shows_what_was_asked_for() {
    let (id, body) = one(r#"{"id":"a\"b","vector":[0.1],"payload":{"k":1}}"#).unwrap();
    let bare = PointBody::encode(&[0.1], None);
    let write = |score, body, payload, vector| {
        let mut to = Vec::new();
        write_point(&mut to, &id, score, Some(body), Shown { payload, vector }).unwrap();
        String::from_utf8(to).unwrap()
    };
    assert_eq!(write(None, &body, true, true), r#"{"id":"a\"b","vector":[0.1],"payload":{"k":1}}"#);
    assert_eq!(write(Some(0.5), &body, false, false), r#"{"id":"a\"b","score":0.5}"#);
    assert_eq!(write(None, &bare, true, false), r#"{"id":"a\"b","payload":null}"#);
    let far = write(Some(f32::INFINITY), &bare, false, false);
    let far: serde_json::Value = serde_json::from_str(&far).unwrap();
    assert!(far["score"].as_f64().is_some_and(|score| score > 3.4e38));
}

proptest! {
    #[test]
    fn a_vector_survives_the_way_through_json_bit_for_bit(
        vector in prop::collection::vec(any::<f32>().prop_filter("finite", |n| n.is_finite()), 1..9)
    ) {
        let mut json = Vec::new();
        let body = PointBody::encode(&vector, None);
        let id = PointId::from("a");
        write_point(&mut json, &id, None, Some(&body), Shown::ALL).unwrap();
        let (_, again) = one(std::str::from_utf8(&json).unwrap()).unwrap();
        prop_assert_eq!(again.as_bytes(), body.as_bytes());
    }
}
