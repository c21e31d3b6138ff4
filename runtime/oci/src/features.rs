//! What this runtime does (runtime-spec: features.md).

use oci_spec::runtime::{
    CgroupBuilder, Features, FeaturesBuilder, LinuxFeatureBuilder, LinuxNamespaceType, Seccomp,
    SeccompBuilder,
};

use crate::spec::{MOUNT_OPTIONS, capability_names};
use crate::state::OCI_VERSION;

/// The features document.
pub(crate) fn features() -> Features {
    let strings = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    let hooks = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    let namespaces = [
        LinuxNamespaceType::Cgroup,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Network,
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Uts,
    ];
    let cgroup =
        CgroupBuilder::default().v1(true).v2(true).systemd(false).systemd_user(false).rdma(false).build();
    let linux = LinuxFeatureBuilder::default().namespaces(namespaces).capabilities(capability_names());
    let linux = match cgroup {
        Ok(cgroup) => linux.cgroup(cgroup),
        Err(_) => linux,
    };
    let linux = match seccomp() {
        Some(seccomp) => linux.seccomp(seccomp),
        None => linux,
    };
    let features = FeaturesBuilder::default()
        .oci_version_min("1.0.0")
        .oci_version_max(OCI_VERSION)
        .hooks(strings(&hooks))
        .mount_options(strings(&MOUNT_OPTIONS));
    let features = match linux.build() {
        Ok(linux) => features.linux(linux),
        Err(_) => features,
    };
    features.build().unwrap_or_default()
}

fn seccomp() -> Option<Seccomp> {
    use oci_spec::runtime::LinuxSeccompAction as Action;
    let actions = [
        Action::ScmpActAllow,
        Action::ScmpActErrno,
        Action::ScmpActKill,
        Action::ScmpActKillProcess,
        Action::ScmpActKillThread,
        Action::ScmpActLog,
        Action::ScmpActTrace,
        Action::ScmpActTrap,
    ];
    let operators = ["EQ", "GE", "GT", "LE", "LT", "MASKED_EQ", "NE"].map(|name| format!("SCMP_CMP_{name}"));
    let flags = ["LOG", "SPEC_ALLOW", "TSYNC"].map(|name| format!("SECCOMP_FILTER_FLAG_{name}"));
    SeccompBuilder::default()
        .enabled(true)
        .actions(actions)
        .operators(operators)
        .supported_flags(flags)
        .build()
        .ok()
}
