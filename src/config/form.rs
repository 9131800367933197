//! The form that a file must have: a generated JSON Schema, parsed only as far as the walker in `shape` needs it.
//!
//! It borrows from the text or value that it is parsed from. Parsing the schema into a JSON value first would take
//! longer than checking a file of usual size.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};
use serde_json::Number;

/// What a schema says about one value.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SchemaForm<'a> {
    /// The form that replaces this one. Keywords beside it only describe the value and never restrict it.
    #[serde(rename = "$ref", borrow, default)]
    reference: Option<FormText<'a>>,
    /// The named forms that others refer to; only the root has them.
    #[serde(rename = "$defs", borrow, default)]
    named: FormMembers<'a>,
    /// The types that the value may have; `None` if it may have any.
    #[serde(rename = "type", borrow, default)]
    pub(super) types: Option<Types<'a>>,
    /// What the key is for.
    #[serde(borrow, default)]
    pub(super) description: Option<FormText<'a>>,
    /// The members of a mapping, in the order in which messages list them.
    #[serde(borrow, default)]
    pub(super) properties: FormMembers<'a>,
    /// The members that must exist.
    #[serde(borrow, default)]
    pub(super) required: Vec<FormText<'a>>,
    /// What members are allowed that `properties` does not name.
    #[serde(borrow, default)]
    pub(super) additional_properties: Option<Rest<'a>>,
    /// The form of the members' names.
    #[serde(borrow, default)]
    pub(super) property_names: Option<Box<SchemaForm<'a>>>,
    /// The form of a list's items.
    #[serde(borrow, default)]
    pub(super) items: Option<Box<SchemaForm<'a>>>,
    /// The minimum number of items.
    #[serde(default)]
    pub(super) min_items: u64,
    /// The strings that are allowed.
    #[serde(rename = "enum", borrow, default)]
    pub(super) names: Option<Vec<FormText<'a>>>,
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
    /// The largest number that is allowed.
    #[serde(default)]
    pub(super) maximum: Option<Number>,
    /// Whether the value names where a secret is stored.
    #[serde(rename = "writeOnly", default)]
    pub(super) secret: bool,
}

impl<'a> SchemaForm<'a> {
    /// The form itself, or the form of `root` that it refers to.
    pub(super) fn resolve<'f>(&'f self, root: &'f SchemaForm<'a>) -> Option<&'f SchemaForm<'a>> {
        match &self.reference {
            Some(target) => root.named.get(target.strip_prefix("#/$defs/")?),
            None => Some(self),
        }
    }

    /// The name of the form that this one refers to, which is the name of its type.
    pub(super) fn name(&self) -> Option<&str> {
        self.reference.as_ref()?.strip_prefix("#/$defs/")
    }

    /// The names of the named forms that have this member.
    pub(super) fn owners<'f>(&'f self, member: &'f str) -> impl Iterator<Item = &'f str> {
        let owns = move |(_, form): &&(FormText<'a>, SchemaForm<'a>)| form.properties.get(member).is_some();
        self.named.0.iter().filter(owns).map(|(name, _)| &**name)
    }

    /// The named form with this name.
    #[cfg(test)]
    pub(super) fn named(&self, name: &str) -> Option<&SchemaForm<'a>> {
        self.named.get(name)
    }
}

/// A string, borrowed if it is written without escapes.
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
pub(super) struct Types<'a>(pub(super) Vec<FormText<'a>>);

/// Members in the order of the schema.
#[derive(Debug, Default)]
pub(super) struct FormMembers<'a>(Vec<(FormText<'a>, SchemaForm<'a>)>);

impl<'a> FormMembers<'a> {
    /// The member with this name.
    pub(super) fn get(&self, name: &str) -> Option<&SchemaForm<'a>> {
        self.0.iter().find_map(|(known, form)| (**known == *name).then_some(form))
    }

    /// Every name.
    pub(super) fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| &**name).collect()
    }
}

/// What is allowed for members that are not named.
#[derive(Debug)]
pub(super) enum Rest<'a> {
    /// Anything.
    Any,
    /// No other members.
    Nothing,
    /// Members of this form.
    Each(Box<SchemaForm<'a>>),
}

impl<'de: 'a, 'a> Deserialize<'de> for FormText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = FormText<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(FormText(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(FormText(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Read)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Types<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Types<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a type, or a list of types")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Types(vec![FormText(Cow::Borrowed(name))]))
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut list: S) -> Result<Self::Value, S::Error> {
                let mut names = Vec::new();
                while let Some(name) = list.next_element()? {
                    names.push(name);
                }
                Ok(Types(names))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for FormMembers<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
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
        deserializer.deserialize_map(Read)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Rest<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Rest<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a schema")
            }

            fn visit_bool<E>(self, any: bool) -> Result<Self::Value, E> {
                Ok(if any { Rest::Any } else { Rest::Nothing })
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Self::Value, M::Error> {
                SchemaForm::deserialize(MapAccessDeserializer::new(map)).map(|form| Rest::Each(Box::new(form)))
            }
        }
        deserializer.deserialize_any(Read)
    }
}
