//! Filters as JSON: exactly one operator in each object, nested and bounded.

use serde_json::{Map, Value, json};
use sheaf_types::limits::{FILTER_DEPTH_MAX, FILTER_NODES_MAX};

use super::Filter;

/// Why JSON is not a filter: a sentence for the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the filter can't be used: {0}")]
pub struct FilterError(String);

const OPERATORS: &str = "and, or, not, eq, ne, lt, lte, gt, gte, in, exists";

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    /// An unknown operator, none or several in one object, a wrong operand, or more nesting, operators or
    /// values than the limits allow.
    pub fn from_json(value: &Value) -> Result<Self, FilterError> {
        Reader { nodes: 0 }.filter(value, 1)
    }

    /// The filter as JSON; [`Filter::from_json`] reads it back.
    pub fn to_json(&self) -> Value {
        let all = |parts: &[Self]| parts.iter().map(Self::to_json).collect::<Vec<_>>();
        let compare = |name: &str, field: &str, value: &Value| json!({name: {"field": field, "value": value}});
        match self {
            Self::And(parts) => json!({"and": all(parts)}),
            Self::Or(parts) => json!({"or": all(parts)}),
            Self::Not(part) => json!({"not": part.to_json()}),
            Self::Eq { field, value } => compare("eq", field, value),
            Self::Ne { field, value } => compare("ne", field, value),
            Self::Lt { field, value } => compare("lt", field, value),
            Self::Lte { field, value } => compare("lte", field, value),
            Self::Gt { field, value } => compare("gt", field, value),
            Self::Gte { field, value } => compare("gte", field, value),
            Self::In { field, values } => json!({"in": {"field": field, "values": values}}),
            Self::Exists { field } => json!({"exists": {"field": field}}),
        }
    }
}

struct Reader {
    nodes: usize,
}

impl Reader {
    fn filter(&mut self, value: &Value, depth: usize) -> Result<Filter, FilterError> {
        if depth > FILTER_DEPTH_MAX {
            return refuse(format!("it is nested more than {FILTER_DEPTH_MAX} deep"));
        }
        self.nodes += 1;
        if self.nodes > FILTER_NODES_MAX {
            return refuse(format!("it has more than {FILTER_NODES_MAX} operators"));
        }
        let Some(object) = value.as_object() else {
            return refuse(format!("{} is not an object", brief(value)));
        };
        let mut entries = object.iter();
        let (Some((operator, operand)), None) = (entries.next(), entries.next()) else {
            let count = object.len();
            return refuse(format!(
                "each object holds exactly one operator ({OPERATORS}), found {count}"
            ));
        };
        match operator.as_str() {
            "and" => Ok(Filter::And(self.filters(operator, operand, depth)?)),
            "or" => Ok(Filter::Or(self.filters(operator, operand, depth)?)),
            "not" => Ok(Filter::Not(Box::new(self.filter(operand, depth + 1)?))),
            "in" => {
                let [field, values] = members(operator, operand, ["field", "values"])?;
                let Some(values) = values.as_array() else {
                    return refuse("the `values` of `in` is not an array".into());
                };
                if values.len() > FILTER_NODES_MAX {
                    return refuse(format!("`in` has more than {FILTER_NODES_MAX} values"));
                }
                Ok(Filter::In { field: path(operator, field)?, values: values.clone() })
            }
            "exists" => {
                let [field] = members(operator, operand, ["field"])?;
                Ok(Filter::Exists { field: path(operator, field)? })
            }
            "eq" | "ne" | "lt" | "lte" | "gt" | "gte" => comparison(operator, operand),
            _ => refuse(format!("unknown operator {operator:?}; there are {OPERATORS}")),
        }
    }

    fn filters(
        &mut self,
        operator: &str,
        operand: &Value,
        depth: usize,
    ) -> Result<Vec<Filter>, FilterError> {
        let Some(parts) = operand.as_array() else {
            return refuse(format!("the operand of `{operator}` is not an array of filters"));
        };
        parts.iter().map(|part| self.filter(part, depth + 1)).collect()
    }
}

fn comparison(operator: &str, operand: &Value) -> Result<Filter, FilterError> {
    let [field, value] = members(operator, operand, ["field", "value"])?;
    let field = path(operator, field)?;
    let value = value.clone();
    Ok(match operator {
        "eq" => Filter::Eq { field, value },
        "ne" => Filter::Ne { field, value },
        "lt" => Filter::Lt { field, value },
        "lte" => Filter::Lte { field, value },
        "gt" => Filter::Gt { field, value },
        _ => Filter::Gte { field, value },
    })
}

/// Exactly these members of the operand.
fn members<'a, const N: usize>(
    operator: &str,
    operand: &'a Value,
    names: [&str; N],
) -> Result<[&'a Value; N], FilterError> {
    let empty = Map::new();
    let object = operand.as_object();
    let found = names.map(|name| object.and_then(|object| object.get(name)));
    let fits = object.unwrap_or(&empty).len() == N && found.iter().all(Option::is_some);
    if !fits {
        let wanted = names.map(|name| format!("`{name}`")).join(" and ");
        return refuse(format!("`{operator}` takes an object with {wanted} and nothing else"));
    }
    Ok(found.map(|value| value.unwrap_or(&Value::Null)))
}

fn path(operator: &str, field: &Value) -> Result<String, FilterError> {
    match field.as_str() {
        Some(path) => Ok(path.to_owned()),
        None => refuse(format!("the `field` of `{operator}` is not a string")),
    }
}

fn brief(value: &Value) -> String {
    let text = value.to_string();
    let start: String = text.chars().take(40).collect();
    if start.len() < text.len() { format!("{start}…") } else { start }
}

fn refuse<T>(reason: String) -> Result<T, FilterError> {
    Err(FilterError(reason))
}
