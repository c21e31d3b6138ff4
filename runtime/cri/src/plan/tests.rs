//! The whole spec: namespaces, process, laws.

use proptest::prelude::*;
use proto_cri::{ContainerMetadata, ImageSpec, KeyValue, LinuxContainerConfig, PodSandboxMetadata};

use super::*;

fn config() -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: "app".into(), attempt: 0 }),
        image: Some(ImageSpec { image: "nginx".into(), ..Default::default() }),
        command: vec!["/bin/app".into()],
        ..Default::default()
    }
}

fn with(context: LinuxContainerSecurityContext) -> ContainerConfig {
    let linux = LinuxContainerConfig { security_context: Some(context), ..Default::default() };
    ContainerConfig { linux: Some(linux), ..config() }
}

fn planned(config: &ContainerConfig, image: &Image, pause_pid: Option<u32>) -> Result<Spec, PlanError> {
    let pod = Pod {
        id: "pod",
        dir: "/run/pods/pod".into(),
        monitor_pid: 7,
        pause_pid,
        target_pid: None,
        cgroup_parent: "kubepods/podx",
        config: PodSandboxConfig {
            metadata: Some(PodSandboxMetadata { name: "web".into(), ..Default::default() }),
            hostname: "web".into(),
            ..Default::default()
        },
    };
    let user = user(&context(config), "", &Accounts::default())?;
    let sources = vec![Source::Path("/host".into()); config.mounts.len()];
    let container = Container {
        id: "c1",
        config,
        image,
        image_name: "nginx",
        user: &user,
        sources: &sources,
        devices: vec![],
        seccomp: None,
    };
    spec(&container, &pod, &Host { cgroup_v2: true, ..Host::default() })
}

fn namespaces_of(
    network: NamespaceMode,
    pid: NamespaceMode,
    ipc: NamespaceMode,
) -> Result<Vec<String>, PlanError> {
    let options =
        NamespaceOption { network: network as i32, pid: pid as i32, ipc: ipc as i32, ..Default::default() };
    let config =
        with(LinuxContainerSecurityContext { namespace_options: Some(options), ..Default::default() });
    let spec = planned(&config, &Image::default(), Some(8))?;
    let all = spec.linux().as_ref().unwrap().namespaces().clone().unwrap();
    Ok(all
        .iter()
        .map(|one| {
            format!(
                "{}{}",
                one.typ(),
                one.path().as_ref().map_or(String::new(), |path| path.display().to_string())
            )
        })
        .collect())
}

#[test]
fn namespace_table() {
    use NamespaceMode::{Container, Node, Pod, Target};
    assert_eq!(
        namespaces_of(Pod, Pod, Pod).unwrap(),
        ["mnt", "net/proc/7/ns/net", "uts/proc/7/ns/uts", "ipc/proc/7/ns/ipc", "pid/proc/8/ns/pid", "cgroup"]
    );
    assert_eq!(
        namespaces_of(Pod, Container, Node).unwrap(),
        ["mnt", "net/proc/7/ns/net", "uts/proc/7/ns/uts", "pid", "cgroup"]
    );
    assert_eq!(namespaces_of(Node, Node, Node).unwrap(), ["mnt", "cgroup"]);
    assert!(namespaces_of(Pod, Target, Pod).unwrap_err().to_string().contains("target_id"));
}

#[test]
fn commands() {
    let image = Image { entrypoint: vec!["e".into()], cmd: vec!["c".into()], ..Image::default() };
    let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<String>>();
    for (command, args, expected) in [
        (&[][..], &[][..], &["e", "c"][..]),
        (&["x"], &[], &["x"]),
        (&[], &["a"], &["e", "a"]),
        (&["x"], &["a"], &["x", "a"]),
    ] {
        let config = ContainerConfig { command: texts(command), args: texts(args), ..config() };
        let spec = planned(&config, &image, Some(8)).unwrap();
        assert_eq!(spec.process().as_ref().unwrap().args().clone().unwrap(), expected);
    }
    let config = ContainerConfig { command: vec![], ..config() };
    let error = planned(&config, &Image::default(), Some(8)).unwrap_err();
    assert!(error.to_string().contains("config.command"));
}

