//! JSON bodies by our own rules: a body that could mean two things to two readers is refused, and everything that is
//! wrong with a readable one is told at once.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::str::FromStr;

use presence::domain::Invalid;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::problem::{FieldError, Kind, Problem};

/// A JSON value whose objects have no member twice and whose strings are Unicode. Numbers are read and forgotten: no
/// body of ours has one.
#[derive(Debug, PartialEq, Eq)]
pub enum Node<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool,
    /// Any number that fits an `f64`.
    Number,
    /// A string.
    String(Cow<'a, str>),
    /// An array.
    Array(Vec<Node<'a>>),
    /// An object.
    Object(Object<'a>),
}

/// The members of a JSON object.
pub type Object<'a> = BTreeMap<Cow<'a, str>, Node<'a>>;

/// Reads the bytes of a body as one JSON object and makes a value of its members. `make` notes what is wrong with them;
/// it makes no value without a note of why, and a value counts only if nothing is noted.
pub fn read<T>(body: &[u8], make: impl FnOnce(&Object<'_>, &mut FieldErrors) -> Option<T>) -> Result<T, Problem> {
    let mut errors = FieldErrors::default();
    let Node::Object(members) = parse(body)? else {
        errors.add("", "the body must be an object");
        return Err(Problem::invalid_fields(errors.0));
    };
    match make(&members, &mut errors) {
        Some(value) if errors.0.is_empty() => Ok(value),
        _ => Err(Problem::invalid_fields(errors.0)),
    }
}

/// What is wrong with the members of a body, collected while it is read.
#[derive(Debug, Default)]
pub struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    /// Notes that the member at the pointer breaks a rule.
    pub fn add(&mut self, pointer: impl Into<Cow<'static, str>>, rule: &'static str) {
        self.0.push(FieldError { pointer: pointer.into(), detail: rule });
    }

    /// The value of the member at the pointer, or a note of the rule that it breaks.
    pub fn check<T>(&mut self, pointer: impl Into<Cow<'static, str>>, value: Result<T, Invalid>) -> Option<T> {
        match value {
            Ok(value) => Some(value),
            Err(Invalid(rule)) => {
                self.add(pointer, rule);
                None
            }
        }
    }
}

impl Node<'_> {
    /// The value that a string stands for.
    pub fn parse<T: FromStr<Err = Invalid>>(&self) -> Result<T, Invalid> {
        match self {
            Node::String(text) => text.parse(),
            _ => Err(Invalid("must be a string")),
        }
    }
}

/// The value that a member must have.
pub fn required<T: FromStr<Err = Invalid>>(node: Option<&Node<'_>>) -> Result<T, Invalid> {
    node.ok_or(Invalid("is required"))?.parse()
}

fn parse(body: &[u8]) -> Result<Node<'_>, Problem> {
    let unreadable = |detail| Err(Problem::new(Kind::MalformedBody, detail));
    let Ok(text) = std::str::from_utf8(body) else {
        return unreadable("the body is not UTF-8");
    };
    if text.starts_with('\u{feff}') {
        return unreadable("the body begins with a byte order mark, which JSON does not have");
    }
    if text.trim_ascii().is_empty() {
        return unreadable("the body is empty; a JSON object is needed");
    }
    serde_json::from_str(text)
        .map_err(|error| Problem::new(Kind::MalformedBody, format!("the body is not JSON that we read: {error}")))
}

impl<'de> Deserialize<'de> for Node<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Node::Bool)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Node::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Node::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Node::Number)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Node::String(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Node::String(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut array = Vec::new();
        while let Some(element) = elements.next_element()? {
            array.push(element);
        }
        Ok(Node::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut object = Object::new();
        while let Some(Name(name)) = members.next_key()? {
            match object.entry(name) {
                Entry::Vacant(place) => place.insert(members.next_value()?),
                Entry::Occupied(_) => return Err(A::Error::custom("an object has a member twice")),
            };
        }
        Ok(Node::Object(object))
    }
}

/// The name of a member, borrowed from the body where it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_str(NodeVisitor)? {
            Node::String(name) => Ok(Name(name)),
            _ => Err(D::Error::custom("the name of a member is a string")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(body: &[u8]) -> String {
        let problem = parse(body).unwrap_err();
        assert_eq!(problem.kind(), Kind::MalformedBody);
        let document: serde_json::Value = serde_json::from_slice(&problem.document("r")).unwrap();
        document["detail"].as_str().unwrap().to_owned()
    }

    #[test]
    fn what_could_mean_two_things_is_unreadable() {
        let bomb = "[".repeat(20_000);
        let nested = format!(r#"{{"a":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
        for (body, reason) in [
            (&b""[..], "empty"),
            (b" \r\n\t", "empty"),
            (b"\xff\xfe{\0}\0", "UTF-8"),
            (b"{\"a\":\"\xc3\x28\"}", "UTF-8"),
            (b"\xef\xbb\xbf{}", "byte order mark"),
            (b"{} {}", "trailing"),
            (b"{}\0", "trailing"),
            (b"{\"a\":\"\0\"}", "control character"),
            (b"{\"a\":1,\"a\":2}", "twice"),
            (b"{\"a\":1,\"\\u0061\":2}", "twice"),
            (b"{\"x\":[{\"b\":1,\"b\":1}]}", "twice"),
            (b"{\"a\":\"\\ud800\"}", "hex escape"),
            (b"{\"\\udc00\":1}", "surrogate"),
            (b"{\"a\":01}", "number"),
            (b"{\"a\":1e999}", "number"),
            (b"{\"a\":NaN}", "expected"),
            (b"{'a':1}", "key must be a string"),
            (b"{\"a\":1,}", "trailing comma"),
            (b"{\"a\":1", "EOF"),
            (b"nul", "EOF"),
            (bomb.as_bytes(), "recursion"),
            (nested.as_bytes(), "recursion"),
        ] {
            let detail = detail(body);
            assert!(detail.contains(reason), "{:?}: {detail}", String::from_utf8_lossy(&body[..body.len().min(40)]));
        }
    }

    #[test]
    fn a_readable_body_must_be_an_object() {
        for body in ["[]", "1", "-0.5e3", "\"x\"", "null", "true"] {
            let problem = read(body.as_bytes(), |_, _| Some(())).unwrap_err();
            assert_eq!(problem.kind(), Kind::InvalidFields, "{body}");
        }
        assert!(read(b" {\"unknown\": [1, {\"a\": null}]} ", |_, _| Some(())).is_ok());
    }

    #[test]
    fn escapes_are_read_as_the_characters_they_stand_for() {
        let body = br#"{"a":"\ud83d\ude00 \u00e9","b":"plain"}"#;
        let Node::Object(object) = parse(body).unwrap() else { panic!("not an object") };
        assert_eq!(object["a"], Node::String("😀 é".into()));
        assert!(matches!(object["b"], Node::String(Cow::Borrowed("plain"))));
    }
}
