//! What the signature of a filter, test or function consists of.

/// The operands that a filter accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OperandKind {
    /// Any value.
    Any,
    /// A number.
    Number,
    /// A string.
    Text,
    /// Any value but a list or an object, which the filter would print in a format that no reader expects.
    Scalar,
    /// A list.
    List,
    /// A list, a string or an object.
    Iterable,
    /// An object.
    Mapping,
}

/// The values that an argument accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArgumentKind {
    /// Any value.
    Any,
    /// A string.
    Text,
    /// `true` or `false`.
    Boolean,
    /// A number.
    Number,
    /// An integer.
    Integer,
    /// An integer other than 0.
    Step,
    /// An integer from 0.
    Size,
    /// An integer from 1.
    Count,
    /// An integer from 0 to 16.
    Indent,
    /// One of these strings.
    Choice(&'static [&'static str]),
    /// A list, a string or an object.
    Iterable,
    /// An object.
    Mapping,
    /// The path of a property of each item, such as `author.name`.
    Attribute,
    /// Such paths, separated by commas.
    Attributes,
    /// The path of a property of each item, or the position of an item.
    Key,
    /// The name of a filter.
    FilterName,
    /// The name of a test.
    TestName,
}

/// How a call passes an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArgumentForm {
    /// By its position; required.
    Required,
    /// By its position.
    Optional,
    /// By its position or its name; required.
    RequiredEither,
    /// By its position or its name.
    Either,
    /// By its name.
    Keyword,
    /// Any number of further arguments by position.
    Rest,
    /// Any number of arguments by any names.
    AnyKeyword,
}

/// An argument that a call accepts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameter {
    /// The name, which only some forms of arguments use in a call.
    pub(crate) name: &'static str,
    /// The values that it accepts.
    pub(crate) kind: ArgumentKind,
    /// How a call passes it.
    pub(crate) form: ArgumentForm,
}

/// The operand and the arguments that a filter, test or function accepts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signature {
    /// The name of the filter, test or function.
    pub(crate) name: &'static str,
    /// The operands that it accepts; without a meaning for functions.
    pub(crate) operand: OperandKind,
    /// The arguments that it accepts, those by position first.
    pub(crate) parameters: &'static [Parameter],
}

impl Parameter {
    /// Whether a call must have the argument.
    pub(crate) fn is_required(&self) -> bool {
        matches!(self.form, ArgumentForm::Required | ArgumentForm::RequiredEither)
    }

    fn is_positional(&self) -> bool {
        match self.form {
            ArgumentForm::Required | ArgumentForm::Optional | ArgumentForm::RequiredEither | ArgumentForm::Either => {
                true
            }
            ArgumentForm::Keyword | ArgumentForm::Rest | ArgumentForm::AnyKeyword => false,
        }
    }

    /// Whether a call can pass it by its name.
    pub(super) fn has_keyword(&self) -> bool {
        matches!(self.form, ArgumentForm::RequiredEither | ArgumentForm::Either | ArgumentForm::Keyword)
    }
}

impl Signature {
    /// The signature with a name in a table.
    pub(crate) fn find(table: &'static [Self], name: &str) -> Option<&'static Self> {
        table.iter().find(|signature| signature.name == name)
    }

    /// The arguments by position, in order, without further ones.
    pub(crate) fn positional(&self) -> impl Iterator<Item = &'static Parameter> + use<> {
        self.parameters.iter().filter(|parameter| parameter.is_positional())
    }

    /// The parameter for further arguments by position.
    pub(crate) fn rest(&self) -> Option<&'static Parameter> {
        self.parameters.iter().find(|parameter| parameter.form == ArgumentForm::Rest)
    }

    /// The parameter for an argument with this name.
    pub(crate) fn keyword(&self, name: &str) -> Option<&'static Parameter> {
        let named = self.parameters.iter().find(|parameter| parameter.has_keyword() && parameter.name == name);
        named.or_else(|| self.parameters.iter().find(|parameter| parameter.form == ArgumentForm::AnyKeyword))
    }

    /// The names of the arguments that a call can pass by name.
    pub(crate) fn keyword_names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.parameters.iter().filter(|parameter| parameter.has_keyword()).map(|parameter| parameter.name)
    }
}
