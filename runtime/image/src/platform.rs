//! Platforms: which of an index's images fits a machine.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Operating system, processor architecture and its variant, in Go's names (image-spec: image-index.md).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`
    #[serde(default)]
    pub os: String,
    /// `amd64`, `arm64`, …
    #[serde(default)]
    pub architecture: String,
    /// `v7`, `v8`, …; empty for the architecture's usual one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

impl Platform {
    /// The machine this program was built for.
    pub fn host() -> Platform {
        let (architecture, variant) = match std::env::consts::ARCH {
            "arm" => ("arm", "v7"),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", ""),
            "loongarch64" => ("loong64", ""),
            other => (other, ""),
        };
        Platform {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        }
        .normalized()
    }

    /// Other spellings replaced by the usual ones (`x86_64` by `amd64`), and the usual variant left out.
    #[must_use]
    pub fn normalized(&self) -> Platform {
        let os = self.os.to_lowercase();
        let architecture = self.architecture.to_lowercase();
        let variant = self.variant.to_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386" | "i686" | "x86" | "386", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1" | "") => ("amd64", ""),
            ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", "8" | "v8" | "") => ("arm64", ""),
            ("aarch64" | "arm64", variant) => ("arm64", variant),
            ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
            ("armel", _) | ("arm", "6") => ("arm", "v6"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "8") => ("arm", "v8"),
            other => other,
        };
        Platform { os, architecture: architecture.to_owned(), variant: variant.to_owned() }
    }

    /// How well this machine runs what is built for `offered`: 0 is its very own platform, larger is further off,
    /// `None` is not at all. A machine runs older variants of its architecture, and its 32-bit sister.
    pub fn distance(&self, offered: &Platform) -> Option<u32> {
        let (own, offered) = (self.normalized(), offered.normalized());
        if own.os != offered.os {
            return None;
        }
        if own.architecture == offered.architecture {
            return match (level(&own), level(&offered)) {
                (Some(own), Some(offered)) => own.checked_sub(offered),
                _ => (own.variant == offered.variant).then_some(0),
            };
        }
        match (own.architecture.as_str(), offered.architecture.as_str()) {
            ("amd64", "386") => Some(100),
            ("arm64", "arm") => {
                level(&offered).and_then(|level| 8u32.checked_sub(level)).map(|below| 100 + below)
            }
            _ => None,
        }
    }
}

/// The number of a variant `v<n>`; the unnamed variant is the architecture's usual one.
fn level(platform: &Platform) -> Option<u32> {
    match (platform.architecture.as_str(), platform.variant.as_str()) {
        ("amd64", "") => Some(1),
        ("arm64", "") => Some(8),
        (_, variant) => variant.strip_prefix('v')?.parse().ok(),
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

impl std::str::FromStr for Platform {
    type Err = std::convert::Infallible;

    /// `os/architecture[/variant]`; `architecture` alone is of `linux`.
    fn from_str(text: &str) -> Result<Platform, Self::Err> {
        let mut parts = text.split('/').map(str::to_owned);
        let first = parts.next().unwrap_or_default();
        Ok(match parts.next() {
            Some(architecture) => {
                Platform { os: first, architecture, variant: parts.next().unwrap_or_default() }
            }
            None => Platform { os: "linux".to_owned(), architecture: first, variant: String::new() },
        }
        .normalized())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap_or_else(|never| match never {})
    }

    #[test]
    fn machines_run_their_own_and_older_platforms() {
        let table = [
            ("linux/amd64", "linux/amd64", Some(0)),
            ("linux/amd64", "linux/x86_64", Some(0)),
            ("linux/amd64", "linux/amd64/v1", Some(0)),
            ("linux/amd64", "linux/amd64/v2", None),
            ("linux/amd64/v3", "linux/amd64/v3", Some(0)),
            ("linux/amd64/v3", "linux/amd64", Some(2)),
            ("linux/amd64", "linux/386", Some(100)),
            ("linux/386", "linux/amd64", None),
            ("linux/amd64", "windows/amd64", None),
            ("linux/arm64", "linux/arm64/v8", Some(0)),
            ("linux/aarch64", "linux/arm64", Some(0)),
            ("linux/arm64", "linux/arm64/v9", None),
            ("linux/arm64", "linux/arm/v7", Some(101)),
            ("linux/arm64", "linux/arm/v6", Some(102)),
            ("linux/arm/v7", "linux/arm", Some(0)),
            ("linux/arm/v7", "linux/arm/v6", Some(1)),
            ("linux/arm/v6", "linux/arm/v7", None),
            ("linux/arm", "linux/arm64", None),
            ("linux/s390x", "linux/s390x", Some(0)),
            ("linux/riscv64", "linux/amd64", None),
            ("linux/mips64le/r6", "linux/mips64le", None),
            ("amd64", "linux/amd64", Some(0)),
        ];
        for (own, offered, distance) in table {
            assert_eq!(platform(own).distance(&platform(offered)), distance, "{own} runs {offered}");
        }
    }

    #[test]
    fn host_runs_itself() {
        assert_eq!(Platform::host().distance(&Platform::host()), Some(0));
    }
}
