//! Where pods come from. A source tells the loop all its pods, again whenever they change; the loop finds out what is
//! new and what is gone.

pub(crate) mod api;
pub(crate) mod files;
mod manifest;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

/// All that a source has.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Update {
    /// Good pods.
    pub(crate) manifests: Vec<Manifest>,
    /// What is wrong with the others.
    pub(crate) problems: Vec<Problem>,
    /// Files that cannot be trusted to name all their pods: what came from them stays.
    pub(crate) broken: BTreeSet<PathBuf>,
}

/// A pod as it is wanted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Manifest {
    /// Differs whenever anything about the manifest does.
    pub(crate) uid: String,
    /// The pod: valid, with its defaults.
    pub(crate) pod: Arc<Pod>,
    /// The file it is from.
    pub(crate) file: PathBuf,
}

/// A document that is no pod we could run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    /// The file.
    pub(crate) file: PathBuf,
    /// Which document of it, from 1; 0 is the file as a whole.
    pub(crate) document: usize,
    /// Namespace and name, as far as they can be read.
    pub(crate) namespace: String,
    /// Falls back on the file's name.
    pub(crate) name: String,
    /// Field, value, what was expected, what to do.
    pub(crate) message: String,
}

/// The annotation that tells a pod's file.
pub(crate) const FILE: &str = "cleat.dev/manifest";
