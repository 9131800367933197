//! The digest of a plan, which identifies it in another process.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::model::budget::Budget;
use crate::model::{Digest, Failure};
use crate::schema::Schema;

use super::node::PlanBody;
use super::plan::Plan;

/// The version of the digest. It rises if a plan with the same content is interpreted in another way.
const DIGEST_VERSION: u32 = 1;

/// What determines how orch interprets a plan.
#[derive(Serialize)]
struct PlanContent<'a> {
    version: u32,
    body: &'a PlanBody,
    budget: Option<&'a Budget>,
    prompts: BTreeMap<&'a str, &'a str>,
    project_root: &'a str,
    reserved_names: &'a Digest,
}

impl Plan {
    /// The digest of everything that determines how orch interprets the plan, without the inputs of the run. Two plans
    /// with the same digest give the same steps, requests and fingerprints. The time to compute it grows with the plan,
    /// so the first call computes it for all.
    ///
    /// # Errors
    /// The plan can't be serialized, which is a defect of orch.
    pub fn digest(&self) -> Result<&Digest, Failure> {
        self.digest.get_or_init(|| self.compute_digest()).as_ref().map_err(Clone::clone)
    }

    fn compute_digest(&self) -> Result<Digest, Failure> {
        let content = PlanContent {
            version: DIGEST_VERSION,
            body: &self.body,
            budget: self.budget.as_ref(),
            prompts: self.templates.texts().collect(),
            project_root: &self.project_root,
            reserved_names: &self.reserved_names().digest,
        };
        let text = serde_json::to_vec(&content)
            .map_err(|error| Failure::defect(format!("the plan can't be serialized: {error}")))?;
        Ok(Digest::compute(&text))
    }
}

/// Serializes a schema as its digest, which covers everything that the schema refers to.
pub(super) fn serialize_schema<S: Serializer>(schema: &Schema, serializer: S) -> Result<S::Ok, S::Error> {
    schema.digest().serialize(serializer)
}
