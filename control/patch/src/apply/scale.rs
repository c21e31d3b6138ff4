//! Who owns the number of replicas, seen through the `scale` subresource.

use serde_json::Value;

use super::managed::{self, Managers, Owned};
use crate::fields::Set;

/// The version of a `Scale`.
const SCALE: &str = "autoscaling/v1";

/// Where the versions of a kind keep their number of replicas.
#[derive(Debug, Clone, Copy)]
pub struct Replicas<'a> {
    /// The version that the object is written in, as `apps/v1`.
    pub version: &'a str,
    /// Versions and paths, as `("apps/v1", &["spec", "replicas"])`.
    pub paths: &'a [(&'a str, &'a [&'a str])],
}

impl Replicas<'_> {
    fn path(&self, version: &str) -> Option<Set> {
        self.paths.iter().find(|(of, _)| *of == version).map(|(_, path)| Set::path(path))
    }

    /// The `managedFields` of the `Scale` of an object with these: those managers that own its number of replicas.
    #[must_use]
    pub fn to_scale(&self, parent: &Value) -> Value {
        let managers = managed::decode(Some(parent)).unwrap_or_default().into_iter();
        let owners = managers.filter(|(_, owned)| {
            self.path(&owned.version).is_some_and(|path| !owned.set.intersection(&path).is_empty())
        });
        let scales: Managers = owners
            .map(|(key, owned)| (key, Owned { set: in_scale(), version: SCALE.to_owned(), ..owned }))
            .collect();
        managed::encode(&scales).into()
    }

    /// The `managedFields` of an object after its `Scale` was written; `scale` are those of the `Scale`.
    #[must_use]
    pub fn to_parent(&self, parent: &Value, scale: &Value) -> Value {
        let parents = managed::decode(Some(parent)).unwrap_or_default();
        let mut scales = managed::decode(Some(scale)).unwrap_or_default();
        let mut out = Managers::new();
        for (key, mut owned) in parents {
            let Some(path) = self.path(&owned.version) else { continue };
            // An owner that is not among those of the scale has lost it.
            if !owned.set.intersection(&path).is_empty() && scales.remove(&key).is_none() {
                owned.set = owned.set.difference(&path);
            }
            if !owned.set.is_empty() {
                out.insert(key, owned);
            }
        }
        for (key, owned) in scales {
            if let Some(path) =
                self.path(self.version).filter(|_| !owned.set.intersection(&in_scale()).is_empty())
            {
                out.insert(key, Owned { set: path, version: self.version.to_owned(), ..owned });
            }
        }
        managed::encode(&out).into()
    }
}

fn in_scale() -> Set {
    Set::path(&["spec", "replicas"])
}
