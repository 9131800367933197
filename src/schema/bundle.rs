//! Makes a schema self-contained: copies the files that it refers to into its `$defs`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::error::SchemaError;

/// Returns the schema of the file `root`, with every file that it refers to, directly or indirectly, under `$defs`.
///
/// # Errors
/// A reference does not resolve or is remote, or a schema is nested too deeply.
pub(super) fn bundle(files: &BTreeMap<String, Value>, root: &str) -> Result<Value, SchemaError> {
    let mut builder = BundleBuilder { files, root, pending: Vec::new(), added: BTreeSet::new() };
    let mut document = builder.rewrite_file(root)?;
    let mut defs = Map::new();
    while let Some(file) = builder.pending.pop() {
        if builder.added.insert(file.clone()) {
            defs.insert(definition_key(&file), builder.rewrite_file(&file)?);
        }
    }
    if !defs.is_empty()
        && let Value::Object(map) = &mut document
    {
        let definitions = map.entry("$defs").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(definitions) = definitions {
            definitions.append(&mut defs);
        }
    }
    Ok(document)
}

struct BundleBuilder<'a> {
    files: &'a BTreeMap<String, Value>,
    root: &'a str,
    /// The files to add.
    pending: Vec<String>,
    /// The files that are already in the bundle.
    added: BTreeSet<String>,
}

impl BundleBuilder<'_> {
    /// Returns a copy of the schema of a file, with its references in the form that they have inside the bundle.
    fn rewrite_file(&mut self, file: &str) -> Result<Value, SchemaError> {
        let Some(document) = self.files.get(file) else {
            let message = format!("there is no schema `{file}`");
            return Err(SchemaError { file: file.to_owned(), pointer: String::new(), message, help: None });
        };
        let mut document = document.clone();
        self.rewrite_references(file, &mut document, &mut Vec::new(), 0)?;
        if let Value::Object(map) = &mut document {
            map.shift_remove("$id");
            if file != self.root {
                map.shift_remove("$schema");
            }
        }
        Ok(document)
    }

    fn rewrite_references(
        &mut self,
        file: &str,
        value: &mut Value,
        path: &mut Vec<String>,
        depth: usize,
    ) -> Result<(), SchemaError> {
        if depth > 128 {
            return Err(error_at(
                file,
                path,
                "it is nested more than 128 levels deep; move inner schemas to `$defs`".to_owned(),
            ));
        }
        match value {
            Value::Object(map) => {
                for (name, inner) in map {
                    path.push(name.clone());
                    // In data, such as the value of `const`, `$ref` is an ordinary key. A member of `properties` is a
                    // schema even if its name is `const`, `enum`, `default` or `examples`.
                    let is_named_schema = path.len() > 1
                        && matches!(
                            path.get(path.len() - 2).map(String::as_str),
                            Some("properties" | "$defs" | "patternProperties" | "dependentSchemas")
                        );
                    let is_data =
                        !is_named_schema && matches!(name.as_str(), "const" | "enum" | "default" | "examples");
                    match inner {
                        Value::String(reference) if name == "$ref" => {
                            *reference = self
                                .rewrite_reference(file, reference)
                                .map_err(|message| error_at(file, path, message))?;
                        }
                        _ if is_data => {}
                        inner => self.rewrite_references(file, inner, path, depth + 1)?,
                    }
                    path.pop();
                }
            }
            Value::Array(items) => {
                for (i, item) in items.iter_mut().enumerate() {
                    path.push(i.to_string());
                    self.rewrite_references(file, item, path, depth + 1)?;
                    path.pop();
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        Ok(())
    }

    /// Returns a reference in the form that it has inside the bundle, and adds the file that it names to `pending`.
    fn rewrite_reference(&mut self, file: &str, reference: &str) -> Result<String, String> {
        let (base, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let target = if base.is_empty() { file.to_owned() } else { self.find_file(base)? };
        let referenced = if fragment.is_empty() || fragment.starts_with('/') {
            self.files.get(&target).and_then(|document| document.pointer(&decode_fragment(fragment)))
        } else {
            return Err(format!("the anchor `#{fragment}` can't be used; write the path, such as `#/$defs/name`"));
        };
        if referenced.is_none() {
            return Err(format!("`{reference}` does not exist"));
        }
        if target == self.root {
            return Ok(format!("#{fragment}"));
        }
        self.pending.push(target.clone());
        Ok(format!("#/$defs/{}{fragment}", definition_key(&target)))
    }

    fn find_file(&self, base: &str) -> Result<String, String> {
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

fn error_at(file: &str, path: &[String], message: String) -> SchemaError {
    let pointer = path.iter().map(|segment| format!("/{}", segment.replace('~', "~0").replace('/', "~1"))).collect();
    SchemaError { file: file.to_owned(), pointer, message, help: None }
}

/// Returns the key of a file under `$defs`, without the characters that a JSON pointer in a URI must escape.
fn definition_key(file: &str) -> String {
    file.replace(['/', '~', '%', '#'], "_")
}

/// Decodes a URI fragment into a JSON pointer.
pub(super) fn decode_fragment(fragment: &str) -> String {
    fragment.replace("%24", "$").replace("%20", " ").replace("%7E", "~").replace("%25", "%")
}
