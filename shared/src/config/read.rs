//! Reads variables and collects what is wrong with them, so that all of it can be told at once.

use std::fmt;

use super::variables::{VARIABLES, Variable};

/// Everything that is wrong with a configuration, by variable. Fit for a terminal or a log: no secret is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The variable to change.
    pub variable: &'static str,
    /// What is wrong and what is allowed: the rest of a sentence that begins with the variable.
    pub problem: String,
}

/// A value of the environment that is not Unicode text.
pub(super) struct NotUnicode;

/// One pass over the variables. A value that is wrong reads as none and is remembered.
pub(super) struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Result<Option<String>, NotUnicode>,
    errors: Vec<ConfigError>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(lookup: &'a dyn Fn(&str) -> Result<Option<String>, NotUnicode>) -> Self {
        Self { lookup, errors: Vec::new() }
    }

    /// The value as it is. Empty is unset, and unset is the default.
    pub(super) fn raw(&mut self, name: &'static str) -> Option<String> {
        match (self.lookup)(name) {
            Ok(Some(value)) if !value.is_empty() => Some(value),
            Ok(_) => {
                let default = variable(name)?.default;
                (!default.is_empty()).then(|| default.to_owned())
            }
            Err(NotUnicode) => {
                self.reject(name, "is not Unicode text");
                None
            }
        }
    }

    /// The value without white space around it; nothing but white space is unset as well.
    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        let value = self.raw(name)?;
        let text = value.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// The value as `parse` takes it. `allowed` ends the sentence "allowed is …".
    pub(super) fn parse<T>(
        &mut self,
        name: &'static str,
        allowed: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(name)?;
        let value = parse(&text);
        if value.is_none() {
            let secret = variable(name).is_none_or(|variable| variable.secret);
            let found = if secret { "can't be used".to_owned() } else { format!("is {}", quote(&text)) };
            self.reject(name, format!("{found}; allowed is {allowed}"));
        }
        value
    }

    /// Whether a variable, ours or the platform's, has a value of its own.
    pub(super) fn is_set(&self, name: &str) -> bool {
        (self.lookup)(name).map_or(true, |value| value.is_some_and(|value| !value.trim().is_empty()))
    }

    pub(super) fn reject(&mut self, variable: &'static str, problem: impl Into<String>) {
        self.errors.push(ConfigError { variable, problem: problem.into() });
    }

    /// What was read, if nothing was wrong.
    pub(super) fn finish<T>(self, config: Option<T>) -> Result<T, ConfigErrors> {
        match config {
            Some(config) if self.errors.is_empty() => Ok(config),
            _ => Err(ConfigErrors(self.errors)),
        }
    }
}

fn variable(name: &str) -> Option<&'static Variable> {
    VARIABLES.iter().find(|variable| variable.name == name)
}

/// A value as part of a message: short, and without control characters.
fn quote(text: &str) -> String {
    let short: String = text.chars().take(40).collect();
    if short.len() < text.len() { format!("{short:?}…") } else { format!("{short:?}") }
}

impl ConfigErrors {
    /// The same problem with several variables; no problem if there are none.
    pub(super) fn of(variables: impl Iterator<Item = &'static str>, problem: &str) -> Result<(), Self> {
        let errors: Vec<ConfigError> =
            variables.map(|variable| ConfigError { variable, problem: problem.to_owned() }).collect();
        if errors.is_empty() { Ok(()) } else { Err(Self(errors)) }
    }

    /// One by one, in the order in which the variables were read.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration can't be used:")?;
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.variable, self.problem)
    }
}
