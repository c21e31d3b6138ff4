//! Who asks.

use std::collections::BTreeMap;

/// The identity of a request's sender, as authentication found it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct User {
    /// As `system:serviceaccount:default:web`.
    pub name: String,
    /// Unique over time, where the authenticator knows one.
    pub uid: String,
    /// As `system:authenticated`.
    pub groups: Vec<String>,
    /// What else the authenticator says: the pod and node of a bound token.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// Whether the sender proved no identity.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.name == "system:anonymous"
    }

    /// Whether the sender is a member of `group`.
    #[must_use]
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// Namespace and name, when the sender is a service account.
    #[must_use]
    pub fn service_account(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix("system:serviceaccount:")?.split_once(':')
    }

    /// The node's name, when the sender is a node's agent.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        let name = self.name.strip_prefix("system:node:")?;
        self.is_in("system:nodes").then_some(name)
    }
}
