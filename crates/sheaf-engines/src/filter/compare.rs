//! How two JSON values compare: numbers exactly, across integers and floats.

use std::cmp::Ordering;

use serde_json::{Number, Value};

/// Whether both are the same value; 1 and 1.0 are.
pub fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => order_numbers(a, b) == Some(Ordering::Equal),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let same = |(name, a): (&String, &Value)| b.get(name).is_some_and(|b| equal(a, b));
            a.len() == b.len() && a.iter().all(same)
        }
        (a, b) => a == b,
    }
}

/// The order of two numbers or two texts (by their bytes); other values have none.
pub fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => order_numbers(a, b),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_),
            _,
        ) => None,
    }
}

/// A float can't hold every 64-bit integer, so nothing is rounded here.
fn order_numbers(a: &Number, b: &Number) -> Option<Ordering> {
    match (integer(a), integer(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        (Some(a), None) => Some(order_mixed(a, b.as_f64()?)),
        (None, Some(b)) => Some(order_mixed(b, a.as_f64()?).reverse()),
        (None, None) => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

fn integer(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

fn order_mixed(integer: i128, float: f64) -> Ordering {
    // The cast saturates, far beyond what 64 bits hold.
    let whole = float.trunc() as i128;
    let fraction = float - float.trunc();
    integer.cmp(&whole).then(0.0f64.total_cmp(&(fraction + 0.0)))
}
