//! Whether an answer is what a case says.

use http::HeaderMap;
use serde_json::Value;

/// Compares a body with its pattern and tells the first difference.
pub(crate) fn json(pattern: &Value, actual: &Value) -> Result<(), String> {
    compare("", pattern, actual)
}

fn compare(pointer: &str, pattern: &Value, actual: &Value) -> Result<(), String> {
    let differs = || Err(format!("{pointer:?} is {actual}, not {pattern}"));
    match (pattern, actual) {
        (Value::String(word), _) if word.starts_with('$') => {
            if matches(word, actual)? {
                Ok(())
            } else {
                differs()
            }
        }
        (Value::Object(pattern), Value::Object(actual)) => {
            if let Some(extra) = actual.keys().find(|name| !pattern.contains_key(*name)) {
                return Err(format!("{pointer:?} has an unexpected member {extra:?}: {}", actual[extra]));
            }
            for (name, pattern) in pattern {
                let actual = actual.get(name).ok_or_else(|| format!("{pointer:?} has no member {name:?}"))?;
                compare(&format!("{pointer}/{name}"), pattern, actual)?;
            }
            Ok(())
        }
        (Value::Array(pattern), Value::Array(elements)) => {
            if pattern.len() != elements.len() {
                return differs();
            }
            let pairs = pattern.iter().zip(elements).enumerate();
            pairs
                .into_iter()
                .try_for_each(|(index, (pattern, element))| compare(&format!("{pointer}/{index}"), pattern, element))
        }
        _ if pattern == actual => Ok(()),
        _ => differs(),
    }
}

fn matches(word: &str, actual: &Value) -> Result<bool, String> {
    if let Some(length) = word.strip_prefix("$list:") {
        let length: usize = length.parse().map_err(|_| format!("{word:?} is not a pattern"))?;
        return Ok(actual.as_array().is_some_and(|elements| elements.len() == length));
    }
    Ok(match word {
        "$any" => true,
        "$text" => actual.as_str().is_some_and(|text| !text.is_empty()),
        "$integer" => actual.is_u64(),
        "$positive" => actual.as_u64().is_some_and(|number| number > 0),
        "$timestamp" => actual.as_str().is_some_and(is_timestamp),
        _ => return Err(format!("{word:?} is not a pattern")),
    })
}

/// A moment in the one form in which the service writes it.
fn is_timestamp(text: &str) -> bool {
    has_shape(text, "dddd-dd-ddTdd:dd:dd.dddZ")
}

/// A trace context of version 00 that names a trace and a parent.
pub(crate) fn is_traceparent(text: &str) -> bool {
    let shape = format!("00-{}-{}-{}", "x".repeat(32), "x".repeat(16), "xx");
    let zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    has_shape(text, &shape) && !zero(&text[3..35]) && !zero(&text[36..52])
}

/// In a shape, `d` is a decimal digit, `x` a lower-case hexadecimal one, and every other character itself.
fn has_shape(text: &str, shape: &str) -> bool {
    let fits = |(byte, shape): (u8, u8)| match shape {
        b'd' => byte.is_ascii_digit(),
        b'x' => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        literal => byte == literal,
    };
    text.len() == shape.len() && text.bytes().zip(shape.bytes()).all(fits)
}

/// Compares a header with its pattern. It must be there once.
pub(crate) fn header(pattern: &str, headers: &HeaderMap, name: &str) -> Result<(), String> {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    let [value] = values.as_slice() else {
        return Err(format!("{name} is there {} times", values.len()));
    };
    let fits = match pattern.split_once(':') {
        Some(("$seconds", range)) => {
            let bounds = range.split_once('-').and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
            let (from, to): (u64, u64) = bounds.ok_or_else(|| format!("{pattern:?} is not a pattern"))?;
            value.parse().is_ok_and(|seconds: u64| (from..=to).contains(&seconds))
        }
        Some(("$set", words)) => sorted(words) == sorted(value),
        _ if pattern == "$text" => !value.is_empty(),
        _ => pattern == *value,
    };
    if fits { Ok(()) } else { Err(format!("{name} is {value:?}, not {pattern:?}")) }
}

fn sorted(words: &str) -> Vec<&str> {
    let mut words: Vec<&str> = words.split(',').map(str::trim).collect();
    words.sort_unstable();
    words
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_body_has_no_member_more_or_less_than_its_pattern() {
        assert!(json(&json!({"a": [1, {"b": null}]}), &json!({"a": [1, {"b": null}]})).is_ok());
        for other in [json!({"a": [1]}), json!({"a": [1, {}]}), json!({"a": [1, {"b": null}], "c": 1}), json!([])] {
            assert!(json(&json!({"a": [1, {"b": null}]}), &other).is_err(), "{other}");
        }
    }

    #[test]
    fn a_word_matches_its_kind_only() {
        for (word, good, bad) in [
            ("$text", json!("x"), json!("")),
            ("$integer", json!(0), json!(-1)),
            ("$positive", json!(1), json!(0)),
            ("$timestamp", json!("2024-01-01T12:00:00.000Z"), json!("2024-01-01T12:00:00Z")),
            ("$list:2", json!([1, 2]), json!([1])),
        ] {
            assert!(json(&json!(word), &good).is_ok(), "{word}");
            assert!(json(&json!(word), &bad).is_err(), "{word}");
        }
        assert!(json(&json!("$tpyo"), &json!(1)).is_err());
    }

    #[test]
    fn a_trace_context_names_a_trace_and_a_parent() {
        assert!(is_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        assert!(!is_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"));
        assert!(!is_traceparent("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"));
        assert!(!is_traceparent(""));
    }

    #[test]
    fn a_header_is_there_once_and_fits() {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", HeaderValue::from_static("7"));
        headers.insert("allow", HeaderValue::from_static("HEAD, GET"));
        assert!(header("$seconds:1-20", &headers, "retry-after").is_ok());
        assert!(header("$seconds:8-20", &headers, "retry-after").is_err());
        assert!(header("$set:GET,HEAD", &headers, "allow").is_ok());
        assert!(header("$set:GET", &headers, "allow").is_err());
        assert!(header("$text", &headers, "location").is_err());
        headers.append("retry-after", HeaderValue::from_static("7"));
        assert!(header("7", &headers, "retry-after").is_err());
    }
}
