//! What must be fresh in each run of a case: users, channels, tokens; and what is too long to write out.

use std::collections::HashMap;

use serde_json::Value;
use uuid::Uuid;

use crate::token;

/// Fills the placeholders of one run of one case.
pub(crate) struct Filler {
    secret: String,
    named: HashMap<String, Uuid>,
}

impl Filler {
    pub(crate) fn new(secret: &str) -> Self {
        Self { secret: secret.to_owned(), named: HashMap::new() }
    }

    /// The text with every placeholder filled.
    pub(crate) fn text(&mut self, text: &str) -> Result<String, String> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (placeholder, after) = after.split_once("}}").ok_or("a placeholder does not end")?;
            filled.push_str(before);
            filled.push_str(&self.placeholder(placeholder)?);
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// The value with every string filled, names of members included.
    pub(crate) fn json(&mut self, value: &Value) -> Result<Value, String> {
        Ok(match value {
            Value::String(text) => Value::String(self.text(text)?),
            Value::Array(elements) => Value::Array(self.elements(elements)?),
            Value::Object(members) => {
                let mut filled = serde_json::Map::new();
                for (name, member) in members {
                    filled.insert(self.text(name)?, self.json(member)?);
                }
                Value::Object(filled)
            }
            other => other.clone(),
        })
    }

    fn elements(&mut self, elements: &[Value]) -> Result<Vec<Value>, String> {
        let mut filled = Vec::new();
        for element in elements {
            let many = element.as_str().and_then(|text| text.strip_prefix("{{users:")?.strip_suffix("}}"));
            match many {
                Some(many) => {
                    let many = many.parse().map_err(|_| format!("{many:?} is not a number of users"))?;
                    filled.extend(std::iter::repeat_with(|| Value::String(Uuid::new_v4().to_string())).take(many));
                }
                None => filled.push(self.json(element)?),
            }
        }
        Ok(filled)
    }

    fn placeholder(&mut self, placeholder: &str) -> Result<String, String> {
        let parts: Vec<&str> = placeholder.split(':').collect();
        match parts.as_slice() {
            ["user" | "channel", name] => Ok(self.id(name).to_string()),
            ["USER", name] => Ok(self.id(name).to_string().to_uppercase()),
            ["token", name] => self.token(name, "valid"),
            ["token", name, flaw] => self.token(name, flaw),
            ["repeat", text, times] => {
                Ok(text.repeat(times.parse().map_err(|_| format!("{times:?} is not a number of times"))?))
            }
            _ => Err(format!("{{{{{placeholder}}}}} is not a placeholder")),
        }
    }

    fn token(&mut self, name: &str, flaw: &str) -> Result<String, String> {
        let user = self.id(name);
        token::mint(&self.secret, user, flaw)
    }

    fn id(&mut self, name: &str) -> Uuid {
        *self.named.entry(name.to_owned()).or_insert_with(Uuid::new_v4)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_is_the_same_within_a_case_and_new_in_the_next() {
        let mut case = Filler::new("s");
        let alice = case.text("{{user:alice}}").unwrap();
        assert_eq!(case.text("/x/{{USER:alice}}/y").unwrap(), format!("/x/{}/y", alice.to_uppercase()));
        assert_ne!(case.text("{{user:bob}}").unwrap(), alice);
        assert_ne!(Filler::new("s").text("{{user:alice}}").unwrap(), alice);
    }

    #[test]
    fn long_values_are_written_short() {
        let mut case = Filler::new("s");
        assert_eq!(case.json(&json!({"a": "{{repeat:ab:3}}!"})).unwrap(), json!({"a": "ababab!"}));
        assert_eq!(case.json(&json!(["{{users:5}}", 1])).unwrap().as_array().unwrap().len(), 6);
    }

    #[test]
    fn a_misspelt_placeholder_is_not_sent() {
        for wrong in ["{{usr:alice}}", "{{user}}", "{{user:alice", "{{repeat:a:many}}", "{{token:alice:brilliant}}"] {
            assert!(Filler::new("s").text(wrong).is_err(), "{wrong}");
        }
    }
}
