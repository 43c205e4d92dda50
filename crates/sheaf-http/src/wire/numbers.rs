//! The numbers of a vector in a request.
//!
//! The JSON of a vector is checked first, as a whole, which is quick. So a number is a text between two commas, and what is read here
//! is what a reader of JSON would have read.

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// A vector that is part of a request.
///
/// # Errors
/// It is none.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    numbers(raw).map_err(|error| {
        // Where in the vector; the request's reader says where in the request.
        let error = error.to_string();
        let (what, _) = error.split_once(" at line ").unwrap_or((&error, ""));
        Error::custom(what)
    })
}

/// The numbers of this JSON array, each the nearest float.
///
/// # Errors
/// It is no array of numbers.
pub fn numbers(raw: &RawValue) -> serde_json::Result<Vec<f32>> {
    match plain_numbers(raw.get()) {
        Some(numbers) => Ok(numbers),
        None => serde_json::from_str(raw.get()),
    }
}

/// `None`: something in it isn't as usual.
fn plain_numbers(json: &str) -> Option<Vec<f32>> {
    let inner = json.strip_prefix('[')?.strip_suffix(']')?;
    // Numbers of vectors are seldom shorter; where they are, it grows.
    let mut numbers = Vec::with_capacity(inner.len() / 8);
    for text in inner.split(',') {
        let text = text.trim_ascii();
        if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return None;
        }
        numbers.push(text.parse().ok().filter(|number: &f32| number.is_finite())?);
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bits(numbers: serde_json::Result<Vec<f32>>) -> Result<Vec<u32>, String> {
        let numbers = numbers.map_err(|error| error.to_string())?;
        Ok(numbers.into_iter().map(f32::to_bits).collect())
    }

    fn check(json: &str) {
        let Ok(raw) = serde_json::from_str::<&RawValue>(json) else { return };
        assert_eq!(bits(numbers(raw)), bits(serde_json::from_str(raw.get())), "{json}");
    }

    #[test]
    fn what_is_no_vector_is_refused_as_a_reader_of_json_refuses_it() {
        let all = [
            "[]",
            "[ ]",
            "[1]",
            "[1,2.5]",
            " [ -0 ,\n-0.0, 1E3,1e-50 ] ",
            "[1e39]",
            "[1e999]",
            "[-1e999]",
            "[[1,2]]",
            "[1,[2,3]]",
            "[\"1,2\"]",
            "[\"[1\",2]",
            "[null]",
            "[true,1]",
            "{\"a\":1}",
            "\"1\"",
            "1",
            "null",
            "[16777217,9007199254740993,18446744073709551615,123456789012345678901]",
        ];
        all.into_iter().for_each(check);
    }

    proptest! {
        #[test]
        fn numbers_are_those_that_a_reader_of_json_reads(
            texts in prop::collection::vec(
                prop_oneof![
                    any::<f32>().prop_filter("JSON", |n| n.is_finite()).prop_map(|n| n.to_string()),
                    any::<f64>().prop_filter("JSON", |n| n.is_finite()).prop_map(|n| format!("{n:e}")),
                    any::<i64>().prop_map(|n| n.to_string()),
                    "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?",
                ],
                0..6,
            ),
        ) {
            check(&format!("[{}]", texts.join(", ")));
        }
    }
}
