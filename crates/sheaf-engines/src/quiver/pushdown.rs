//! What of a filter Quiver can judge for us: it may show too much, never too little. All that it shows is judged again here.

use serde_json::{Value, json};

use super::wire::{EXACT_MEMBER, is_number_kept};
use crate::Filter;

/// Integers below it are floats without loss, and no rounding of a larger one comes down to them: so both compare alike.
const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;

/// The filter for Quiver; `None`: it must show everything.
pub fn pushed_down(filter: &Filter) -> Option<Value> {
    let wide = widened(filter)?;
    // Where a payload's floats may have changed, only its text says what holds.
    Some(json!({"or": [wide.to_json(), {"exists": {"field": EXACT_MEMBER}}]}))
}

/// A filter that holds wherever this one does, of parts that Quiver judges as we do; `None`: it would hold everywhere.
fn widened(filter: &Filter) -> Option<Filter> {
    match filter {
        Filter::And(parts) => {
            let known: Vec<Filter> = parts.iter().filter_map(widened).collect();
            (parts.is_empty() || !known.is_empty()).then_some(Filter::And(known))
        }
        Filter::Or(parts) => parts.iter().map(widened).collect::<Option<Vec<_>>>().map(Filter::Or),
        Filter::Not(part) => is_same(part).then(|| filter.clone()),
        leaf => is_same(leaf).then(|| leaf.clone()),
    }
}

/// Whether Quiver judges all of it as we do.
fn is_same(filter: &Filter) -> bool {
    match filter {
        Filter::And(parts) | Filter::Or(parts) => parts.iter().all(is_same),
        Filter::Not(part) => is_same(part),
        Filter::Eq { value, .. }
        | Filter::Ne { value, .. }
        | Filter::Lt { value, .. }
        | Filter::Lte { value, .. }
        | Filter::Gt { value, .. }
        | Filter::Gte { value, .. } => is_compared_alike(value),
        Filter::In { values, .. } => values.iter().all(is_compared_alike),
        Filter::Exists { .. } => true,
    }
}

/// Quiver rounds large integers when it compares them with floats, doesn't look for equal numbers inside of lists and objects,
/// and may read a float with many digits a bit wrong.
fn is_compared_alike(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => {
            is_number_kept(number)
                && number.as_f64().is_some_and(|number| number.abs() < EXACT_BELOW)
        }
        Value::Array(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wide(filter: Value) -> Option<Value> {
        widened(&Filter::from_json(&filter).unwrap()).map(|filter| filter.to_json())
    }

    #[test]
    fn what_quiver_judges_otherwise_is_left_to_us() {
        let same = json!({"eq": {"field": "a", "value": "x"}});
        let other = json!({"eq": {"field": "a", "value": 9_007_199_254_740_993_i64}});
        assert_eq!(wide(same.clone()), Some(same.clone()));
        assert_eq!(wide(other.clone()), None);
        assert_eq!(wide(json!({"and": [same, other]})), Some(json!({"and": [same]})));
        assert_eq!(wide(json!({"and": [other]})), None);
        assert_eq!(wide(json!({"or": [same, other]})), None, "the second may hold alone");
        assert_eq!(wide(json!({"not": {"and": [same, other]}})), None);
        assert_eq!(wide(json!({"not": same})), Some(json!({"not": same})));
        assert_eq!(wide(json!({"eq": {"field": "a", "value": [1]}})), None);
        assert!(wide(json!({"lt": {"field": "a", "value": 20.5}})).is_some());
        assert_eq!(wide(json!({"lt": {"field": "a", "value": 0.30000000000000004}})), None);
        assert_eq!(wide(json!({"and": []})), Some(json!({"and": []})));
    }
}