#[test]
fn environment() {
    let image = Image { env: vec!["A=1".into(), "PATH=/x".into()], ..Image::default() };
    let envs = [("A", "2"), ("B", "b=c")];
    let envs = envs.map(|(key, value)| KeyValue { key: key.into(), value: value.into() }).into();
    let config = ContainerConfig { envs, tty: true, ..config() };
    let spec = planned(&config, &image, Some(8)).unwrap();
    let env = spec.process().as_ref().unwrap().env().clone().unwrap();
    assert_eq!(env, ["A=2", "PATH=/x", "B=b=c", "TERM=xterm", "HOSTNAME=web", "HOME=/"]);
}

#[test]
fn privileged_has_nothing_hidden() {
    let masked = LinuxContainerSecurityContext {
        masked_paths: vec!["/proc/kcore".into()],
        readonly_paths: vec!["/proc/sys".into()],
        ..Default::default()
    };
    let plain = planned(&with(masked.clone()), &Image::default(), Some(8)).unwrap();
    let linux = plain.linux().clone().unwrap();
    assert_eq!(linux.masked_paths().clone().unwrap(), ["/proc/kcore"]);
    assert_eq!(linux.cgroups_path().clone().unwrap(), PathBuf::from("/kubepods/podx/c1"));
    let context = LinuxContainerSecurityContext { privileged: true, ..masked };
    let linux = planned(&with(context), &Image::default(), Some(8)).unwrap().linux().clone().unwrap();
    assert_eq!((linux.masked_paths(), linux.readonly_paths()), (&None, &None));
    assert!(linux.resources().as_ref().unwrap().devices().as_ref().unwrap()[0].allow());
}

#[test]
fn validation_names_the_field() {
    let pod = PodSandboxConfig::default();
    for (config, expected) in [
        (ContainerConfig { metadata: None, ..config() }, "metadata.name"),
        (ContainerConfig { image: None, ..config() }, "image.image"),
        (ContainerConfig { cdi_devices: vec![Default::default()], ..config() }, "CDI_devices"),
        (ContainerConfig { envs: vec![Default::default()], ..config() }, "envs"),
        (with(LinuxContainerSecurityContext { privileged: true, ..Default::default() }), "privileged"),
    ] {
        let error = validate(&config, &pod).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} lacks {expected}");
    }
    validate(&config(), &pod).unwrap();
}

#[test]
fn exec_keeps_the_container_s_rights() {
    let spec = planned(&config(), &Image::default(), Some(8)).unwrap();
    let process = exec(&spec, &["id".to_owned()], true);
    assert_eq!(process.args().clone().unwrap(), ["id"]);
    assert_eq!(process.capabilities(), spec.process().as_ref().unwrap().capabilities());
    assert!(process.env().clone().unwrap().contains(&"TERM=xterm".to_owned()));
}

proptest! {
    /// The spec written into the bundle is the spec that was planned: what a runtime reads back is the same.
    #[test]
    fn specs_survive_json(args in proptest::collection::vec("[ -~]{0,12}", 1..4), uid in 0..i64::from(i32::MAX),
                          readonly: bool, privileged: bool, tty: bool) {
        let context = LinuxContainerSecurityContext {
            run_as_user: Some(proto_cri::Int64Value { value: uid }),
            readonly_rootfs: readonly,
            privileged,
            ..Default::default()
        };
        let config = ContainerConfig { command: args, tty, ..with(context) };
        let spec = planned(&config, &Image::default(), Some(8)).unwrap();
        let text = serde_json::to_string(&spec).unwrap();
        prop_assert_eq!(serde_json::from_str::<Spec>(&text).unwrap(), spec);
    }
}
