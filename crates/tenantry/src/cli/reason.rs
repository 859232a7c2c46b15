//! The reason of a failed operation or target, as a person reads it.

use serde_json::Value;

/// The `error` object of the contract as text: `V3__x.sql:12: message (SQLSTATE 42P01)`, then PostgreSQL's detail and
/// hint on lines of their own.
pub(crate) fn of(error: &Value) -> String {
    let field = |name: &str| match error.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let message = field("message").unwrap_or_else(|| match error {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    let mut text = String::new();
    if let Some(file) = field("file") {
        text.push_str(&file);
        if let Some(line) = field("line") {
            text.push(':');
            text.push_str(&line);
        }
        text.push_str(": ");
    }
    text.push_str(&message);
    if let Some(sqlstate) = field("sqlstate") {
        text.push_str(&format!(" (SQLSTATE {sqlstate})"));
    }
    for name in ["detail", "hint"] {
        if let Some(value) = field(name) {
            text.push_str(&format!("\n{name}: {value}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_migration_failure_names_file_line_and_postgresqls_words() {
        let error = json!({
            "message": "relation \"flights\" does not exist", "file": "V3__delays.sql", "line": 12,
            "sqlstate": "42P01", "hint": "look", "detail": null,
        });
        assert_eq!(of(&error), "V3__delays.sql:12: relation \"flights\" does not exist (SQLSTATE 42P01)\nhint: look");
    }

    #[test]
    fn whatever_comes_is_shown() {
        assert_eq!(of(&json!({ "message": "no" })), "no");
        assert_eq!(of(&json!({ "message": "no", "step": "ensure_home" })), "no");
        assert_eq!(of(&json!("plain text")), "plain text");
        assert_eq!(of(&json!({ "odd": 1 })), "{\"odd\":1}");
    }
}
