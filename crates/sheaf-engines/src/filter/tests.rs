//! Filters mean what the public API says, and the same as a naive second implementation.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn holds(filter: Value, payload: Value) -> bool {
    Filter::from_json(&filter).unwrap().holds(&payload)
}

#[test]
fn operators_mean_what_the_api_says() {
    let payload =
        json!({"n": 3, "x": 2.5, "s": "b", "deep": {"er": true}, "nil": null, "list": [1, "a"]});
    let cases = [
        (json!({"eq": {"field": "n", "value": 3.0}}), true),
        (json!({"eq": {"field": "n", "value": "3"}}), false),
        (json!({"ne": {"field": "n", "value": 4}}), true),
        (json!({"ne": {"field": "absent", "value": 4}}), true),
        (json!({"eq": {"field": "absent", "value": null}}), false),
        (json!({"eq": {"field": "nil", "value": null}}), true),
        (json!({"lt": {"field": "x", "value": 3}}), true),
        (json!({"lte": {"field": "n", "value": 3.0}}), true),
        (json!({"gt": {"field": "n", "value": 3}}), false),
        (json!({"gte": {"field": "n", "value": 2.999}}), true),
        (json!({"lt": {"field": "s", "value": "c"}}), true),
        (json!({"gt": {"field": "s", "value": 1}}), false),
        (json!({"lt": {"field": "deep.er", "value": true}}), false),
        (json!({"eq": {"field": "deep.er", "value": true}}), true),
        (json!({"eq": {"field": "list", "value": [1.0, "a"]}}), true),
        (json!({"in": {"field": "s", "values": ["a", "b"]}}), true),
        (json!({"in": {"field": "s", "values": []}}), false),
        (json!({"exists": {"field": "nil"}}), true),
        (json!({"exists": {"field": "deep.er.x"}}), false),
        (json!({"exists": {"field": "list.0"}}), false),
        (json!({"and": []}), true),
        (json!({"or": []}), false),
        (json!({"not": {"or": [{"exists": {"field": "zz"}}]}}), true),
    ];
    for (filter, expected) in cases {
        assert_eq!(holds(filter.clone(), payload.clone()), expected, "{filter}");
    }
}

#[test]
fn integers_beyond_what_a_float_holds_are_told_apart() {
    let big = (1u64 << 53) + 1;
    let filter = |value: Value| json!({"eq": {"field": "n", "value": value}});
    assert!(!holds(filter(json!(big)), json!({"n": big - 1})));
    assert!(!holds(filter(json!((1u64 << 53) as f64)), json!({"n": big})));
    assert!(holds(json!({"lt": {"field": "n", "value": u64::MAX}}), json!({"n": i64::MIN})));
    assert!(holds(json!({"lt": {"field": "n", "value": 1e300}}), json!({"n": u64::MAX})));
    assert!(holds(json!({"gt": {"field": "n", "value": -2.5}}), json!({"n": -2})));
    assert!(holds(json!({"lt": {"field": "n", "value": -2.5}}), json!({"n": -3})));
}

