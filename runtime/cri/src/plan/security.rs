//! What a container's process may do: capabilities, seccomp, AppArmor, SELinux, hidden paths.

use std::path::PathBuf;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};
use proto_cri::security_profile::ProfileType;
use proto_cri::{LinuxContainerSecurityContext, SeLinuxOption, SecurityProfile};

use super::{Host, PlanError};

/// What an unprivileged container gets that asks for nothing (the set of docker and containerd).
const DEFAULT: &[Capability] = &[
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// The five sets. `ALL` comes first, then single names; dropping beats adding. What this machine cannot give is
/// left out. Nothing is inheritable (CVE-2022-24769) but what is asked for as ambient.
pub(crate) fn capabilities(
    context: &LinuxContainerSecurityContext,
    host: &Host,
) -> Result<LinuxCapabilities, PlanError> {
    let wished = context.capabilities.clone().unwrap_or_default();
    let all = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
    let add = named(&wished.add_capabilities, "add_capabilities")?;
    let drop = named(&wished.drop_capabilities, "drop_capabilities")?;
    let ambient = named(&wished.add_ambient_capabilities, "add_ambient_capabilities")?;
    let mut granted: Capabilities = if context.privileged || all(&wished.add_capabilities) {
        host.capabilities.clone()
    } else if all(&wished.drop_capabilities) {
        Capabilities::new()
    } else {
        DEFAULT.iter().copied().collect()
    };
    if !context.privileged {
        if all(&wished.drop_capabilities) {
            granted.clear();
        }
        granted.extend(add);
        granted.extend(&ambient);
        granted.retain(|capability| !drop.contains(capability));
    }
    granted.retain(|capability| host.capabilities.contains(capability));
    let ambient: Capabilities =
        ambient.into_iter().filter(|capability| granted.contains(capability)).collect();
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(granted.clone()))
        .set_effective(Some(granted.clone()))
        .set_permitted(Some(granted))
        .set_inheritable(Some(ambient.clone()))
        .set_ambient(Some(ambient));
    Ok(sets)
}

fn named(names: &[String], field: &str) -> Result<Capabilities, PlanError> {
    let single = names.iter().filter(|name| !name.eq_ignore_ascii_case("ALL"));
    let parsed = single.map(|name| {
        let upper = name.to_ascii_uppercase();
        upper.strip_prefix("CAP_").unwrap_or(&upper).parse::<Capability>().map_err(|_| {
            let field = format!("linux.security_context.capabilities.{field}");
            PlanError::invalid(&field, format!("{name:?} is no capability, such as NET_ADMIN"))
        })
    });
    let parsed: Result<Vec<_>, _> = parsed.collect();
    Ok(parsed?.into_iter().collect())
}

/// Which seccomp filter a container gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Filter {
    None,
    Default,
    /// The profile in this file.
    File(PathBuf),
}

/// A privileged container has no filter, nor has one that asks for none: by CRI a missing profile is unconfined. Our agent
/// always asks for one.
pub(crate) fn filter(
    privileged: bool,
    profile: Option<&SecurityProfile>,
    deprecated_path: &str,
) -> Result<Filter, PlanError> {
    let field = "linux.security_context.seccomp";
    let local = |path: &str| {
        let path = path.strip_prefix("localhost/").unwrap_or(path);
        let path = PathBuf::from(path);
        if path.is_absolute() {
            Ok(Filter::File(path))
        } else {
            Err(PlanError::invalid(field, format!("profile path {} must be absolute", path.display())))
        }
    };
    if privileged {
        return Ok(Filter::None);
    }
    match profile {
        Some(profile) => match ProfileType::try_from(profile.profile_type) {
            Ok(ProfileType::RuntimeDefault) => Ok(Filter::Default),
            Ok(ProfileType::Unconfined) => Ok(Filter::None),
            Ok(ProfileType::Localhost) => local(&profile.localhost_ref),
            Err(_) => {
                Err(PlanError::invalid(field, format!("unknown profile type {}", profile.profile_type)))
            }
        },
        None => match deprecated_path {
            "runtime/default" | "docker/default" => Ok(Filter::Default),
            "" | "unconfined" => Ok(Filter::None),
            path => local(path),
        },
    }
}

/// The AppArmor profile to confine the process with. `RuntimeDefault` confines nothing on a kernel without
/// AppArmor; a profile named there is refused.
pub(crate) fn apparmor(
    context: &LinuxContainerSecurityContext,
    host: &Host,
) -> Result<Option<String>, PlanError> {
    #[expect(deprecated, reason = "clients older than Kubernetes 1.30 send it")]
    let deprecated = context.apparmor_profile.strip_prefix("localhost/");
    let name = match &context.apparmor {
        Some(profile) if profile.profile_type() == ProfileType::Localhost => {
            Some(profile.localhost_ref.as_str())
        }
        Some(_) => None,
        None => deprecated,
    };
    match name.map(|name| name.strip_prefix("localhost/").unwrap_or(name)) {
        Some(_) if context.privileged => Ok(None),
        Some(name) if !host.apparmor => Err(PlanError::invalid(
            "linux.security_context.apparmor",
            format!("profile {name:?} cannot be applied: this kernel has no AppArmor"),
        )),
        name => Ok(name.map(ToOwned::to_owned)),
    }
}

