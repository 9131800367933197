//! Compares the ids of requests.

use rmcp::model::RequestId;

/// Whether two ids are the same. Some servers write the number of a request as a text.
pub(super) fn is_same_id(a: &RequestId, b: &RequestId) -> bool {
    a.to_string() == b.to_string()
}
