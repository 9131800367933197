//! Runs every branch as if it ran in another process, for tests: its data is sent as JSON, and its plan is made again.

use std::sync::{Arc, OnceLock};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::durable::Interrupt;
use crate::model::Failure;

use super::plan::Plan;

/// Makes a plan again. Receives the project files in the workspace, which no step may write.
type MakePlan = dyn Fn(&[String]) -> Result<Plan, Failure> + Send + Sync;

/// Makes the plan of a run again, once for all of its branches.
pub(super) struct PlanRemaker {
    make: Box<MakePlan>,
    made: OnceLock<Result<Plan, Failure>>,
}

impl PlanRemaker {
    /// The plan for the branches of `original`. It has the same digest, or else no branch runs.
    pub(super) fn plan(&self, original: &Plan) -> Result<&Plan, Interrupt> {
        let make = || (self.make)(original.reserved_names().project.paths());
        self.made.get_or_init(make).as_ref().map_err(|failure| Interrupt::Storage(failure.clone()))
    }
}

impl Plan {
    /// Runs every branch of the plan as another process does, which is a test of its data: orch sends the data of the
    /// branch and its outcome as JSON, and uses the plan that `make` returns. `make` receives the project files in the
    /// workspace.
    #[must_use]
    pub fn with_serialized_branches(
        mut self,
        make: impl Fn(&[String]) -> Result<Self, Failure> + Send + Sync + 'static,
    ) -> Self {
        let remaker = PlanRemaker { make: Box::new(make), made: OnceLock::new() };
        self.remaker = Some(Arc::new(remaker));
        self
    }
}

/// A value after it was sent to another process as JSON.
pub(super) fn sent<T: Serialize + DeserializeOwned>(value: &T) -> Result<T, Interrupt> {
    let text = serde_json::to_string(value).map_err(|error| unsendable(&error))?;
    let mut reader = serde_json::Deserializer::from_str(&text);
    // The values of steps have a limited depth, which is larger than the limit of the parser.
    reader.disable_recursion_limit();
    T::deserialize(&mut reader).map_err(|error| unsendable(&error))
}

fn unsendable(error: &serde_json::Error) -> Interrupt {
    Interrupt::Storage(Failure::defect(format!("a branch can't be sent as JSON: {error}")))
}
