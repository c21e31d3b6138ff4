//! Kinds that their schema describes well enough.

use proto_kube::Resource;
use serde_json::{Value, json};

use crate::Kind;

struct Plain {
    status: bool,
}

impl Kind for Plain {
    fn initial_status(&self) -> Option<Value> {
        self.status.then(|| json!({}))
    }
}

/// A kind without rules of its own.
pub(crate) fn kind(resource: &Resource) -> &'static dyn Kind {
    match resource.subresource("status") {
        Some(_) => &Plain { status: true },
        None => &Plain { status: false },
    }
}
