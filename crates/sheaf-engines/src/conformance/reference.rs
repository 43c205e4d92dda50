//! A second evaluator of filters, written from what the API says and not from the first; and drawn payloads and filters.

use serde_json::{Map, Number, Value, json};

use super::sample::Numbers;
use crate::Filter;

/// Fields that drawn payloads may have, and filters ask for.
const FIELDS: [&str; 6] = ["a", "b", "c", "d.x", "d.y.z", "none"];

/// Whether the filter holds for the payload.
pub fn holds(filter: &Filter, payload: &Value) -> bool {
    match filter {
        Filter::And(parts) => !parts.iter().any(|part| !holds(part, payload)),
        Filter::Or(parts) => parts.iter().any(|part| holds(part, payload)),
        Filter::Not(part) => !holds(part, payload),
        Filter::Exists { field } => value(payload, field).is_some(),
        Filter::Eq { field, value: wanted } => is_equal(value(payload, field), wanted),
        Filter::Ne { field, value: wanted } => !is_equal(value(payload, field), wanted),
        Filter::In { field, values } => {
            values.iter().any(|wanted| is_equal(value(payload, field), wanted))
        }
        Filter::Lt { field, value: bound } => is_less(value(payload, field), Some(bound)),
        Filter::Gt { field, value: bound } => is_less(Some(bound), value(payload, field)),
        Filter::Lte { field, value: bound } => {
            let found = value(payload, field);
            is_less(found, Some(bound)) || is_orderable(bound) && is_equal(found, bound)
        }
        Filter::Gte { field, value: bound } => {
            let found = value(payload, field);
            is_less(Some(bound), found) || is_orderable(bound) && is_equal(found, bound)
        }
    }
}

fn value<'a>(payload: &'a Value, field: &str) -> Option<&'a Value> {
    match field.split_once('.') {
        Some((first, rest)) => value(payload.as_object()?.get(first)?, rest),
        None => payload.as_object()?.get(field),
    }
}

/// Only numbers and texts have an order.
fn is_orderable(value: &Value) -> bool {
    value.is_number() || value.is_string()
}

fn is_less(low: Option<&Value>, high: Option<&Value>) -> bool {
    match (low, high) {
        (Some(Value::Number(low)), Some(Value::Number(high))) => decimal(low) < decimal(high),
        (Some(Value::String(low)), Some(Value::String(high))) => low.as_bytes() < high.as_bytes(),
        _ => false,
    }
}

fn is_equal(found: Option<&Value>, wanted: &Value) -> bool {
    match (found, wanted) {
        (Some(Value::Number(found)), Value::Number(wanted)) => decimal(found) == decimal(wanted),
        (Some(Value::Array(found)), Value::Array(wanted)) => {
            let mut pairs = found.iter().zip(wanted);
            found.len() == wanted.len()
                && pairs.all(|(found, wanted)| is_equal(Some(found), wanted))
        }
        (Some(Value::Object(found)), Value::Object(wanted)) => {
            let has = |(name, wanted): (&String, &Value)| is_equal(found.get(name), wanted);
            found.len() == wanted.len() && wanted.iter().all(has)
        }
        (Some(found), wanted) => found == wanted,
        (None, _) => false,
    }
}

/// A number as its whole part and what is behind the point, so that nothing is rounded: 64-bit integers, and floats of a size that
/// drawn ones have.
fn decimal(number: &Number) -> (i128, u64) {
    if let Some(whole) = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from)) {
        return (whole, 0);
    }
    let float = number.as_f64().unwrap_or_default();
    let whole = float.floor();
    // Of a drawn float, all that is behind the point fits into 60 bits.
    (whole as i128, ((float - whole) * (1u64 << 60) as f64) as u64)
}

fn scalar(numbers: &mut Numbers) -> Value {
    match numbers.below(12) {
        0 => Value::Null,
        1 => json!(numbers.below(2) == 0),
        2 | 3 => json!(numbers.below(6)),
        4 => json!(numbers.below(6) as f64),
        5 => json!(numbers.below(12) as f64 / 2.0 - 3.0),
        6 => json!(-(numbers.below(4) as i64)),
        7 => json!(9_007_199_254_740_992_u64 + numbers.below(3)),
        8 => json!(u64::MAX - numbers.below(2)),
        9 => json!(0.1 + 0.1 * numbers.below(3) as f64),
        _ => json!(["", "a", "b", "aa", "é", "A"][numbers.below(6) as usize]),
    }
}

fn any_value(numbers: &mut Numbers) -> Value {
    match numbers.below(10) {
        0 => json!([scalar(numbers), scalar(numbers)]),
        1 => json!({ "x": scalar(numbers) }),
        _ => scalar(numbers),
    }
}

/// A payload; `None` at times.
pub fn payload(numbers: &mut Numbers) -> Option<Value> {
    if numbers.below(12) == 0 {
        return None;
    }
    let mut object = Map::new();
    for field in ["a", "b", "c"] {
        if numbers.below(3) > 0 {
            object.insert(field.to_owned(), any_value(numbers));
        }
    }
    match numbers.below(4) {
        0 => {}
        1 => drop(object.insert("d".to_owned(), scalar(numbers))),
        _ => {
            let inner = json!({ "x": scalar(numbers), "y": { "z": scalar(numbers) } });
            object.insert("d".to_owned(), inner);
        }
    }
    Some(Value::Object(object))
}

/// A filter of a few conditions.
pub fn filter(numbers: &mut Numbers, depth: u32) -> Filter {
    let field = FIELDS[numbers.below(FIELDS.len() as u64) as usize].to_owned();
    let parts = |numbers: &mut Numbers| {
        let count = numbers.below(3);
        (0..count).map(|_| filter(numbers, depth - 1)).collect::<Vec<_>>()
    };
    match numbers.below(if depth > 0 { 12 } else { 8 }) {
        0 => Filter::Eq { field, value: any_value(numbers) },
        1 => Filter::Ne { field, value: any_value(numbers) },
        2 => Filter::Lt { field, value: scalar(numbers) },
        3 => Filter::Lte { field, value: scalar(numbers) },
        4 => Filter::Gt { field, value: scalar(numbers) },
        5 => Filter::Gte { field, value: scalar(numbers) },
        6 => Filter::Exists { field },
        7 => {
            let count = numbers.below(4);
            Filter::In { field, values: (0..count).map(|_| any_value(numbers)).collect() }
        }
        8 | 9 => Filter::And(parts(numbers)),
        10 => Filter::Or(parts(numbers)),
        _ => Filter::Not(Box::new(filter(numbers, depth - 1))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn both_evaluators_agree(seed: u64) {
            let mut numbers = Numbers(seed);
            let payload = payload(&mut numbers).unwrap_or(Value::Null);
            let filter = filter(&mut numbers, 3);
            prop_assert_eq!(filter.holds(&payload), holds(&filter, &payload), "{:?} of {}", filter, payload);
            let again = Filter::from_json(&filter.to_json()).unwrap();
            prop_assert_eq!(again.holds(&payload), filter.holds(&payload), "through JSON: {:?}", filter);
        }
    }
}