/// SELinux labels are not implemented: better refused than ignored.
pub(crate) fn selinux(options: Option<&SeLinuxOption>) -> Result<(), PlanError> {
    match options {
        Some(options) if *options != SeLinuxOption::default() => Err(PlanError::invalid(
            "linux.security_context.selinux_options",
            "labels cannot be applied: cleat does not support SELinux; leave the options out",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host() -> Host {
        let mut capabilities: Capabilities = DEFAULT.iter().copied().collect();
        capabilities.extend([Capability::NetAdmin, Capability::SysAdmin]);
        Host { capabilities, ..Host::default() }
    }

    fn granted(privileged: bool, add: &[&str], drop: &[&str]) -> Capabilities {
        let texts = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let wished = proto_cri::Capability {
            add_capabilities: texts(add),
            drop_capabilities: texts(drop),
            ..Default::default()
        };
        let context =
            LinuxContainerSecurityContext { capabilities: Some(wished), privileged, ..Default::default() };
        let sets = capabilities(&context, &host()).unwrap();
        assert_eq!(sets.inheritable().as_ref().unwrap().len(), 0);
        assert_eq!(sets.bounding(), sets.permitted());
        sets.effective().clone().unwrap()
    }

    #[test]
    fn capability_table() {
        let default: Capabilities = DEFAULT.iter().copied().collect();
        assert_eq!(granted(false, &[], &[]), default);
        assert_eq!(granted(true, &[], &[]), host().capabilities);
        assert_eq!(granted(true, &[], &["ALL"]), host().capabilities);
        assert_eq!(granted(false, &["ALL"], &[]), host().capabilities);
        assert_eq!(granted(false, &["NET_ADMIN"], &["all"]), [Capability::NetAdmin].into());
        assert_eq!(granted(false, &["cap_net_admin"], &[]).len(), DEFAULT.len() + 1);
        assert_eq!(granted(false, &["SYS_RESOURCE"], &[]), default, "what the machine lacks is left out");
        assert!(!granted(false, &["ALL"], &["CHOWN"]).contains(&Capability::Chown));
    }

    #[test]
    fn unknown_capability_is_refused() {
        let error = named(&["CAP_FLY".to_owned()], "add_capabilities").unwrap_err();
        assert!(error.to_string().contains("CAP_FLY"));
    }

    proptest! {
        #[test]
        fn dropped_is_never_granted(add in proptest::sample::subsequence(vec!["ALL", "CHOWN", "NET_ADMIN", "KILL"], 0..4),
                                    drop in proptest::sample::subsequence(vec!["CHOWN", "NET_ADMIN", "KILL"], 0..3)) {
            let granted = granted(false, &add, &drop);
            for name in drop {
                prop_assert!(!granted.contains(&name.parse::<Capability>().unwrap()));
            }
        }
    }

    #[test]
    fn seccomp_never_fails_open() {
        let profile = |kind, path: &str| SecurityProfile { profile_type: kind, localhost_ref: path.into() };
        let file = |path: &str| Filter::File(path.into());
        assert_eq!(filter(false, None, "").unwrap(), Filter::None);
        assert_eq!(filter(false, None, "runtime/default").unwrap(), Filter::Default);
        assert_eq!(filter(false, Some(&profile(0, "")), "").unwrap(), Filter::Default);
        assert_eq!(filter(false, Some(&profile(1, "")), "").unwrap(), Filter::None);
        assert_eq!(filter(false, Some(&profile(2, "/p.json")), "").unwrap(), file("/p.json"));
        assert_eq!(filter(false, None, "localhost//p.json").unwrap(), file("/p.json"));
        assert_eq!(filter(true, Some(&profile(2, "/p.json")), "").unwrap(), Filter::None);
        assert!(filter(false, Some(&profile(2, "p.json")), "").is_err());
        assert!(filter(false, Some(&profile(9, "")), "").is_err());
        assert!(filter(false, None, "nonsense").is_err());
    }

    #[test]
    fn labels_the_kernel_lacks_are_refused() {
        let profile = SecurityProfile { profile_type: 2, localhost_ref: "mine".into() };
        let context = LinuxContainerSecurityContext { apparmor: Some(profile), ..Default::default() };
        assert!(apparmor(&context, &host()).is_err());
        let with = Host { apparmor: true, ..host() };
        assert_eq!(apparmor(&context, &with).unwrap().as_deref(), Some("mine"));
        assert!(selinux(Some(&SeLinuxOption { level: "s0".into(), ..Default::default() })).is_err());
        assert!(selinux(Some(&SeLinuxOption::default())).is_ok());
    }
}
