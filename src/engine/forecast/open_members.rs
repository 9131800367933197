//! Members of unknown values about which their schemas say nothing, such as those of the result of a `call` or of
//! `schema: any`. A text that reads such a member gets a placeholder for it, like that of a member in a schema.

use serde_json::{Value, json};

use crate::schema;

/// The maximum number of items that a list gets for an index.
const MAX_ITEMS: usize = 100;

/// The names in the path of the undefined value that an error is about, such as `plan` and `title` for `plan.title`.
pub(super) fn undefined_path(message: &str) -> Option<Vec<String>> {
    let (text, _) = message.split_once("` is undefined")?;
    let (_, path) = text.rsplit_once('`')?;
    let names = path.split(['.', '[']);
    Some(names.map(|name| name.trim_end_matches(']').trim_matches(['"', '\'']).to_owned()).collect())
}

/// Adds placeholders for a member of a placeholder. `path` is the path of the placeholder. Returns `None` if its type
/// has no such member.
pub(super) fn add_placeholder(placeholder: Value, path: &str, members: &[String]) -> Option<Value> {
    let member = |path: &str| schema::placeholder_value(path, "any");
    add_member(placeholder, path, members, &MemberRules { open_path: &open_path, member: &member })
}

/// The path in the placeholder of a value about which nothing is known, such as `plan` in `‹plan: any›`.
fn open_path(placeholder: &Value) -> Option<String> {
    let text = placeholder.as_str()?.strip_prefix('‹')?;
    let path = text.strip_suffix(": any›").or_else(|| text.strip_suffix(": object›"))?;
    Some(path.to_owned())
}

/// Adds the smallest values for a member of the smallest form of an unknown value.
pub(super) fn add_smallest(value: Value, path: &str, members: &[String]) -> Option<Value> {
    let rules = MemberRules { open_path: &|_| Some(String::new()), member: &|_| json!("") };
    add_member(value, path, members, &rules)
}

/// How to add a member to a value.
struct MemberRules<'a> {
    /// The path of a value that may become an object or a list; `None` if its type is known.
    open_path: &'a dyn Fn(&Value) -> Option<String>,
    /// The value of a new member with this path.
    member: &'a dyn Fn(&str) -> Value,
}

fn add_member(value: Value, path: &str, members: &[String], rules: &MemberRules<'_>) -> Option<Value> {
    let Some((name, rest)) = members.split_first() else { return Some(value) };
    let open_path = (rules.open_path)(&value);
    let (path, is_open) = (open_path.as_deref().unwrap_or(path), open_path.is_some());
    if let Ok(index) = name.parse::<usize>() {
        let path = format!("{path}[]");
        let mut items = match value {
            Value::Array(items) => items,
            _ if is_open => Vec::new(),
            _ => return None,
        };
        if index >= MAX_ITEMS {
            return None;
        }
        while items.len() <= index {
            items.push((rules.member)(&path));
        }
        let item = items.get_mut(index)?;
        *item = add_member(item.take(), &path, rest, rules)?;
        return Some(Value::Array(items));
    }
    let path = format!("{path}.{name}");
    let mut object = match value {
        Value::Object(object) => object,
        _ if is_open => serde_json::Map::new(),
        _ => return None,
    };
    let member = object.remove(name).unwrap_or_else(|| (rules.member)(&path));
    object.insert(name.clone(), add_member(member, &path, rest, rules)?);
    Some(Value::Object(object))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str) -> Vec<String> {
        undefined_path(&format!("`{path}` is undefined (prompts/a.md:1)")).unwrap()
    }

    #[test]
    fn an_open_placeholder_gets_the_members_that_a_text_reads() {
        let add = |placeholder: Value, path: &str| add_placeholder(placeholder, "have", &names(path)[1..]);
        let placeholder = add(json!("‹have: any›"), "have.count").unwrap();
        assert_eq!(placeholder, json!({ "count": "‹have.count: any›" }));
        let placeholder = add(placeholder, "have.parts[1]['name']").unwrap();
        let parts = json!(["‹have.parts[]: any›", { "name": "‹have.parts[].name: any›" }]);
        assert_eq!(placeholder, json!({ "count": "‹have.count: any›", "parts": parts }));
        let item = add_placeholder(json!("‹plan.parts[]: any›"), "item", &names("item.title")[1..]);
        assert_eq!(item, Some(json!({ "title": "‹plan.parts[].title: any›" })));
        assert_eq!(add(json!("‹have: string›"), "have.count"), None, "a text has no members");
        assert_eq!(add(json!("‹have: any›"), "have[100000]"), None);
        assert_eq!(add_smallest(json!(""), "have", &names("have.a.b")[1..]), Some(json!({ "a": { "b": "" } })));
    }

    #[test]
    fn only_an_error_about_an_undefined_value_has_a_path() {
        assert_eq!(names("have"), ["have"]);
        assert_eq!(undefined_path("`have.count` is not a number"), None);
        assert_eq!(undefined_path("a value is undefined"), None);
    }
}
