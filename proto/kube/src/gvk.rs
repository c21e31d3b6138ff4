//! Names of groups, versions, kinds and resources.

use std::fmt;

/// A group and a version: `v1`, `apps/v1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupVersion {
    /// Empty for the core group.
    pub group: String,
    /// As `v1`.
    pub version: String,
}

impl GroupVersion {
    /// Reads an `apiVersion`: what stands before the slash is the group.
    #[must_use]
    pub fn parse(api_version: &str) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Self { group: group.to_owned(), version: version.to_owned() }
    }
}

impl fmt::Display for GroupVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group.as_str() {
            "" => f.write_str(&self.version),
            group => write!(f, "{group}/{}", self.version),
        }
    }
}

/// A group, a version and a kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gvk {
    /// Empty for the core group.
    pub group: String,
    /// As `v1`.
    pub version: String,
    /// As `Pod`.
    pub kind: String,
}

impl Gvk {
    /// Of an `apiVersion` and a `kind`.
    #[must_use]
    pub fn new(api_version: &str, kind: &str) -> Self {
        let GroupVersion { group, version } = GroupVersion::parse(api_version);
        Self { group, version, kind: kind.to_owned() }
    }

    /// The `apiVersion`.
    #[must_use]
    pub fn api_version(&self) -> String {
        GroupVersion { group: self.group.clone(), version: self.version.clone() }.to_string()
    }
}

/// As upstream prints it: `apps/v1, Kind=Deployment`.
impl fmt::Display for Gvk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}, Kind={}", self.group, self.version, self.kind)
    }
}

/// A resource of a group in whatever version: `pods`, `deployments.apps`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupResource<'a> {
    /// Empty for the core group.
    pub group: &'a str,
    /// The plural, as `pods`.
    pub resource: &'a str,
}

impl fmt::Display for GroupResource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group {
            "" => f.write_str(self.resource),
            group => write!(f, "{}.{group}", self.resource),
        }
    }
}
