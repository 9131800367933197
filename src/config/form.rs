//! The form that a file must have: the part of a generated JSON Schema that the walker in `shape` needs.
//!
//! A form borrows from the schema's text or value. Parsing the schema into a JSON value first would take longer than
//! checking a file of usual size.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};
use serde_json::Number;

/// The schema of one value.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SchemaForm<'a> {
    /// The alternatives of the published form: one for each type or constant. Empty after they are merged.
    #[serde(rename = "anyOf", borrow, default)]
    alternatives: Vec<SchemaForm<'a>>,
    /// The only string that this alternative allows.
    #[serde(rename = "const", borrow, default)]
    constant: Option<FormText<'a>>,
    /// The name of the form that replaces this one. The other keywords of this form describe the value, but never
    /// restrict it.
    #[serde(rename = "$ref", borrow, default)]
    reference: Option<FormText<'a>>,
    /// The named forms that other forms refer to; only the root has them.
    #[serde(rename = "$defs", borrow, default)]
    definitions: FormMembers<'a>,
    /// The types that the value may have; `None` if it may have any.
    #[serde(rename = "type", borrow, default)]
    pub(super) types: Option<TypeNames<'a>>,
    /// The description of the value.
    #[serde(borrow, default)]
    pub(super) description: Option<FormText<'a>>,
    /// The members of a mapping, in the order in which messages list them.
    #[serde(borrow, default)]
    pub(super) properties: FormMembers<'a>,
    /// The members that must exist.
    #[serde(borrow, default)]
    pub(super) required: Vec<FormText<'a>>,
    /// Which members are allowed in addition to `properties`.
    #[serde(borrow, default)]
    pub(super) additional_properties: Option<AdditionalMembers<'a>>,
    /// The form of the members' names.
    #[serde(borrow, default)]
    pub(super) property_names: Option<Box<SchemaForm<'a>>>,
    /// The form of a list's items.
    #[serde(borrow, default)]
    pub(super) items: Option<Box<SchemaForm<'a>>>,
    /// The minimum number of items.
    #[serde(default)]
    pub(super) min_items: u64,
    /// The maximum number of items.
    #[serde(default)]
    pub(super) max_items: Option<u64>,
    /// The strings that are allowed.
    #[serde(rename = "enum", borrow, default)]
    pub(super) enum_values: Option<Vec<FormText<'a>>>,
    /// The pattern of a string: one of the known patterns.
    #[serde(borrow, default)]
    pub(super) pattern: Option<FormText<'a>>,
    /// The minimum number of characters of a string.
    #[serde(default)]
    pub(super) min_length: u64,
    /// The maximum number of characters.
    #[serde(default)]
    pub(super) max_length: Option<u64>,
    /// The smallest number that is allowed.
    #[serde(default)]
    pub(super) minimum: Option<Number>,
    /// The number that every allowed number exceeds.
    #[serde(default)]
    pub(super) exclusive_minimum: Option<Number>,
    /// The largest number that is allowed.
    #[serde(default)]
    pub(super) maximum: Option<Number>,
    /// Whether the value is a reference to a secret.
    #[serde(rename = "writeOnly", default)]
    pub(super) is_secret: bool,
}

