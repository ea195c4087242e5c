//! A contract as data: a document of the repository, its references followed, its schemas as validators.

use std::fs;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use serde_json::{Map, Value};

/// A YAML or JSON document.
pub(crate) struct Document {
    path: &'static str,
    root: Value,
}

impl Document {
    /// Reads a document by its path from the root of the workspace.
    pub(crate) fn read(path: &'static str) -> Self {
        let mut root: Value = parse(path);
        if let Some(schemas) = root.pointer_mut("/components/schemas").and_then(Value::as_object_mut) {
            bring_in_neighbours(path, schemas);
        }
        Self { path, root }
    }

    /// What stands at a JSON pointer, which must be there.
    pub(crate) fn at(&self, pointer: &str) -> &Value {
        self.root.pointer(pointer).unwrap_or_else(|| panic!("{} has no {pointer}", self.path))
    }

    /// The members of the object at a pointer, in the order of their names.
    pub(crate) fn members(&self, pointer: &str) -> impl Iterator<Item = (&str, &Value)> {
        let object = self.at(pointer).as_object().unwrap_or_else(|| panic!("{pointer} is no object"));
        object.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The value itself, or what it refers to.
    pub(crate) fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(reference) => {
                let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} leads elsewhere"));
                self.resolve(self.at(pointer))
            }
            None => value,
        }
    }

    /// A validator of a schema of this document. Formats count.
    pub(crate) fn validator(&self, schema: &Value) -> Validator {
        let mut root = serde_json::json!({ "allOf": [schema] });
        root["components"] = self.at("/components").clone();
        jsonschema::options()
            .should_validate_formats(true)
            .build(&root)
            .unwrap_or_else(|error| panic!("{}: no schema: {error}: {schema}", self.path))
    }
}

fn parse(path: &str) -> Value {
    serde_saphyr::from_str(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Schemas may refer to those of `openapi.yaml` beside them: these become schemas of the document itself.
fn bring_in_neighbours(path: &str, schemas: &mut Map<String, Value>) {
    const NEIGHBOUR: &str = "openapi.yaml";
    let reference = format!("./{NEIGHBOUR}#");
    let written = Value::Object(schemas.clone()).to_string();
    if !written.contains(&reference) {
        return;
    }
    let neighbour = parse(&Path::new(path).with_file_name(NEIGHBOUR).to_string_lossy());
    *schemas = serde_json::from_str(&written.replace(&reference, "#")).unwrap();
    for (name, schema) in neighbour["components"]["schemas"].as_object().unwrap() {
        let own = schemas.insert(name.clone(), schema.clone());
        assert!(own.is_none(), "{path} and {NEIGHBOUR} both define {name}");
    }
}

/// Everything that is wrong with a value, in one line; nothing if it is valid.
pub(crate) fn faults(validator: &Validator, value: &Value) -> Option<String> {
    let faults: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{} at {:?}", error, error.instance_path().as_str()))
        .collect();
    (!faults.is_empty()).then(|| faults.join("; "))
}

/// A file of the repository.
pub(crate) fn text(path: &str) -> String {
    let full = root().join(path);
    fs::read_to_string(&full).unwrap_or_else(|error| panic!("{}: {error}", full.display()))
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
