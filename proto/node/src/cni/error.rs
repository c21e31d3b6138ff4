//! The error a plugin prints on its standard output.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Codes of [`CniError`], from the specification's section "Error". Those from 100 on are a plugin's own.
pub mod code {
    /// The plugin does not know the configuration's `cniVersion`.
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    /// The network configuration has a field the plugin cannot obey; the details name it.
    pub const UNSUPPORTED_FIELD: u32 = 2;
    /// The container is unknown or does not exist: nothing is to be cleaned up.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// An environment variable such as `CNI_COMMAND` is missing or wrong; the details name it.
    pub const INVALID_ENVIRONMENT: u32 = 4;
    /// Input or output failed, for instance reading the configuration.
    pub const IO_FAILURE: u32 = 5;
    /// The configuration is not what it must be in form, for instance not JSON.
    pub const DECODING_FAILURE: u32 = 6;
    /// The network configuration makes no sense.
    pub const INVALID_NETWORK_CONFIG: u32 = 7;
    /// A passing condition: the runtime should try again later.
    pub const TRY_AGAIN_LATER: u32 = 11;
    /// `STATUS`: the plugin cannot serve `ADD`.
    pub const NOT_AVAILABLE: u32 = 50;
    /// `STATUS`: the plugin cannot serve `ADD`, and containers of the network may have limited connectivity.
    pub const LIMITED_CONNECTIVITY: u32 = 51;
    /// What upstream's plugins use for everything else.
    pub const INTERNAL: u32 = 999;
}

/// A plugin's failure, as JSON on its standard output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CniError {
    /// The version of the request.
    #[serde(rename = "cniVersion", default, skip_serializing_if = "String::is_empty")]
    pub cni_version: String,
    /// One of [`code`], or the plugin's own.
    pub code: u32,
    /// What failed.
    pub msg: String,
    /// More about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
}

impl CniError {
    /// An error without details, its version still to be filled in by who knows it.
    pub fn new(code: u32, msg: impl Into<String>) -> CniError {
        CniError { cni_version: String::new(), code, msg: msg.into(), details: String::new() }
    }
}

impl fmt::Display for CniError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)?;
        if !self.details.is_empty() {
            write!(f, ": {}", self.details)?;
        }
        write!(f, " (CNI error code {})", self.code)
    }
}

impl std::error::Error for CniError {}