impl<'a> SchemaForm<'a> {
    /// This form, or the form in `root` to which it refers.
    pub(super) fn resolve<'f>(&'f self, root: &'f SchemaForm<'a>) -> Option<&'f SchemaForm<'a>> {
        match &self.reference {
            Some(target) => root.definitions.get(target.strip_prefix("#/$defs/")?),
            None => Some(self),
        }
    }

    /// The name of the form to which this form refers. It is also the name of the form's type.
    pub(super) fn type_name(&self) -> Option<&str> {
        self.reference.as_ref()?.strip_prefix("#/$defs/")
    }

    /// The names of the forms in `$defs` that have a member of this name.
    pub(super) fn owners<'f>(&'f self, member: &'f str) -> impl Iterator<Item = &'f str> {
        let has_member = move |(_, form): &&(FormText<'a>, SchemaForm<'a>)| form.properties.get(member).is_some();
        self.definitions.0.iter().filter(has_member).map(|(name, _)| &**name)
    }

    /// Merges the alternatives of this form and of the forms inside it: the walker does not distinguish them.
    pub(super) fn with_merged_alternatives(mut self) -> Self {
        self.merge_alternatives();
        self
    }

    fn merge_alternatives(&mut self) {
        for (_, form) in self.definitions.0.iter_mut().chain(&mut self.properties.0) {
            form.merge_alternatives();
        }
        for form in self.items.iter_mut().chain(&mut self.property_names) {
            form.merge_alternatives();
        }
        if let Some(AdditionalMembers::Matching(form)) = &mut self.additional_properties {
            form.merge_alternatives();
        }
        for mut alternative in std::mem::take(&mut self.alternatives) {
            alternative.merge_alternatives();
            self.add_alternative(alternative);
        }
    }

    /// Allows in addition what an alternative allows. No two alternatives restrict values of the same type.
    fn add_alternative(&mut self, alternative: Self) {
        if let Some(constant) = alternative.constant {
            self.enum_values.get_or_insert_default().push(constant);
            return;
        }
        if let Some(types) = alternative.types {
            self.types.get_or_insert_with(|| TypeNames(Vec::new())).0.extend(types.0);
        }
        self.properties.0.extend(alternative.properties.0);
        self.required.extend(alternative.required);
        self.additional_properties = self.additional_properties.take().or(alternative.additional_properties);
        self.property_names = self.property_names.take().or(alternative.property_names);
        self.items = self.items.take().or(alternative.items);
        self.min_items = self.min_items.max(alternative.min_items);
        self.max_items = self.max_items.or(alternative.max_items);
        self.enum_values = self.enum_values.take().or(alternative.enum_values);
        self.pattern = self.pattern.take().or(alternative.pattern);
        self.min_length = self.min_length.max(alternative.min_length);
        self.max_length = self.max_length.or(alternative.max_length);
        self.minimum = self.minimum.take().or(alternative.minimum);
        self.exclusive_minimum = self.exclusive_minimum.take().or(alternative.exclusive_minimum);
        self.maximum = self.maximum.take().or(alternative.maximum);
    }

    /// The form in `$defs` with this name.
    #[cfg(test)]
    pub(super) fn definition(&self, name: &str) -> Option<&SchemaForm<'a>> {
        self.definitions.get(name)
    }
}

/// A string of the schema, borrowed if it contains no escapes.
#[derive(Debug)]
pub(super) struct FormText<'a>(Cow<'a, str>);

impl Deref for FormText<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// The names of JSON types, from one name or a list of them.
#[derive(Debug)]
pub(super) struct TypeNames<'a>(pub(super) Vec<FormText<'a>>);

/// Members with their forms, in the order of the schema.
#[derive(Debug, Default)]
pub(super) struct FormMembers<'a>(Vec<(FormText<'a>, SchemaForm<'a>)>);

impl<'a> FormMembers<'a> {
    /// The member with this name.
    pub(super) fn get(&self, name: &str) -> Option<&SchemaForm<'a>> {
        self.0.iter().find_map(|(member, form)| (**member == *name).then_some(form))
    }

    /// The names of all members.
    pub(super) fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| &**name).collect()
    }
}

/// The members that are allowed in addition to the named ones.
#[derive(Debug)]
pub(super) enum AdditionalMembers<'a> {
    /// Any members.
    Any,
    /// No other members.
    Forbidden,
    /// Members of this form.
    Matching(Box<SchemaForm<'a>>),
}

impl<'de: 'a, 'a> Deserialize<'de> for FormText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = FormText<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(FormText(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(FormText(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for TypeNames<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TypeNamesVisitor;
        impl<'de> Visitor<'de> for TypeNamesVisitor {
            type Value = TypeNames<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a type, or a list of types")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(TypeNames(vec![FormText(Cow::Borrowed(name))]))
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Self::Value, S::Error> {
                let mut names = Vec::new();
                while let Some(name) = list.next_element()? {
                    names.push(name);
                }
                Ok(TypeNames(names))
            }
        }
        deserializer.deserialize_any(TypeNamesVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for FormMembers<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;
        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = FormMembers<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("members by their names")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(FormMembers(members))
            }
        }
        deserializer.deserialize_map(MembersVisitor)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for AdditionalMembers<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AdditionalVisitor;
        impl<'de> Visitor<'de> for AdditionalVisitor {
            type Value = AdditionalMembers<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a schema")
            }

            fn visit_bool<E>(self, allowed: bool) -> Result<Self::Value, E> {
                Ok(if allowed { AdditionalMembers::Any } else { AdditionalMembers::Forbidden })
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Self::Value, M::Error> {
                SchemaForm::deserialize(MapAccessDeserializer::new(map))
                    .map(|form| AdditionalMembers::Matching(Box::new(form)))
            }
        }
        deserializer.deserialize_any(AdditionalVisitor)
    }
}
