//! What determines the price of the tokens of a call.

use std::fmt;

use super::name::ModelRef;
use super::options::ModelOptions;

/// A model whose list price applies to the tokens of a call, unless an option changes the price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PricedModel {
    /// The model.
    pub model: ModelRef,
    /// The field of `provider_options` that changes the price.
    pub changed_by: Option<String>,
}

impl PricedModel {
    /// The price of a request with these options.
    pub fn of_request(model: &ModelRef, options: &ModelOptions) -> Self {
        Self { model: model.clone(), changed_by: options.price_option().map(str::to_owned) }
    }
}

impl From<ModelRef> for PricedModel {
    fn from(model: ModelRef) -> Self {
        Self { model, changed_by: None }
    }
}

impl fmt::Display for PricedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.changed_by {
            Some(option) => write!(f, "{} with `{option}` in `provider_options`", self.model),
            None => write!(f, "{}", self.model),
        }
    }
}
