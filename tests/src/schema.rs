//! Validates JSON values against schemas of an OpenAPI document. It implements the part of JSON Schema that our
//! document uses, but stricter: properties that a schema does not name are not allowed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The schemas of a document.
#[derive(Clone, Copy)]
pub struct Schemas<'a>(pub &'a Value);

/// Properties that all schemas of an object define together, which of them are required, and the schema of additional
/// ones.
#[derive(Default)]
struct Shape<'a> {
    properties: BTreeMap<&'a str, &'a Value>,
    required: BTreeSet<&'a str>,
    others: Option<&'a Value>,
}

impl<'a> Schemas<'a> {
    /// The schema that a reference points to, or the schema itself.
    ///
    /// # Panics
    ///
    /// If the reference does not resolve.
    pub fn resolve(self, schema: &'a Value) -> &'a Value {
        let Some(reference) = schema["$ref"].as_str() else { return schema };
        let pointer =
            reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} is in this document"));
        let found = self.0.pointer(pointer).unwrap_or_else(|| panic!("{reference} leads nowhere"));
        self.resolve(found)
    }

    fn shape(self, schema: &'a Value, shape: &mut Shape<'a>) {
        let schema = self.resolve(schema);
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.shape(part, shape);
        }
        let properties = schema["properties"].as_object().into_iter().flatten();
        shape.properties.extend(properties.map(|(name, schema)| (name.as_str(), schema)));
        let required = schema["required"].as_array().into_iter().flatten();
        shape.required.extend(required.filter_map(Value::as_str));
        shape.others = schema.get("additionalProperties").or(shape.others);
    }

    /// Every mismatch between `value` and `schema`. `at` is the path of `value`.
    pub fn complaints(self, schema: &'a Value, value: &Value, at: &str) -> Vec<String> {
        let schema = self.resolve(schema);
        let alternatives = schema["oneOf"].as_array().or(schema["anyOf"].as_array());
        if let Some(alternatives) = alternatives {
            let wrong = alternatives.iter().map(|one| self.complaints(one, value, at));
            return wrong.min_by_key(Vec::len).unwrap_or_default();
        }
        let types: Vec<_> = match &schema["type"] {
            Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
            other => other.as_str().into_iter().collect(),
        };
        if !types.is_empty() && !types.iter().any(|name| is_a(value, name)) {
            return vec![format!("{at} is {value}; expected {}", types.join(" or "))];
        }
        let mut wrong = Vec::new();
        if let Some(allowed) = schema["enum"].as_array() {
            let message = format!("{at} is {value}; expected one of {allowed:?}");
            wrong.extend((!allowed.contains(value)).then_some(message));
        }
        match value {
            Value::Object(object) => {
                let mut shape = Shape::default();
                self.shape(schema, &mut shape);
                let missing = shape.required.iter().filter(|name| !object.contains_key(**name));
                wrong.extend(missing.map(|name| format!("{at}.{name} is missing")));
                for (name, value) in object {
                    let at = format!("{at}.{name}");
                    match (shape.properties.get(name.as_str()), shape.others) {
                        (Some(property), _) => wrong.extend(self.complaints(property, value, &at)),
                        (None, Some(Value::Bool(false))) => wrong.push(format!("{at} is not allowed")),
                        (None, Some(others)) => wrong.extend(self.complaints(others, value, &at)),
                        // An object without declared properties may contain anything.
                        (None, None) if shape.properties.is_empty() => {}
                        (None, None) => wrong.push(format!("{at} is not in the schema")),
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    wrong.extend(self.complaints(&schema["items"], item, &format!("{at}[{index}]")));
                }
            }
            _ => {}
        }
        wrong
    }
}

fn is_a(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_missing_of_another_type_or_unknown_is_named() {
        let document = json!({ "schemas": {
            "Cat": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": { "type": "string" },
                    "lives": { "type": ["integer", "null"] },
                    "colour": { "enum": ["black", "white"] },
                    "kittens": { "type": "array", "items": { "$ref": "#/schemas/Cat" } },
                    "owner": { "oneOf": [{ "type": "null" }, { "type": "string" }] },
                    "meals": { "type": "object", "additionalProperties": { "type": "integer" } },
                    "notes": { "type": "object" },
                },
            },
            "Tom": { "allOf": [{ "$ref": "#/schemas/Cat" }, { "type": "object", "properties": { "loud": {} } }] },
        } });
        let cat = json!({ "$ref": "#/schemas/Cat" });
        let wrong = |value: &Value| Schemas(&document).complaints(&cat, value, "cat");
        let good = json!({
            "name": "a", "lives": null, "colour": "black", "kittens": [{ "name": "b" }], "owner": null,
            "meals": { "fish": 1 }, "notes": { "anything": [] },
        });
        assert_eq!(wrong(&good), [""; 0]);
        assert_eq!(wrong(&json!({})), ["cat.name is missing"]);
        assert_eq!(wrong(&json!({ "name": 1 })), ["cat.name is 1; expected string"]);
        assert_eq!(
            wrong(&json!({ "name": "a", "lives": 9.5 })),
            ["cat.lives is 9.5; expected integer or null"]
        );
        assert_eq!(wrong(&json!({ "name": "a", "fur": 1 })), ["cat.fur is not in the schema"]);
        assert_eq!(wrong(&json!({ "name": "a", "owner": 3 })).len(), 1);
        assert!(wrong(&json!({ "name": "a", "colour": "red" }))[0].starts_with("cat.colour is \"red\""));
        assert_eq!(wrong(&json!({ "name": "a", "kittens": [{}] })), ["cat.kittens[0].name is missing"]);
        assert_eq!(wrong(&json!({ "name": "a", "meals": { "fish": "x" } })).len(), 1);
        let tom = json!({ "$ref": "#/schemas/Tom" });
        let wrong = |value: &Value| Schemas(&document).complaints(&tom, value, "tom");
        assert_eq!(wrong(&json!({ "name": "a", "loud": true })), [""; 0]);
        assert_eq!(
            wrong(&json!({ "loud": true, "fur": 1 })),
            ["tom.name is missing", "tom.fur is not in the schema"]
        );
    }
}
