//! How urgently a run must stop.

/// Whether and how urgently a run must stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopLevel {
    /// The run continues.
    Run,
    /// Calls in flight get a grace period, and only steps of `finally` start new ones.
    Stop,
    /// Calls in flight end at once, and no new one starts.
    Abort,
}

impl StopLevel {
    /// Whether a step may start and make calls at this level. `in_finally` is whether it belongs to a `finally` that has
    /// started.
    pub fn allows_calls(self, in_finally: bool) -> bool {
        match self {
            Self::Run => true,
            Self::Stop => in_finally,
            Self::Abort => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_stop_only_steps_of_finally_make_calls() {
        let allowed = [StopLevel::Run, StopLevel::Stop, StopLevel::Abort]
            .map(|level| (level.allows_calls(false), level.allows_calls(true)));
        assert_eq!(allowed, [(true, true), (false, true), (false, false)]);
    }
}
