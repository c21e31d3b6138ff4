//! Cargo.lock and the licences: what may not come into the build at all.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Finding;

/// Packages that need a C library, a C build system, or bring a second TLS or netlink stack.
const FORBIDDEN: [(&str, &str); 15] = [
    ("aws-lc-sys", "TLS is rustls on ring"),
    ("aws-lc-rs", "TLS is rustls on ring"),
    ("openssl-sys", "TLS is rustls on ring"),
    ("native-tls", "TLS is rustls on ring"),
    ("libseccomp-sys", "filters are compiled by runtime/linux"),
    ("libcontainer", "runtime/oci is our own, see docs/decisions"),
    ("libbpf-sys", "device programs are assembled by runtime/linux"),
    ("pkg-config", "nothing is looked for on the building machine"),
    ("cmake", "only cargo and a linker are needed to build"),
    ("bindgen", "only cargo and a linker are needed to build"),
    ("protobuf-src", "protox compiles the contracts"),
    ("zstd-sys", "zstd is ruzstd"),
    ("libz-sys", "gzip is flate2 on zlib-rs"),
    ("libsystemd-sys", "sd_notify is one datagram"),
    ("nftables", "it runs the nft program; cni/netlink speaks netlink"),
];
/// A package may be used under one of the choices of its licence that holds none of these.
const COPYLEFT: [&str; 6] = ["GPL", "MPL", "EUPL", "CDDL", "SSPL", "BUSL"];

/// The packages of a Cargo.lock.
pub(super) struct Lock {
    /// Name to line and dependencies; several versions of a name are one entry.
    packages: BTreeMap<String, (usize, Vec<String>)>,
}

impl Lock {
    /// Reads the form in which cargo writes the file.
    pub(super) fn parse(text: &str) -> Lock {
        let mut packages: BTreeMap<String, (usize, Vec<String>)> = BTreeMap::new();
        let mut current = String::new();
        for (at, line) in text.lines().enumerate() {
            if let Some(name) = line.strip_prefix("name = ") {
                current = name.trim_matches('"').to_owned();
                packages.entry(current.clone()).or_insert((at + 1, Vec::new()));
            } else if let (Some(entry), Some(entries)) =
                (line.strip_prefix(" \""), packages.get_mut(&current))
            {
                let name = entry.split([' ', '"']).next().unwrap_or_default();
                entries.1.push(name.to_owned());
            }
        }
        Lock { packages }
    }

    /// What a package depends on, by name.
    pub(super) fn dependencies(&self, package: &str) -> Vec<String> {
        self.packages.get(package).map(|(_, names)| names.clone()).unwrap_or_default()
    }
}

/// Packages that must not be in the lock file.
pub(super) fn forbidden(lock: &Lock) -> Vec<Finding> {
    let banned =
        FORBIDDEN.iter().filter_map(|(name, reason)| Some((name, reason, lock.packages.get(*name)?)));
    banned
        .map(|(name, reason, (line, _))| {
            let remedy = format!("{reason}; `cargo tree -e all -i {name}` tells who brings it");
            Finding::new("Cargo.lock", *line, format!("`{name}` is forbidden"), &remedy)
        })
        .collect()
}

/// Packages whose licence leaves no choice that fits Apache-2.0, from the full `cargo metadata`.
pub(super) fn licences(metadata: &Value) -> Vec<Finding> {
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let judge = |package: &Value| {
        let licence = package["license"].as_str().unwrap_or_default();
        let name = package["name"].as_str().unwrap_or_default();
        (!fits(licence)).then(|| {
            let text = format!("`{name}` has the licence `{licence}`");
            Finding::new("Cargo.lock", 1, text, "take another crate, or write what is needed")
        })
    };
    packages.iter().filter_map(judge).collect()
}

/// `A OR B` (also the old `A/B`) fits when one choice names no copyleft licence.
fn fits(licence: &str) -> bool {
    let flat = licence.replace(['(', ')'], " ").replace('/', " OR ");
    !flat.trim().is_empty() && flat.split(" OR ").any(|choice| !COPYLEFT.iter().any(|c| choice.contains(c)))
}

/// Versions that stand in a member's manifest instead of the root's.
pub(super) fn manifest(path: &str, text: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    if text.contains("\n[workspace]\n") {
        // A root of its own.
        return found;
    }
    let mut section = "";
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']);
        } else if section.ends_with("dependencies") && line.contains('=') && !line.contains("workspace") {
            let remedy =
                "write the version in the root's [workspace.dependencies] and `x.workspace = true` here";
            found.push(Finding::new(path, at + 1, format!("`{line}` stands alone"), remedy));
        }
    }
    if !text.contains("[lints]\nworkspace = true") {
        found.push(Finding::new(
            path,
            1,
            "the crate does not take the workspace's lints",
            "add [lints] workspace = true",
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn forbidden_packages_are_found_with_their_line() {
        let lock = Lock::parse("version = 4\n\n[[package]]\nname = \"cmake\"\nversion = \"1\"\n");
        let found = forbidden(&lock);
        assert_eq!((found.len(), found[0].line), (1, 4));
    }

    #[test]
    fn a_licence_needs_one_choice_that_fits() {
        for (licence, expected) in [
            ("MIT OR Apache-2.0", true),
            ("MIT/Apache-2.0", true),
            ("MIT OR LGPL-2.1-or-later", true),
            ("Apache-2.0 AND ISC", true),
            ("GPL-3.0-only", false),
            ("MPL-2.0 OR LGPL-3.0-or-later", false),
            ("", false),
        ] {
            assert_eq!(fits(licence), expected, "{licence}");
        }
        assert_eq!(licences(&json!({ "packages": [{ "name": "a", "license": "GPL-2.0" }] })).len(), 1);
    }

    #[test]
    fn versions_stand_in_the_root() {
        let lints = "\n[lints]\nworkspace = true\n";
        assert_eq!(manifest("a", &format!("[dependencies]\nserde.workspace = true\n{lints}")).len(), 0);
        assert_eq!(manifest("a", &format!("[dev-dependencies]\nserde = \"1\"\n{lints}")).len(), 1);
        assert_eq!(manifest("a", "[package]\nname = \"a\"\n").len(), 1);
    }
}
