//! Why a plugin could not do what it was asked for, and how CNI says so.

use std::io;

use cni_invoke::PluginError;
use netlink::NetlinkError;
use proto_node::cni::{CniError, ResultError, Version, code};
use serde_json::Value;

/// Why a plugin could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// An environment variable is missing or wrong.
    #[error("{name} {reason}")]
    Environment {
        /// Which.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The configuration's version is unknown.
    #[error("cniVersion")]
    Version(#[source] proto_node::cni::UnknownVersion),
    /// The configuration is not what it must be in form.
    #[error("the network configuration is malformed at {path}")]
    Decode {
        /// The field.
        path: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The configuration makes no sense.
    #[error("the network configuration is wrong: {field} {reason}")]
    Config {
        /// The field.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The configuration asks for what this plugin does not do.
    #[error("the network configuration asks for {field}, which {reason}")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// Why not, and what to do instead.
        reason: &'static str,
    },
    /// The result before this plugin's, or its own, cannot be read or said in the version asked for.
    #[error("result")]
    Result(#[source] ResultError),
    /// Something failed with files or descriptors.
    #[error("cannot {what}")]
    Io {
        /// What, with the object's name.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused something over netlink.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// Another plugin that this one calls failed.
    #[error(transparent)]
    Delegate(#[from] PluginError),
    /// There is none left, of addresses or ports.
    #[error("{0}")]
    Exhausted(
        /// Of what.
        String,
    ),
    /// `CHECK`: what `ADD` made is not there or not so any more.
    #[error("{0}")]
    Damaged(
        /// What is missing or different.
        String,
    ),
    /// `ADD` failed, and undoing it failed too.
    #[error("{first}; then undoing it failed: {undo}")]
    Undo {
        /// Why `ADD` failed, with its causes.
        first: Box<Failure>,
        /// What could not be undone, with its causes.
        undo: String,
    },
}

impl Failure {
    /// The specification's code, or what upstream's plugins use.
    pub(crate) fn code(&self) -> u32 {
        match self {
            Failure::Environment { .. } => code::INVALID_ENVIRONMENT,
            Failure::Version(_) => code::INCOMPATIBLE_VERSION,
            Failure::Decode { .. } => code::DECODING_FAILURE,
            Failure::Config { .. } => code::INVALID_NETWORK_CONFIG,
            Failure::Unsupported { .. } => code::UNSUPPORTED_FIELD,
            Failure::Io { .. } => code::IO_FAILURE,
            Failure::Exhausted(_) => code::TRY_AGAIN_LATER,
            Failure::Delegate(error) => error.code().unwrap_or(code::INTERNAL),
            Failure::Undo { first, .. } => first.code(),
            Failure::Result(_) | Failure::Netlink(_) | Failure::Damaged(_) => code::INTERNAL,
        }
    }

    /// As it stands on standard output.
    pub(crate) fn to_json(&self, version: Version) -> Value {
        let mut error = CniError::new(self.code(), self.to_string());
        error.cni_version = version.as_str().to_owned();
        error.details = causes(self).skip(1).collect::<Vec<_>>().join(": ");
        serde_json::to_value(error).expect("strings and numbers are JSON")
    }

    /// With its causes, in one line.
    pub(crate) fn text(&self) -> String {
        causes(self).collect::<Vec<_>>().join(": ")
    }
}

fn causes(error: &dyn std::error::Error) -> impl Iterator<Item = String> {
    std::iter::successors(Some(error), |e| e.source()).map(ToString::to_string)
}
