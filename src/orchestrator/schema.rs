//! JSON Schema, as much of it as tools and results need: `type`, `required`, `properties`, `additionalProperties: false`,
//! `items`, `enum`, and the limits of numbers, texts and lists. What it does not know it does not judge.

use serde_json::{Map, Value};

/// A schema nested deeper than this is not followed.
const DEPTH_MAX: usize = 16;

/// Whether a value fits; the error names the place and what was expected there.
pub(crate) fn check(schema: &Value, value: &Value) -> Result<(), String> {
    at(schema, value, "", DEPTH_MAX)
}

/// Turns texts into the numbers and booleans that the schema asks for, and the other way round: small models quote freely.
pub(crate) fn coerce(schema: &Value, object: &mut Map<String, Value>) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    for (name, value) in object.iter_mut() {
        let wanted = properties.get(name).and_then(|p| p.get("type")).and_then(Value::as_str);
        let new = match (wanted, &*value) {
            (Some("integer"), Value::String(text)) => text.trim().parse::<i64>().ok().map(Value::from),
            (Some("number"), Value::String(text)) => text.trim().parse::<f64>().ok().filter(|n| n.is_finite()).map(Value::from),
            (Some("boolean"), Value::String(text)) => text.trim().parse::<bool>().ok().map(Value::from),
            (Some("string"), Value::Number(number)) => Some(Value::String(number.to_string())),
            (Some("array"), Value::String(text)) => Some(Value::Array(vec![Value::String(text.clone())])),
            _ => None,
        };
        if let Some(new) = new {
            *value = new;
        }
    }
    // A field that is null is a field that was left out.
    object.retain(|name, value| !(value.is_null() && properties.contains_key(name)));
}

fn at(schema: &Value, value: &Value, place: &str, depth: usize) -> Result<(), String> {
    let (Some(schema), true) = (schema.as_object(), depth > 0) else { return Ok(()) };
    let wrong = |expected: String| {
        if place.is_empty() { Err(format!("expected {expected}")) } else { Err(format!("`{place}`: expected {expected}")) }
    };
    match schema.get("type") {
        Some(Value::String(one)) if !is(one, value) => return wrong(a(one)),
        Some(Value::Array(many)) if !many.iter().filter_map(Value::as_str).any(|one| is(one, value)) => {
            return wrong(many.iter().filter_map(Value::as_str).map(a).collect::<Vec<_>>().join(" or "));
        }
        _ => {}
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array).filter(|allowed| !allowed.contains(value)) {
        return wrong(format!("one of {}", Value::Array(allowed.clone())));
    }
    let limit = |name: &str| schema.get(name).and_then(Value::as_f64);
    let measured = match value {
        Value::Number(number) => number.as_f64().map(|n| (n, "minimum", "maximum", "a number")),
        Value::String(text) => Some((text.chars().count() as f64, "minLength", "maxLength", "a length")),
        Value::Array(items) => Some((items.len() as f64, "minItems", "maxItems", "a number of items")),
        _ => None,
    };
    if let Some((size, least, most, what)) = measured {
        if let Some(least) = limit(least).filter(|least| size < *least) {
            return wrong(format!("{what} of at least {least}"));
        }
        if let Some(most) = limit(most).filter(|most| size > *most) {
            return wrong(format!("{what} of at most {most}"));
        }
    }
    if let (Value::Array(items), Some(each)) = (value, schema.get("items")) {
        for (n, item) in items.iter().enumerate() {
            at(each, item, &format!("{place}[{n}]"), depth - 1)?;
        }
    }
    if let Value::Object(fields) = value {
        let inner = |name: &str| if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") };
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                return Err(format!("`{}` is missing", inner(name)));
            }
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
        for (name, field) in fields {
            match properties.and_then(|p| p.get(name)) {
                Some(each) => at(each, field, &inner(name), depth - 1)?,
                None if closed => return Err(format!("`{}` is not known", inner(name))),
                None => {}
            }
        }
    }
    Ok(())
}

fn is(name: &str, value: &Value) -> bool {
    match name {
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.as_i64().is_some() || value.as_u64().is_some() || value.as_f64().is_some_and(|n| n.fract() == 0.0),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        _ => true,
    }
}

fn a(name: &str) -> String {
    match name {
        "string" => "a text".into(),
        "array" => "a list".into(),
        "integer" => "a whole number".into(),
        "null" => "null".into(),
        "object" => "an object".into(),
        other => format!("a {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn errors_name_the_place() {
        let schema = json!({
            "type": "object", "required": ["path"], "additionalProperties": false,
            "properties": {
                "path": {"type": "string", "minLength": 1}, "limit": {"type": "integer", "minimum": 1, "maximum": 50},
                "tags": {"type": "array", "maxItems": 2, "items": {"type": "string"}}, "kind": {"enum": ["a", "b"]},
                "deep": {"type": ["object", "null"], "properties": {"n": {"type": "number"}}},
            },
        });
        for (value, problem) in [
            (json!({"path": "x"}), None),
            (json!({"path": "x", "limit": 50, "tags": ["a"], "kind": "b", "deep": {"n": 1.5}}), None),
            (json!({}), Some("`path` is missing")),
            (json!([]), Some("expected an object")),
            (json!({"path": 1}), Some("`path`: expected a text")),
            (json!({"path": ""}), Some("`path`: expected a length of at least 1")),
            (json!({"path": "x", "limit": 0}), Some("`limit`: expected a number of at least 1")),
            (json!({"path": "x", "limit": 1.5}), Some("`limit`: expected a whole number")),
            (json!({"path": "x", "tags": ["a", 2]}), Some("`tags[1]`: expected a text")),
            (json!({"path": "x", "tags": ["a", "b", "c"]}), Some("`tags`: expected a number of items of at most 2")),
            (json!({"path": "x", "kind": "c"}), Some("`kind`: expected one of [\"a\",\"b\"]")),
            (json!({"path": "x", "deep": {"n": "1"}}), Some("`deep.n`: expected a number")),
            (json!({"path": "x", "more": 1}), Some("`more` is not known")),
        ] {
            assert_eq!(check(&schema, &value).err().as_deref(), problem, "{value}");
        }
    }

    #[test]
    fn quoted_numbers_are_taken() {
        let schema =
            json!({"properties": {"n": {"type": "integer"}, "s": {"type": "string"}, "l": {"type": "array"}, "x": {"type": "string"}}});
        let mut object = json!({"n": " 5 ", "s": 7, "l": "one", "x": null}).as_object().cloned().unwrap();
        coerce(&schema, &mut object);
        assert_eq!(Value::Object(object), json!({"n": 5, "s": "7", "l": ["one"]}));
    }
}
