//! Makes a schema self-contained: copies the files that it refers to into its `$defs`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::SchemaError;

/// The schema of the file `root`, with every file that it reaches, directly or not, under `$defs`.
///
/// # Errors
/// A reference that does not resolve or is remote, or a schema that is nested too deep.
pub(super) fn closure(files: &BTreeMap<String, Value>, root: &str) -> Result<Value, SchemaError> {
    let mut work = Closure { files, root, wanted: Vec::new(), done: BTreeSet::new() };
    let mut document = work.rewritten(root)?;
    let mut defs = Map::new();
    while let Some(file) = work.wanted.pop() {
        if work.done.insert(file.clone()) {
            defs.insert(key(&file), work.rewritten(&file)?);
        }
    }
    if !defs.is_empty()
        && let Value::Object(map) = &mut document
    {
        let own = map.entry("$defs").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(own) = own {
            own.append(&mut defs);
        }
    }
    Ok(document)
}

struct Closure<'a> {
    files: &'a BTreeMap<String, Value>,
    root: &'a str,
    wanted: Vec<String>,
    done: BTreeSet<String>,
}

impl Closure<'_> {
    fn rewritten(&mut self, file: &str) -> Result<Value, SchemaError> {
        let Some(document) = self.files.get(file) else {
            let message = format!("there is no schema `{file}`");
            return Err(SchemaError { file: file.to_owned(), pointer: String::new(), message, help: None });
        };
        let mut document = document.clone();
        self.rewrite(file, &mut document, &mut Vec::new(), 0)?;
        if let Value::Object(map) = &mut document {
            map.shift_remove("$id");
            if file != self.root {
                map.shift_remove("$schema");
            }
        }
        Ok(document)
    }

    fn rewrite(
        &mut self,
        file: &str,
        value: &mut Value,
        path: &mut Vec<String>,
        depth: usize,
    ) -> Result<(), SchemaError> {
        if depth > 128 {
            return Err(located(
                file,
                path,
                "it is nested more than 128 levels deep; move inner schemas to `$defs`".to_owned(),
            ));
        }
        match value {
            Value::Object(map) => {
                for (name, inner) in map {
                    path.push(name.clone());
                    // In data, such as the value of `const`, `$ref` is an ordinary key. A member of `properties` or the
                    // like is a schema even if its name is that of such a keyword.
                    let names = path.len() > 1
                        && matches!(
                            path.get(path.len() - 2).map(String::as_str),
                            Some("properties" | "$defs" | "patternProperties" | "dependentSchemas")
                        );
                    let data = !names && matches!(name.as_str(), "const" | "enum" | "default" | "examples");
                    match inner {
                        Value::String(reference) if name == "$ref" => {
                            *reference =
                                self.target(file, reference).map_err(|message| located(file, path, message))?;
                        }
                        _ if data => {}
                        inner => self.rewrite(file, inner, path, depth + 1)?,
                    }
                    path.pop();
                }
            }
            Value::Array(items) => {
                for (i, item) in items.iter_mut().enumerate() {
                    path.push(i.to_string());
                    self.rewrite(file, item, path, depth + 1)?;
                    path.pop();
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        Ok(())
    }

    /// The reference as it must be written inside the closure.
    fn target(&mut self, file: &str, reference: &str) -> Result<String, String> {
        let (base, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let target = if base.is_empty() { file.to_owned() } else { self.file_named(base)? };
        let found = if fragment.is_empty() || fragment.starts_with('/') {
            self.files.get(&target).and_then(|document| document.pointer(&unescaped(fragment)))
        } else {
            return Err(format!("the anchor `#{fragment}` can't be used; write the path, such as `#/$defs/name`"));
        };
        if found.is_none() {
            return Err(format!("`{reference}` leads nowhere"));
        }
        if target == self.root {
            return Ok(format!("#{fragment}"));
        }
        self.wanted.push(target.clone());
        Ok(format!("#/$defs/{}{fragment}", key(&target)))
    }

    fn file_named(&self, base: &str) -> Result<String, String> {
        let name = base.strip_prefix("./").unwrap_or(base);
        if self.files.contains_key(name) {
            return Ok(name.to_owned());
        }
        let by_id = self.files.iter().find(|(_, document)| document.get("$id").and_then(Value::as_str) == Some(base));
        if let Some((file, _)) = by_id {
            return Ok(file.clone());
        }
        if base.contains("://") {
            return Err(format!("`{base}` is remote; put a copy into schemas/"));
        }
        Err(format!("there is no schema `{base}`"))
    }
}

fn located(file: &str, path: &[String], message: String) -> SchemaError {
    let pointer = path.iter().map(|part| format!("/{}", part.replace('~', "~0").replace('/', "~1"))).collect();
    SchemaError { file: file.to_owned(), pointer, message, help: None }
}

/// A file's key under `$defs`, made of characters that need no escape in a pointer.
fn key(file: &str) -> String {
    file.replace(['/', '~', '%', '#'], "_")
}

/// Decodes a URI fragment into a JSON pointer.
pub(super) fn unescaped(fragment: &str) -> String {
    fragment.replace("%24", "$").replace("%20", " ").replace("%7E", "~").replace("%25", "%")
}
