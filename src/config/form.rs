//! The form that a file must have: a generated schema, read as far as the walker of `shape` needs.
//!
//! Borrows from the text or value that it is read from. To read the schema as a JSON value first would take
//! longer than to check a file of usual size.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer};
use serde_json::Number;

/// What a schema says of one value.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SchemaForm<'a> {
    /// Another form that says it instead; anything beside it describes, and never restricts.
    #[serde(rename = "$ref", borrow, default)]
    reference: Option<FormText<'a>>,
    /// Forms that others refer to, at the root.
    #[serde(rename = "$defs", borrow, default)]
    named: FormMembers<'a>,
    /// The types that the value may have; nothing when it may have any.
    #[serde(rename = "type", borrow, default)]
    pub(super) types: Option<Types<'a>>,
    /// What the key is for.
    #[serde(borrow, default)]
    pub(super) description: Option<FormText<'a>>,
    /// The members of a mapping, in the order in which they are told.
    #[serde(borrow, default)]
    pub(super) properties: FormMembers<'a>,
    /// The members that must be there.
    #[serde(borrow, default)]
    pub(super) required: Vec<FormText<'a>>,
    /// What other members may be.
    #[serde(borrow, default)]
    pub(super) additional_properties: Option<Rest<'a>>,
    /// What the names of members are.
    #[serde(borrow, default)]
    pub(super) property_names: Option<Box<SchemaForm<'a>>>,
    /// What the items of a list are.
    #[serde(borrow, default)]
    pub(super) items: Option<Box<SchemaForm<'a>>>,
    /// How many items there are at least.
    #[serde(default)]
    pub(super) min_items: u64,
    /// The texts that there may be.
    #[serde(rename = "enum", borrow, default)]
    pub(super) names: Option<Vec<FormText<'a>>>,
    /// The pattern of a text, one of the known ones.
    #[serde(borrow, default)]
    pub(super) pattern: Option<FormText<'a>>,
    /// How many characters a text has at least.
    #[serde(default)]
    pub(super) min_length: u64,
    /// How many characters it has at most.
    #[serde(default)]
    pub(super) max_length: Option<u64>,
    /// The least that a number may be.
    #[serde(default)]
    pub(super) minimum: Option<Number>,
    /// The most that it may be.
    #[serde(default)]
    pub(super) maximum: Option<Number>,
    /// Whether the value points to a secret.
    #[serde(rename = "writeOnly", default)]
    pub(super) secret: bool,
}

impl<'a> SchemaForm<'a> {
    /// The form itself, or the one of `root` that it refers to.
    pub(super) fn resolve<'f>(&'f self, root: &'f SchemaForm<'a>) -> Option<&'f SchemaForm<'a>> {
        match &self.reference {
            Some(target) => root.named.get(target.strip_prefix("#/$defs/")?),
            None => Some(self),
        }
    }

    /// The name of the form that this one refers to: that of its type.
    pub(super) fn name(&self) -> Option<&str> {
        self.reference.as_ref()?.strip_prefix("#/$defs/")
    }

    /// The named forms that have a member of a name, by their names.
    pub(super) fn owners<'f>(&'f self, member: &'f str) -> impl Iterator<Item = &'f str> {
        let owns = move |(_, form): &&(FormText<'a>, SchemaForm<'a>)| form.properties.get(member).is_some();
        self.named.0.iter().filter(owns).map(|(name, _)| &**name)
    }

    /// Whether there is a named form of this name.
    #[cfg(test)]
    pub(super) fn named(&self, name: &str) -> Option<&SchemaForm<'a>> {
        self.named.get(name)
    }
}

/// A text, borrowed where it is written without escapes.
#[derive(Debug)]
pub(super) struct FormText<'a>(Cow<'a, str>);

impl Deref for FormText<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// Names of JSON types; one, or a list of them.
#[derive(Debug)]
pub(super) struct Types<'a>(pub(super) Vec<FormText<'a>>);

/// Members in their order.
#[derive(Debug, Default)]
pub(super) struct FormMembers<'a>(Vec<(FormText<'a>, SchemaForm<'a>)>);

impl<'a> FormMembers<'a> {
    /// The member of a name.
    pub(super) fn get(&self, name: &str) -> Option<&SchemaForm<'a>> {
        self.0.iter().find_map(|(known, form)| (**known == *name).then_some(form))
    }

    /// Every name.
    pub(super) fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| &**name).collect()
    }
}

/// What members may be that are not named.
#[derive(Debug)]
pub(super) enum Rest<'a> {
    /// Anything.
    Any,
    /// There are no others.
    Nothing,
    /// Each of this form.
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
