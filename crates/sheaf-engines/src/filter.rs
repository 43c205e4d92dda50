//! Filters over payloads: plain data here, evaluated by each engine in its own way.

use serde_json::Value;

/// A condition on a payload. Paths are dotted (`a.b.c`).
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Not(Box<Filter>),
    Eq { field: String, value: Value },
    /// Holds for an absent field too.
    Ne { field: String, value: Value },
    Lt { field: String, value: Value },
    Lte { field: String, value: Value },
    Gt { field: String, value: Value },
    Gte { field: String, value: Value },
    In { field: String, values: Vec<Value> },
    Exists { field: String },
}
