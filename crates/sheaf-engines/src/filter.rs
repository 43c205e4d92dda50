//! Filters over payloads: plain data, and what they mean.
//!
//! Decides whether a payload fulfils a condition; engines decide which payloads to look at.

mod compare;
mod json;

use serde_json::Value;

pub use json::FilterError;

/// A condition on a payload. Paths are dotted (`a.b.c`).
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Not(Box<Filter>),
    Eq {
        field: String,
        value: Value,
    },
    /// Holds for an absent field too.
    Ne {
        field: String,
        value: Value,
    },
    Lt {
        field: String,
        value: Value,
    },
    Lte {
        field: String,
        value: Value,
    },
    Gt {
        field: String,
        value: Value,
    },
    Gte {
        field: String,
        value: Value,
    },
    In {
        field: String,
        values: Vec<Value>,
    },
    /// Holds for a field that is there, whatever its value, `null` included.
    Exists {
        field: String,
    },
}

impl Filter {
    /// Whether the payload fulfils the condition. Values of different types are never equal nor ordered;
    /// integers and floats are both numbers. `and` of nothing holds, `or` of nothing doesn't.
    pub fn holds(&self, payload: &Value) -> bool {
        self.holds_where(&|field| at_path(payload, field))
    }

    /// Like [`Filter::holds`] for a payload as it is stored; without one (or with one that can't be read) every
    /// field is absent.
    pub fn holds_for_text(&self, payload: Option<&str>) -> bool {
        let payload = payload.and_then(|text| serde_json::from_str(text).ok());
        self.holds(&payload.unwrap_or(Value::Null))
    }

    fn holds_where<'a>(&self, find: &impl Fn(&str) -> Option<&'a Value>) -> bool {
        use std::cmp::Ordering::{Equal, Greater, Less};
        let ordered = |field: &str, value: &Value, wanted: &[std::cmp::Ordering]| {
            let order = find(field).and_then(|found| compare::order(found, value));
            order.is_some_and(|order| wanted.contains(&order))
        };
        let equals = |field: &str, value: &Value| {
            find(field).is_some_and(|found| compare::equal(found, value))
        };
        match self {
            Self::And(parts) => parts.iter().all(|part| part.holds_where(find)),
            Self::Or(parts) => parts.iter().any(|part| part.holds_where(find)),
            Self::Not(part) => !part.holds_where(find),
            Self::Eq { field, value } => equals(field, value),
            Self::Ne { field, value } => !equals(field, value),
            Self::Lt { field, value } => ordered(field, value, &[Less]),
            Self::Lte { field, value } => ordered(field, value, &[Less, Equal]),
            Self::Gt { field, value } => ordered(field, value, &[Greater]),
            Self::Gte { field, value } => ordered(field, value, &[Greater, Equal]),
            Self::In { field, values } => values.iter().any(|value| equals(field, value)),
            Self::Exists { field } => find(field).is_some(),
        }
    }
}

/// The value at a dotted path; only objects are entered.
fn at_path<'a>(payload: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(payload, |value, name| value.as_object()?.get(name))
}

#[cfg(test)]
mod tests;
