//! A model or a CLI agent of a plan.

use serde::{Deserialize, Serialize};

use crate::model::{CliAgent, ModelRef, PricedModel, TurnEstimate};

/// A model or a CLI agent, with the properties that the engine needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedModel {
    /// The model.
    pub reference: ModelRef,
    /// The API dialect of the requests, or the kind of CLI agent.
    pub dialect: String,
    /// The digest of a weights file, which identifies its content.
    pub weights: Option<String>,
    /// The CLI agent; `None` for a model.
    pub program: Option<CliAgent>,
    /// The upper bound of one turn of the CLI agent, from its `estimate:`. Not part of the fingerprint.
    pub estimate: TurnEstimate,
    /// The largest size of a request and its reply together, in tokens, if it is known. Not part of the fingerprint.
    pub context_window: Option<u64>,
    /// The field of `provider_options` that changes the price of the model's tokens. Not part of the fingerprint.
    pub price_option: Option<String>,
}

impl PlannedModel {
    /// Creates a model with the API dialect of its requests.
    pub fn new(reference: ModelRef, dialect: &str) -> Self {
        Self {
            reference,
            dialect: dialect.to_owned(),
            weights: None,
            program: None,
            estimate: TurnEstimate::default(),
            context_window: None,
            price_option: None,
        }
    }

    /// What determines the price of the tokens; `None` for a CLI agent whose model orch does not know.
    pub fn priced_model(&self) -> Option<PricedModel> {
        match &self.program {
            Some(program) => program.price_model().map(PricedModel::from),
            None => Some(PricedModel { model: self.reference.clone(), changed_by: self.price_option.clone() }),
        }
    }
}

impl From<CliAgent> for PlannedModel {
    fn from(program: CliAgent) -> Self {
        // orch can't know how a CLI agent treats a schema, so its requests always contain the schema as text.
        let (reference, dialect) = (program.model_ref(), program.kind.as_str());
        Self { program: Some(program), ..Self::new(reference, dialect) }
    }
}