#[test]
fn a_payload_that_is_absent_has_no_fields() {
    let filter = Filter::from_json(&json!({"ne": {"field": "a", "value": 1}})).unwrap();
    assert!(filter.holds_for_text(None));
    assert!(!filter.holds_for_text(Some(r#"{"a":1}"#)));
    assert!(!Filter::Exists { field: String::new() }.holds_for_text(None));
}

#[test]
fn what_is_not_a_filter_is_refused_with_the_reason() {
    let mut deep = json!({"exists": {"field": "a"}});
    for _ in 0..40 {
        deep = json!({"not": deep});
    }
    let wide = json!({"or": vec![json!({"exists": {"field": "a"}}); 2_000]});
    let cases = [
        (json!(null), "not an object"),
        (json!({}), "exactly one operator"),
        (json!({"and": [], "or": []}), "exactly one operator"),
        (json!({"like": {"field": "a", "value": 1}}), "unknown operator"),
        (json!({"and": {}}), "not an array"),
        (json!({"eq": {"field": "a"}}), "`field` and `value`"),
        (json!({"eq": {"field": "a", "value": 1, "more": 1}}), "nothing else"),
        (json!({"eq": {"field": 1, "value": 1}}), "not a string"),
        (json!({"in": {"field": "a", "values": 1}}), "not an array"),
        (json!({"in": {"field": "a", "values": vec![1; 5_000]}}), "more than 1024 values"),
        (deep, "nested more than 32"),
        (wide, "more than 1024 operators"),
    ];
    for (filter, reason) in cases {
        let error = Filter::from_json(&filter).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3i64..4).prop_map(Value::from),
        (-6i32..7).prop_map(|half| json!(f64::from(half) / 2.0)),
        "[ab]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[ab]", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_filter() -> impl Strategy<Value = Filter> {
    let field = || "[ab](\\.[ab])?";
    let leaf = prop_oneof![
        (field(), any_value()).prop_map(|(field, value)| Filter::Eq { field, value }),
        (field(), any_value()).prop_map(|(field, value)| Filter::Ne { field, value }),
        (field(), any_value()).prop_map(|(field, value)| Filter::Lt { field, value }),
        (field(), any_value()).prop_map(|(field, value)| Filter::Lte { field, value }),
        (field(), any_value()).prop_map(|(field, value)| Filter::Gt { field, value }),
        (field(), any_value()).prop_map(|(field, value)| Filter::Gte { field, value }),
        (field(), prop::collection::vec(any_value(), 0..3))
            .prop_map(|(field, values)| Filter::In { field, values }),
        field().prop_map(|field| Filter::Exists { field }),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Filter::And),
            prop::collection::vec(inner.clone(), 0..3).prop_map(Filter::Or),
            inner.prop_map(|part| Filter::Not(Box::new(part))),
        ]
    })
}

/// A second implementation over the JSON form: numbers as floats (small ones only are drawn).
fn naive(filter: &Value, payload: &Value) -> bool {
    let (operator, operand) = filter.as_object().unwrap().iter().next().unwrap();
    let parts = || operand.as_array().unwrap().iter();
    let found = || {
        let pointer = format!("/{}", operand["field"].as_str().unwrap().replace('.', "/"));
        let inside_array = pointer
            .rmatch_indices('/')
            .any(|(at, _)| at > 0 && payload.pointer(&pointer[..at]).is_some_and(Value::is_array));
        if inside_array { None } else { payload.pointer(&pointer) }
    };
    let same = |a: &Value, b: &Value| as_floats(a) == as_floats(b);
    let order = || match (found()?, &operand["value"]) {
        (Value::Number(a), Value::Number(b)) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    };
    match operator.as_str() {
        "and" => !parts().any(|part| !naive(part, payload)),
        "or" => parts().any(|part| naive(part, payload)),
        "not" => !naive(operand, payload),
        "eq" => found().is_some_and(|value| same(value, &operand["value"])),
        "ne" => !found().is_some_and(|value| same(value, &operand["value"])),
        "lt" => order().is_some_and(|order| order.is_lt()),
        "lte" => order().is_some_and(|order| order.is_le()),
        "gt" => order().is_some_and(|order| order.is_gt()),
        "gte" => order().is_some_and(|order| order.is_ge()),
        "in" => operand["values"]
            .as_array()
            .unwrap()
            .iter()
            .any(|value| found().is_some_and(|found| same(found, value))),
        _ => found().is_some(),
    }
}

fn as_floats(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64().unwrap() + 0.0),
        Value::Array(items) => items.iter().map(as_floats).collect(),
        Value::Object(map) => {
            Value::Object(map.iter().map(|(name, item)| (name.clone(), as_floats(item))).collect())
        }
        other => other.clone(),
    }
}

proptest! {
    #[test]
    fn a_filter_agrees_with_the_naive_reference(filter in any_filter(), payload in any_value()) {
        prop_assert_eq!(filter.holds(&payload), naive(&filter.to_json(), &payload));
    }

    #[test]
    fn a_filter_survives_its_json_form(filter in any_filter()) {
        prop_assert_eq!(Filter::from_json(&filter.to_json()), Ok(filter));
    }

    #[test]
    fn reading_a_filter_never_panics(value in any_value()) {
        let _ = Filter::from_json(&value);
    }
}
