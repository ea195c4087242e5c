//! What the tests of the endpoints share.

use serde_json::Value;

use super::problem::Problem;

/// The field errors in the body of a problem.
pub(super) fn field_errors(problem: &Problem) -> Value {
    let mut document: Value = serde_json::from_slice(&problem.document("r")).unwrap();
    document["errors"].take()
}
