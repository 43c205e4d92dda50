//! A shard's capacity relative to the others, as an exact decimal.
//!
//! Never a float: weights are compared and multiplied as whole thousandths, so all machines agree.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Thousandths in the weight 1.
const ONE: u32 = 1_000;

/// How much a shard shall hold relative to the others: twice the weight, twice the points.
///
/// Whole thousandths from 0.01 to 1000; JSON shows it as a number (`1.0`, `2.5`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u32);

/// Why something is not a weight. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeightError {
    /// Too small or too large.
    #[error("a weight of {given} is out of range: give one from 0.01 to 1000")]
    OutOfRange { given: String },
    /// Not a decimal number of at most three decimals.
    #[error(
        "{given:?} is not a weight: give a decimal number with at most three decimals, such as 2.5"
    )]
    NotADecimal { given: String },
}

impl Weight {
    /// The smallest weight, 0.01. Source: 100,000 times less than the largest still leaves a share to measure.
    pub const MIN: Self = Self(10);
    /// The weight of a shard that names none.
    pub const ONE: Self = Self(ONE);
    /// The largest weight, 1000.
    pub const MAX: Self = Self(1_000 * ONE);

    /// The weight of this many thousandths.
    ///
    /// # Errors
    /// It is less than [`Weight::MIN`] or more than [`Weight::MAX`].
    pub fn from_thousandths(thousandths: u32) -> Result<Self, WeightError> {
        let weight = Self(thousandths);
        if (Self::MIN..=Self::MAX).contains(&weight) {
            Ok(weight)
        } else {
            Err(WeightError::OutOfRange { given: weight.to_string() })
        }
    }

    /// The weight in thousandths: 1000 for the weight 1.
    pub fn thousandths(self) -> u32 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::ONE
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:03}", self.0 / ONE, self.0 % ONE);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl FromStr for Weight {
    type Err = WeightError;

    /// Reads `2`, `2.5`, `0.125`: digits, then at most three decimals; no sign, no exponent.
    fn from_str(text: &str) -> Result<Self, WeightError> {
        let not_a_decimal = || WeightError::NotADecimal { given: text.to_owned() };
        let out_of_range = || WeightError::OutOfRange { given: text.to_owned() };
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(decimals) || decimals.len() > 3 {
            return Err(not_a_decimal());
        }
        // Digits only, so the one way to fail is a number that is too large.
        let whole = whole.parse::<u32>().map_err(|_| out_of_range())?;
        let decimals = format!("{decimals:0<3}").parse::<u32>().map_err(|_| out_of_range())?;
        let thousandths = whole.checked_mul(ONE).and_then(|whole| whole.checked_add(decimals));
        Self::from_thousandths(thousandths.ok_or_else(out_of_range)?).map_err(|_| out_of_range())
    }
}

impl Serialize for Weight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.nearest_f64())
    }
}

impl Weight {
    /// The double nearest to the decimal: what JSON reads and writes for it, never calculated with.
    fn nearest_f64(self) -> f64 {
        f64::from(self.0) / f64::from(ONE)
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_f64(Number)
    }
}

/// Reads a weight from a number, whole or not.
struct Number;

impl Visitor<'_> for Number {
    type Value = Weight;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a weight from 0.01 to 1000 with at most three decimals")
    }

    fn visit_u64<E: de::Error>(self, whole: u64) -> Result<Weight, E> {
        whole.to_string().parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, whole: i64) -> Result<Weight, E> {
        whole.to_string().parse().map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Weight, E> {
        // A cast saturates, NaN gives 0: both are out of range.
        let thousandths = (number * f64::from(ONE)).round() as u32;
        let weight = Weight::from_thousandths(thousandths)
            .map_err(|_| E::custom(WeightError::OutOfRange { given: number.to_string() }))?;
        // Exact: a decimal of three places has one nearest double, anything else is not one.
        if weight.nearest_f64() == number {
            Ok(weight)
        } else {
            Err(E::custom(WeightError::NotADecimal { given: number.to_string() }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Result<Weight, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn every_weight_survives_text_and_json_unchanged() {
        for thousandths in Weight::MIN.0..=Weight::MAX.0 {
            let weight = Weight::from_thousandths(thousandths).unwrap();
            assert_eq!(weight.to_string().parse(), Ok(weight));
            assert_eq!(Number.visit_f64(weight.nearest_f64()), Ok::<_, de::value::Error>(weight));
        }
    }

    #[test]
    fn json_shows_a_plain_number() {
        let shown = |thousandths| serde_json::to_string(&Weight(thousandths)).unwrap();
        assert_eq!([shown(1_000), shown(2_500), shown(10)], ["1.0", "2.5", "0.01"]);
        let read = ["1", "1.0", "1e0", "1000", "0.010", "0.3"].map(|text| json(text).unwrap().0);
        assert_eq!(read, [1_000, 1_000, 1_000, 1_000_000, 10, 300]);
    }

    #[test]
    fn text_shows_no_more_decimals_than_needed() {
        let shown = [1_000, 2_500, 125, 10, 1_000_000, 20_000].map(|n| Weight(n).to_string());
        assert_eq!(shown, ["1", "2.5", "0.125", "0.01", "1000", "20"]);
    }

    #[test]
    fn what_is_out_of_range_or_not_a_decimal_is_refused() {
        for text in ["0", "0.009", "1000.001", "4294968", "99999999999999999999", "0.0"] {
            let error = text.parse::<Weight>().unwrap_err();
            assert_eq!(error, WeightError::OutOfRange { given: text.to_owned() });
        }
        for text in
            ["", ".", "1.", ".5", "-1", "+1", "1e3", "0.1234", "1,5", " 1", "NaN", "inf", "१"]
        {
            let error = text.parse::<Weight>().unwrap_err();
            assert_eq!(error, WeightError::NotADecimal { given: text.to_owned() });
        }
        let numbers =
            ["0", "-1", "-0.5", "1000.5", "1e300", "0.1234", "1.00000001", "18446744073709551615"];
        for text in numbers.into_iter().chain(["\"1\"", "null", "true", "[1]"]) {
            assert!(json(text).is_err(), "{text}");
        }
        assert!(Weight::from_thousandths(9).is_err());
        assert!(Weight::from_thousandths(u32::MAX).is_err());
    }
}
