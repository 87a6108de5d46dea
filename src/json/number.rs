//! Canonical form of numbers.

use serde_json::{Number, Value};

/// Normalizes numbers that a float represents exactly, such as `2.50` to `2.5`, since servers deduplicate params by bytes.
/// Other numbers keep their digits.
pub(crate) fn canonical(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(canonical),
        Value::Object(fields) => fields.values_mut().for_each(canonical),
        Value::Number(number) if number.as_str() == "-0" || number.as_str().contains(['.', 'e', 'E']) => {
            let float = number.as_f64().and_then(Number::from_f64);
            if let Some(float) = float.filter(|float| decimal(float.as_str()) == decimal(number.as_str())) {
                *number = float;
            }
        }
        _ => {}
    }
}

/// Splits a number into its sign, its digits without leading and trailing zeros, and its power of ten.
fn decimal(number: &str) -> Option<(bool, String, i64)> {
    let (is_negative, number) = number.strip_prefix('-').map_or((false, number), |number| (true, number));
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let short = digits.trim_end_matches('0');
    if short.is_empty() {
        return Some((is_negative, String::new(), 0));
    }
    let power = exponent.parse::<i64>().ok()?.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let power = power.checked_add(i64::try_from(digits.len() - short.len()).ok()?)?;
    Some((is_negative, short.trim_start_matches('0').to_owned(), power))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::read;

    #[test]
    fn numbers_that_a_float_holds_have_one_form() {
        for (given, canonical_form) in [
            ("[2.50,2.5,25e-1,0.25E1]", "[2.5,2.5,2.5,2.5]"),
            ("[1,1.0,1.00,-0,-0.0,0e5]", "[1,1.0,1.0,-0.0,-0.0,0.0]"),
            ("[1e2,1e22,1e23,100.0]", "[100.0,1e+22,1e+23,100.0]"),
            ("[0.1,0.30000000000000004]", "[0.1,0.30000000000000004]"),
            ("[1e400,-1e-400,0.1000000000000000000000001]", "[1e+400,-1e-400,0.1000000000000000000000001]"),
            (
                "[9007199254740993,9007199254740993.0,1e99999999999999999999]",
                "[9007199254740993,9007199254740993.0,1e+99999999999999999999]",
            ),
            ("[18446744073709551616,{\"a\":1.10}]", "[18446744073709551616,{\"a\":1.1}]"),
        ] {
            let mut value = read(given).unwrap();
            canonical(&mut value);
            assert_eq!(value.to_string(), canonical_form);
        }
    }
}
